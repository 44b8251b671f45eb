import { AssociationCore } from "./association-core.js";
import type { CertificateVerdict, ClosingAlert, PeerInfo } from "./association-output.js";
import type { ExporterSecrets } from "./crypto/key-schedule.js";
import { EarlyRecords } from "./early-records.js";
import { DtlsError } from "./errors.js";
import { type Flight, packFlight } from "./handshake/flight.js";
import type { HandshakeDriver, HandshakeOutput } from "./handshake/handshake-driver.js";
import type { ResolvedClientOptions, ResolvedServerOptions } from "./options.js";
import { SavePolicy } from "./save-policy.js";
import { RANDOM_AT, RANDOM_BYTES } from "./wire/client-hello.js";
import { type ClientHelloStart, readClientHelloStart } from "./wire/client-hello-start.js";
import { VERIFY_DATA_BYTES } from "./wire/finished.js";
import {
  decodeHandshakeFragment,
  HANDSHAKE_HEADER_BYTES,
  HANDSHAKE_TYPES,
  type HandshakeFragment,
} from "./wire/handshake-header.js";
import { CONTENT_TYPES, decodeRecordHeader, RECORD_HEADER_BYTES, type RecordHeader, TLS12_CID } from "./wire/record.js";

/** An association's part in the handshake: what comes in for it, what it wants done, and what stays of it afterwards. */
export abstract class AssociationHandshake extends AssociationCore {
  /** Only during the handshake. */
  protected handshake: HandshakeState | undefined;
  /** Server: our last flight, until data show that the client has it. */
  protected finalFlight: FinalFlight | undefined;
  protected established: PeerInfo | undefined;
  protected exporter: ExporterSecrets | undefined;
  /** Server: the random of the ClientHello this began with. */
  readonly #clientRandom: string | undefined;

  /** `driver`: undefined for one that goes on from saved state. */
  protected constructor(
    role: "client" | "server",
    options: ResolvedClientOptions | ResolvedServerOptions,
    driver: HandshakeDriver | undefined,
    start: ClientHelloStart | undefined,
  ) {
    super(role, options, start?.recordSequenceNumber);
    this.handshake = driver && { driver, early: new EarlyRecords(options.maxEarlyRecordBytes) };
    this.#clientRandom = start && randomOf(start.parts.bytes, start.parts.from);
  }

  protected abstract handleProtected(header: RecordHeader, source: Uint8Array, at: number, now: number): void;
  protected abstract handleData(data: Uint8Array): void;

  /** Known once connected. */
  get peer(): PeerInfo | undefined {
    return this.established;
  }

  /** Absolute time of the next `handleTimeout`; undefined when none is needed. */
  nextTimeout(): number | undefined {
    const { handshake } = this;
    return handshake && Math.min(handshake.driver.nextTimeout(), handshake.heldAlert?.until ?? Infinity);
  }

  handleTimeout(now: number): void {
    const handshake = this.handshake;
    if (handshake === undefined || this.#endsByHeldAlert(handshake, now)) return;
    try {
      handshake.driver.handleTimeout(now);
    } catch (cause) {
      this.failBy(cause);
    }
    this.drainHandshake(now);
  }

  /**
   * Answers `need-psk`; undefined when there is no such identity. An answer that is late, repeated, or to no question has
   * no effect. The key is read only during the call.
   */
  answerPsk(identity: Uint8Array, key: Uint8Array | undefined, now: number): void {
    const handshake = this.handshake;
    if (handshake === undefined) return;
    try {
      handshake.driver.answerPsk(identity, key, now);
    } catch (cause) {
      this.failBy(cause);
    }
    this.drainHandshake(now);
  }

  /**
   * Answers `need-session`; undefined when there is none of this identifier. Late, repeated or unasked answers have no
   * effect.
   */
  answerSession(sessionId: Uint8Array, state: Uint8Array | undefined, now: number): void {
    const handshake = this.handshake;
    if (handshake === undefined) return;
    try {
      handshake.driver.answerSession(sessionId, state, now);
    } catch (cause) {
      this.failBy(cause);
    }
    this.drainHandshake(now);
  }

  /** Answers `need-peer-certificate-verification` and `need-raw-public-key-verification`; late, repeated or unasked answers have no effect. */
  answerPeerCertificate(verdict: CertificateVerdict, now: number): void {
    const handshake = this.handshake;
    if (handshake === undefined || !handshake.isAwaitingVerdict) return;
    handshake.isAwaitingVerdict = false;
    if (!verdict.ok) {
      this.fail(new DtlsError("DTLS_CERTIFICATE_REFUSED", verdict.reason, { cause: verdict }), verdict.alert);
      return;
    }
    try {
      handshake.driver.answerPeerCertificate(verdict, now);
    } catch (cause) {
      this.failBy(cause);
    }
    this.drainHandshake(now);
  }

  /**
   * Server: whether `datagram` begins with the very ClientHello, by its random, that this association began with. Then
   * it is a repetition, and not to be given to the gate.
   */
  beganWith(datagram: Uint8Array): boolean {
    if (this.#clientRandom === undefined) return false;
    const start = readClientHelloStart(datagram);
    return !("drop" in start) && isRandomAt(this.#clientRandom, start.parts.bytes, start.parts.from);
  }

  /** The plaintext of a record: from `at` to `end` of `bytes`. */
  protected handleHandshake(
    handshake: HandshakeState,
    bytes: Uint8Array,
    at: number,
    end: number,
    epoch: 0 | 1,
    now: number,
  ): void {
    try {
      let offset = at;
      do {
        const fragment = this.#fragmentAt(bytes, offset, end);
        if (fragment === undefined) break;
        if (this.#isOfAnotherHandshake(fragment)) this.drop("unexpected-message");
        else this.drop(handshake.driver.handleFragment(fragment, epoch, now));
        offset += HANDSHAKE_HEADER_BYTES + fragment.fragment.length;
      } while (offset < end && !this.isClosed);
    } catch (cause) {
      this.failBy(cause);
    }
    this.drainHandshake(now);
  }

  /**
   * A fatal alert in the clear, which anybody can have written: it counts once the peer has taken no further step of the
   * handshake for as long as a flight waits for its answer.
   * Differs from RFC 5246 §7.2.2, which ends the association at once; RFC 6347 §4.1.2.7 is why.
   */
  protected holdAlert(handshake: HandshakeState, error: DtlsError, alert: ClosingAlert, now: number): void {
    handshake.heldAlert ??= { error, alert, until: now + this.options.initialRetransmitMs, step: stepOf(handshake) };
  }

  #endsByHeldAlert(handshake: HandshakeState, now: number): boolean {
    const { heldAlert } = handshake;
    if (heldAlert === undefined || now < heldAlert.until) return false;
    handshake.heldAlert = undefined;
    if (heldAlert.step === stepOf(handshake)) {
      this.end(heldAlert.error, heldAlert.alert);
      return true;
    }
    this.drop("ignored-alert");
    return false;
  }

  /**
   * After the handshake: a Finished that the peer repeats asks for our last flight again (RFC 6347 §4.2.4); a wish to
   * renegotiate is declined.
   */
  protected handleLateHandshake(plaintext: Uint8Array): void {
    let offset = 0;
    do {
      const fragment = this.#fragmentAt(plaintext, offset, plaintext.length);
      if (fragment === undefined) return;
      this.#handleLateMessage(fragment);
      offset += HANDSHAKE_HEADER_BYTES + fragment.fragment.length;
    } while (offset < plaintext.length && !this.isClosed);
  }

  /**
   * A record that can only be the peer's Finished does not open: the keys differ, which for a PSK means another key. A
   * silent drop would leave both sides to time out, so here alone a bad MAC ends the handshake.
   * Differs from RFC 6347 §4.1.2.7, which recommends to drop: mbedTLS does the same, for the same reason.
   */
  protected suspectFinished(header: RecordHeader): void {
    const code = this.handshake?.driver.finishedFault;
    const finishedBytes = HANDSHAKE_HEADER_BYTES + VERIFY_DATA_BYTES;
    const recordBytes = this.records.expectedFragmentBytes(finishedBytes);
    const isHandshake = header.type === CONTENT_TYPES.handshake || header.type === TLS12_CID;
    if (code === undefined || !isHandshake || header.length !== recordBytes) return;
    this.fail(new DtlsError(code));
  }

  protected drainHandshake(now: number): void {
    for (;;) {
      const handshake = this.handshake;
      const output = this.isClosed ? undefined : handshake?.driver.poll();
      if (handshake === undefined || output === undefined) return;
      try {
        this.#apply(output, handshake, now);
      } catch (cause) {
        this.failBy(cause);
      }
    }
  }

  protected override end(error: DtlsError | undefined, alert: ClosingAlert | undefined): void {
    this.handshake = undefined;
    this.finalFlight = undefined;
    this.exporter = undefined;
    super.end(error, alert);
  }

  /** Server: a ClientHello with another random is for the gate; taken here, it would disturb this handshake. */
  #isOfAnotherHandshake({ type, fragmentOffset, fragment }: HandshakeFragment): boolean {
    if (this.#clientRandom === undefined || type !== HANDSHAKE_TYPES.client_hello || fragmentOffset > 0) return false;
    return !isRandomAt(this.#clientRandom, fragment, 0);
  }

  #handleLateMessage({ type, messageSeq }: HandshakeFragment): void {
    if (type === HANDSHAKE_TYPES.finished && messageSeq === this.finalFlight?.peerFinishedSeq) {
      this.retransmissions++;
      this.#sendFlight(this.finalFlight.flight, this.finalFlight.datagramBytes);
      return;
    }
    this.drop("unexpected-message");
    const begins = this.role === "server" ? HANDSHAKE_TYPES.client_hello : HANDSHAKE_TYPES.hello_request;
    if (type === begins) this.sendAlert("warning", "no_renegotiation");
  }

  /** What follows a malformed one is lost with it. */
  #fragmentAt(bytes: Uint8Array, offset: number, end: number): HandshakeFragment | undefined {
    const fragment = decodeHandshakeFragment(bytes, offset, end);
    if (fragment === undefined) this.drop("malformed-fragment");
    return fragment;
  }

  #apply(output: HandshakeOutput, handshake: HandshakeState, now: number): void {
    switch (output.type) {
      case "transmit":
        if (output.isRepeated) this.retransmissions++;
        this.#sendFlight(output.flight, handshake.driver.datagramBytes);
        return;
      case "connection-ids":
        this.records.useConnectionIds(output.own, output.peers, this.options.paddingBlockBytes);
        return;
      case "record-limits":
        this.records.limitRecords(output.limits);
        return;
      case "exporter":
        this.exporter = output.secrets;
        return;
      case "session":
        this.emit({ type: "session", ...output.session });
        return;
      case "keys":
        this.records.installKeys(output.suite.aead, output.keyBlock, this.role);
        for (const record of handshake.early.takeSealed()) this.#replayEarly(record, now);
        return;
      case "ask":
        if (output.question.type.endsWith("-verification")) handshake.isAwaitingVerdict = true;
        this.emit(output.question);
        return;
      case "complete":
        this.#complete(output.peer, output.finalFlight, handshake, now);
    }
  }

  #replayEarly(record: Uint8Array, now: number): void {
    const connectionIdBytes = this.records.ownConnectionId.length;
    const header = decodeRecordHeader(record, 0, connectionIdBytes);
    if ("drop" in header || this.isClosed) return;
    const headerBytes = RECORD_HEADER_BYTES + (header.type === TLS12_CID ? connectionIdBytes : 0);
    this.handleProtected(header, record, headerBytes, now);
  }

  /** Frees all that belonged to the handshake. */
  #complete(peer: PeerInfo, finalFlight: Flight | undefined, handshake: HandshakeState, now: number): void {
    const { driver, early } = handshake;
    driver.transcript.release();
    this.handshake = undefined;
    this.established = peer;
    if (finalFlight !== undefined) {
      const { peerFinishedSeq, datagramBytes } = driver;
      this.finalFlight = { flight: finalFlight, peerFinishedSeq, datagramBytes };
    }
    if (this.options.isSaved) {
      this.saving = SavePolicy.begin(this.records.nextSequenceNumber, this.records.newestReceived, now);
      this.emit({ type: "save" });
    }
    this.emit({ type: "connected", peer });
    for (const data of early.takeData()) this.handleData(data);
  }

  #sendFlight(flight: Flight, datagramBytes: number): void {
    for (const datagram of packFlight(flight, this.records, datagramBytes)) this.emitDatagram(datagram);
  }
}

export interface HandshakeState {
  readonly driver: HandshakeDriver;
  readonly early: EarlyRecords;
  isAwaitingVerdict?: boolean;
  heldAlert?: HeldAlert | undefined;
}

export interface HeldAlert {
  readonly error: DtlsError;
  readonly alert: ClosingAlert;
  readonly until: number;
  /** Of the handshake, when it came. */
  readonly step: number;
}

/** Grows with each message of the peer that was dealt with. */
function stepOf({ driver }: HandshakeState): number {
  return driver.peerFinishedSeq;
}

interface FinalFlight {
  readonly flight: Flight;
  readonly peerFinishedSeq: number;
  readonly datagramBytes: number;
}

/**
 * The random of the ClientHello at `at`, which is whole to there, as characters: a string of 32 bytes takes a quarter of
 * what an array takes, and every idle association has one.
 */
function randomOf({ buffer, byteOffset }: Uint8Array, at: number): string {
  return Buffer.from(buffer, byteOffset + at + RANDOM_AT, RANDOM_BYTES).toString("latin1");
}

/** Whether the ClientHello at `at`, which may be cut off, has that random. */
function isRandomAt(random: string, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < RANDOM_BYTES; i++) if (bytes[at + RANDOM_AT + i] !== random.charCodeAt(i)) return false;
  return true;
}
