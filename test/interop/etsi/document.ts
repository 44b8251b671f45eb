import { ETSI_CASES, type EtsiCase } from "./cases.js";
import { libcoapClient, libcoapServer } from "./libcoap.js";
import { NODE_COAP_CLIENT, NODE_COAP_SERVER } from "./node-coap.js";
import { OUR_CLIENT, OUR_SERVER } from "./ours.js";
import { type ClientSide, isStream, type ServerSide, type Transport } from "./sides.js";

/** A client, a server and what is between them; one of the two is ours. */
export interface Column {
  readonly client: ClientSide;
  readonly server: ServerSide;
  readonly transport: Transport;
}

const CLIENTS: readonly ClientSide[] = [
  OUR_CLIENT,
  libcoapClient("notls", ["udp"]),
  libcoapClient("openssl", ["dtls", "tcp", "tls"]),
  libcoapClient("gnutls", ["dtls", "tls"]),
  NODE_COAP_CLIENT,
];
const SERVERS: readonly ServerSide[] = [
  libcoapServer("notls", ["udp"]),
  libcoapServer("openssl", ["dtls", "tcp", "tls"]),
  libcoapServer("gnutls", ["dtls", "tls"]),
  NODE_COAP_SERVER,
];

/** The columns of the tables, by the heading of each. */
export const ETSI_COLUMNS: Readonly<Record<string, readonly Column[]>> = {
  "Our server, and the client": CLIENTS.flatMap((client) =>
    client.transports.map((transport) => ({ client, server: OUR_SERVER, transport })),
  ),
  "Our client, and the server": SERVERS.flatMap((server) =>
    server.transports.map((transport) => ({ client: OUR_CLIENT, server, transport })),
  ),
};

/** What is expected of a case in a column. */
export type Expectation =
  | { readonly outcome: "works" }
  | { readonly outcome: "fails" | "cannot"; readonly why: string };

export function expectationOf(one: EtsiCase, { client, server, transport }: Column): Expectation {
  const streams = isStream(transport)
    ? (one.notOnStreams ?? (one.isProxied === true ? NO_PROXY : undefined))
    : undefined;
  const cannot = streams ?? client.cannot(one, transport) ?? server.cannot(one, transport);
  if (cannot !== undefined) return { outcome: "cannot", why: cannot };
  const fault = client.fails(one, transport) ?? server.fails(one, transport);
  return fault === undefined ? { outcome: "works" } : { outcome: "fails", why: fault };
}

const NO_PROXY = "our proxy speaks UDP and DTLS only";

/** The section of docs/interop.md, made of what each case came to. */
export function etsiSection(outcomeOf: (one: EtsiCase, column: Column) => Expectation): string {
  const reasons: string[] = [];
  const word = (expectation: Expectation): string => {
    if (expectation.outcome === "works") return "yes";
    if (!reasons.includes(expectation.why)) reasons.push(expectation.why);
    return `${expectation.outcome === "fails" ? "**no**" : "–"} ${reasons.indexOf(expectation.why) + 1}`;
  };
  const tables = Object.entries(ETSI_COLUMNS).map(([heading, columns]) => {
    const peers = columns.map(({ client, server, transport }) => {
      const peer = server.name === "ours" ? client : server;
      return `${peer.name} ${transport.toUpperCase()}`;
    });
    const rows = ETSI_CASES.map((one) => [
      `${one.id} ${one.what}`,
      ...columns.map((column) => word(outcomeOf(one, column))),
    ]);
    const lines = [["TD_COAP", ...peers], ["---", ...peers.map(() => "---")], ...rows];
    return `\n## ${heading}\n\n${lines.map((line) => `| ${line.join(" | ")} |`).join("\n")}\n`;
  });
  return `${ETSI_HEADING}${INTRODUCTION}${tables.join("")}\n## Why not\n\n${reasons.map((why, index) => `${index + 1}. ${why}`).join("\n")}\n`;
}

export const ETSI_HEADING = "# The CoAP plugtest cases of ETSI\n";

const INTRODUCTION = `
Written by \`test/interop/etsi/etsi.test.ts\` with \`DPE_WRITE_DOCS=1\` from what it ran; without, it fails where this is not
what it finds. A "yes" is that the client did as the case says, and that the messages between the two were those of the
case, with their types, tokens and options. A dash is what cannot be put to the peer, a "**no**" what it does wrong, each with
the number of its reason below.

libcoap is Debian's 4.3.1: as client its own \`coap-client\`, as server \`test/peers/libcoap-server.c\` on its library, as its
own server lacks most of the resources. node-coap is the npm package \`coap\`; its DTLS is ours, by \`dpe-coap/node-coap\`.
"ours" is our client at our server. Over DTLS and TLS a pre-shared key is used. CORE_24 to CORE_30 go through our reverse
proxy, which is on UDP toward our side, and on the transport of the column toward the peer.
`;
