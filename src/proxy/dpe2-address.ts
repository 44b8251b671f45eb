import { networkInterfaces } from "node:os";
import { CODE, type RequestMessage } from "#coap/index.js";
import { DPE2_OVER_ASSOCIATION, DpeError, parseDpe2Uri, QUERY } from "#dpe/index.js";
import { canonicalIpAddress } from "#ip/index.js";

/**
 * Why a registration is not forwarded, if it says that its client is reached for DPE-2 where it is not: at an address other
 * than its own, or at the proxy itself. To the server everything comes from the proxy's address, so it would believe it.
 * `client`: the address that it sends from; `ports`: those that the proxy listens on.
 */
export function dpe2Fault(request: RequestMessage, client: string, ports: readonly number[]): string | undefined {
  if (request.code !== CODE.POST) return undefined;
  const own = canonicalIpAddress(client);
  for (const argument of request.options.uriQuery) {
    if (!argument.startsWith(`${QUERY.dpe2}=`)) continue;
    const text = argument.slice(QUERY.dpe2.length + 1);
    if (text === DPE2_OVER_ASSOCIATION) continue;
    try {
      const { address, port } = parseDpe2Uri(text);
      if (own === undefined || canonicalIpAddress(address) !== own)
        return "behind a proxy, a dpe2 URI names the address that its client sends from, or dpe2=association";
      if (ports.includes(port) && isOfThisMachine(own)) return "a dpe2 URI names the proxy itself";
    } catch (error) {
      // The server says so.
      if (!(error instanceof DpeError)) throw error;
    }
  }
  return undefined;
}

function isOfThisMachine(address: string): boolean {
  const all = Object.values(networkInterfaces()).flatMap((one) => one ?? []);
  return address.startsWith("127.") || all.some((one) => canonicalIpAddress(one.address) === address);
}
