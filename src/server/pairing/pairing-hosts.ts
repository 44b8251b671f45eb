import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";

/**
 * Where devices may reach this server, the best first: its addresses in the network, then its names, then this machine's own.
 * Those that its certificate (DER) does not name are left out, as a device would refuse the server there.
 */
export function pairingHosts(listenHost: string, certificate: Uint8Array | undefined): readonly string[] {
  const isAny = listenHost === "0.0.0.0" || listenHost === "::";
  const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const outside = addresses.filter(({ internal, address }) => !internal && !address.startsWith("fe80:"));
  const candidates = isAny
    ? [
        ...outside.filter(({ family }) => family === "IPv4").map(({ address }) => address),
        hostname(),
        `${hostname()}.local`,
        ...outside.filter(({ family }) => listenHost === "::" && family === "IPv6").map(({ address }) => address),
        "localhost",
        "127.0.0.1",
      ]
    : [listenHost];
  if (certificate === undefined) return candidates;
  const parsed = new X509Certificate(certificate);
  return candidates.filter(
    (host) => (isIP(host) === 0 ? parsed.checkHost(host, { subject: "never" }) : parsed.checkIP(host)) !== undefined,
  );
}
