import type { HandshakeState } from "./association-handshake.js";
import { AssociationPath } from "./association-path.js";
import type { AssociationState, ClosingAlert, DatagramSource } from "./association-output.js";
import { exportedKeyingMaterial } from "./crypto/key-schedule.js";
import { suiteByName } from "./crypto/suites.js";
import { alertInWords, DtlsError } from "./errors.js";
import { ClientHandshake } from "./handshake/client-handshake.js";
import { HandshakeDriver } from "./handshake/handshake-driver.js";
import { ServerHandshake } from "./handshake/server-handshake.js";
import { MacFailures } from "./mac-failures.js";
import {
  type ClientOptions,
  resolveClientOptions,
  type ResolvedClientOptions,
  type ResolvedServerOptions,
} from "./options.js";
import { SavePolicy } from "./save-policy.js";
import { decodeSavedAssociation, encodeSavedAssociation, type SavedAssociation } from "./saved-association.js";
import { type AlertDescription, decodeAlert } from "./wire/alert.js";
import type { ClientHelloStart } from "./wire/client-hello-start.js";
import {
  CONNECTION_ID_AT,
  CONTENT_TYPES,
  decodeRecordHeader,
  DTLS_1_2,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  TLS12_CID,
} from "./wire/record.js";

/**
 * One DTLS 1.2 association (RFC 6347), of either role, without I/O: datagrams, the time and answers go in, outputs come
 * out by `poll`. Times are milliseconds of the caller's monotonic clock. After any call, poll until undefined, and ask
 * `nextTimeout` anew.
 *
 * What the network sends never throws: what is not authentic is dropped and counted; what breaks the protocol ends this
 * association with an alert and a last output `closed`.
 */
export class Association extends AssociationPath {
  /** Once there was one. */
  #macFailures: MacFailures | undefined;
  /** Of the datagram at hand. */
  #hasNewest = false;

  private constructor(
    options: ResolvedClientOptions | ResolvedServerOptions,
    origin: HandshakeDriver | { readonly saved: SavedAssociation; readonly now: number },
    start: ClientHelloStart | undefined,
  ) {
    if (origin instanceof HandshakeDriver) {
      super(start === undefined ? "client" : "server", options, origin, start);
      return;
    }
    const { role, peer, sendBound, receiveFloor, keyBlock, ownConnectionId, peerConnectionId, limits } = origin.saved;
    super(role, options, undefined, undefined);
    this.established = peer;
    this.records.installKeys(suiteByName(peer.suite).aead, keyBlock, role);
    this.records.useConnectionIds(ownConnectionId, peerConnectionId, options.paddingBlockBytes);
    this.records.limitRecords(limits);
    this.records.restoreNumbers(sendBound, receiveFloor);
    if (options.isSaved) this.saving = new SavePolicy(sendBound, receiveFloor, origin.now);
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
    association.drainHandshake(now);
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

  /** `closing`: the last outputs are still to be polled. */
  get state(): AssociationState {
    if (this.isClosed) return this.hasOutputs ? "closing" : "closed";
    return this.handshake === undefined ? "connected" : "handshaking";
  }

  /**
   * Never throws. The bytes are read only during the call. Returns whether a record of it verified that is newer than all
   * before it. `source`: other than the peer's address where the session was found by its connection identifier; what that
   * means for the address the outputs tell.
   */
  handleDatagram(datagram: Uint8Array, now: number, source: DatagramSource = "peer"): boolean {
    this.bytesIn += datagram.length;
    this.#hasNewest = false;
    this.source = source;
    let offset = 0;
    while (offset < datagram.length) {
      if (this.isClosed) {
        this.drop("closed");
        break;
      }
      const connectionId = this.records.ownConnectionId;
      const header = decodeRecordHeader(datagram, offset, connectionId.length);
      if ("drop" in header) {
        this.drop(header.drop);
        if (header.skipBytes === undefined) break;
        offset += header.skipBytes;
        continue;
      }
      const recordAt = offset;
      const start = offset + RECORD_HEADER_BYTES + (header.type === TLS12_CID ? connectionId.length : 0);
      offset = start + header.length;
      if (header.type === TLS12_CID && !startsWith(datagram, recordAt + CONNECTION_ID_AT, connectionId)) {
        this.drop("unknown-connection-id");
        continue;
      }
      this.recordsIn++;
      this.#handleRecord(header, datagram, recordAt, start, now);
    }
    return this.#hasNewest;
  }

  /**
   * One record of application data. The bytes are read only during the call.
   * @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED, DTLS_MESSAGE_TOO_LARGE (see `maxDataBytes`),
   *   DTLS_SEQUENCE_EXHAUSTED, which also closes the association
   */
  send(data: Uint8Array): void {
    if (this.isClosed) throw new DtlsError("DTLS_CLOSED");
    if (this.handshake !== undefined) throw new DtlsError("DTLS_NOT_CONNECTED");
    if (data.length > this.maxDataBytes) {
      throw new DtlsError(
        "DTLS_MESSAGE_TOO_LARGE",
        `${String(data.length)} bytes, at most ${String(this.maxDataBytes)}`,
      );
    }
    if (this.path !== undefined && !this.sendsNow(this.path, data)) return;
    try {
      this.emitDatagram(this.records.seal(1, CONTENT_TYPES.applicationData, data));
    } catch (error) {
      if (error instanceof DtlsError) this.end(error, undefined);
      throw error;
    }
  }

  /**
   * The state as it must be kept (see saved-association.ts): with the option `isSaved`, at each output `save`.
   * @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED
   */
  save(): Uint8Array {
    if (this.isClosed) throw new DtlsError("DTLS_CLOSED");
    const peer = this.established;
    const keyBlock = this.records.keyBlock;
    if (this.handshake !== undefined || peer === undefined || keyBlock === undefined) {
      throw new DtlsError("DTLS_NOT_CONNECTED");
    }
    return encodeSavedAssociation({
      role: this.role,
      keyBlock,
      ownConnectionId: this.records.ownConnectionId,
      peerConnectionId: this.records.peerConnectionId,
      limits: this.records.limits,
      sendBound: this.saving?.sendBound ?? this.records.nextSequenceNumber,
      receiveFloor: this.saving?.receiveFloor ?? this.records.newestReceived + 1,
      peer,
    });
  }

  /** The state, exactly, at an orderly stop: the association ends here without telling the peer. @throws as `save` */
  suspend(): Uint8Array {
    this.saving = undefined;
    const state = this.save();
    this.end(undefined, undefined);
    return state;
  }

  /** From time to time, with the option `isSaved`: may give an output `save`. */
  tighten(now: number): void {
    if (!this.isClosed && this.saving?.tighten(this.records.newestReceived, now) === true) {
      this.emit({ type: "save" });
    }
  }

  /** In order: close_notify, and no data either way from now on. During the handshake, user_canceled before it. */
  close(): void {
    if (this.isClosed) return;
    if (this.handshake !== undefined) this.sendAlert("warning", "user_canceled");
    this.sendAlert("warning", "close_notify");
    this.end(undefined, { sent: true, received: false, level: "warning", description: "close_notify" });
  }

  /** At once, and the peer is told nothing: what it sends from now on is unknown here. */
  abandon(): void {
    if (!this.isClosed) this.end(undefined, undefined);
  }

  /** At once, by a fatal alert. `reason` goes into the error of `closed`. */
  abort(alert: AlertDescription, reason: string): void {
    if (!this.isClosed) this.fail(new DtlsError("DTLS_ABORTED", reason), alert);
  }

  /**
   * Keying material for the application (RFC 5705), the same on both sides. `length`: 1–65,535 bytes. `context`: bound in;
   * absent differs from empty.
   * @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED, DTLS_BAD_OPTION, DTLS_NO_EXPORTER without the option `exporter`
   */
  exportKeyingMaterial(label: string, length: number, context?: Uint8Array): Uint8Array {
    if (this.isClosed) throw new DtlsError("DTLS_CLOSED");
    if (this.handshake !== undefined) throw new DtlsError("DTLS_NOT_CONNECTED");
    if (this.exporter === undefined) throw new DtlsError("DTLS_NO_EXPORTER");
    if (!(Number.isInteger(length) && length >= 1 && length <= 0xffff) || (context?.length ?? 0) > 0xffff) {
      throw new DtlsError("DTLS_BAD_OPTION", "exportKeyingMaterial: 1 to 65535 bytes, a context of at most 65535");
    }
    return exportedKeyingMaterial(this.exporter, label, context, length);
  }

  protected override handleProtected(header: RecordHeader, source: Uint8Array, at: number, now: number): void {
    if (this.#macFailures !== undefined && !this.#macFailures.mayTry(now)) {
      this.drop("mac-failure-limit");
      return;
    }
    const plaintext = this.records.open(header, source, at);
    if (typeof plaintext === "string") {
      this.drop(plaintext);
      if (plaintext !== "bad-mac") return;
      this.#macFailures ??= new MacFailures(this.options.maxMacFailuresPerSecond);
      this.#macFailures.count(now);
      this.suspectFinished(header);
      return;
    }
    if (this.saving?.mustSaveToReceive(header.sequenceNumber, this.records.newestReceived, now) === true) {
      this.emit({ type: "save" });
    }
    if (this.records.openedNewest) {
      this.#hasNewest = true;
      if (this.source !== "peer" || this.path !== undefined) this.heardFrom(RECORD_HEADER_BYTES + header.length, now);
    }
    switch (this.records.openedType) {
      case CONTENT_TYPES.applicationData:
        this.handleData(plaintext);
        return;
      case CONTENT_TYPES.handshake:
        if (this.handshake === undefined) this.handleLateHandshake(plaintext);
        else this.handleHandshake(this.handshake, plaintext, 0, plaintext.length, 1, now);
        return;
      case CONTENT_TYPES.alert:
        this.#handleAlert(plaintext);
        return;
      case CONTENT_TYPES.changeCipherSpec:
        this.drop("unexpected-change-cipher-spec");
        return;
      case CONTENT_TYPES.returnRoutabilityCheck:
        this.handlePathMessage(plaintext, now);
    }
  }

  protected override handleData(data: Uint8Array): void {
    if (this.handshake !== undefined) {
      if (!this.handshake.early.holdData(data)) this.drop("early-record-limit");
      return;
    }
    // The client has our Finished, or it would not send data.
    this.finalFlight = undefined;
    this.emit({ type: "data", bytes: data });
  }

  #handleRecord(header: RecordHeader, datagram: Uint8Array, recordAt: number, fragmentAt: number, now: number): void {
    const end = fragmentAt + header.length;
    switch (header.epoch) {
      case 0:
        this.#handlePlaintext(header, datagram, fragmentAt, end, now);
        return;
      case 1:
        if (header.version !== DTLS_1_2) this.drop("wrong-version");
        else if (this.records.hasKeys) this.handleProtected(header, datagram, fragmentAt, now);
        else this.#holdEarly(datagram.subarray(recordAt, end));
        return;
      default:
        this.drop("unexpected-epoch");
    }
  }

  /** Epoch 0 counts only during the handshake, and never carries data. */
  #handlePlaintext(header: RecordHeader, datagram: Uint8Array, at: number, end: number, now: number): void {
    const handshake = this.handshake;
    if (handshake === undefined) {
      this.drop("plaintext-not-allowed");
      return;
    }
    switch (header.type) {
      case CONTENT_TYPES.handshake:
        this.handleHandshake(handshake, datagram, at, end, 0, now);
        return;
      case CONTENT_TYPES.changeCipherSpec: {
        const isValid = header.length === 1 && datagram[at] === 1;
        try {
          this.drop(isValid ? handshake.driver.handleChangeCipherSpec(now) : "unexpected-change-cipher-spec");
        } catch (cause) {
          this.failBy(cause);
        }
        this.drainHandshake(now);
        return;
      }
      case CONTENT_TYPES.alert:
        // Once the peer has changed to epoch 1, so have its alerts.
        if (handshake.driver.hasPeerChangedCipherSpec) this.drop("ignored-alert");
        else this.#handleAlert(datagram.subarray(at, end), handshake, now);
        return;
      case CONTENT_TYPES.applicationData:
      case CONTENT_TYPES.returnRoutabilityCheck:
      case TLS12_CID:
        this.drop("plaintext-not-allowed");
    }
  }

  #holdEarly(record: Uint8Array): void {
    if (this.handshake === undefined) {
      this.drop("unexpected-epoch");
      return;
    }
    if (!this.handshake.early.holdSealed(record)) this.drop("early-record-limit");
  }

  /** `unverified`: the handshake in which it came in the clear. */
  #handleAlert(bytes: Uint8Array, unverified?: HandshakeState, now = 0): void {
    const alert = decodeAlert(bytes);
    if (alert === undefined) {
      this.drop("malformed-alert");
      return;
    }
    const { level, description } = alert;
    const isClose = description === "close_notify";
    if (level === "warning" && !isClose) {
      this.drop("ignored-alert");
      return;
    }
    const received: ClosingAlert = { sent: false, received: true, level, description };
    if (isClose && this.handshake === undefined) {
      // RFC 5246 §7.2.1: answered by a close_notify.
      this.sendAlert("warning", "close_notify", this.source === "peer" ? "peer" : "source");
      this.end(undefined, received);
      return;
    }
    const receivedAlert = typeof description === "string" ? { receivedAlert: description } : undefined;
    const error = new DtlsError("DTLS_ALERT_RECEIVED", alertInWords(description), receivedAlert);
    if (unverified === undefined) this.end(error, received);
    else this.holdAlert(unverified, error, received, now);
  }
}

function startsWith(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return false;
  return true;
}
