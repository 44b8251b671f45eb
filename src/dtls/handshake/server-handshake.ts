import { timingSafeEqual } from "node:crypto";
import type { CertificateVerdict } from "../association-output.js";
import { keepPublicKey } from "../crypto/certificate-key.js";
import { generateKeyShare } from "../crypto/key-exchange.js";
import { verifyData } from "../crypto/key-schedule.js";
import { keyTypeOf, schemeById, verifyWith } from "../crypto/signatures.js";
import { suiteByName, usesCertificate } from "../crypto/suites.js";
import { DtlsError, type DtlsErrorCode } from "../errors.js";
import type { ResolvedServerOptions } from "../options.js";
import { decodeSession, isPskOf, pskTag, type ResumableSession } from "../resumable-session.js";
import { decodeCertificateVerify } from "../wire/certificate-verify.js";
import { type ClientHello, decodeClientHello, RANDOM_BYTES } from "../wire/client-hello.js";
import { decodeClientKeyExchange } from "../wire/client-key-exchange.js";
import { EXTENSION_TYPES } from "../wire/extensions.js";
import { decodeFinished, encodeFinished } from "../wire/finished.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "../wire/handshake-header.js";
import { encodeNewSessionTicket } from "../wire/new-session-ticket.js";
import { copyOf } from "../wire/writer.js";
import type { HandshakeChannel, HandshakeMachine } from "./handshake-driver.js";
import { agreeOnKeys, installSessionKeys } from "./key-agreement.js";
import { type Choice, chooseSuite } from "./negotiation.js";
import { encodeCredential } from "./own-credential.js";
import { credentialFacts, credentialQuestion, decodeCredential } from "./peer-credential.js";
import type { HandshakeMessage } from "./reassembly.js";
import { isResumable, type SessionFacts, ServerSessions } from "./server-sessions.js";
import { NO_RECORD_LIMITS } from "./record-limits.js";
import { composeCertificateRequest, composeServerHello, composeServerKeyExchange } from "./server-flight.js";
import {
  EXPECTS,
  type Hellos,
  peerInfo,
  type ServerState,
  sessionFacts,
  type SessionRequest,
  type StateOf,
} from "./server-state.js";
import { type ClientTerms, readClientTerms, serverExtensions } from "./server-terms.js";

/**
 * The server's side of a full handshake, from a ClientHello whose cookie was verified by the gate:
 *
 * ```
 *  ClientHello + cookie  →
 *                           need-session                  AwaitSession           (an identifier; tickets need no answer)
 *                        ←  ServerHello … ServerHelloDone
 *  Certificate           →                                AwaitCertificate       (if asked)
 *  ClientKeyExchange                                      AwaitClientKeyExchange
 *                           need-psk                      AwaitPsk               (PSK suites)
 *  CertificateVerify                                      AwaitCertificateVerify (if a certificate came)
 *                           need-…-verification           AwaitVerdict
 *  ChangeCipherSpec, Finished                             AwaitFinished
 *                        ←  NewSessionTicket              (if the client takes tickets)
 *                           ChangeCipherSpec, Finished    Complete
 * ```
 *
 * and of one that resumes a session; what that session's peer proved is asked for anew, as trust may have ended since:
 *
 * ```
 *  ClientHello + cookie  →
 *                           need-session                  AwaitSession
 *                           need-psk                      AwaitSessionPsk
 *                           need-…-verification           AwaitSessionVerdict
 *                        ←  ServerHello
 *                           NewSessionTicket              (if the one that was used is to be renewed)
 *                           ChangeCipherSpec, Finished
 *  ChangeCipherSpec, Finished                             AwaitResumedFinished
 *                                                         Complete
 * ```
 */
export class ServerHandshake implements HandshakeMachine {
  readonly #options: ResolvedServerOptions;
  readonly #sessions: ServerSessions;
  #state: ServerState = { name: "AwaitClientHello" };

  constructor(options: ResolvedServerOptions) {
    this.#options = options;
    this.#sessions = new ServerSessions(options);
  }

  get expects(): readonly HandshakeType[] | undefined {
    return EXPECTS[this.#state.name];
  }

  get finishedFault(): DtlsErrorCode {
    return this.#state.name === "AwaitFinished" ? this.#state.fault : "DTLS_BAD_FINISHED";
  }

  /** The client speaks first. */
  start(): void {
    return;
  }

  handleMessage(message: HandshakeMessage, channel: HandshakeChannel, now: number): void {
    const state = this.#state;
    switch (state.name) {
      case "AwaitClientHello":
        this.#handleClientHello(message.body, channel, now);
        return;
      case "AwaitCertificate":
        this.#handleCertificate(state.hellos, message.body);
        return;
      case "AwaitClientKeyExchange":
        this.#handleClientKeyExchange(state, message.body, channel);
        return;
      case "AwaitCertificateVerify":
        this.#handleCertificateVerify(state, message.body, channel);
        return;
      case "AwaitFinished":
        this.#handleFinished(state, message.body, channel, now);
        return;
      case "AwaitResumedFinished":
        this.#handleResumedFinished(state, message.body, channel);
        return;
      case "AwaitSession":
      case "AwaitSessionPsk":
      case "AwaitSessionVerdict":
      case "AwaitPsk":
      case "AwaitVerdict":
      case "Complete":
        return;
    }
  }

  /**
   * An unknown identity goes on with a random key, so that it cannot be told from a wrong key (RFC 4279 §2 allows
   * decrypt_error for both): same messages, same work.
   */
  answerPsk(identity: Uint8Array, key: Uint8Array | undefined, channel: HandshakeChannel, now: number): void {
    const state = this.#state;
    if (state.name === "AwaitSessionPsk") {
      const { session, request } = state;
      if (Buffer.compare(identity, session.peer.pskIdentity ?? NO_BYTES) !== 0) return;
      if (isPskOf(session, key)) this.#resume(session, request, channel, now);
      else this.#beginInFull(request, channel, now);
      return;
    }
    if (state.name !== "AwaitPsk") return;
    if (identity !== state.identity && Buffer.compare(identity, state.identity) !== 0) return;
    const isKnown = key !== undefined && key.length > 0;
    const psk = isKnown ? key : this.#options.random(UNKNOWN_PSK_BYTES);
    const master = agreeOnKeys(state.hellos, { psk, ecdhSecret: state.ecdhSecret }, channel);
    const fault = isKnown ? "DTLS_WRONG_PSK" : "DTLS_UNKNOWN_PSK_IDENTITY";
    this.#state = {
      name: "AwaitFinished",
      master,
      fault,
      isRefused: !isKnown,
      hellos: state.hellos,
      peer: peerInfo(state.hellos, state.identity),
      pskTag: makesSession(state.hellos) ? pskTag(psk, master) : undefined,
    };
  }

  answerSession(sessionId: Uint8Array, state: Uint8Array | undefined, channel: HandshakeChannel, now: number): void {
    const own = this.#state;
    if (own.name !== "AwaitSession" || Buffer.compare(sessionId, own.request.hello.sessionId) !== 0) return;
    this.#consider(state && decodeSession(state), own.request, channel, now);
  }

  answerPeerCertificate(verdict: CertificateVerdict, channel: HandshakeChannel, now: number): void {
    const state = this.#state;
    if (!verdict.ok) return;
    if (state.name === "AwaitSessionVerdict") this.#resume(state.session, state.request, channel, now);
    if (state.name !== "AwaitVerdict") return;
    const { hellos, master, credential, signatureScheme } = state;
    const peer = { ...peerInfo(hellos), ...credentialFacts(credential), signatureScheme };
    const fault = "DTLS_BAD_FINISHED";
    this.#state = { name: "AwaitFinished", master, fault, isRefused: false, hellos, peer, pskTag: undefined };
  }

  #handleClientHello(body: Uint8Array, channel: HandshakeChannel, now: number): void {
    const hello = decodeClientHello(body);
    const request = { hello, terms: readClientTerms(hello, this.#options) };
    const ticket = hello.extensions.get(EXTENSION_TYPES.session_ticket);
    if (this.#options.sessionTickets && ticket !== undefined && ticket.length > 0) {
      this.#consider(this.#sessions.openTicket(ticket, now), request, channel, now);
    } else if (this.#options.sessionCache && hello.sessionId.length > 0) {
      this.#state = { name: "AwaitSession", request };
      channel.ask({ type: "need-session", sessionId: request.hello.sessionId });
    } else {
      this.#beginInFull(request, channel, now);
    }
  }

  /** Resumes, asks what must be known first, or falls back; the cookie was demanded either way. */
  #consider(
    session: ResumableSession | undefined,
    request: SessionRequest,
    channel: HandshakeChannel,
    now: number,
  ): void {
    const { hello, terms } = request;
    if (session === undefined || !isResumable(session, hello, terms, this.#options, now)) {
      this.#beginInFull(request, channel, now);
      return;
    }
    // RFC 7627 §5.3.
    if (!terms.extendedMasterSecret) throw new DtlsError("DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
    const { pskIdentity, certificates, rawPublicKey } = session.peer;
    if (pskIdentity !== undefined) {
      this.#state = { name: "AwaitSessionPsk", request, session };
      channel.ask({ type: "need-psk", identity: pskIdentity });
    } else if (rawPublicKey !== undefined) {
      this.#state = { name: "AwaitSessionVerdict", request, session };
      channel.ask({ type: "need-raw-public-key-verification", rawPublicKey });
    } else if (certificates !== undefined) {
      this.#state = { name: "AwaitSessionVerdict", request, session };
      channel.ask({ type: "need-peer-certificate-verification", certificates });
    } else {
      this.#resume(session, request, channel, now);
    }
  }

  #resume(session: ResumableSession, { hello, terms }: SessionRequest, channel: HandshakeChannel, now: number): void {
    const suite = suiteByName(session.peer.suite);
    const hellos = this.#settle({ suite }, hello, terms, channel);
    const answer = { suite, usesPoints: false, ownCertificateType: undefined, asksCertificate: false };
    const extensions = serverExtensions(hello, terms, answer, this.#options);
    const isRenewed = this.#sessions.isToBeRenewed(session, hello, now);
    if (isRenewed) extensions.set(EXTENSION_TYPES.session_ticket, NO_BYTES);
    channel.startFlight();
    channel.add(HANDSHAKE_TYPES.server_hello, composeServerHello(hellos, hello.sessionId, extensions));
    if (isRenewed) this.#addTicket(session, channel, now);
    installSessionKeys(hellos, session.masterSecret, channel);
    channel.addChangeCipherSpec();
    const finished = verifyData(session.masterSecret, "server", channel.transcript.hash());
    channel.add(HANDSHAKE_TYPES.finished, encodeFinished(finished), 1);
    channel.allowChangeCipherSpec();
    channel.sendFlight(now);
    this.#state = { name: "AwaitResumedFinished", session, hellos };
  }

  #handleResumedFinished(
    { session, hellos }: StateOf<"AwaitResumedFinished">,
    body: Uint8Array,
    channel: HandshakeChannel,
  ): void {
    const expected = verifyData(session.masterSecret, "client", channel.transcript.hashBeforeLast());
    if (!timingSafeEqual(decodeFinished(body), expected)) throw new DtlsError("DTLS_BAD_FINISHED");
    this.#keepExporter(hellos, session.masterSecret, channel);
    session.masterSecret.fill(0);
    this.#state = { name: "Complete" };
    channel.complete({ ...peerInfo(hellos), ...session.peer, isResumed: true }, false);
  }

  #settle(choice: Choice, hello: ClientHello, terms: ClientTerms, channel: HandshakeChannel): Hellos {
    const { connectionIds, serverName, extendedMasterSecret, applicationProtocol } = terms;
    if (connectionIds !== undefined) channel.useConnectionIds(connectionIds.own, connectionIds.peers);
    if (terms.recordLimits !== NO_RECORD_LIMITS) channel.limitRecords(terms.recordLimits);
    const { issuesTicket, sessionId } = this.#sessions.plan(hello, extendedMasterSecret);
    return {
      suite: choice.suite,
      clientRandom: copyOf(hello.random),
      serverRandom: this.#options.random(RANDOM_BYTES),
      extendedMasterSecret,
      hasConnectionId: connectionIds !== undefined && connectionIds.own.length > 0,
      returnRoutabilityCheck: terms.returnRoutabilityCheck,
      applicationProtocol,
      clientCertificateType: terms.clientCertificateType ?? "X.509",
      share: choice.group === undefined ? undefined : generateKeyShare(choice.group),
      serverName,
      issuesTicket,
      sessionId,
    };
  }

  #beginInFull({ hello, terms }: SessionRequest, channel: HandshakeChannel, now: number): void {
    const choice = chooseSuite(hello, this.#options);
    const { suite, credential } = choice;
    const hellos = this.#settle(choice, hello, terms, channel);
    const asksCertificate = usesCertificate(suite) && this.#asksCertificate(terms);
    const answer = {
      suite,
      usesPoints: hellos.share !== undefined,
      ownCertificateType: credential?.type,
      asksCertificate,
    };
    const extensions = serverExtensions(hello, terms, answer, this.#options);
    if (hellos.issuesTicket) extensions.set(EXTENSION_TYPES.session_ticket, NO_BYTES);
    channel.startFlight();
    channel.add(HANDSHAKE_TYPES.server_hello, composeServerHello(hellos, hellos.sessionId, extensions));
    if (credential !== undefined) channel.add(HANDSHAKE_TYPES.certificate, encodeCredential(credential));
    const keyExchange = composeServerKeyExchange(hellos, choice, this.#options.pskIdentityHint);
    if (keyExchange !== undefined) channel.add(HANDSHAKE_TYPES.server_key_exchange, keyExchange);
    if (asksCertificate) {
      channel.add(HANDSHAKE_TYPES.certificate_request, composeCertificateRequest(this.#options));
    }
    channel.add(HANDSHAKE_TYPES.server_hello_done, NO_BYTES);
    channel.allowChangeCipherSpec();
    channel.sendFlight(now);
    this.#state = asksCertificate
      ? { name: "AwaitCertificate", hellos }
      : { name: "AwaitClientKeyExchange", hellos, credential: undefined };
  }

  /** RFC 7250 §4.2: without a type in common there is nothing to ask for, and nothing to go on with if it is required. */
  #asksCertificate({ clientCertificateType }: ClientTerms): boolean {
    const { clientCertificate } = this.#options;
    if (clientCertificate === "none") return false;
    if (clientCertificateType === undefined && clientCertificate === "require") {
      throw new DtlsError("DTLS_UNSUPPORTED_CERTIFICATE", "no certificate type is common with the client");
    }
    return clientCertificateType !== undefined;
  }

  #handleCertificate(hellos: Hellos, body: Uint8Array): void {
    // A client that has nothing to show sends an empty list, whatever the type.
    const isEmpty = body.length === 3 && body.every((byte) => byte === 0);
    const credential = isEmpty ? undefined : decodeCredential(body, hellos.clientCertificateType);
    if (credential === undefined && this.#options.clientCertificate === "require") {
      throw new DtlsError("DTLS_CLIENT_CERTIFICATE_REQUIRED");
    }
    if (credential !== undefined && keyTypeOf(credential.publicKey) === undefined) {
      throw new DtlsError("DTLS_UNSUPPORTED_CERTIFICATE");
    }
    this.#state = { name: "AwaitClientKeyExchange", hellos, credential };
  }

  #handleClientKeyExchange(
    state: StateOf<"AwaitClientKeyExchange">,
    body: Uint8Array,
    channel: HandshakeChannel,
  ): void {
    const { hellos, credential } = state;
    const message = decodeClientKeyExchange(body, hellos.suite.keyExchange);
    const ecdhSecret = message.publicKey === undefined ? undefined : hellos.share?.sharedSecret(message.publicKey);
    if (message.pskIdentity !== undefined) {
      const identity = message.pskIdentity;
      const hint = this.#options.pskIdentityHint;
      this.#state = { name: "AwaitPsk", hellos, identity, ecdhSecret };
      channel.ask(hint === undefined ? { type: "need-psk", identity } : { type: "need-psk", identity, hint });
      return;
    }
    const master = agreeOnKeys(hellos, { ecdhSecret }, channel);
    const fault = "DTLS_BAD_FINISHED";
    this.#state =
      credential === undefined
        ? { name: "AwaitFinished", master, fault, isRefused: false, hellos, peer: peerInfo(hellos), pskTag: undefined }
        : { name: "AwaitCertificateVerify", hellos, master, credential };
  }

  #handleCertificateVerify(
    state: StateOf<"AwaitCertificateVerify">,
    body: Uint8Array,
    channel: HandshakeChannel,
  ): void {
    const { hellos, master, credential } = state;
    const { scheme, signature } = decodeCertificateVerify(body);
    const signatureScheme = schemeById(scheme);
    if (signatureScheme === undefined || !this.#options.signatureSchemes.includes(signatureScheme)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "a signature scheme that was not offered");
    }
    if (!verifyWith(signatureScheme, credential.publicKey, channel.transcript.bytesBeforeLast(), signature)) {
      throw new DtlsError("DTLS_BAD_SIGNATURE");
    }
    const leaf = credential.certificates?.[0];
    if (leaf !== undefined) keepPublicKey(leaf, credential.publicKey);
    this.#state = { name: "AwaitVerdict", hellos, master, credential, signatureScheme };
    channel.ask(credentialQuestion(credential));
  }

  #handleFinished(state: StateOf<"AwaitFinished">, body: Uint8Array, channel: HandshakeChannel, now: number): void {
    const expected = verifyData(state.master, "client", channel.transcript.hashBeforeLast());
    if (!timingSafeEqual(decodeFinished(body), expected) || state.isRefused) throw new DtlsError(state.fault);
    channel.startFlight();
    if (state.hellos.issuesTicket) this.#addTicket(sessionFacts(state), channel, now);
    channel.addChangeCipherSpec();
    const finished = verifyData(state.master, "server", channel.transcript.hash());
    channel.add(HANDSHAKE_TYPES.finished, encodeFinished(finished), 1);
    channel.sendFlight(now);
    this.#keepExporter(state.hellos, state.master, channel);
    if (state.hellos.sessionId.length > 0) {
      channel.offerSession(this.#sessions.cached(state.hellos.sessionId, sessionFacts(state), now));
    }
    state.master.fill(0);
    this.#state = { name: "Complete" };
    channel.complete(state.peer, true);
  }

  #addTicket(facts: SessionFacts, channel: HandshakeChannel, now: number): void {
    const ticket = this.#sessions.sealTicket(facts, now);
    channel.add(HANDSHAKE_TYPES.new_session_ticket, encodeNewSessionTicket(ticket));
  }

  #keepExporter({ clientRandom, serverRandom }: Hellos, master: Uint8Array, channel: HandshakeChannel): void {
    if (this.#options.exporter) channel.keepExporter({ masterSecret: copyOf(master), clientRandom, serverRandom });
  }
}

function makesSession({ issuesTicket, sessionId }: Hellos): boolean {
  return issuesTicket || sessionId.length > 0;
}

const NO_BYTES = new Uint8Array(0);
const UNKNOWN_PSK_BYTES = 16;
