import { refuse } from "#config/index.js";
import { DEFAULT_LIFETIME_SECONDS } from "#dpe/index.js";
import type { ServerConfig } from "./server-config.js";

/** Refuses keys that are good each by itself, and together let nobody in or leave one of them without effect. */
export function refuseContradictions(config: ServerConfig, context: Parameters<typeof refuse>[0]): void {
  refusePairedLifetime(config, context);
  refuseSamePorts(config, context);
  refuseNoWayIn(config, context);
  const { dtls, gba, interfaces } = config;
  if (dtls.connectionId === "off" && dtls.returnRoutabilityCheck === "enhanced")
    refuse(
      context,
      {
        problem: "an address that changed is asked only where records carry a connection identifier",
        hint: "write connectionId: on, or leave returnRoutabilityCheck out",
      },
      ["dtls", "returnRoutabilityCheck"],
    );
  const modes = [...interfaces.dpe1.clientAuthentication, ...interfaces.dpe2.clientAuthentication];
  if (gba !== undefined && !modes.includes("digest"))
    refuse(context, { problem: "gba gives credentials for digest, which no clientAuthentication lists" }, ["gba"]);
}

/** A device that was paired asks for this lifetime, and for the agent's default where there is none. */
function refusePairedLifetime({ pairing, limits }: ServerConfig, context: Parameters<typeof refuse>[0]): void {
  if (pairing === undefined) return;
  const { lifetime = DEFAULT_LIFETIME_SECONDS * 1000 } = pairing;
  const [least, most] = [Math.ceil(limits.minLifetime / 1000), Math.floor(limits.maxLifetime / 1000)];
  const seconds = Math.round(lifetime / 1000);
  if (seconds >= least && seconds <= most) return;
  const bound =
    seconds < least ? `shorter than limits.minLifetime, ${least}s` : `longer than limits.maxLifetime, ${most}s`;
  const what = pairing.lifetime === undefined ? "the lifetime of 1h that paired devices ask for" : "the lifetime";
  const problem = `${what} is ${bound}: their registrations would be refused`;
  const hint = `write lifetime: ${seconds < least ? least : most}s, or change limits`;
  refuse(context, { problem, hint }, ["pairing", ...(pairing.lifetime === undefined ? [] : ["lifetime"])]);
}

/** UDP and TCP have ports of their own; port 0 is any that is free. */
function refuseSamePorts({ interfaces, http }: ServerConfig, context: Parameters<typeof refuse>[0]): void {
  const { coap, coaps, coapTcp, coapsTcp } = interfaces.dpe1.listen;
  const listen = ["interfaces", "dpe1", "listen"];
  const pairs = [
    [coap, coaps, "coap", [...listen, "coaps"]],
    [coapTcp, coapsTcp, "coapTcp", [...listen, "coapsTcp"]],
    [coapTcp, http?.port, "interfaces.dpe1.listen.coapTcp", ["http", "port"]],
    [coapsTcp, http?.port, "interfaces.dpe1.listen.coapsTcp", ["http", "port"]],
  ] as const;
  for (const [one, other, name, path] of pairs)
    if (one !== undefined && one !== 0 && one === other) refuse(context, { problem: `${name} has that port` }, path);
}

/** Whether any port leads to a mode of clientAuthentication, by the connection that the policy asks for. */
function refuseNoWayIn({ interfaces: { dpe1 } }: ServerConfig, context: Parameters<typeof refuse>[0]): void {
  const { listen, connection, clientAuthentication: modes } = dpe1;
  const isPlainEnough = connection === "none" && modes.some((mode) => !NEEDS_DTLS.has(mode));
  const isTlsEnough = listen.coapsTcp !== undefined && modes.some((mode) => mode !== "rawPublicKey");
  if (listen.coaps !== undefined || isTlsEnough || isPlainEnough || modes.length === 0) return;
  const why =
    connection === "dtls" ? "connection: dtls" : `clientAuthentication: ${modes.join(", ")}, which is shown over DTLS,`;
  refuse(context, { problem: `${why} lets nobody in by the ports that are listened on`, hint: "write coaps: 5684" }, [
    "interfaces",
    "dpe1",
    "listen",
  ]);
}

const NEEDS_DTLS: ReadonlySet<string> = new Set(["certificate", "rawPublicKey", "psk"]);
