import { AGENT_SCHEMA, DpeAgent, type Source } from "#agent/index.js";
import { encodeCbor } from "#cbor/index.js";
import { CODE, decodeMessage, type Message, OPTION } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { DtlsSession, UdpSocket } from "#net/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";

/**
 * Bytes of one report of one property and of its answer, as a real agent and server send them once registered (a connection
 * identifier, CCM_8, Digest of scope association), beside the same as LwM2M Send: `POST /dp` over the same DTLS, computed from
 * OMA-TS-LightweightM2M 1.2 (Core §6.4, Transport §6.4.4) and RFC 8428.
 */
export async function wireTable(): Promise<string> {
  const { report, answer, reportDatagram, answerDatagram } = await captured();
  const { options, payload } = decodeMessage(report);
  const path = options.uriPath;
  const pathBytes = path.reduce((sum, segment) => sum + 1 + segment.length, 0);
  const formatBytes = options.encodedBytes - pathBytes;
  const token = (report[0] ?? 0) & 15;
  const overhead = reportDatagram - report.length;
  const senml = encodeCbor([lwm2mRecord()]).length;
  const plain = encodeCbor(new Map([[3303, new Map([[0, new Map([[5700, CELSIUS]])]])]])).length;
  // Uri-Path "dp"; Content-Format 112 in one byte, 11544 in two.
  const rows: readonly (readonly [string, number, number, number])[] = [
    ["DTLS: record header 13, identifier 6, nonce 8, content type 1, tag 8", overhead, overhead, overhead],
    ["CoAP header", 4, 4, 4],
    ["token", token, token, token],
    [`Uri-Path: /${path.map((segment) => (segment.length > 8 ? "ID" : segment)).join("/")}, or /dp`, pathBytes, 3, 3],
    ["Content-Format", formatBytes, 2, 3],
    ["payload marker", 1, 1, 1],
    ["payload", payload.length, senml, plain],
  ];
  const sums = [1, 2, 3].map((column) => rows.reduce((sum, row) => sum + Number(row[column]), 0));
  if (sums[0] !== reportDatagram) throw new Error(`the parts are ${sums[0]} bytes, the datagram has ${reportDatagram}`);
  const reply = decodeMessage(answer);
  if (reply.options.encodedBytes + reply.payload.length > 0) throw new Error("the answer is more than a code");
  const both = sums.map((sum) => sum + answerDatagram);
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  return [
    line(["bytes", "DPE report", "LwM2M Send, SenML CBOR", "LwM2M Send, LwM2M CBOR"]),
    line(["---", "--:", "--:", "--:"]),
    ...rows.map(line),
    line(["**the report's datagram**", ...sums]),
    line([
      "the answer's datagram: a record without identifier, header, token",
      ...Array.from({ length: 3 }, () => answerDatagram),
    ]),
    line(["**both**", ...both]),
  ].join("\n");
}

/** SenML as LwM2M Send has it: a base name that is the object's path, the time, and the value. */
function lwm2mRecord(): Map<number, unknown> {
  return new Map<number, unknown>([
    [-2, "/3303/0/5700"],
    [-3, TIME_SECONDS],
    [2, CELSIUS],
  ]);
}

/** What the third report is, inside and outside of DTLS. */
async function captured(): Promise<Captured> {
  const server = await DpeServer.start(parseConfig(SERVER, "server.yaml", SERVER_SCHEMA));
  const port = server.addresses.coaps?.port ?? 0;
  let celsius = CELSIUS - 3;
  const thermometer: Source = {
    name: "thermometer",
    everyMs: 200,
    read: () => Promise.resolve([{ name: "temperature", unit: "Cel", value: (celsius += 1) }]),
  };
  const sent: { readonly plain: Uint8Array; bytes: number }[] = [];
  const undo = [
    wrap(
      DtlsSession.prototype,
      "send",
      (plain: Uint8Array) => void sent.push({ plain: Uint8Array.from(plain), bytes: 0 }),
    ),
    wrap(UdpSocket.prototype, "send", (datagram: Uint8Array) => {
      const last = sent.at(-1);
      if (last?.bytes === 0) last.bytes = datagram.length;
    }),
  ];
  let reports = 0;
  let done: () => void = () => undefined;
  const isDone = new Promise<void>((resolve) => (done = resolve));
  const config = parseConfig(AGENT.replace("PORT", String(port)), "agent.yaml", AGENT_SCHEMA);
  const agent = new DpeAgent(config, [thermometer], ({ type }) => type === "reported" && ++reports === 3 && done());
  await isDone;
  await agent.close();
  await server.close();
  for (const one of undo) one();
  const isReport = ({ plain }: { readonly plain: Uint8Array }): boolean => {
    const message: Message = decodeMessage(plain);
    return message.code === CODE.POST && message.options.uriPath.at(-1) === "p";
  };
  const all = sent.filter(({ plain }) => plain.length > 4);
  const index = all.flatMap((one, at) => (isReport(one) ? [at] : []))[2] ?? 0;
  const [report, answer] = [all[index], all[index + 1]];
  if (report === undefined || answer === undefined) throw new Error("there was no report");
  if (decodeMessage(report.plain).options.get(OPTION.ContentFormat) === undefined) throw new Error("no content format");
  return {
    report: report.plain,
    answer: answer.plain,
    reportDatagram: report.bytes,
    answerDatagram: answer.bytes,
  };
}

interface Captured {
  readonly report: Uint8Array;
  readonly answer: Uint8Array;
  readonly reportDatagram: number;
  readonly answerDatagram: number;
}

/** Has a method tell of its calls first; returns what undoes that. */
function wrap(target: object, name: string, see: (bytes: Uint8Array) => void): () => void {
  const descriptor = Object.getOwnPropertyDescriptor(target, name);
  const method = descriptor?.value as (this: unknown, ...given: unknown[]) => unknown;
  const seen = function seen(this: unknown, ...given: unknown[]): unknown {
    see(given[0] as Uint8Array);
    return method.apply(this, given);
  };
  Object.defineProperty(target, name, { ...descriptor, value: seen });
  return (): void => void Object.defineProperty(target, name, descriptor ?? {});
}

const CELSIUS = 21.5;
const TIME_SECONDS = 1_764_000_000.125;
const SERVER = `
credentials: { psk: [{ identity: fleet, key: "0123456789abcdef" }] }
interfaces:
  dpe1:
    listen: { host: 127.0.0.1, coaps: 0 }
    connection: dtls
    clientAuthentication: [digest]
    digest: { scope: association }
subscribers: [{ name: alice, password: secret, endpoints: ["*"] }]
`;
const AGENT = `
endpoint: pi-1
server: coaps://127.0.0.1:PORT
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: psk
    credentials: { username: alice, password: secret, psk: { identity: fleet, key: "0123456789abcdef" } }
`;
