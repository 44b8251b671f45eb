import type {
  Association,
  AssociationCounters,
  AssociationOutput,
  CertificateVerdict,
  DatagramSource,
  DtlsError,
  PeerInfo,
} from "#dtls/index.js";
import type { Timed, Timer } from "#coap/index.js";
import { encodeSessionState, MAX_ATTACHMENT_BYTES } from "./association-store.js";
import { defer, type Deferred } from "./deferred.js";
import { NetError } from "./net-error.js";
import type { PskAnswer, SessionSurroundings } from "./session-surroundings.js";
import { NO_SLOT, type Slotted } from "./slot-table.js";
import { monotonicNow, type SocketAddress } from "./udp-socket.js";

/**
 * One DTLS association on a socket: the session of Node's experimental `node:dtls`. Set `onmessage` as soon as you have
 * it: data that comes while there is none is dropped.
 */
export class DtlsSession implements Timed, Slotted {
  /** Where the handshake came from; with a connection identifier, the peer may be elsewhere by now. */
  readonly handshakeAddress: SocketAddress;
  /**
   * Client: what resumes this session in a later `connect` to the same server (its option `session`); known once opened,
   * if the server agrees to it. A secret, as good as the keys.
   */
  resumption: Uint8Array | undefined;
  /** Whether it goes on from before a restart, without a handshake. */
  readonly isRestored: boolean = false;
  onmessage: ((data: Uint8Array) => void) | undefined;
  /** Called once, when the session is over: with the DtlsError that ended it, or undefined after an orderly close. */
  onclose: ((error: DtlsError | undefined) => void) | undefined;
  /** The endpoint's. */
  timer: Timer | undefined;
  /** For the endpoint. */
  slot: number = NO_SLOT;
  /** For the endpoint: its number in the association store, where it is in one. */
  keptAs: number | undefined;

  readonly #association: Association;
  readonly #surroundings: SessionSurroundings;
  #remoteAddress: SocketAddress;
  /** While the peer is asked there whether it is its address now. */
  #candidateAddress: SocketAddress | undefined;
  /** Of the datagram at hand, if other than the peer's. */
  #sourceAddress: SocketAddress | undefined;
  #lastHeardAt: number;
  #supersededAt = 0;
  #attachment: Uint8Array = NO_BYTES;
  /** The state could not be kept: nothing leaves, or has an effect, any more. */
  #isUnsaved = false;
  #error: DtlsError | undefined;
  /** Why the handshake was given up, where that is none of DTLS's reasons. */
  #failure: NetError | undefined;
  /** Promises that were asked for and are not settled: a server has neither for most of its sessions. */
  #opening: Deferred<PeerInfo> | undefined;
  #closing: Deferred<DtlsError | undefined> | undefined;

  /** For a DtlsEndpoint: `surroundings` are the socket, the answers to the handshake's questions, and who is told. */
  constructor(
    association: Association,
    remoteAddress: SocketAddress,
    surroundings: SessionSurroundings,
    restored?: { readonly attachment: Uint8Array },
  ) {
    this.#association = association;
    this.handshakeAddress = remoteAddress;
    this.#remoteAddress = remoteAddress;
    this.#lastHeardAt = monotonicNow();
    this.#surroundings = surroundings;
    if (restored !== undefined) {
      this.isRestored = true;
      this.#attachment = restored.attachment;
    }
  }

  /** Fulfilled when the handshake is complete; rejected with the DtlsError or NetError that ended it before. */
  get opened(): Promise<PeerInfo> {
    if (this.#opening !== undefined) return this.#opening.promise;
    const { peer } = this.#association;
    if (peer !== undefined) return Promise.resolve(peer);
    this.#opening = defer();
    // A caller that only looks at `closed` must not be ended by an unhandled rejection.
    this.#opening.promise.catch(ignore);
    if (this.#association.state === "closed") this.#opening.reject(this.#failure ?? closedEarly(this.#error));
    return this.#opening.promise;
  }

  /** Fulfilled when the session is over: with the DtlsError that ended it, or undefined after an orderly close. */
  get closed(): Promise<DtlsError | undefined> {
    if (this.#closing !== undefined) return this.#closing.promise;
    if (this.#association.state === "closed") return Promise.resolve(this.#error);
    this.#closing = defer();
    return this.#closing.promise;
  }

  /** Where the peer is: with a connection identifier, the address that its newest record came from (RFC 9146 §6). */
  get remoteAddress(): SocketAddress {
    return this.#remoteAddress;
  }

  /** Ours, which the peer's records carry; empty when they carry none. */
  get connectionId(): Uint8Array {
    return this.#association.connectionId;
  }

  /** When an authentic record came last, or the session was made; of {@link monotonicNow}. */
  get lastHeardAt(): number {
    return this.#lastHeardAt;
  }

  /** The peer speaks on another session now: this one is stale, unless it is heard again. */
  supersede(): void {
    this.#supersededAt = monotonicNow();
  }

  /** Whether it may make way for others. */
  isStale(now: number, staleAfterMs: number): boolean {
    return this.#supersededAt > this.#lastHeardAt || now - this.#lastHeardAt >= staleAfterMs;
  }

  /** Up to 255 bytes of the application, which outlive a restart with the session. Default: empty. */
  get attachment(): Uint8Array {
    return this.#attachment;
  }

  /** @throws RangeError for more than 255 bytes. */
  set attachment(bytes: Uint8Array) {
    if (bytes.length > MAX_ATTACHMENT_BYTES) throw new RangeError("an attachment has at most 255 bytes");
    this.#attachment = bytes;
    if (this.state === "connected") this.#save();
    this.pump();
  }

  get role(): Association["role"] {
    return this.#association.role;
  }

  get state(): Association["state"] {
    return this.#association.state;
  }

  /** Known once opened. */
  get peer(): PeerInfo | undefined {
    return this.#association.peer;
  }

  /** For the endpoint: the longest datagram that the path takes. */
  get maxDatagramBytes(): number {
    return this.#association.maxDatagramBytes;
  }

  get stats(): AssociationCounters {
    return this.#association.counters;
  }

  /** The most that {@link send} takes at once. */
  get maxDataBytes(): number {
    return this.#association.maxDataBytes;
  }

  /** @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED, DTLS_MESSAGE_TOO_LARGE. */
  send(data: Uint8Array): void {
    this.#association.send(data);
    this.pump(true);
  }

  /**
   * Keying material for the application (RFC 5705), the same on both sides.
   * @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED, DTLS_BAD_OPTION, DTLS_NO_EXPORTER without the option `exporter`
   */
  exportKeyingMaterial(label: string, length: number, context?: Uint8Array): Uint8Array {
    return this.#association.exportKeyingMaterial(label, length, context);
  }

  /** Sends close_notify and ends the session; fulfilled when that is done. */
  async close(): Promise<void> {
    this.#association.close();
    this.pump();
    await this.closed;
  }

  /** Ends the session at once by a fatal alert; `reason` is in the error of {@link closed}. */
  abort(alert: Parameters<Association["abort"]>[0], reason: string): void {
    this.#association.abort(alert, reason);
    this.pump();
  }

  /**
   * For the endpoint: hands a datagram of the peer to the association. `from`: where one came from that was found by its
   * connection identifier, which may be elsewhere than the peer was.
   */
  receive(datagram: Uint8Array, now: number, from: SocketAddress = this.#remoteAddress): void {
    const source = this.#sourceOf(from);
    this.#sourceAddress = source === "peer" ? undefined : { address: from.address, port: from.port };
    if (this.#association.handleDatagram(datagram, now, source)) this.#lastHeardAt = now;
    this.pump();
  }

  #sourceOf(from: SocketAddress): DatagramSource {
    if (isSameAddress(from, this.#remoteAddress)) return "peer";
    return this.#candidateAddress !== undefined && isSameAddress(from, this.#candidateAddress)
      ? "candidate"
      : "elsewhere";
  }

  /** For the endpoint: what is kept of the session now. @throws DtlsError DTLS_NOT_CONNECTED, DTLS_CLOSED */
  keep(): Uint8Array {
    return this.#encode(this.#association.save());
  }

  /** For the endpoint, at an orderly stop: what is kept of it; the session ends, and its peer is told nothing. */
  suspend(): Uint8Array {
    const state = this.#encode(this.#association.suspend());
    this.pump();
    return state;
  }

  /** For the endpoint: ends at once, and the peer is told nothing; `failure`: what `opened` fails with. */
  abandon(failure?: NetError): void {
    this.#failure = failure;
    this.#association.abandon();
    this.pump();
  }

  /** For the endpoint: the time that it was told has come. */
  handleTimeout(now: number): void {
    this.#association.handleTimeout(now);
    this.pump();
  }

  /** For the endpoint, from time to time. */
  tighten(now: number): void {
    this.#association.tighten(now);
    this.pump();
  }

  #addressOf(target: "candidate" | "source"): SocketAddress {
    return (target === "source" ? this.#sourceAddress : this.#candidateAddress) ?? this.#remoteAddress;
  }

  #encode(association: Uint8Array): Uint8Array {
    return encodeSessionState({ remoteAddress: this.#remoteAddress, attachment: this.#attachment, association });
  }

  #save(): void {
    if (this.#surroundings.onSave(this)) return;
    this.#isUnsaved = true;
    this.#association.abort("internal_error", "the association store failed");
  }

  /** Whether the association began with the ClientHello of this datagram. */
  beganWith(datagram: Uint8Array): boolean {
    return this.#association.beganWith(datagram);
  }

  /** Carries out what the association asks for, until there is nothing left. `mayWait`: as in SessionSurroundings. */
  pump(mayWait = false): void {
    for (let output = this.#association.poll(); output !== undefined; output = this.#association.poll())
      this.#carryOut(output, mayWait);
    this.#surroundings.setTimer(this, this.#association.nextTimeout());
  }

  #move(to: SocketAddress | undefined): void {
    if (to === undefined) return;
    const previous = this.#remoteAddress;
    this.#remoteAddress = to;
    this.#candidateAddress = undefined;
    if (this.state === "connected") this.#save();
    this.#surroundings.onMoved(this, previous);
  }

  #carryOut(output: AssociationOutput, mayWait: boolean): void {
    if (this.#isUnsaved && (output.type === "datagram" || output.type === "data")) return;
    switch (output.type) {
      case "save":
        this.#save();
        return;
      case "datagram":
        if (output.to === undefined) this.#surroundings.send(this, output.bytes, mayWait);
        else this.#surroundings.sendTo(this.#addressOf(output.to), output.bytes);
        return;
      case "peer-moved":
        this.#move(this.#sourceAddress);
        return;
      case "path-candidate":
        this.#candidateAddress = this.#sourceAddress;
        return;
      case "path-validated":
        this.#move(this.#candidateAddress);
        return;
      case "path-refused": {
        const refused = this.#candidateAddress;
        this.#candidateAddress = undefined;
        if (refused !== undefined) this.#surroundings.onRefused(this, refused);
        return;
      }
      case "data":
        this.onmessage?.(output.bytes);
        return;
      case "connected":
        this.#surroundings.onOpened(this);
        this.#opening?.resolve(output.peer);
        this.#opening = undefined;
        return;
      case "need-psk":
        this.#lookUpPsk(output.identity);
        return;
      case "need-peer-certificate-verification": {
        const { certificates } = output;
        void this.#answerPeerCertificate(() => this.#surroundings.verify(certificates));
        return;
      }
      case "need-raw-public-key-verification": {
        const { rawPublicKey } = output;
        void this.#answerPeerCertificate(() => this.#surroundings.verifyRawPublicKey(rawPublicKey));
        return;
      }
      case "need-session":
        void this.#answerSession(output.sessionId);
        return;
      case "session":
        if (this.#association.role === "client") this.resumption = output.state;
        else this.#surroundings.keepSession(output.sessionId, output.state, output.lifetimeSeconds);
        return;
      case "closed":
        this.#surroundings.onClosed(this, output.error);
        this.#error = output.error;
        this.#opening?.reject(this.#failure ?? closedEarly(output.error));
        this.#closing?.resolve(output.error);
        this.onclose?.(output.error);
        return;
    }
  }

  /** A lookup that fails is an unknown identity: the peer is told nothing else. One that takes no time costs no promise. */
  #lookUpPsk(identity: Uint8Array): void {
    let answer: PskAnswer | Promise<PskAnswer>;
    try {
      answer = this.#surroundings.pskOf(identity);
    } catch (error) {
      this.#surroundings.onFault("PSK lookup", error);
    }
    if (answer instanceof Promise) void this.#answerPsk(identity, answer);
    // The caller polls on.
    else this.#association.answerPsk(identity, answer, monotonicNow());
  }

  async #answerPsk(identity: Uint8Array, answer: Promise<PskAnswer>): Promise<void> {
    let key: PskAnswer;
    try {
      key = await answer;
    } catch (error) {
      this.#surroundings.onFault("PSK lookup", error);
    }
    this.#association.answerPsk(identity, key, monotonicNow());
    this.pump();
  }

  /** A store that fails has no such session: the handshake is a full one. */
  async #answerSession(sessionId: Uint8Array): Promise<void> {
    let state: Uint8Array | undefined;
    try {
      state = await this.#surroundings.sessionOf(sessionId);
    } catch (error) {
      this.#surroundings.onFault("session lookup", error);
    }
    this.#association.answerSession(sessionId, state, monotonicNow());
    this.pump();
  }

  /** A verification that fails to answer refuses the certificate. */
  async #answerPeerCertificate(verify: () => CertificateVerdict | Promise<CertificateVerdict>): Promise<void> {
    let verdict: CertificateVerdict;
    try {
      verdict = await verify();
    } catch (error) {
      this.#surroundings.onFault("certificate verification", error);
      verdict = { ok: false, alert: "certificate_unknown", reason: "the verification failed" };
    }
    this.#association.answerPeerCertificate(verdict, monotonicNow());
    this.pump();
  }
}

function isSameAddress(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && a.address === b.address;
}

function closedEarly(error: DtlsError | undefined): Error {
  return error ?? new NetError("NET_CLOSED", "the session was closed before its handshake was complete");
}

function ignore(): void {}

const NO_BYTES = new Uint8Array(0);
