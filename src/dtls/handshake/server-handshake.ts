import { type KeyObject, timingSafeEqual } from "node:crypto";
import type { CertificateVerdict, PeerInfo } from "../association-output.js";
import { keepPublicKey, publicKeyOf } from "../crypto/certificate-key.js";
import { generateKeyShare, GROUPS, type KeyShare } from "../crypto/key-exchange.js";
import { verifyData } from "../crypto/key-schedule.js";
import {
  keyTypeOf,
  schemeById,
  SIGNATURE_SCHEMES,
  type SignatureSchemeName,
  signWith,
  verifyWith,
} from "../crypto/signatures.js";
import { EMPTY_RENEGOTIATION_INFO_SCSV, usesCertificate, usesPsk } from "../crypto/suites.js";
import { DtlsError, type DtlsErrorCode } from "../errors.js";
import { ownConnectionId, type ResolvedServerOptions } from "../options.js";
import { decodeCertificate, encodeCertificate } from "../wire/certificate.js";
import { CLIENT_CERTIFICATE_TYPES, encodeCertificateRequest } from "../wire/certificate-request.js";
import { decodeCertificateVerify } from "../wire/certificate-verify.js";
import { type ClientHello, decodeClientHello, RANDOM_BYTES } from "../wire/client-hello.js";
import { decodeClientKeyExchange } from "../wire/client-key-exchange.js";
import {
  decodeConnectionId,
  decodeServerName,
  EMPTY_RENEGOTIATION_INFO,
  encodeConnectionId,
  encodePointFormats,
  EXTENSION_TYPES,
  isEmptyRenegotiationInfo,
} from "../wire/extensions.js";
import { decodeFinished, encodeFinished } from "../wire/finished.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "../wire/handshake-header.js";
import { DTLS_1_2 } from "../wire/record.js";
import { encodeServerHello } from "../wire/server-hello.js";
import { encodeServerEcdhParams, encodeServerKeyExchange } from "../wire/server-key-exchange.js";
import { concat, copyOf } from "../wire/writer.js";
import type { HandshakeChannel, HandshakeMachine } from "./handshake-driver.js";
import { agreeOnKeys, type Negotiated } from "./key-agreement.js";
import { type Choice, chooseSuite } from "./negotiation.js";
import type { HandshakeMessage } from "./reassembly.js";

/**
 * The server's side of a full handshake, from a ClientHello whose cookie was verified by the gate:
 *
 * ```
 *  ClientHello + cookie  →
 *                        ←  ServerHello … ServerHelloDone
 *  Certificate           →                                AwaitCertificate       (if asked)
 *  ClientKeyExchange                                      AwaitClientKeyExchange
 *                           need-psk                      AwaitPsk               (PSK suites)
 *  CertificateVerify                                      AwaitCertificateVerify (if a certificate came)
 *                           need-peer-certificate-…       AwaitVerdict
 *  ChangeCipherSpec, Finished                             AwaitFinished
 *                        ←  ChangeCipherSpec, Finished    Complete
 * ```
 */
export class ServerHandshake implements HandshakeMachine {
  readonly #options: ResolvedServerOptions;
  #state: ServerState = { name: "AwaitClientHello" };

  constructor(options: ResolvedServerOptions) {
    this.#options = options;
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
  answerPsk(identity: Uint8Array, key: Uint8Array | undefined, channel: HandshakeChannel): void {
    const state = this.#state;
    if (state.name !== "AwaitPsk" || Buffer.compare(identity, state.identity) !== 0) return;
    const isKnown = key !== undefined && key.length > 0;
    const psk = isKnown ? key : this.#options.random(UNKNOWN_PSK_BYTES);
    const master = agreeOnKeys(state.hellos, { psk, ecdhSecret: state.ecdhSecret }, channel);
    const fault = isKnown ? "DTLS_WRONG_PSK" : "DTLS_UNKNOWN_PSK_IDENTITY";
    this.#state = {
      name: "AwaitFinished",
      master,
      fault,
      isRefused: !isKnown,
      peer: { ...peerInfo(state.hellos), pskIdentity: state.identity },
    };
  }

  answerPeerCertificate(verdict: CertificateVerdict): void {
    const state = this.#state;
    if (state.name !== "AwaitVerdict" || !verdict.ok) return;
    const peer = {
      ...peerInfo(state.hellos),
      certificates: state.certificates,
      signatureScheme: state.signatureScheme,
    };
    this.#state = { name: "AwaitFinished", master: state.master, fault: "DTLS_BAD_FINISHED", isRefused: false, peer };
  }

  #handleClientHello(body: Uint8Array, channel: HandshakeChannel, now: number): void {
    const hello = decodeClientHello(body);
    // Versions count down: DTLS 1.0 is 0xfeff, 1.2 is 0xfefd.
    if (hello.version > DTLS_1_2) throw new DtlsError("DTLS_PROTOCOL_VERSION");
    if (!hello.compressionMethods.includes(0)) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "no null compression");
    const renegotiation = hello.extensions.get(EXTENSION_TYPES.renegotiation_info);
    if (renegotiation !== undefined && !isEmptyRenegotiationInfo(renegotiation)) {
      throw new DtlsError("DTLS_INSECURE_RENEGOTIATION");
    }
    const extendedMasterSecret = hello.extensions.has(EXTENSION_TYPES.extended_master_secret);
    if (!extendedMasterSecret && this.#options.requireExtendedMasterSecret) {
      throw new DtlsError("DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
    }
    const serverNameData = hello.extensions.get(EXTENSION_TYPES.server_name);
    const serverName = serverNameData === undefined ? undefined : decodeServerName(serverNameData);
    const choice = chooseSuite(hello, this.#options);
    const connectionId = this.#agreeOnConnectionIds(hello, channel);
    const hellos: Hellos = {
      suite: choice.suite,
      hasConnectionId: connectionId !== undefined && connectionId.length > 0,
      ...(connectionId === undefined ? {} : { connectionId }),
      clientRandom: copyOf(hello.random),
      serverRandom: this.#options.random(RANDOM_BYTES),
      extendedMasterSecret,
      ...(choice.group === undefined ? {} : { share: generateKeyShare(choice.group) }),
      ...(serverName === undefined ? {} : { serverName }),
    };
    this.#sendFirstFlight(hello, hellos, choice, channel, now);
  }

  /** Ours, when the client uses them (RFC 9146 §3). */
  #agreeOnConnectionIds(hello: ClientHello, channel: HandshakeChannel): Uint8Array | undefined {
    const peers = hello.extensions.get(EXTENSION_TYPES.connection_id);
    if (peers === undefined || this.#options.connectionId === false) return undefined;
    const peersConnectionId = decodeConnectionId(peers);
    const own = ownConnectionId(this.#options.connectionId);
    channel.useConnectionIds(own, peersConnectionId);
    return own;
  }

  #sendFirstFlight(hello: ClientHello, hellos: Hellos, choice: Choice, channel: HandshakeChannel, now: number): void {
    const { suite } = hellos;
    const { certificate, clientCertificate } = this.#options;
    channel.startFlight();
    channel.add(HANDSHAKE_TYPES.server_hello, composeServerHello(hello, hellos));
    if (usesCertificate(suite) && certificate !== undefined) {
      channel.add(HANDSHAKE_TYPES.certificate, encodeCertificate(certificate.chain));
    }
    const keyExchange = this.#composeServerKeyExchange(hellos, choice);
    if (keyExchange !== undefined) channel.add(HANDSHAKE_TYPES.server_key_exchange, keyExchange);
    const asksCertificate = usesCertificate(suite) && clientCertificate !== "none";
    if (asksCertificate) channel.add(HANDSHAKE_TYPES.certificate_request, this.#composeCertificateRequest());
    channel.add(HANDSHAKE_TYPES.server_hello_done, new Uint8Array(0));
    channel.allowChangeCipherSpec();
    channel.sendFlight(now);
    this.#state = asksCertificate
      ? { name: "AwaitCertificate", hellos }
      : { name: "AwaitClientKeyExchange", hellos, certificates: [] };
  }

  #composeServerKeyExchange(hellos: Hellos, { suite, signatureScheme }: Choice): Uint8Array | undefined {
    const { share, clientRandom, serverRandom } = hellos;
    const hint = this.#options.pskIdentityHint;
    if (share === undefined) return hint && encodeServerKeyExchange({ pskIdentityHint: hint });
    const params = { group: GROUPS[share.group].id, publicKey: share.publicKey };
    if (usesPsk(suite)) return encodeServerKeyExchange({ pskIdentityHint: hint ?? new Uint8Array(0), params });
    const key = this.#options.certificate?.privateKey;
    if (key === undefined || signatureScheme === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR");
    const content = concat(clientRandom, serverRandom, encodeServerEcdhParams(params));
    const signature = signWith(signatureScheme, key, content);
    return encodeServerKeyExchange({ params, signature: { scheme: SIGNATURE_SCHEMES[signatureScheme].id, signature } });
  }

  #composeCertificateRequest(): Uint8Array {
    const { signatureSchemes, certificateAuthorities } = this.#options;
    const types = new Set(
      signatureSchemes.map((name) =>
        SIGNATURE_SCHEMES[name].keyType === "rsa"
          ? CLIENT_CERTIFICATE_TYPES.rsa_sign
          : CLIENT_CERTIFICATE_TYPES.ecdsa_sign,
      ),
    );
    return encodeCertificateRequest({
      certificateTypes: [...types],
      signatureSchemes: signatureSchemes.map((name) => SIGNATURE_SCHEMES[name].id),
      certificateAuthorities,
    });
  }

  #handleCertificate(hellos: Hellos, body: Uint8Array): void {
    const certificates = decodeCertificate(body);
    const leaf = certificates[0];
    if (leaf === undefined) {
      if (this.#options.clientCertificate === "require") throw new DtlsError("DTLS_CLIENT_CERTIFICATE_REQUIRED");
      this.#state = { name: "AwaitClientKeyExchange", hellos, certificates };
      return;
    }
    const publicKey = publicKeyOf(leaf);
    if (keyTypeOf(publicKey) === undefined) throw new DtlsError("DTLS_UNSUPPORTED_CERTIFICATE");
    this.#state = { name: "AwaitClientKeyExchange", hellos, certificates, publicKey };
  }

  #handleClientKeyExchange(
    state: StateOf<"AwaitClientKeyExchange">,
    body: Uint8Array,
    channel: HandshakeChannel,
  ): void {
    const { hellos, certificates, publicKey } = state;
    const message = decodeClientKeyExchange(body, hellos.suite.keyExchange);
    const ecdhSecret = message.publicKey === undefined ? undefined : hellos.share?.sharedSecret(message.publicKey);
    if (message.pskIdentity !== undefined) {
      const identity = message.pskIdentity;
      const hint = this.#options.pskIdentityHint;
      this.#state = { name: "AwaitPsk", hellos, identity, ecdhSecret };
      channel.ask({ type: "need-psk", identity, ...(hint === undefined ? {} : { hint }) });
      return;
    }
    const master = agreeOnKeys(hellos, { ecdhSecret }, channel);
    const fault = "DTLS_BAD_FINISHED";
    this.#state =
      publicKey === undefined
        ? { name: "AwaitFinished", master, fault, isRefused: false, peer: peerInfo(hellos) }
        : { name: "AwaitCertificateVerify", hellos, master, certificates, publicKey };
  }

  #handleCertificateVerify(
    state: StateOf<"AwaitCertificateVerify">,
    body: Uint8Array,
    channel: HandshakeChannel,
  ): void {
    const { hellos, master, certificates, publicKey } = state;
    const { scheme, signature } = decodeCertificateVerify(body);
    const signatureScheme = schemeById(scheme);
    if (signatureScheme === undefined || !this.#options.signatureSchemes.includes(signatureScheme)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "a signature scheme that was not offered");
    }
    if (!verifyWith(signatureScheme, publicKey, channel.transcript.bytesBeforeLast(), signature)) {
      throw new DtlsError("DTLS_BAD_SIGNATURE");
    }
    const [leaf] = certificates;
    if (leaf !== undefined) keepPublicKey(leaf, publicKey);
    this.#state = { name: "AwaitVerdict", hellos, master, certificates, signatureScheme };
    channel.ask({ type: "need-peer-certificate-verification", certificates });
  }

  #handleFinished(state: StateOf<"AwaitFinished">, body: Uint8Array, channel: HandshakeChannel, now: number): void {
    const expected = verifyData(state.master, "client", channel.transcript.hashBeforeLast());
    if (!timingSafeEqual(decodeFinished(body), expected) || state.isRefused) throw new DtlsError(state.fault);
    channel.startFlight();
    channel.addChangeCipherSpec();
    const finished = verifyData(state.master, "server", channel.transcript.hash());
    channel.add(HANDSHAKE_TYPES.finished, encodeFinished(finished), 1);
    channel.sendFlight(now);
    state.master.fill(0);
    this.#state = { name: "Complete" };
    channel.complete(state.peer, true);
  }
}

type ServerState =
  | { readonly name: "AwaitClientHello" }
  | { readonly name: "AwaitCertificate"; readonly hellos: Hellos }
  | {
      readonly name: "AwaitClientKeyExchange";
      readonly hellos: Hellos;
      readonly certificates: readonly Uint8Array[];
      readonly publicKey?: KeyObject;
    }
  | {
      readonly name: "AwaitPsk";
      readonly hellos: Hellos;
      readonly identity: Uint8Array;
      readonly ecdhSecret: Uint8Array | undefined;
    }
  | {
      readonly name: "AwaitCertificateVerify";
      readonly hellos: Hellos;
      readonly master: Uint8Array;
      readonly certificates: readonly Uint8Array[];
      readonly publicKey: KeyObject;
    }
  | {
      readonly name: "AwaitVerdict";
      readonly hellos: Hellos;
      readonly master: Uint8Array;
      readonly certificates: readonly Uint8Array[];
      readonly signatureScheme: SignatureSchemeName;
    }
  | {
      readonly name: "AwaitFinished";
      readonly master: Uint8Array;
      readonly peer: PeerInfo;
      /** What it means when Finished does not verify. */
      readonly fault: DtlsErrorCode;
      /** An unknown identity: no Finished will do. */
      readonly isRefused: boolean;
    }
  | { readonly name: "Complete" };

type StateOf<Name extends ServerState["name"]> = Extract<ServerState, { readonly name: Name }>;

interface Hellos extends Negotiated {
  readonly share?: KeyShare;
  readonly serverName?: string;
  readonly connectionId?: Uint8Array;
}

const EXPECTS: Readonly<Record<ServerState["name"], readonly HandshakeType[] | undefined>> = {
  AwaitClientHello: [HANDSHAKE_TYPES.client_hello],
  AwaitCertificate: [HANDSHAKE_TYPES.certificate],
  AwaitClientKeyExchange: [HANDSHAKE_TYPES.client_key_exchange],
  AwaitPsk: undefined,
  AwaitCertificateVerify: [HANDSHAKE_TYPES.certificate_verify],
  AwaitVerdict: undefined,
  AwaitFinished: [HANDSHAKE_TYPES.finished],
  Complete: undefined,
};

function composeServerHello(hello: ClientHello, hellos: Hellos): Uint8Array {
  const extensions = new Map<number, Uint8Array>();
  const signalsRenegotiation =
    hello.extensions.has(EXTENSION_TYPES.renegotiation_info) ||
    hello.cipherSuites.includes(EMPTY_RENEGOTIATION_INFO_SCSV);
  if (signalsRenegotiation) extensions.set(EXTENSION_TYPES.renegotiation_info, EMPTY_RENEGOTIATION_INFO);
  if (hellos.extendedMasterSecret) extensions.set(EXTENSION_TYPES.extended_master_secret, new Uint8Array(0));
  if (hellos.connectionId !== undefined) {
    extensions.set(EXTENSION_TYPES.connection_id, encodeConnectionId(hellos.connectionId));
  }
  if (hellos.share !== undefined && hello.extensions.has(EXTENSION_TYPES.ec_point_formats)) {
    extensions.set(EXTENSION_TYPES.ec_point_formats, encodePointFormats());
  }
  return encodeServerHello({
    version: DTLS_1_2,
    random: hellos.serverRandom,
    sessionId: new Uint8Array(0),
    cipherSuite: hellos.suite.id,
    compressionMethod: 0,
    extensions,
  });
}

function peerInfo({ suite, extendedMasterSecret, hasConnectionId, serverName }: Hellos): PeerInfo {
  return {
    suite: suite.name,
    extendedMasterSecret,
    hasConnectionId,
    ...(serverName === undefined ? {} : { serverName }),
  };
}

const UNKNOWN_PSK_BYTES = 16;
