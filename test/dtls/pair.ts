import {
  Association,
  type AssociationOutput,
  type CertificateVerdict,
  type ClientOptions,
  type DropReason,
  ServerGate,
  type ServerOptions,
} from "#dtls/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import { type LinkPeer } from "#testing/virtual-link.js";

export const PSK: { readonly identity: Uint8Array; readonly key: Uint8Array } = {
  identity: Uint8Array.from(Buffer.from("device-1")),
  key: Uint8Array.from(Buffer.from("secret-key-00001")),
};

type Answers = {
  readonly psk?: (identity: Uint8Array) => Uint8Array | undefined;
  readonly verdict?: CertificateVerdict;
  /** Questions stay open; the test answers them itself. */
  readonly isSilent?: boolean;
};

/** One end: the association, and what came of it. */
export class TestEnd implements LinkPeer {
  association: Association | undefined;
  readonly received: Uint8Array[] = [];
  readonly questions: AssociationOutput[] = [];
  readonly gateDrops: DropReason[] = [];
  /** All datagrams sent, in order. */
  readonly sent: Uint8Array[] = [];
  /** Those of them that are not for the peer's address. */
  readonly sentElsewhere: Map<Uint8Array, "candidate" | "source"> = new Map();
  readonly paths: string[] = [];
  connected = 0;
  /** Those offered, to be resumed. */
  sessions = 0;
  session: Uint8Array | undefined;
  closed: Extract<AssociationOutput, { type: "closed" }> | undefined;
  readonly #gate: ServerGate | undefined;
  readonly #answers: Answers;
  readonly #queue: Uint8Array[] = [];

  constructor(start: { client: Association } | { gate: ServerGate }, answers: Answers = {}) {
    this.#answers = answers;
    if ("gate" in start) this.#gate = start.gate;
    else this.association = start.client;
  }

  handleDatagram(bytes: Uint8Array, now: number): void {
    const known = this.association;
    if (this.#gate !== undefined && !(known?.beganWith(bytes) ?? false)) this.#askGate(this.#gate, bytes, now);
    known?.handleDatagram(bytes, now);
    this.drain(now);
  }

  handleTimeout(now: number): void {
    this.association?.handleTimeout(now);
    this.drain(now);
  }

  nextTimeout(): number | undefined {
    return this.association?.nextTimeout();
  }

  pollDatagram(now: number): Uint8Array | undefined {
    this.drain(now);
    const bytes = this.#queue.shift();
    if (bytes !== undefined) this.sent.push(bytes);
    return bytes;
  }

  drain(now: number): void {
    for (let output = this.association?.poll(); output !== undefined; output = this.association?.poll()) {
      this.#take(output, now);
    }
  }

  #askGate(gate: ServerGate, bytes: Uint8Array, now: number): void {
    const answer = gate.handleDatagram(bytes, ADDRESS, now);
    if (answer.type === "reply") this.#queue.push(answer.bytes);
    else if (answer.type === "drop") this.gateDrops.push(answer.reason);
    else this.association ??= answer.association;
  }

  #take(output: AssociationOutput, now: number): void {
    switch (output.type) {
      case "datagram":
        this.#queue.push(output.bytes);
        if (output.to !== undefined) this.sentElsewhere.set(output.bytes, output.to);
        return;
      case "peer-moved":
      case "path-candidate":
      case "path-validated":
      case "path-refused":
        this.paths.push(output.type);
        return;
      case "connected":
        this.connected++;
        return;
      case "data":
        this.received.push(output.bytes);
        return;
      case "need-psk":
        this.questions.push(output);
        if (this.#answers.isSilent !== true) {
          const lookup = this.#answers.psk ?? defaultPsk;
          this.association?.answerPsk(output.identity, lookup(output.identity), now);
        }
        return;
      case "session":
        this.sessions++;
        this.session = output.state;
        return;
      case "need-session":
      case "save":
        return;
      case "need-raw-public-key-verification":
      case "need-peer-certificate-verification":
        this.questions.push(output);
        if (this.#answers.isSilent !== true) {
          this.association?.answerPeerCertificate(this.#answers.verdict ?? { ok: true }, now);
        }
        return;
      case "closed":
        this.closed = output;
    }
  }
}

export interface Pair {
  readonly client: TestEnd;
  readonly server: TestEnd;
}

/** Both ends, with seeded randoms. */
export function makePair(
  options: {
    readonly client?: ClientOptions;
    readonly server?: ServerOptions;
    readonly clientAnswers?: Answers;
    readonly serverAnswers?: Answers;
    readonly seed?: number;
  } = {},
): Pair {
  const seed = options.seed ?? 1;
  return {
    client: new TestEnd(
      { client: Association.connect({ random: seededRandom(seed), ...options.client }, 0) },
      options.clientAnswers,
    ),
    server: new TestEnd(
      { gate: new ServerGate({ random: seededRandom(seed + 1000), ...options.server }) },
      options.serverAnswers,
    ),
  };
}

export function seededRandom(seed: number): (size: number) => Uint8Array {
  const random = new SeededRandom(seed);
  return (size) => random.bytes(size);
}

export const ADDRESS: Uint8Array = Uint8Array.of(192, 0, 2, 1, 0x16, 0x34);

function defaultPsk(identity: Uint8Array): Uint8Array | undefined {
  return Buffer.compare(identity, PSK.identity) === 0 ? PSK.key : undefined;
}
