import {
  type AssociationCounters,
  type AssociationOutput,
  type AssociationState,
  type CertificateVerdict,
  type ClosingAlert,
  type DropReason,
  type PeerInfo,
} from "./association-output.js";
import { exportedKeyingMaterial, type ExporterSecrets } from "./crypto/key-schedule.js";
import { suiteByName } from "./crypto/suites.js";
import { alertOfError, DtlsError } from "./errors.js";
import { ClientHandshake } from "./handshake/client-handshake.js";
import { type Flight, packFlight } from "./handshake/flight.js";
import { HandshakeDriver, type HandshakeOutput } from "./handshake/handshake-driver.js";
import { ServerHandshake } from "./handshake/server-handshake.js";
import {
  type ClientOptions,
  IP_UDP_HEADER_BYTES,
  resolveClientOptions,
  type ResolvedClientOptions,
  type ResolvedServerOptions,
} from "./options.js";
import { MacFailures } from "./mac-failures.js";
import { RecordLayer } from "./record-layer.js";
import { decodeSavedAssociation, encodeSavedAssociation, type SavedAssociation } from "./saved-association.js";
import { SavePolicy } from "./save-policy.js";
import { type AlertDescription, type AlertLevel, decodeAlert, encodeAlert } from "./wire/alert.js";
import { RANDOM_BYTES } from "./wire/client-hello.js";
import { type ClientHelloStart, readClientHelloStart } from "./wire/client-hello-start.js";
import {
  decodeHandshakeFragment,
  HANDSHAKE_HEADER_BYTES,
  HANDSHAKE_TYPES,
  type HandshakeFragment,
} from "./wire/handshake-header.js";
import {
  CONNECTION_ID_AT,
  CONTENT_TYPES,
  decodeRecordHeader,
  DTLS_1_2,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  TLS12_CID,
} from "./wire/record.js";
import { VERIFY_DATA_BYTES } from "./wire/finished.js";
import { EarlyRecords } from "./early-records.js";

/**
 * One DTLS 1.2 association (RFC 6347), of either role, without I/O: datagrams, the time and answers go in, outputs come
 * out by `poll`. Times are milliseconds of the caller's monotonic clock. After any call, poll until undefined, and ask
 * `nextTimeout` anew.
 *
 * What the network sends never throws: what is not authentic is dropped and counted; what breaks the protocol ends this
 * association with an alert and a last output `closed`.
 */
export class Association {
  readonly #role: "client" | "server";
  readonly #options: ResolvedClientOptions | ResolvedServerOptions;
  readonly #records: RecordLayer;
  /** Only during the handshake. */
  #handshake: HandshakeState | undefined;
  /** Server: our last flight, until data show that the client has it. */
  #finalFlight: FinalFlight | undefined;
  #peer: PeerInfo | undefined;
  #exporter: ExporterSecrets | undefined;
  /** Once there was one. */
  #macFailures: MacFailures | undefined;
  /** Once connected, with the option `isSaved`. */
  #saving: SavePolicy | undefined;
  #isClosed = false;
  #outputs: AssociationOutput[] = NO_OUTPUTS;
  #outputHead = 0;
  /** Server: the random of the ClientHello this began with. */
  readonly #clientRandom: string | undefined;

  /** Of the datagram at hand. */
  #hasNewest = false;
  #recordsIn = 0;
  #bytesIn = 0;
  #bytesOut = 0;
  #retransmissions = 0;
  #dropped: Partial<Record<DropReason, number>> | undefined;

  private constructor(
    options: ResolvedClientOptions | ResolvedServerOptions,
    origin: HandshakeDriver | { readonly saved: SavedAssociation; readonly now: number },
    start: ClientHelloStart | undefined,
  ) {
    this.#options = options;
    this.#clientRandom = start && textOf(start.parameters.random);
    this.#records = new RecordLayer(start?.recordSequenceNumber);
    if (origin instanceof HandshakeDriver) {
      this.#role = start === undefined ? "client" : "server";
      this.#handshake = { driver: origin, early: new EarlyRecords(options.maxEarlyRecordBytes) };
      return;
    }
    const { role, peer, sendBound, receiveFloor, keyBlock, ownConnectionId, peerConnectionId, limits } = origin.saved;
    this.#role = role;
    this.#peer = peer;
    this.#records.installKeys(suiteByName(peer.suite).aead, keyBlock, role);
    this.#records.useConnectionIds(ownConnectionId, peerConnectionId, options.paddingBlockBytes);
    this.#records.limitRecords(limits);
    this.#records.restoreNumbers(sendBound, receiveFloor);
    if (options.isSaved) this.#saving = new SavePolicy(sendBound, receiveFloor, origin.now);
  }

  /**
   * A client. The first ClientHello is among the outputs.
   * @throws DtlsError DTLS_BAD_OPTION
   */
  static connect(options: ClientOptions, now: number): Association {
    const resolved = resolveClientOptions(options);
    const driver = new HandshakeDriver(new ClientHandshake(resolved), resolved, 0, now);
    const association = new Association(resolved, driver, undefined);
    driver.start(now);
    association.#drainHandshake(now);
    return association;
  }

  /** A server's side, for ServerGate: `start` is that of `datagram`, and its cookie has been verified. */
  static accept(
    options: ResolvedServerOptions,
    start: ClientHelloStart,
    datagram: Uint8Array,
    now: number,
  ): Association {
    const driver = new HandshakeDriver(new ServerHandshake(options), options, start.messageSeq, now);
    const association = new Association(options, driver, start);
    association.handleDatagram(datagram, now);
    return association;
  }

  /**
   * Goes on with a client's association that was saved, without a handshake. Use a state once only, and the latest. For a
   * server's see ServerGate.
   * @throws DtlsError DTLS_BAD_SAVED_STATE, also when its cipher suite is not among the options any more; DTLS_BAD_OPTION
   */
  static restore(state: Uint8Array, options: ClientOptions, now: number): Association {
    return Association.restoreAs("client", state, resolveClientOptions(options), now);
  }

  /** For ServerGate. */
  static restoreAs(
    role: "client" | "server",
    state: Uint8Array,
    options: ResolvedClientOptions | ResolvedServerOptions,
    now: number,
  ): Association {
    const saved = decodeSavedAssociation(state);
    if (saved.role !== role || !options.cipherSuites.includes(saved.peer.suite)) {
      throw new DtlsError("DTLS_BAD_SAVED_STATE", "another role, or a cipher suite that is not used any more");
    }
    return new Association(options, { saved, now }, undefined);
  }

  get role(): "client" | "server" {
    return this.#role;
  }

  /** `closing`: the last outputs are still to be polled. */
  get state(): AssociationState {
    if (this.#isClosed) return this.#outputs.length > 0 ? "closing" : "closed";
    return this.#handshake === undefined ? "connected" : "handshaking";
  }

  /** Known once connected. */
  get peer(): PeerInfo | undefined {
    return this.#peer;
  }

  /** Ours, once negotiated: what the peer's records carry (RFC 9146). Empty when they carry none. */
  get connectionId(): Uint8Array {
    return this.#records.ownConnectionId;
  }

  get counters(): AssociationCounters {
    return {
      recordsIn: this.#recordsIn,
      recordsOut: this.#records.sealedRecords,
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      retransmissions: this.#retransmissions,
      dropped: { ...this.#dropped },
    };
  }

  /** The most that `send` takes at once. */
  get maxDataBytes(): number {
    const room = this.maxDatagramBytes - this.#records.overheadBytes(1);
    return Math.min(room, this.#records.maxPlaintextBytes(1));
  }

  /** The longest datagram that the path takes. */
  get maxDatagramBytes(): number {
    return this.#options.mtuBytes - IP_UDP_HEADER_BYTES;
  }

  poll(): AssociationOutput | undefined {
    const output = this.#outputs[this.#outputHead];
    if (output === undefined) return undefined;
    this.#outputHead++;
    if (this.#outputHead === this.#outputs.length) {
      this.#outputs = NO_OUTPUTS;
      this.#outputHead = 0;
    }
    return output;
  }

  /** Absolute time of the next `handleTimeout`; undefined when none is needed. */
  nextTimeout(): number | undefined {
    return this.#handshake?.driver.nextTimeout();
  }

  handleTimeout(now: number): void {
    const handshake = this.#handshake;
    if (handshake === undefined) return;
    this.#guard(() => {
      handshake.driver.handleTimeout(now);
    });
    this.#drainHandshake(now);
  }

  /**
   * Never throws. The bytes are read only during the call. Returns whether a record of it verified that is newer than all
   * before it: with a connection identifier, the peer is then to be answered where this came from (RFC 9146 §6).
   */
  handleDatagram(datagram: Uint8Array, now: number): boolean {
    this.#bytesIn += datagram.length;
    this.#hasNewest = false;
    let offset = 0;
    while (offset < datagram.length) {
      if (this.#isClosed) {
        this.#drop("closed");
        break;
      }
      const connectionId = this.#records.ownConnectionId;
      const header = decodeRecordHeader(datagram, offset, connectionId.length);
      if ("drop" in header) {
        this.#drop(header.drop);
        if (header.skipBytes === undefined) break;
        offset += header.skipBytes;
        continue;
      }
      const recordAt = offset;
      const start = offset + RECORD_HEADER_BYTES + (header.type === TLS12_CID ? connectionId.length : 0);
      offset = start + header.length;
      if (header.type === TLS12_CID && !startsWith(datagram, recordAt + CONNECTION_ID_AT, connectionId)) {
        this.#drop("unknown-connection-id");
        continue;
      }
      this.#recordsIn++;
      this.#handleRecord(header, datagram.subarray(recordAt, offset), start - recordAt, now);
    }
    return this.#hasNewest;
  }

  /**
   * One record of application data. The bytes are read only during the call.
   * @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED, DTLS_MESSAGE_TOO_LARGE (see `maxDataBytes`),
   *   DTLS_SEQUENCE_EXHAUSTED, which also closes the association
   */
  send(data: Uint8Array): void {
    if (this.#isClosed) throw new DtlsError("DTLS_CLOSED");
    if (this.#handshake !== undefined) throw new DtlsError("DTLS_NOT_CONNECTED");
    if (data.length > this.maxDataBytes) {
      throw new DtlsError(
        "DTLS_MESSAGE_TOO_LARGE",
        `${String(data.length)} bytes, at most ${String(this.maxDataBytes)}`,
      );
    }
    try {
      this.#emitDatagram(this.#records.seal(1, CONTENT_TYPES.applicationData, data));
    } catch (error) {
      if (error instanceof DtlsError) this.#end(error, undefined);
      throw error;
    }
  }

  /**
   * The state as it must be kept (see saved-association.ts): with the option `isSaved`, at each output `save`.
   * @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED
   */
  save(): Uint8Array {
    if (this.#isClosed) throw new DtlsError("DTLS_CLOSED");
    const peer = this.#peer;
    const keyBlock = this.#records.keyBlock;
    if (this.#handshake !== undefined || peer === undefined || keyBlock === undefined) {
      throw new DtlsError("DTLS_NOT_CONNECTED");
    }
    return encodeSavedAssociation({
      role: this.#role,
      keyBlock,
      ownConnectionId: this.#records.ownConnectionId,
      peerConnectionId: this.#records.peerConnectionId,
      limits: this.#records.limits,
      sendBound: this.#saving?.sendBound ?? this.#records.nextSequenceNumber,
      receiveFloor: this.#saving?.receiveFloor ?? this.#records.newestReceived + 1,
      peer,
    });
  }

  /** The state, exactly, at an orderly stop: the association ends here without telling the peer. @throws as `save` */
  suspend(): Uint8Array {
    this.#saving = undefined;
    const state = this.save();
    this.#end(undefined, undefined);
    return state;
  }

  /** From time to time, with the option `isSaved`: may give an output `save`. */
  tighten(now: number): void {
    if (!this.#isClosed && this.#saving?.tighten(this.#records.newestReceived, now) === true) {
      this.#emit({ type: "save" });
    }
  }

  /** In order: close_notify, and no data either way from now on. During the handshake, user_canceled before it. */
  close(): void {
    if (this.#isClosed) return;
    if (this.#handshake !== undefined) this.#sendAlert("warning", "user_canceled");
    this.#sendAlert("warning", "close_notify");
    this.#end(undefined, { sent: true, received: false, level: "warning", description: "close_notify" });
  }

  /** At once, and the peer is told nothing: what it sends from now on is unknown here. */
  abandon(): void {
    if (!this.#isClosed) this.#end(undefined, undefined);
  }

  /** At once, by a fatal alert. `reason` goes into the error of `closed`. */
  abort(alert: AlertDescription, reason: string): void {
    if (!this.#isClosed) this.#fail(new DtlsError("DTLS_ABORTED", reason), alert);
  }

  /**
   * Answers `need-psk`; undefined when there is no such identity. An answer that is late, repeated, or to no question has
   * no effect. The key is read only during the call.
   */
  answerPsk(identity: Uint8Array, key: Uint8Array | undefined, now: number): void {
    const handshake = this.#handshake;
    if (handshake === undefined) return;
    this.#guard(() => {
      handshake.driver.answerPsk(identity, key, now);
    });
    this.#drainHandshake(now);
  }

  /**
   * Answers `need-session`; undefined when there is none of this identifier. Late, repeated or unasked answers have no
   * effect.
   */
  answerSession(sessionId: Uint8Array, state: Uint8Array | undefined, now: number): void {
    const handshake = this.#handshake;
    if (handshake === undefined) return;
    this.#guard(() => {
      handshake.driver.answerSession(sessionId, state, now);
    });
    this.#drainHandshake(now);
  }

  /**
   * Keying material for the application (RFC 5705), the same on both sides. `length`: 1–65,535 bytes. `context`: bound in;
   * absent differs from empty.
   * @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED, DTLS_NO_EXPORTER without the option `exporter`
   */
  exportKeyingMaterial(label: string, length: number, context?: Uint8Array): Uint8Array {
    if (this.#isClosed) throw new DtlsError("DTLS_CLOSED");
    if (this.#handshake !== undefined) throw new DtlsError("DTLS_NOT_CONNECTED");
    if (this.#exporter === undefined) throw new DtlsError("DTLS_NO_EXPORTER");
    return exportedKeyingMaterial(this.#exporter, label, context, length);
  }

  /** Answers `need-peer-certificate-verification` and `need-raw-public-key-verification`; late, repeated or unasked answers have no effect. */
  answerPeerCertificate(verdict: CertificateVerdict, now: number): void {
    const handshake = this.#handshake;
    if (handshake === undefined || !handshake.isAwaitingVerdict) return;
    handshake.isAwaitingVerdict = false;
    if (!verdict.ok) {
      this.#fail(new DtlsError("DTLS_CERTIFICATE_REFUSED", verdict.reason, { cause: verdict }), verdict.alert);
      return;
    }
    this.#guard(() => {
      handshake.driver.answerPeerCertificate(verdict, now);
    });
    this.#drainHandshake(now);
  }

  /**
   * Server: whether `datagram` begins with the very ClientHello, by its random, that this association began with. Then
   * it is a repetition, and not to be given to the gate.
   */
  beganWith(datagram: Uint8Array): boolean {
    if (this.#clientRandom === undefined) return false;
    const start = readClientHelloStart(datagram);
    return !("drop" in start) && textOf(start.parameters.random) === this.#clientRandom;
  }

  #handleRecord(header: RecordHeader, record: Uint8Array, headerBytes: number, now: number): void {
    const fragment = record.subarray(headerBytes);
    switch (header.epoch) {
      case 0:
        this.#handlePlaintext(header, fragment, now);
        return;
      case 1:
        if (header.version !== DTLS_1_2) this.#drop("wrong-version");
        else if (this.#records.hasKeys) this.#handleProtected(header, fragment, now);
        else this.#holdEarly(record);
        return;
      default:
        this.#drop("unexpected-epoch");
    }
  }

  /** Epoch 0 counts only during the handshake, and never carries data. */
  #handlePlaintext(header: RecordHeader, fragment: Uint8Array, now: number): void {
    const handshake = this.#handshake;
    if (handshake === undefined) {
      this.#drop("plaintext-not-allowed");
      return;
    }
    switch (header.type) {
      case CONTENT_TYPES.handshake:
        this.#handleHandshake(handshake, fragment, 0, now);
        return;
      case CONTENT_TYPES.changeCipherSpec: {
        const isValid = fragment.length === 1 && fragment[0] === 1;
        this.#guard(() => {
          this.#drop(isValid ? handshake.driver.handleChangeCipherSpec(now) : "unexpected-change-cipher-spec");
        });
        this.#drainHandshake(now);
        return;
      }
      case CONTENT_TYPES.alert:
        // Once the peer has changed to epoch 1, so have its alerts.
        if (handshake.driver.hasPeerChangedCipherSpec) this.#drop("ignored-alert");
        else this.#handleAlert(fragment);
        return;
      case CONTENT_TYPES.applicationData:
      case TLS12_CID:
        this.#drop("plaintext-not-allowed");
    }
  }

  #handleProtected(header: RecordHeader, fragment: Uint8Array, now: number): void {
    if (this.#macFailures !== undefined && !this.#macFailures.mayTry(now)) {
      this.#drop("mac-failure-limit");
      return;
    }
    const plaintext = this.#records.open(header, fragment);
    if (typeof plaintext === "string") {
      this.#drop(plaintext);
      if (plaintext !== "bad-mac") return;
      this.#macFailures ??= new MacFailures(this.#options.maxMacFailuresPerSecond);
      this.#macFailures.count(now);
      this.#suspectFinished(header, fragment);
      return;
    }
    if (this.#saving?.mustSaveToReceive(header.sequenceNumber, this.#records.newestReceived, now) === true) {
      this.#emit({ type: "save" });
    }
    if (this.#records.openedNewest) this.#hasNewest = true;
    switch (this.#records.openedType) {
      case CONTENT_TYPES.applicationData:
        this.#handleData(plaintext);
        return;
      case CONTENT_TYPES.handshake:
        if (this.#handshake === undefined) this.#handleLateHandshake(plaintext);
        else this.#handleHandshake(this.#handshake, plaintext, 1, now);
        return;
      case CONTENT_TYPES.alert:
        this.#handleAlert(plaintext);
        return;
      case CONTENT_TYPES.changeCipherSpec:
        this.#drop("unexpected-change-cipher-spec");
    }
  }

  #holdEarly(record: Uint8Array): void {
    if (this.#handshake === undefined) {
      this.#drop("unexpected-epoch");
      return;
    }
    if (!this.#handshake.early.holdSealed(record)) this.#drop("early-record-limit");
  }

  #handleData(data: Uint8Array): void {
    if (this.#handshake !== undefined) {
      if (!this.#handshake.early.holdData(data)) this.#drop("early-record-limit");
      return;
    }
    // The client has our Finished, or it would not send data.
    this.#finalFlight = undefined;
    this.#emit({ type: "data", bytes: data });
  }

  #handleHandshake(handshake: HandshakeState, plaintext: Uint8Array, epoch: 0 | 1, now: number): void {
    this.#guard(() => {
      this.#eachFragment(plaintext, (fragment) => {
        if (this.#isOfAnotherHandshake(fragment)) this.#drop("unexpected-message");
        else this.#drop(handshake.driver.handleFragment(fragment, epoch, now));
      });
    });
    this.#drainHandshake(now);
  }

  /** Server: a ClientHello with another random is for the gate; taken here, it would disturb this handshake. */
  #isOfAnotherHandshake({ type, fragmentOffset, fragment }: HandshakeFragment): boolean {
    if (this.#clientRandom === undefined || type !== HANDSHAKE_TYPES.client_hello || fragmentOffset > 0) return false;
    const random = fragment.subarray(VERSION_BYTES, VERSION_BYTES + RANDOM_BYTES);
    return textOf(random) !== this.#clientRandom;
  }

  /**
   * After the handshake: a Finished that the peer repeats asks for our last flight again (RFC 6347 §4.2.4); a wish to
   * renegotiate is declined.
   */
  #handleLateHandshake(plaintext: Uint8Array): void {
    this.#eachFragment(plaintext, ({ type, messageSeq }) => {
      if (type === HANDSHAKE_TYPES.finished && messageSeq === this.#finalFlight?.peerFinishedSeq) {
        this.#retransmissions++;
        this.#sendFlight(this.#finalFlight.flight, this.#finalFlight.datagramBytes);
        return;
      }
      this.#drop("unexpected-message");
      const begins = this.#role === "server" ? HANDSHAKE_TYPES.client_hello : HANDSHAKE_TYPES.hello_request;
      if (type === begins) this.#sendAlert("warning", "no_renegotiation");
    });
  }

  #eachFragment(plaintext: Uint8Array, take: (fragment: HandshakeFragment) => void): void {
    let offset = 0;
    do {
      const fragment = decodeHandshakeFragment(plaintext, offset);
      if (fragment === undefined) {
        this.#drop("malformed-fragment");
        return;
      }
      take(fragment);
      offset += HANDSHAKE_HEADER_BYTES + fragment.fragment.length;
    } while (offset < plaintext.length && !this.#isClosed);
  }

  #handleAlert(bytes: Uint8Array): void {
    const alert = decodeAlert(bytes);
    if (alert === undefined) {
      this.#drop("malformed-alert");
      return;
    }
    const { level, description } = alert;
    const isClose = description === "close_notify";
    if (level === "warning" && !isClose) {
      this.#drop("ignored-alert");
      return;
    }
    const received: ClosingAlert = { sent: false, received: true, level, description };
    if (isClose && this.#handshake === undefined) {
      // RFC 5246 §7.2.1: answered by a close_notify.
      this.#sendAlert("warning", "close_notify");
      this.#end(undefined, received);
      return;
    }
    const receivedAlert = typeof description === "string" ? { receivedAlert: description } : undefined;
    this.#end(new DtlsError("DTLS_ALERT_RECEIVED", String(description), receivedAlert), received);
  }

  /**
   * A record that can only be the peer's Finished does not open: the keys differ, which for a PSK means another key. A
   * silent drop would leave both sides to time out, so here alone a bad MAC ends the handshake.
   * Differs from RFC 6347 §4.1.2.7, which recommends to drop: mbedTLS does the same, for the same reason.
   */
  #suspectFinished(header: RecordHeader, fragment: Uint8Array): void {
    const code = this.#handshake?.driver.finishedFault;
    const finishedBytes = HANDSHAKE_HEADER_BYTES + VERIFY_DATA_BYTES;
    const recordBytes = this.#records.expectedFragmentBytes(finishedBytes);
    const isHandshake = header.type === CONTENT_TYPES.handshake || header.type === TLS12_CID;
    if (code === undefined || !isHandshake || fragment.length !== recordBytes) return;
    this.#fail(new DtlsError(code));
  }

  #drainHandshake(now: number): void {
    for (;;) {
      const handshake = this.#handshake;
      const output = this.#isClosed ? undefined : handshake?.driver.poll();
      if (handshake === undefined || output === undefined) return;
      this.#guard(() => {
        this.#apply(output, handshake, now);
      });
    }
  }

  #apply(output: HandshakeOutput, handshake: HandshakeState, now: number): void {
    switch (output.type) {
      case "transmit":
        if (output.isRepeated) this.#retransmissions++;
        this.#sendFlight(output.flight, handshake.driver.datagramBytes);
        return;
      case "connection-ids":
        this.#records.useConnectionIds(output.own, output.peers, this.#options.paddingBlockBytes);
        return;
      case "record-limits":
        this.#records.limitRecords(output.limits);
        return;
      case "exporter":
        this.#exporter = output.secrets;
        return;
      case "session":
        this.#emit({ type: "session", ...output.session });
        return;
      case "keys":
        this.#records.installKeys(output.suite.aead, output.keyBlock, this.#role);
        for (const record of handshake.early.takeSealed()) this.#replayEarly(record, now);
        return;
      case "ask":
        if (output.question.type.endsWith("-verification")) handshake.isAwaitingVerdict = true;
        this.#emit(output.question);
        return;
      case "complete":
        this.#complete(output.peer, output.finalFlight, handshake, now);
    }
  }

  #replayEarly(record: Uint8Array, now: number): void {
    const connectionIdBytes = this.#records.ownConnectionId.length;
    const header = decodeRecordHeader(record, 0, connectionIdBytes);
    if ("drop" in header || this.#isClosed) return;
    const headerBytes = RECORD_HEADER_BYTES + (header.type === TLS12_CID ? connectionIdBytes : 0);
    this.#handleProtected(header, record.subarray(headerBytes), now);
  }

  /** Frees all that belonged to the handshake. */
  #complete(peer: PeerInfo, finalFlight: Flight | undefined, handshake: HandshakeState, now: number): void {
    const { driver, early } = handshake;
    this.#handshake = undefined;
    this.#peer = peer;
    if (finalFlight !== undefined) {
      const { peerFinishedSeq, datagramBytes } = driver;
      this.#finalFlight = { flight: finalFlight, peerFinishedSeq, datagramBytes };
    }
    if (this.#options.isSaved) {
      this.#saving = SavePolicy.begin(this.#records.nextSequenceNumber, this.#records.newestReceived, now);
      this.#emit({ type: "save" });
    }
    this.#emit({ type: "connected", peer });
    for (const data of early.takeData()) this.#handleData(data);
  }

  #sendFlight(flight: Flight, datagramBytes: number): void {
    for (const datagram of packFlight(flight, this.#records, datagramBytes)) this.#emitDatagram(datagram);
  }

  #sendAlert(level: AlertLevel, description: AlertDescription): void {
    try {
      const epoch = this.#records.writeEpoch;
      this.#emitDatagram(this.#records.seal(epoch, CONTENT_TYPES.alert, encodeAlert(level, description)));
    } catch (error) {
      // No sequence number is left for it.
      if (!(error instanceof DtlsError)) throw error;
    }
  }

  /** Runs a step of the handshake; what it throws ends this association. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (cause) {
      this.#fail(cause instanceof DtlsError ? cause : new DtlsError("DTLS_INTERNAL_ERROR", undefined, { cause }));
    }
  }

  #fail(error: DtlsError, alert: AlertDescription | undefined = alertOfError(error)): void {
    if (this.#isClosed) return;
    if (alert !== undefined) this.#sendAlert("fatal", alert);
    this.#end(error, alert && { sent: true, received: false, level: "fatal", description: alert });
  }

  #end(error: DtlsError | undefined, alert: ClosingAlert | undefined): void {
    this.#isClosed = true;
    this.#handshake = undefined;
    this.#finalFlight = undefined;
    this.#records.release();
    this.#exporter = undefined;
    this.#emit({
      type: "closed",
      ...(error === undefined ? {} : { error }),
      ...(alert === undefined ? {} : { alert }),
    });
  }

  #emit(output: AssociationOutput): void {
    if (this.#outputs === NO_OUTPUTS) this.#outputs = [output];
    else this.#outputs.push(output);
  }

  #emitDatagram(bytes: Uint8Array): void {
    if (this.#saving?.mustSaveToSend(this.#records.nextSequenceNumber - 1) === true) this.#emit({ type: "save" });
    this.#bytesOut += bytes.length;
    this.#emit({ type: "datagram", bytes });
  }

  #drop(reason: DropReason | undefined): void {
    if (reason === undefined) return;
    this.#options.onDrop?.(reason);
    this.#dropped ??= {};
    this.#dropped[reason] = (this.#dropped[reason] ?? 0) + 1;
  }
}

interface HandshakeState {
  readonly driver: HandshakeDriver;
  readonly early: EarlyRecords;
  isAwaitingVerdict?: boolean;
}

interface FinalFlight {
  readonly flight: Flight;
  readonly peerFinishedSeq: number;
  readonly datagramBytes: number;
}

function startsWith(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return false;
  return true;
}

/** As characters: a string of 32 bytes takes a quarter of what an array takes, and every idle association has one. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

const VERSION_BYTES = 2;
/** Shared by all associations that have nothing to say; never added to. */
const NO_OUTPUTS: AssociationOutput[] = [];
