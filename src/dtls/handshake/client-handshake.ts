import { type KeyObject, timingSafeEqual } from "node:crypto";
import type { CertificateVerdict, PeerInfo } from "../association-output.js";
import { keepPublicKey, publicKeyOf } from "../crypto/certificate-key.js";
import { generateKeyShare, groupById, GROUPS } from "../crypto/key-exchange.js";
import { verifyData } from "../crypto/key-schedule.js";
import {
  keyTypeOf,
  schemeById,
  schemeServesKey,
  SIGNATURE_SCHEMES,
  type SignatureSchemeName,
  signWith,
  verifyWith,
} from "../crypto/signatures.js";
import { suiteById, suiteByName, usesCertificate, usesEcdhe, usesPsk } from "../crypto/suites.js";
import { DtlsError, type DtlsErrorCode } from "../errors.js";
import { ownConnectionId, type ResolvedClientOptions } from "../options.js";
import { encodeCertificate, decodeCertificate } from "../wire/certificate.js";
import { decodeCertificateRequest } from "../wire/certificate-request.js";
import { encodeCertificateVerify } from "../wire/certificate-verify.js";
import { type ClientHello, encodeClientHello, RANDOM_BYTES } from "../wire/client-hello.js";
import { encodeClientKeyExchange } from "../wire/client-key-exchange.js";
import {
  decodeConnectionId,
  decodePointFormats,
  EMPTY_RENEGOTIATION_INFO,
  encodeConnectionId,
  encodeIdList,
  encodePointFormats,
  encodeServerName,
  EXTENSION_TYPES,
  isEmptyRenegotiationInfo,
  UNCOMPRESSED_POINT,
} from "../wire/extensions.js";
import { decodeFinished, encodeFinished } from "../wire/finished.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "../wire/handshake-header.js";
import { decodeHelloVerifyRequest } from "../wire/hello-verify-request.js";
import { DTLS_1_2 } from "../wire/record.js";
import { ByteReader } from "../wire/reader.js";
import { decodeServerHello, type ServerHello } from "../wire/server-hello.js";
import {
  decodeServerKeyExchange,
  encodeServerEcdhParams,
  type ServerKeyExchange,
} from "../wire/server-key-exchange.js";
import { concat, copyOf } from "../wire/writer.js";
import type { HandshakeChannel, HandshakeMachine } from "./handshake-driver.js";
import { agreeOnKeys, type Negotiated } from "./key-agreement.js";
import type { HandshakeMessage } from "./reassembly.js";

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
 *                        ←  ChangeCipherSpec, Finished
 * ```
 */
export class ClientHandshake implements HandshakeMachine {
  readonly #options: ResolvedClientOptions;
  readonly #hello: ClientHello;
  readonly #connectionId: Uint8Array | undefined;
  #state: ClientState = { name: "AwaitServerHello", helloVerifyRequests: 0 };

  /** @throws DtlsError DTLS_BAD_OPTION */
  constructor(options: ResolvedClientOptions) {
    this.#options = options;
    this.#connectionId = options.connectionId === false ? undefined : ownConnectionId(options.connectionId);
    this.#hello = composeClientHello(options, this.#connectionId);
  }

  get expects(): readonly HandshakeType[] | undefined {
    return EXPECTS[this.#state.name];
  }

  get finishedFault(): DtlsErrorCode {
    const state = this.#state;
    return state.name === "AwaitFinished" && state.peer.pskIdentity !== undefined
      ? "DTLS_WRONG_PSK"
      : "DTLS_BAD_FINISHED";
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
      case "AwaitFinished":
        this.#handleFinished(state, body, channel);
        return;
      case "AwaitVerdict":
      case "Complete":
        return;
    }
  }

  /** A client has its key in its options. */
  answerPsk(): void {
    return;
  }

  answerPeerCertificate(verdict: CertificateVerdict, channel: HandshakeChannel, now: number): void {
    const state = this.#state;
    if (state.name !== "AwaitVerdict" || !verdict.ok) return;
    this.#sendSecondFlight(state.server, channel, now);
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
    this.#checkExtensions(hello);
    const peersConnectionId = hello.extensions.get(EXTENSION_TYPES.connection_id);
    if (peersConnectionId !== undefined && this.#connectionId !== undefined) {
      channel.useConnectionIds(this.#connectionId, decodeConnectionId(peersConnectionId));
    }
    const server: ServerFlight = {
      hasConnectionId: peersConnectionId !== undefined && (this.#connectionId?.length ?? 0) > 0,
      suite,
      clientRandom: this.#hello.random,
      serverRandom: copyOf(hello.random),
      extendedMasterSecret: hello.extensions.has(EXTENSION_TYPES.extended_master_secret),
    };
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

  #checkExtensions({ extensions }: ServerHello): void {
    for (const type of extensions.keys()) {
      if (!this.#hello.extensions.has(type)) throw new DtlsError("DTLS_UNSUPPORTED_EXTENSION", String(type));
    }
    const renegotiation = extensions.get(EXTENSION_TYPES.renegotiation_info);
    if (renegotiation !== undefined && !isEmptyRenegotiationInfo(renegotiation)) {
      throw new DtlsError("DTLS_INSECURE_RENEGOTIATION");
    }
    const secret = extensions.get(EXTENSION_TYPES.extended_master_secret);
    if (secret !== undefined && secret.length > 0) throw new DtlsError("DTLS_DECODE_ERROR", "extended_master_secret");
    if (secret === undefined && this.#options.requireExtendedMasterSecret) {
      throw new DtlsError("DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
    }
    const formats = extensions.get(EXTENSION_TYPES.ec_point_formats);
    if (formats !== undefined && !decodePointFormats(formats).includes(UNCOMPRESSED_POINT)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "ec_point_formats");
    }
  }

  #handleCertificate(server: ServerFlight, body: Uint8Array): void {
    const certificates = decodeCertificate(body);
    const leaf = certificates[0];
    if (leaf === undefined) throw new DtlsError("DTLS_DECODE_ERROR", "a server without a certificate");
    const publicKey = publicKeyOf(leaf);
    const type = keyTypeOf(publicKey);
    const isRsaSuite = server.suite.keyExchange === "ecdhe_rsa";
    if (type === undefined || (type === "rsa") !== isRsaSuite) throw new DtlsError("DTLS_UNSUPPORTED_CERTIFICATE");
    this.#state = { name: "AwaitServerKeyExchange", server: { ...server, certificates, publicKey } };
  }

  #handleServerKeyExchange(server: ServerFlight, body: Uint8Array): void {
    const { suite } = server;
    const message = decodeServerKeyExchange(body, suite.keyExchange);
    const known: ServerFlight =
      message.params === undefined ? server : { ...server, params: this.#checkedParams(message) };
    if (!usesCertificate(suite)) {
      this.#state = { name: "AwaitDone", server: known };
      return;
    }
    const signatureScheme = this.#checkSignature(known, message);
    this.#state = { name: "AwaitCertificateRequestOrDone", server: { ...known, signatureScheme } };
  }

  #checkedParams({ params }: ServerKeyExchange): EcdhParams {
    const group = params === undefined ? undefined : groupById(params.group);
    if (params === undefined || group === undefined || !this.#options.groups.includes(group)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "a group that was not offered");
    }
    return { group, publicKey: copyOf(params.publicKey) };
  }

  /** RFC 8422 §5.4: over both randoms and the parameters. */
  #checkSignature(server: ServerFlight, { params, signature }: ServerKeyExchange): SignatureSchemeName {
    const scheme = signature === undefined ? undefined : schemeById(signature.scheme);
    if (signature === undefined || scheme === undefined || !this.#options.signatureSchemes.includes(scheme)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "a signature scheme that was not offered");
    }
    if (params === undefined || server.publicKey === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR");
    const content = concat(server.clientRandom, server.serverRandom, encodeServerEcdhParams(params));
    if (!verifyWith(scheme, server.publicKey, content, signature.signature)) throw new DtlsError("DTLS_BAD_SIGNATURE");
    const leaf = server.certificates?.[0];
    if (leaf !== undefined) keepPublicKey(leaf, server.publicKey);
    return scheme;
  }

  #handleCertificateRequest(server: ServerFlight, body: Uint8Array): void {
    const { signatureSchemes } = decodeCertificateRequest(body);
    this.#state = { name: "AwaitDone", server: { ...server, requestedSchemes: signatureSchemes } };
  }

  #handleServerHelloDone(server: ServerFlight, body: Uint8Array, channel: HandshakeChannel, now: number): void {
    new ByteReader(body).end();
    if (server.certificates === undefined) {
      this.#sendSecondFlight(server, channel, now);
      return;
    }
    this.#state = { name: "AwaitVerdict", server };
    channel.ask({ type: "need-peer-certificate-verification", certificates: server.certificates });
  }

  #sendSecondFlight(server: ServerFlight, channel: HandshakeChannel, now: number): void {
    const { suite, params } = server;
    const { certificate, psk } = this.#options;
    channel.startFlight();
    const scheme = this.#addCertificate(server, channel);
    const share = params === undefined ? undefined : generateKeyShare(params.group);
    const ecdhSecret = params === undefined ? undefined : share?.sharedSecret(params.publicKey);
    const identity = usesPsk(suite) ? psk?.identity : undefined;
    const keyExchange = {
      ...(identity === undefined ? {} : { pskIdentity: identity }),
      ...(share === undefined ? {} : { publicKey: share.publicKey }),
    };
    channel.add(HANDSHAKE_TYPES.client_key_exchange, encodeClientKeyExchange(keyExchange));
    const master = agreeOnKeys(server, { psk: psk?.key, ecdhSecret }, channel);
    if (scheme !== undefined && certificate !== undefined) {
      const signature = signWith(scheme, certificate.privateKey, channel.transcript.bytes());
      const signed = { scheme: SIGNATURE_SCHEMES[scheme].id, signature };
      channel.add(HANDSHAKE_TYPES.certificate_verify, encodeCertificateVerify(signed));
    }
    channel.addChangeCipherSpec();
    const finished = verifyData(master, "client", channel.transcript.hash());
    channel.add(HANDSHAKE_TYPES.finished, encodeFinished(finished), 1);
    channel.allowChangeCipherSpec();
    channel.sendFlight(now);
    this.#state = { name: "AwaitFinished", master, peer: peerInfo(server, identity) };
  }

  /** If asked, a Certificate: ours, or an empty one when none serves (RFC 5246 §7.4.6). The scheme to sign by. */
  #addCertificate(server: ServerFlight, channel: HandshakeChannel): SignatureSchemeName | undefined {
    const requested = server.requestedSchemes;
    if (requested === undefined) return undefined;
    const { certificate, signatureSchemes } = this.#options;
    const scheme =
      certificate &&
      signatureSchemes.find(
        (name) => requested.includes(SIGNATURE_SCHEMES[name].id) && schemeServesKey(name, certificate.privateKey),
      );
    const chain = scheme === undefined ? [] : (certificate?.chain ?? []);
    channel.add(HANDSHAKE_TYPES.certificate, encodeCertificate(chain));
    return scheme;
  }

  #handleFinished(state: StateOf<"AwaitFinished">, body: Uint8Array, channel: HandshakeChannel): void {
    const expected = verifyData(state.master, "server", channel.transcript.hashBeforeLast());
    if (!timingSafeEqual(decodeFinished(body), expected)) throw new DtlsError("DTLS_BAD_FINISHED");
    state.master.fill(0);
    this.#state = { name: "Complete" };
    channel.complete(state.peer, false);
  }
}

type ClientState =
  | { readonly name: "AwaitServerHello"; readonly helloVerifyRequests: number }
  | {
      readonly name:
        | "AwaitCertificate"
        | "AwaitServerKeyExchange"
        | "AwaitServerKeyExchangeOrDone"
        | "AwaitCertificateRequestOrDone"
        | "AwaitDone"
        | "AwaitVerdict";
      readonly server: ServerFlight;
    }
  | { readonly name: "AwaitFinished"; readonly master: Uint8Array; readonly peer: PeerInfo }
  | { readonly name: "Complete" };

type StateOf<Name extends ClientState["name"]> = Extract<ClientState, { readonly name: Name }>;

/** What the server's flight has told so far. */
interface ServerFlight extends Negotiated {
  readonly certificates?: readonly Uint8Array[];
  readonly publicKey?: KeyObject;
  readonly params?: EcdhParams;
  readonly signatureScheme?: SignatureSchemeName;
  readonly requestedSchemes?: readonly number[];
}

interface EcdhParams {
  readonly group: keyof typeof GROUPS;
  readonly publicKey: Uint8Array;
}

const EXPECTS: Readonly<Record<ClientState["name"], readonly HandshakeType[] | undefined>> = {
  AwaitServerHello: [HANDSHAKE_TYPES.server_hello, HANDSHAKE_TYPES.hello_verify_request],
  AwaitCertificate: [HANDSHAKE_TYPES.certificate],
  AwaitServerKeyExchange: [HANDSHAKE_TYPES.server_key_exchange],
  AwaitServerKeyExchangeOrDone: [HANDSHAKE_TYPES.server_key_exchange, HANDSHAKE_TYPES.server_hello_done],
  AwaitCertificateRequestOrDone: [HANDSHAKE_TYPES.certificate_request, HANDSHAKE_TYPES.server_hello_done],
  AwaitDone: [HANDSHAKE_TYPES.server_hello_done],
  AwaitVerdict: undefined,
  AwaitFinished: [HANDSHAKE_TYPES.finished],
  Complete: undefined,
};

function composeClientHello(options: ResolvedClientOptions, connectionId: Uint8Array | undefined): ClientHello {
  const suites = options.cipherSuites.map(suiteByName).filter((suite) => !usesPsk(suite) || options.psk !== undefined);
  if (suites.length === 0) throw new DtlsError("DTLS_BAD_OPTION", "cipherSuites: none is usable with the credentials");
  const random = options.random(RANDOM_BYTES);
  if (random.length !== RANDOM_BYTES || random.every((byte) => byte === 0)) {
    throw new DtlsError("DTLS_BAD_OPTION", "random: gives no random bytes");
  }
  const extensions = new Map<number, Uint8Array>();
  if (options.serverName !== undefined) {
    extensions.set(EXTENSION_TYPES.server_name, encodeServerName(options.serverName));
  }
  extensions.set(EXTENSION_TYPES.renegotiation_info, EMPTY_RENEGOTIATION_INFO);
  extensions.set(EXTENSION_TYPES.extended_master_secret, new Uint8Array(0));
  if (connectionId !== undefined) extensions.set(EXTENSION_TYPES.connection_id, encodeConnectionId(connectionId));
  if (suites.some(usesEcdhe)) {
    extensions.set(EXTENSION_TYPES.supported_groups, encodeIdList(options.groups.map((group) => GROUPS[group].id)));
    extensions.set(EXTENSION_TYPES.ec_point_formats, encodePointFormats());
  }
  if (suites.some(usesCertificate)) {
    const ids = options.signatureSchemes.map((scheme) => SIGNATURE_SCHEMES[scheme].id);
    extensions.set(EXTENSION_TYPES.signature_algorithms, encodeIdList(ids));
  }
  return {
    version: DTLS_1_2,
    random,
    sessionId: new Uint8Array(0),
    cookie: new Uint8Array(0),
    cipherSuites: suites.map((suite) => suite.id),
    compressionMethods: [0],
    extensions,
  };
}

function peerInfo(server: ServerFlight, pskIdentity: Uint8Array | undefined): PeerInfo {
  const { certificates, signatureScheme } = server;
  return {
    suite: server.suite.name,
    extendedMasterSecret: server.extendedMasterSecret,
    hasConnectionId: server.hasConnectionId,
    ...(pskIdentity === undefined ? {} : { pskIdentity }),
    ...(certificates === undefined ? {} : { certificates }),
    ...(signatureScheme === undefined ? {} : { signatureScheme }),
  };
}

/** Cookies may expire on the way, but not for ever. */
const MAX_HELLO_VERIFY_REQUESTS = 3;
