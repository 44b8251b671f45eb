import type { AssociationOutput, CertificateVerdict, DropReason, PeerInfo } from "../association-output.js";
import type { CipherSuite } from "../crypto/suites.js";
import { DtlsError, type DtlsErrorCode } from "../errors.js";
import { type CommonOptions, IP_UDP_HEADER_BYTES } from "../options.js";
import type { Epoch } from "../record-layer.js";
import { HANDSHAKE_TYPES, type HandshakeFragment, type HandshakeType } from "../wire/handshake-header.js";
import type { ExporterSecrets } from "../crypto/key-schedule.js";
import type { Flight, FlightItem } from "./flight.js";
import { type HandshakeMessage, Reassembly } from "./reassembly.js";
import type { RecordLimits } from "./record-limits.js";
import { Transcript } from "./transcript.js";

/**
 * What both roles share: order and reassembly of the peer's messages, our flights, and the timers of RFC 6347 §4.2.4.
 * The role itself is a machine that is given one whole message at a time.
 *
 * A flight is repeated when its timer runs out, and when the peer repeats the end of the flight that it answers.
 */
export class HandshakeDriver implements HandshakeChannel {
  readonly transcript: Transcript = new Transcript();
  readonly #machine: HandshakeMachine;
  readonly #timing: HandshakeTiming;
  readonly #reassembly: Reassembly;
  readonly #outputs: HandshakeOutput[] = [];
  readonly #deadline: number;
  #flight: FlightItem[] = [];
  #nextMessageSeq: number;
  #hasPeerChangedCipherSpec = false;
  #mayPeerChangeCipherSpec = false;
  /** message_seq that ended the peer's flight before ours; −1 when ours is the first. */
  #answeredSeq = -1;
  #lastHandledSeq = -1;
  #datagramBytes: number;
  #retransmissions = 0;
  #timeoutMs: number;
  #sentAt = 0;
  #retransmitAt: number | undefined;

  /** `firstSeq`: the message_seq of the first message each way; a server's goes on from the ClientHello's. */
  constructor(machine: HandshakeMachine, timing: HandshakeTiming, firstSeq: number, now: number) {
    this.#machine = machine;
    this.#timing = timing;
    this.#reassembly = new Reassembly(timing.maxReassemblyBytes);
    this.#reassembly.nextSeq = firstSeq;
    this.#nextMessageSeq = firstSeq;
    this.#deadline = now + timing.handshakeTimeoutMs;
    this.#datagramBytes = timing.mtuBytes - IP_UDP_HEADER_BYTES;
    this.#timeoutMs = timing.initialRetransmitMs;
  }

  /** Lets the machine speak first. */
  start(now: number): void {
    this.#machine.start(this, now);
  }

  poll(): HandshakeOutput | undefined {
    return this.#outputs.shift();
  }

  nextTimeout(): number {
    return this.#isWaitingOutside() ? this.#deadline : Math.min(this.#retransmitAt ?? Infinity, this.#deadline);
  }

  /** @throws DtlsError DTLS_HANDSHAKE_TIMEOUT */
  handleTimeout(now: number): void {
    if (now >= this.#deadline) throw new DtlsError("DTLS_HANDSHAKE_TIMEOUT");
    if (this.#retransmitAt === undefined || now < this.#retransmitAt || this.#isWaitingOutside()) return;
    if (this.#retransmissions >= this.#timing.maxRetransmissions) throw new DtlsError("DTLS_HANDSHAKE_TIMEOUT");
    this.#retransmissions++;
    this.#timeoutMs = Math.min(this.#timeoutMs * 2, this.#timing.maxRetransmitMs);
    // RFC 6347 §4.1.1.1: repeated losses may be those of large datagrams.
    if (this.#retransmissions >= LOSSES_BEFORE_SMALLER && this.#datagramBytes > SMALL_DATAGRAM_BYTES) {
      this.#datagramBytes = SMALL_DATAGRAM_BYTES;
    }
    this.#transmit(now, true);
  }

  /** One fragment of a handshake message, from a record of `epoch`, which has verified if it is 1. */
  handleFragment(fragment: HandshakeFragment, epoch: Epoch, now: number): DropReason | undefined {
    const isFinished = fragment.type === HANDSHAKE_TYPES.finished;
    if (fragment.messageSeq < this.#reassembly.nextSeq) {
      if (fragment.messageSeq === this.#answeredSeq && fragment.fragmentOffset === 0) this.#repeatForPeer(now);
      return "duplicate-message";
    }
    // RFC 5246 §7.4.1.1: during a handshake a HelloRequest is ignored.
    if (fragment.type === HANDSHAKE_TYPES.hello_request) return "unexpected-message";
    // Where only Finished can come, nothing in the clear is the peer's.
    if (epoch === 0 && (isFinished || this.#expectsOnlyFinished())) return "plaintext-not-allowed";
    if (!isFinished && epoch === 1) {
      throw new DtlsError("DTLS_UNEXPECTED_MESSAGE", "a handshake message between ChangeCipherSpec and Finished");
    }
    if (this.#reassembly.isNext(fragment) && this.#take(messageOf(fragment), now)) {
      this.#reassembly.advance();
      this.#advance(now);
      return undefined;
    }
    const drop = this.#reassembly.add(fragment, epoch === 1);
    if (drop === undefined) this.#advance(now);
    return drop;
  }

  /** It may overtake the messages before it: it counts when those have come. Several are one. */
  handleChangeCipherSpec(now: number): DropReason | undefined {
    if (!this.#mayPeerChangeCipherSpec || this.#hasPeerChangedCipherSpec) return "unexpected-change-cipher-spec";
    this.#hasPeerChangedCipherSpec = true;
    this.#advance(now);
    return undefined;
  }

  get hasPeerChangedCipherSpec(): boolean {
    return this.#hasPeerChangedCipherSpec;
  }

  /** Set while nothing but the peer's Finished can come: the code of the error, should that not verify. */
  get finishedFault(): DtlsErrorCode | undefined {
    if (!this.#hasPeerChangedCipherSpec || !this.#expectsOnlyFinished()) {
      return undefined;
    }
    return this.#machine.finishedFault;
  }

  answerPsk(identity: Uint8Array, key: Uint8Array | undefined, now: number): void {
    this.#machine.answerPsk(identity, key, this, now);
    this.#advance(now);
  }

  answerSession(sessionId: Uint8Array, state: Uint8Array | undefined, now: number): void {
    this.#machine.answerSession(sessionId, state, this, now);
    this.#advance(now);
  }

  answerPeerCertificate(verdict: CertificateVerdict, now: number): void {
    this.#machine.answerPeerCertificate(verdict, this, now);
    this.#advance(now);
  }

  get datagramBytes(): number {
    return this.#datagramBytes;
  }

  get peerFinishedSeq(): number {
    return this.#lastHandledSeq;
  }

  // What the machines use.

  startFlight(): void {
    this.#flight = [];
    this.#answeredSeq = this.#lastHandledSeq;
  }

  add(type: HandshakeType, body: Uint8Array, epoch: Epoch = 0): void {
    const message = { type, messageSeq: this.#nextMessageSeq++, body };
    this.transcript.add(message);
    this.#flight.push({ kind: "message", epoch, message });
  }

  addChangeCipherSpec(): void {
    this.#flight.push({ kind: "change_cipher_spec" });
  }

  sendFlight(now: number): void {
    this.#retransmissions = 0;
    this.#timeoutMs = this.#timing.initialRetransmitMs;
    this.#transmit(now, false);
  }

  allowChangeCipherSpec(): void {
    this.#mayPeerChangeCipherSpec = true;
  }

  installKeys(suite: CipherSuite, keyBlock: Uint8Array): void {
    this.#outputs.push({ type: "keys", suite, keyBlock });
  }

  useConnectionIds(own: Uint8Array, peers: Uint8Array): void {
    this.#outputs.push({ type: "connection-ids", own, peers });
  }

  limitRecords(limits: RecordLimits): void {
    this.#outputs.push({ type: "record-limits", limits });
  }

  keepExporter(secrets: ExporterSecrets): void {
    this.#outputs.push({ type: "exporter", secrets });
  }

  offerSession(session: OfferedSession): void {
    this.#outputs.push({ type: "session", session });
  }

  ask(question: HandshakeQuestion): void {
    this.#outputs.push({ type: "ask", question });
  }

  complete(peer: PeerInfo, isOurFlightLast: boolean): void {
    this.#retransmitAt = undefined;
    // A copy: an array that grew has room for 17, and this one stays with the association.
    this.#outputs.push({ type: "complete", peer, finalFlight: isOurFlightLast ? [...this.#flight] : undefined });
  }

  #advance(now: number): void {
    for (;;) {
      const message = this.#machine.expects === undefined ? undefined : this.#reassembly.peek();
      if (message === undefined) return;
      if (!message.isVerified && this.#expectsOnlyFinished()) {
        this.#reassembly.discard();
        return;
      }
      if (!this.#take(message, now)) return;
      this.#reassembly.advance();
    }
  }

  /** Has the machine handle the next message; false when its time has not come. */
  #take(message: HandshakeMessage, now: number): boolean {
    const { type, messageSeq } = message;
    const expects = this.#machine.expects;
    if (expects === undefined) return false;
    if (!(expects as readonly number[]).includes(type)) {
      throw new DtlsError("DTLS_UNEXPECTED_MESSAGE", `type ${String(type)}`);
    }
    if (type === HANDSHAKE_TYPES.finished && !this.#hasPeerChangedCipherSpec) return false;
    this.transcript.add(message);
    this.#lastHandledSeq = messageSeq;
    this.#machine.handleMessage({ type, messageSeq, body: this.transcript.lastBody() }, this, now);
    return true;
  }

  #expectsOnlyFinished(): boolean {
    const expects = this.#machine.expects;
    return expects?.length === 1 && expects[0] === HANDSHAKE_TYPES.finished;
  }

  /** The peer has not seen our flight, it seems. At most once per quarter of the first timeout, against amplification. */
  #repeatForPeer(now: number): void {
    if (this.#isWaitingOutside() || this.#flight.length === 0) return;
    if (now < this.#sentAt + this.#timing.initialRetransmitMs / 4) return;
    this.#transmit(now, true);
  }

  #transmit(now: number, isRepeated: boolean): void {
    this.#sentAt = now;
    this.#retransmitAt = now + this.#timeoutMs;
    this.#outputs.push({ type: "transmit", flight: this.#flight, isRepeated });
  }

  #isWaitingOutside(): boolean {
    return this.#machine.expects === undefined;
  }
}

/** Of a fragment that is the whole message. */
function messageOf({ type, messageSeq, fragment }: HandshakeFragment): HandshakeMessage {
  return { type, messageSeq, body: fragment };
}

/** One role of the handshake. */
export interface HandshakeMachine {
  /** The types that may come next; undefined while it waits for an answer from the outside. */
  readonly expects: readonly HandshakeType[] | undefined;
  readonly finishedFault: DtlsErrorCode;
  start(channel: HandshakeChannel, now: number): void;
  /** The message is of an expected type, and is the last one in the transcript, of which its body is a view. */
  handleMessage(message: HandshakeMessage, channel: HandshakeChannel, now: number): void;
  answerPsk(identity: Uint8Array, key: Uint8Array | undefined, channel: HandshakeChannel, now: number): void;
  answerSession(sessionId: Uint8Array, state: Uint8Array | undefined, channel: HandshakeChannel, now: number): void;
  answerPeerCertificate(verdict: CertificateVerdict, channel: HandshakeChannel, now: number): void;
}

/** What a machine can do. */
export interface HandshakeChannel {
  readonly transcript: Transcript;
  startFlight(): void;
  /** Adds a message of ours to the flight and to the transcript. */
  add(type: HandshakeType, body: Uint8Array, epoch?: Epoch): void;
  addChangeCipherSpec(): void;
  sendFlight(now: number): void;
  /** From now on the peer may have reason to send its ChangeCipherSpec. */
  allowChangeCipherSpec(): void;
  /** RFC 9146, negotiated: ours, and the peer's; either may be empty. */
  useConnectionIds(own: Uint8Array, peers: Uint8Array): void;
  installKeys(suite: CipherSuite, keyBlock: Uint8Array): void;
  limitRecords(limits: RecordLimits): void;
  keepExporter(secrets: ExporterSecrets): void;
  /** A session that can be resumed: its state is a copy. */
  offerSession(session: OfferedSession): void;
  ask(question: HandshakeQuestion): void;
  complete(peer: PeerInfo, isOurFlightLast: boolean): void;
}

export type HandshakeOutput =
  | { readonly type: "transmit"; readonly flight: Flight; readonly isRepeated: boolean }
  | { readonly type: "connection-ids"; readonly own: Uint8Array; readonly peers: Uint8Array }
  | { readonly type: "record-limits"; readonly limits: RecordLimits }
  | { readonly type: "exporter"; readonly secrets: ExporterSecrets }
  | { readonly type: "session"; readonly session: OfferedSession }
  | { readonly type: "keys"; readonly suite: CipherSuite; readonly keyBlock: Uint8Array }
  | { readonly type: "ask"; readonly question: HandshakeQuestion }
  | { readonly type: "complete"; readonly peer: PeerInfo; readonly finalFlight: Flight | undefined };

export type HandshakeQuestion = Extract<AssociationOutput, { readonly type: `need-${string}` }>;
export type OfferedSession = Omit<Extract<AssociationOutput, { readonly type: "session" }>, "type">;

export type HandshakeTiming = Required<
  Pick<
    CommonOptions,
    | "mtuBytes"
    | "initialRetransmitMs"
    | "maxRetransmitMs"
    | "maxRetransmissions"
    | "handshakeTimeoutMs"
    | "maxReassemblyBytes"
  >
>;

const LOSSES_BEFORE_SMALLER = 3;
/** IPv4 hosts need not take more than 576 bytes (RFC 1122 §3.3.2). */
const SMALL_DATAGRAM_BYTES: number = 576 - IP_UDP_HEADER_BYTES;
