import fc from "fast-check";
import { Association, type ClientOptions, DtlsError, ServerGate, type ServerOptions } from "#dtls/index.js";
import { decodeAlert } from "#dtls/wire/alert.js";
import { decodeCertificate } from "#dtls/wire/certificate.js";
import { decodeCertificateRequest } from "#dtls/wire/certificate-request.js";
import { decodeCertificateVerify } from "#dtls/wire/certificate-verify.js";
import { decodeClientHello } from "#dtls/wire/client-hello.js";
import { decodeClientKeyExchange } from "#dtls/wire/client-key-exchange.js";
import { decodeFinished } from "#dtls/wire/finished.js";
import { decodeHelloVerifyRequest } from "#dtls/wire/hello-verify-request.js";
import { decodeServerHello } from "#dtls/wire/server-hello.js";
import { decodeServerKeyExchange } from "#dtls/wire/server-key-exchange.js";
import { credential } from "../dtls/fixtures.js";
import { ADDRESS, makePair, type Pair, PSK, seededRandom, type TestEnd } from "../dtls/pair.js";
import { concat, mutate, mutations, type Mutation } from "./mutation.js";
import { type FuzzTarget, invariant } from "./target.js";

const MODES = ["psk", "psk", "psk", "ecdhe-psk", "certificates"] as const;
type Mode = (typeof MODES)[number];

function optionsOf(mode: Mode): { readonly client: ClientOptions; readonly server: ServerOptions } {
  switch (mode) {
    case "psk":
      return { client: { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] }, server: { pskEnabled: true } };
    case "ecdhe-psk":
      return { client: { psk: PSK }, server: { pskEnabled: true } };
    case "certificates":
      return {
        client: { certificate: credential("client") },
        server: { certificate: credential("p256"), clientCertificate: "require" },
      };
  }
}

/** A datagram as records that can be changed one by one and put together again with lengths that fit. */
interface FuzzRecord {
  header: Uint8Array;
  body: Uint8Array;
}

function recordsOf(datagram: Uint8Array): FuzzRecord[] {
  const records: FuzzRecord[] = [];
  for (let at = 0; at + RECORD_HEADER <= datagram.length;) {
    const end = at + RECORD_HEADER + ((datagram[at + 11] ?? 0) << 8) + (datagram[at + 12] ?? 0);
    records.push({ header: datagram.slice(at, at + RECORD_HEADER), body: datagram.slice(at + RECORD_HEADER, end) });
    at = end;
  }
  return records;
}

/** Makes the record's length right, and that of an unfragmented plaintext handshake message. */
function repair({ header, body }: FuzzRecord): void {
  header[11] = body.length >> 8;
  header[12] = body.length;
  const isPlainHandshake = header[0] === 22 && header[4] === 0 && body.length >= MESSAGE_HEADER;
  if (!isPlainHandshake) return;
  const length = body.length - MESSAGE_HEADER;
  for (const at of [1, 9]) body.set([length >> 16, length >> 8, length], at);
}

/** A datagram made of one that was seen: which, and what is done to it. */
interface Forgery {
  readonly donor: number;
  readonly record: number;
  readonly header: readonly Mutation[];
  readonly body: readonly Mutation[];
  readonly isRepaired: boolean;
  readonly shape: "one" | "all" | "twice" | "reversed";
  readonly isFresh: boolean;
}

const forgery: fc.Arbitrary<Forgery> = fc.record({
  donor: fc.nat(30),
  record: fc.nat(5),
  header: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, { weight: 1, arbitrary: mutations }),
  body: mutations,
  isRepaired: fc.boolean(),
  shape: fc.constantFrom("one", "all", "twice", "reversed"),
  isFresh: fc.boolean(),
});

function forge(seen: readonly Uint8Array[], plan: Forgery): Uint8Array {
  const donor = seen[plan.donor % Math.max(1, seen.length)] ?? new Uint8Array(0);
  const records = recordsOf(donor);
  const record = records[plan.record % Math.max(1, records.length)];
  if (record === undefined) return mutate(donor, plan.body);
  record.body = mutate(record.body, plan.body);
  if (plan.isRepaired) repair(record);
  record.header = mutate(record.header, plan.header);
  // A sequence number that was not used yet passes the replay window.
  if (plan.isFresh && record.header.length >= 11) record.header[9] = (record.header[9] ?? 0) ^ 1;
  const all = records.map(({ header, body }) => concat(header, body));
  const one = concat(record.header, record.body);
  switch (plan.shape) {
    case "one":
      return one;
    case "twice":
      return concat(one, one);
    case "all":
      return concat(...all);
    case "reversed":
      return concat(...all.toReversed());
  }
}

/** Carries datagrams to and fro until `steps` of them have arrived; says whether there is still something to carry. */
function pump(pair: Pair, steps: number, now: number): boolean {
  for (let step = 0; step < steps;) {
    const toServer = pair.client.pollDatagram(now);
    if (toServer !== undefined) pair.server.handleDatagram(toServer, now);
    const toClient = step + 1 < steps || toServer === undefined ? pair.server.pollDatagram(now) : undefined;
    if (toClient !== undefined) pair.client.handleDatagram(toClient, now);
    if (toServer === undefined && toClient === undefined) return false;
    step += (toServer === undefined ? 0 : 1) + (toClient === undefined ? 0 : 1);
  }
  return true;
}

/** Lets the timers run until both sides are connected or closed. */
function settle(pair: Pair): void {
  const ends = [pair.client, pair.server];
  const isSettled = (end: TestEnd): boolean =>
    end.connected > 0 || end.closed !== undefined || end.association === undefined;
  let now = 0;
  for (let round = 0; round < 200; round++) {
    pump(pair, 200, now);
    // What was carried may have begun a handshake at the server, whose timer runs then.
    now = Math.min(...ends.map((end) => end.nextTimeout() ?? Infinity));
    if (ends.every(isSettled) || now === Infinity) break;
    for (const end of ends) if ((end.nextTimeout() ?? Infinity) <= now) end.handleTimeout(now);
  }
  invariant(ends.every(isSettled), "a handshake neither completes nor ends, timers included");
}

interface AssociationPlan {
  readonly mode: Mode;
  readonly victim: "client" | "server";
  /** Honest datagrams that arrive before the forgeries. */
  readonly step: number;
  readonly forgeries: readonly Forgery[];
  /** Whether the server has the client's key; without it no side may ever be connected. */
  readonly hasKey: boolean;
}

/** Forged datagrams to either side of a handshake, or of an established association, at any step of it. */
export const associationTarget: FuzzTarget<AssociationPlan> = {
  name: "dtls-association",
  plans: fc.record({
    mode: fc.constantFrom(...MODES),
    victim: fc.constantFrom("client", "server"),
    step: fc.nat(12),
    forgeries: fc.array(forgery, { minLength: 1, maxLength: 6 }),
    hasKey: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  }),
  run: ({ mode, victim, step, forgeries, hasKey }) => {
    const wrongKey = Uint8Array.of(1, 2, 3);
    const refused = { ok: false, alert: "unknown_ca", reason: "not the peer" } as const;
    const answers = hasKey ? {} : { psk: () => wrongKey, verdict: refused };
    const pair = makePair({ ...optionsOf(mode), serverAnswers: answers });
    pump(pair, step, 0);
    const end = pair[victim];
    const wasConnected = end.connected > 0;
    const seen = (): Uint8Array[] => [...pair.client.sent, ...pair.server.sent];
    for (const plan of forgeries) {
      const hadAssociation = end.association !== undefined;
      const before = end.association?.counters.bytesOut ?? 0;
      // What the gate has said to earlier datagrams is not to be counted to this one; the client asks again.
      if (!hadAssociation && victim === "server") while (end.pollDatagram(0) !== undefined);
      const datagram = forge(seen(), plan);
      end.handleDatagram(datagram, 0);
      const caused = (end.association?.counters.bytesOut ?? 0) - before;
      invariant(caused <= MAX_FLIGHT_BYTES, `${datagram.length} bytes in brought ${caused} bytes out`);
      if (!hadAssociation && end.association === undefined && victim === "server") {
        const reply = end.pollDatagram(0);
        invariant((reply?.length ?? 0) <= datagram.length, "the gate answers with more than it got");
      }
    }
    if (wasConnected) {
      invariant(end.association?.state === "connected", `forgeries ended an established association`);
      invariant(end.connected === 1, "an established association connected again");
    }
    settle(pair);
    const { client, server } = pair;
    if (!hasKey) invariant(client.connected + server.connected === 0, "connected without the key");
    invariant(client.received.length + server.received.length === 0, "data came that nobody sent");
    if (client.connected > 0 && server.connected > 0 && client.closed === undefined && server.closed === undefined) {
      converse(pair);
    }
    if (wasConnected && hasKey)
      invariant(client.connected === 1 && server.connected === 1, "one side is connected alone");
    const reasons = Object.keys(end.association?.counters.dropped ?? {})
      .toSorted()
      .join("+");
    return [mode, victim, Math.min(step, 9), hasKey, end.closed?.error?.code ?? end.connected, reasons].join(" ");
  },
};

/** Both sides hear what the other says, and nothing else. */
function converse({ client, server }: Pair): void {
  client.association?.send(Uint8Array.of(1, 2, 3));
  server.association?.send(Uint8Array.of(4, 5));
  pump({ client, server }, 50, 0);
  invariant(hex(server.received) === "010203", `the server heard ${hex(server.received)}`);
  invariant(hex(client.received) === "0405", `the client heard ${hex(client.received)}`);
}

const hex = (parts: readonly Uint8Array[]): string => Buffer.concat(parts).toString("hex");

/** Datagrams of peers that the server has never heard of: the gate keeps nothing, and its cookie is worth nothing elsewhere. */
export const gateTarget: FuzzTarget<readonly Forgery[]> = {
  name: "dtls-gate",
  plans: fc.array(forgery, { minLength: 1, maxLength: 8 }),
  run: (forgeries) => {
    const elsewhere = Uint8Array.of(...ADDRESS, 1);
    const gate = new ServerGate({ pskEnabled: true, random: seededRandom(1001) });
    const outcomes = new Set<string>();
    for (const plan of forgeries) {
      const datagram = forge(HONEST.psk, plan);
      const answer = gate.handleDatagram(datagram, elsewhere, 0);
      invariant(answer.type !== "accept", "a cookie for another address was accepted");
      if (answer.type === "reply") {
        invariant(answer.bytes.length <= datagram.length, `${answer.bytes.length} bytes for ${datagram.length}`);
      }
      outcomes.add(answer.type === "drop" ? answer.reason : answer.type);
    }
    return [...outcomes].toSorted().join("+");
  },
};

interface MessagePlan {
  readonly decoder: number;
  readonly donor: number;
  readonly mutations: readonly Mutation[];
}

/** Every handshake message, and alerts, by themselves: whatever the bytes, a DtlsError is all that is thrown. */
export const messageTarget: FuzzTarget<MessagePlan> = {
  name: "dtls-messages",
  plans: fc.record({ decoder: fc.nat(20), donor: fc.nat(40), mutations }),
  run: ({ decoder, donor, mutations: plan }) => {
    const [name, decode] = DECODERS[decoder % DECODERS.length] ?? DECODERS[0]!;
    const body = mutate(BODIES[donor % BODIES.length] ?? new Uint8Array(0), plan);
    try {
      decode(body);
      return `${name} taken`;
    } catch (error) {
      invariant(error instanceof DtlsError, `${name} threw ${String(error)}`);
      return `${name} ${error.code}`;
    }
  },
};

const DECODERS: readonly (readonly [string, (body: Uint8Array) => unknown])[] = [
  ["ClientHello", decodeClientHello],
  ["ServerHello", decodeServerHello],
  ["HelloVerifyRequest", decodeHelloVerifyRequest],
  ["Certificate", decodeCertificate],
  ["CertificateRequest", decodeCertificateRequest],
  ["CertificateVerify", decodeCertificateVerify],
  ["Finished", decodeFinished],
  ["Alert", decodeAlert],
  ...(["psk", "ecdhe_psk", "ecdhe_ecdsa", "ecdhe_rsa"] as const).flatMap((keyExchange) => [
    [`ServerKeyExchange ${keyExchange}`, (body: Uint8Array) => decodeServerKeyExchange(body, keyExchange)] as const,
    [`ClientKeyExchange ${keyExchange}`, (body: Uint8Array) => decodeClientKeyExchange(body, keyExchange)] as const,
  ]),
];

const RECORD_HEADER = 13;
const MESSAGE_HEADER = 12;
/** The largest flight, certificates included, and what is repeated of it. */
const MAX_FLIGHT_BYTES = 8192;

/** All datagrams of an honest handshake in each mode, and some data. */
const HONEST: Readonly<Record<Mode, readonly Uint8Array[]>> = {
  psk: honest("psk"),
  "ecdhe-psk": honest("ecdhe-psk"),
  certificates: honest("certificates"),
};
const BODIES: readonly Uint8Array[] = Object.values(HONEST)
  .flat()
  .flatMap((datagram) => recordsOf(datagram))
  .filter(({ header }) => header[0] === 22 && header[4] === 0)
  .map(({ body }) => body.subarray(MESSAGE_HEADER));

function honest(mode: Mode): Uint8Array[] {
  const pair = makePair(optionsOf(mode));
  pump(pair, 100, 0);
  if (!(pair.client.association instanceof Association) || pair.client.connected !== 1) {
    throw new Error(`the honest handshake ${mode} does not complete`);
  }
  pair.client.association.send(Uint8Array.of(1, 2, 3));
  pump(pair, 10, 0);
  return [...pair.client.sent, ...pair.server.sent];
}
