import { timingSafeEqual } from "node:crypto";
import type { CertificateVerdict } from "../association-output.js";
import { verifyData } from "../crypto/key-schedule.js";
import { keyTypeOf } from "../crypto/signatures.js";
import { suiteById, usesCertificate, usesPsk } from "../crypto/suites.js";
import { DtlsError, type DtlsErrorCode } from "../errors.js";
import { ownConnectionId, type ResolvedClientOptions } from "../options.js";
import { encodeSession, pskTag, type ResumableSession } from "../resumable-session.js";
import { decodeCertificateRequest } from "../wire/certificate-request.js";
import { type ClientHello, encodeClientHello } from "../wire/client-hello.js";
import { EXTENSION_TYPES } from "../wire/extensions.js";
import { decodeFinished, encodeFinished } from "../wire/finished.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "../wire/handshake-header.js";
import { decodeHelloVerifyRequest } from "../wire/hello-verify-request.js";
import { decodeNewSessionTicket } from "../wire/new-session-ticket.js";
import { DTLS_1_2 } from "../wire/record.js";
import { ByteReader } from "../wire/reader.js";
import { decodeServerHello } from "../wire/server-hello.js";
import { decodeServerKeyExchange } from "../wire/server-key-exchange.js";
import { copyOf } from "../wire/writer.js";
import { composeClientHello, isRepeated, offeredSession, readServerTerms } from "./client-offer.js";
import type { HandshakeChannel, HandshakeMachine } from "./handshake-driver.js";
import { sendClientFlight } from "./client-flight.js";
import { installSessionKeys } from "./key-agreement.js";
import { type ClientState, EXPECTS, peerInfo, type ServerFlight, type StateOf } from "./client-state.js";
import { credentialQuestion, decodeCredential } from "./peer-credential.js";
import type { HandshakeMessage } from "./reassembly.js";
import { checkedParams, checkSignature } from "./server-key-exchange-check.js";

/**
 * The client's side of a full handshake (RFC 6347 §4.2.4, figure 1):
 *
 * ```
 *  ClientHello           →
 *                        ←  HelloVerifyRequest            (may be left out, or come again)
 *  ClientHello + cookie  →
 *                        ←  ServerHello
 *                           Certificate                   (certificate suites)
 *                           ServerKeyExchange             (ECDHE; PSK with a hint)
 *                           CertificateRequest            (certificate suites, if the server wants one)
 *                           ServerHelloDone
 *  Certificate           →                                (if asked)
 *  ClientKeyExchange
 *  CertificateVerify                                      (if a certificate was sent)
 *  ChangeCipherSpec
 *  Finished
 *                        ←  NewSessionTicket              (if the ServerHello said so)
 *                           ChangeCipherSpec, Finished
 * ```
 *
 * and of one that resumes a session (RFC 5246 §7.3, RFC 5077 §3.1):
 *
 * ```
 *  ClientHello + cookie  →                                (with the session's identifier, or its ticket)
 *                        ←  ServerHello                   (which repeats the identifier)
 *                           NewSessionTicket              (if the ServerHello said so)
 *                           ChangeCipherSpec, Finished
 *  ChangeCipherSpec,     →
 *  Finished
 * ```
 */
export class ClientHandshake implements HandshakeMachine {
  readonly #options: ResolvedClientOptions;
  readonly #hello: ClientHello;
  readonly #offered: ResumableSession | undefined;
  readonly #connectionId: Uint8Array | undefined;
  #state: ClientState = { name: "AwaitServerHello", helloVerifyRequests: 0 };

  /** @throws DtlsError DTLS_BAD_OPTION */
  constructor(options: ResolvedClientOptions) {
    this.#options = options;
    this.#connectionId = options.connectionId === false ? undefined : ownConnectionId(options.connectionId);
    this.#offered = offeredSession(options);
    this.#hello = composeClientHello(options, this.#connectionId, this.#offered);
  }

  get expects(): readonly HandshakeType[] | undefined {
    return EXPECTS[this.#state.name];
  }

  get finishedFault(): DtlsErrorCode {
    const state = this.#state;
    return state.name === "AwaitFinished" && state.identity !== undefined ? "DTLS_WRONG_PSK" : "DTLS_BAD_FINISHED";
  }

  start(channel: HandshakeChannel, now: number): void {
    channel.startFlight();
    channel.add(HANDSHAKE_TYPES.client_hello, encodeClientHello(this.#hello));
    channel.sendFlight(now);
  }

  handleMessage(message: HandshakeMessage, channel: HandshakeChannel, now: number): void {
    const { body, type } = message;
    const state = this.#state;
    switch (state.name) {
      case "AwaitServerHello":
        if (type === HANDSHAKE_TYPES.server_hello) this.#handleServerHello(body, channel);
        else this.#handleHelloVerifyRequest(state, body, channel, now);
        return;
      case "AwaitCertificate":
        this.#handleCertificate(state.server, body);
        return;
      case "AwaitServerKeyExchange":
        this.#handleServerKeyExchange(state.server, body);
        return;
      case "AwaitServerKeyExchangeOrDone":
        if (type === HANDSHAKE_TYPES.server_key_exchange) this.#handleServerKeyExchange(state.server, body);
        else this.#handleServerHelloDone(state.server, body, channel, now);
        return;
      case "AwaitCertificateRequestOrDone":
        if (type === HANDSHAKE_TYPES.certificate_request) this.#handleCertificateRequest(state.server, body);
        else this.#handleServerHelloDone(state.server, body, channel, now);
        return;
      case "AwaitDone":
        this.#handleServerHelloDone(state.server, body, channel, now);
        return;
      case "AwaitNewSessionTicket":
        this.#handleNewSessionTicket(state.next, body);
        return;
      case "AwaitFinished":
        this.#handleFinished(state, body, channel);
        return;
      case "AwaitResumedFinished":
        this.#handleResumedFinished(state, body, channel, now);
        return;
      case "AwaitVerdict":
      case "AwaitResumedVerdict":
      case "Complete":
        return;
    }
  }

  /** A client has its key in its options. */
  answerPsk(): void {
    return;
  }

  /** A client has its session in its options. */
  answerSession(): void {
    return;
  }

  answerPeerCertificate(verdict: CertificateVerdict, channel: HandshakeChannel, now: number): void {
    const state = this.#state;
    if (!verdict.ok) return;
    if (state.name === "AwaitVerdict") this.#sendSecondFlight(state.server, channel, now);
    else if (state.name === "AwaitResumedVerdict") this.#finishResumption(state.resumed, channel, now);
  }

  #handleHelloVerifyRequest(
    state: StateOf<"AwaitServerHello">,
    body: Uint8Array,
    channel: HandshakeChannel,
    now: number,
  ): void {
    const { cookie } = decodeHelloVerifyRequest(body);
    const helloVerifyRequests = state.helloVerifyRequests + 1;
    if (helloVerifyRequests > MAX_HELLO_VERIFY_REQUESTS) {
      throw new DtlsError("DTLS_UNEXPECTED_MESSAGE", "the server takes none of its own cookies");
    }
    this.#state = { name: "AwaitServerHello", helloVerifyRequests };
    channel.transcript.clear();
    channel.startFlight();
    channel.add(HANDSHAKE_TYPES.client_hello, encodeClientHello({ ...this.#hello, cookie }));
    channel.sendFlight(now);
  }

  #handleServerHello(body: Uint8Array, channel: HandshakeChannel): void {
    const hello = decodeServerHello(body);
    if (hello.version !== DTLS_1_2) throw new DtlsError("DTLS_PROTOCOL_VERSION");
    const suite = suiteById(hello.cipherSuite);
    if (suite === undefined || !this.#hello.cipherSuites.includes(suite.id)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "a cipher suite that was not offered");
    }
    if (hello.compressionMethod !== 0) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "compression");
    const terms = readServerTerms(hello, this.#hello, this.#options);
    const hasConnectionId = terms.peersConnectionId !== undefined && (this.#connectionId?.length ?? 0) > 0;
    if (terms.peersConnectionId !== undefined && this.#connectionId !== undefined) {
      channel.useConnectionIds(this.#connectionId, terms.peersConnectionId);
    }
    channel.limitRecords(terms.recordLimits);
    const server: ServerFlight = {
      suite,
      hasConnectionId,
      returnRoutabilityCheck: terms.returnRoutabilityCheck,
      clientRandom: this.#hello.random,
      serverRandom: copyOf(hello.random),
      extendedMasterSecret: terms.extendedMasterSecret,
      applicationProtocol: terms.applicationProtocol,
      terms,
      issuesTicket: hello.extensions.has(EXTENSION_TYPES.session_ticket),
      sessionId: copyOf(hello.sessionId),
    };
    if (this.#offered !== undefined && isRepeated(hello.sessionId, this.#hello.sessionId)) {
      this.#resume(this.#offered, server, channel);
      return;
    }
    switch (suite.keyExchange) {
      case "psk":
        this.#state = { name: "AwaitServerKeyExchangeOrDone", server };
        return;
      case "ecdhe_psk":
        this.#state = { name: "AwaitServerKeyExchange", server };
        return;
      case "ecdhe_ecdsa":
      case "ecdhe_rsa":
        this.#state = { name: "AwaitCertificate", server };
        return;
    }
  }

  /** The suite must be the session's (RFC 5246 §7.4.1.3), and so must the extended master secret (RFC 7627 §5.3). */
  #resume(session: ResumableSession, server: ServerFlight, channel: HandshakeChannel): void {
    if (server.suite.name !== session.peer.suite) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "another suite");
    if (!server.extendedMasterSecret) throw new DtlsError("DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
    installSessionKeys(server, session.masterSecret, channel);
    channel.allowChangeCipherSpec();
    const next = { name: "AwaitResumedFinished", session, server } as const;
    this.#state = server.issuesTicket ? { name: "AwaitNewSessionTicket", next } : next;
  }

  #handleCertificate(server: ServerFlight, body: Uint8Array): void {
    const credential = decodeCredential(body, server.terms.serverCertificateType);
    if (credential === undefined) throw new DtlsError("DTLS_DECODE_ERROR", "a server without a certificate");
    const type = keyTypeOf(credential.publicKey);
    const isRsaSuite = server.suite.keyExchange === "ecdhe_rsa";
    if (type === undefined || (type === "rsa") !== isRsaSuite) throw new DtlsError("DTLS_UNSUPPORTED_CERTIFICATE");
    this.#state = { name: "AwaitServerKeyExchange", server: { ...server, credential } };
  }

  #handleServerKeyExchange(server: ServerFlight, body: Uint8Array): void {
    const { suite } = server;
    const message = decodeServerKeyExchange(body, suite.keyExchange);
    const known: ServerFlight =
      message.params === undefined ? server : { ...server, params: checkedParams(message, this.#options.groups) };
    if (!usesCertificate(suite)) {
      this.#state = { name: "AwaitDone", server: known };
      return;
    }
    const signatureScheme = checkSignature(known, message, this.#options.signatureSchemes);
    this.#state = { name: "AwaitCertificateRequestOrDone", server: { ...known, signatureScheme } };
  }

  #handleCertificateRequest(server: ServerFlight, body: Uint8Array): void {
    const { signatureSchemes } = decodeCertificateRequest(body);
    this.#state = { name: "AwaitDone", server: { ...server, requestedSchemes: signatureSchemes } };
  }

  #handleServerHelloDone(server: ServerFlight, body: Uint8Array, channel: HandshakeChannel, now: number): void {
    new ByteReader(body).end();
    if (server.credential === undefined) {
      this.#sendSecondFlight(server, channel, now);
      return;
    }
    this.#state = { name: "AwaitVerdict", server };
    channel.ask(credentialQuestion(server.credential));
  }

  #sendSecondFlight(server: ServerFlight, channel: HandshakeChannel, now: number): void {
    const identity = usesPsk(server.suite) ? this.#options.psk?.identity : undefined;
    const master = sendClientFlight(server, identity, this.#options, channel, now);
    const next: StateOf<"AwaitFinished"> = { name: "AwaitFinished", master, server, identity, ticket: NO_BYTES };
    this.#state = server.issuesTicket ? { name: "AwaitNewSessionTicket", next } : next;
  }

  #handleNewSessionTicket(next: StateOf<"AwaitFinished" | "AwaitResumedFinished">, body: Uint8Array): void {
    const { ticket } = decodeNewSessionTicket(body);
    if (next.name === "AwaitFinished") this.#state = { ...next, ticket };
    // An empty ticket leaves the one that was used (RFC 5077 §3.3).
    else this.#state = ticket.length === 0 ? next : { ...next, session: { ...next.session, ticket } };
  }

  #handleFinished(state: StateOf<"AwaitFinished">, body: Uint8Array, channel: HandshakeChannel): void {
    const { master, server, identity, ticket } = state;
    const expected = verifyData(master, "server", channel.transcript.hashBeforeLast());
    if (!timingSafeEqual(decodeFinished(body), expected)) throw new DtlsError("DTLS_BAD_FINISHED");
    const peer = peerInfo(server, identity);
    this.#keepExporter(server, master, channel);
    if (server.extendedMasterSecret && (ticket.length > 0 || server.sessionId.length > 0)) {
      const key = identity === undefined ? undefined : this.#options.psk?.key;
      this.#offerSession(
        {
          masterSecret: master,
          establishedAt: 0,
          issuedAt: 0,
          serverName: this.#options.serverName,
          peer,
          pskTag: key && pskTag(key, master),
          sessionId: ticket.length > 0 ? NO_BYTES : server.sessionId,
          ticket,
        },
        channel,
      );
    }
    master.fill(0);
    this.#state = { name: "Complete" };
    channel.complete(peer, false);
  }

  /** What an earlier handshake proved is asked for again: trust may have ended since. */
  #handleResumedFinished(
    state: StateOf<"AwaitResumedFinished">,
    body: Uint8Array,
    channel: HandshakeChannel,
    now: number,
  ): void {
    const { masterSecret, peer } = state.session;
    const expected = verifyData(masterSecret, "server", channel.transcript.hashBeforeLast());
    if (!timingSafeEqual(decodeFinished(body), expected)) throw new DtlsError("DTLS_BAD_FINISHED");
    const { certificates, rawPublicKey } = peer;
    if (certificates === undefined && rawPublicKey === undefined) {
      this.#finishResumption(state, channel, now);
      return;
    }
    this.#state = { name: "AwaitResumedVerdict", resumed: state };
    if (rawPublicKey !== undefined) channel.ask({ type: "need-raw-public-key-verification", rawPublicKey });
    else if (certificates !== undefined) channel.ask({ type: "need-peer-certificate-verification", certificates });
  }

  #finishResumption(
    { session, server }: StateOf<"AwaitResumedFinished">,
    channel: HandshakeChannel,
    now: number,
  ): void {
    channel.startFlight();
    channel.addChangeCipherSpec();
    const finished = verifyData(session.masterSecret, "client", channel.transcript.hash());
    channel.add(HANDSHAKE_TYPES.finished, encodeFinished(finished), 1);
    channel.sendFlight(now);
    this.#keepExporter(server, session.masterSecret, channel);
    this.#offerSession(session, channel);
    session.masterSecret.fill(0);
    this.#state = { name: "Complete" };
    channel.complete({ ...peerInfo(server, undefined), ...session.peer, isResumed: true }, true);
  }

  #keepExporter(server: ServerFlight, master: Uint8Array, channel: HandshakeChannel): void {
    const { clientRandom, serverRandom } = server;
    if (this.#options.exporter) channel.keepExporter({ masterSecret: copyOf(master), clientRandom, serverRandom });
  }

  #offerSession(session: ResumableSession, channel: HandshakeChannel): void {
    channel.offerSession({ sessionId: session.sessionId, state: encodeSession(session), lifetimeSeconds: 0 });
  }
}

const NO_BYTES = new Uint8Array(0);
/** Cookies may expire on the way, but not for ever. */
const MAX_HELLO_VERIFY_REQUESTS = 3;
