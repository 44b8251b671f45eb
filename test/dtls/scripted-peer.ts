import { extendedMasterSecret, keyBlock, pskPremasterSecret, verifyData } from "#dtls/crypto/key-schedule.js";
import { generateKeyShare, type KeyShare } from "#dtls/crypto/key-exchange.js";
import { SIGNATURE_SCHEMES, signWith } from "#dtls/crypto/signatures.js";
import { CIPHER_SUITES } from "#dtls/crypto/suites.js";
import { composeClientHello } from "#dtls/handshake/client-offer.js";
import { Transcript } from "#dtls/handshake/transcript.js";
import { Association, type ClientOptions, type GateAnswer, ServerGate, type ServerOptions } from "#dtls/index.js";
import { resolveClientOptions } from "#dtls/options.js";
import { RecordLayer } from "#dtls/record-layer.js";
import { encodeCertificate } from "#dtls/wire/certificate.js";
import { encodeCertificateRequest } from "#dtls/wire/certificate-request.js";
import { encodeCertificateVerify } from "#dtls/wire/certificate-verify.js";
import { decodeClientHello, encodeClientHello } from "#dtls/wire/client-hello.js";
import { decodeClientKeyExchange, encodeClientKeyExchange } from "#dtls/wire/client-key-exchange.js";
import { EXTENSION_TYPES } from "#dtls/wire/extensions.js";
import { decodeHandshakeFragment, HANDSHAKE_TYPES } from "#dtls/wire/handshake-header.js";
import { encodeHelloVerifyRequest } from "#dtls/wire/hello-verify-request.js";
import { CONTENT_TYPES, decodeRecordHeader, RECORD_HEADER_BYTES } from "#dtls/wire/record.js";
import { decodeServerHello, encodeServerHello } from "#dtls/wire/server-hello.js";
import {
  decodeServerKeyExchange,
  encodeServerEcdhParams,
  encodeServerKeyExchange,
} from "#dtls/wire/server-key-exchange.js";
import { concat } from "#dtls/wire/writer.js";
import { credential } from "./fixtures.js";
import { PSK, TestEnd } from "./pair.js";
import { wholeMessage } from "./rogue.js";

const T = HANDSHAKE_TYPES;
const NONE = new Uint8Array(0);

/** Sends messages in any order it is told, each as right as it can be there: its keys, signatures and hashes are its own. */
abstract class ScriptedPeer {
  readonly end: TestEnd;
  protected readonly records: RecordLayer = new RecordLayer();
  protected readonly transcript: Transcript = new Transcript();
  protected master: Uint8Array | undefined;
  protected share: KeyShare | undefined;
  protected clientRandom: Uint8Array = NONE;
  protected serverRandom: Uint8Array = NONE;
  readonly #role: "client" | "server";
  /** A message was dropped: as its number does not come again, nothing after it is ever looked at. */
  hasGap = false;
  readonly #seen = new Set<number>();
  #nextSeq = 0;

  constructor(role: "client" | "server", end: TestEnd) {
    this.#role = role;
    this.end = end;
  }

  get hasCompleted(): boolean {
    return this.end.connected > 0;
  }

  get isOver(): boolean {
    return this.end.closed !== undefined;
  }

  changeCipherSpec(): void {
    this.#deliver(this.records.seal(0, CONTENT_TYPES.changeCipherSpec, Uint8Array.of(1)));
  }

  finished(): void {
    const verify = verifyData(this.master ?? new Uint8Array(48), this.#role, this.transcript.hash());
    this.message(T.finished, verify, this.master === undefined ? 0 : 1);
  }

  protected message(type: number, body: Uint8Array, epoch: 0 | 1 = 0, doesCount = true): void {
    const messageSeq = this.#nextSeq++;
    if (doesCount) this.transcript.add({ type, messageSeq, body });
    const before = this.#dropped();
    this.#deliver(this.records.seal(epoch, CONTENT_TYPES.handshake, wholeMessage(type, messageSeq, body)));
    if (this.#dropped() > before) this.hasGap = true;
  }

  /** The extended master secret: the transcript ends with ClientKeyExchange. */
  protected agree(ecdhSecret: Uint8Array | undefined, usesPsk: boolean): void {
    if (this.master !== undefined) return;
    const premaster = usesPsk ? pskPremasterSecret(PSK.key, ecdhSecret) : (ecdhSecret ?? NONE);
    this.master = extendedMasterSecret(premaster, this.transcript.hash());
    this.records.installKeys("AES_128_CCM_8", keyBlock(this.master, this.clientRandom, this.serverRandom), this.#role);
  }

  protected abstract heard(type: number, body: Uint8Array): void;

  /** What the end has sent, message by message; each in the transcript before it is `heard`. */
  protected listen(): void {
    for (let bytes = this.end.pollDatagram(0); bytes !== undefined; bytes = this.end.pollDatagram(0)) {
      for (let offset = 0; offset < bytes.length;) {
        const header = decodeRecordHeader(bytes, offset);
        if ("drop" in header) break;
        const fragment = bytes.subarray(offset + RECORD_HEADER_BYTES, offset + RECORD_HEADER_BYTES + header.length);
        offset += RECORD_HEADER_BYTES + header.length;
        if (header.type !== CONTENT_TYPES.handshake) continue;
        const plaintext = header.epoch === 0 ? fragment : this.records.open(header, fragment);
        if (typeof plaintext === "string") continue;
        const message = decodeHandshakeFragment(plaintext, 0);
        if (message === undefined || this.#seen.has(message.messageSeq)) continue;
        this.#seen.add(message.messageSeq);
        this.transcript.add({ ...message, body: message.fragment });
        this.heard(message.type, message.fragment);
      }
    }
  }

  #dropped(): number {
    const dropped = this.end.association?.counters.dropped ?? {};
    return (dropped["plaintext-not-allowed"] ?? 0) + (dropped["unexpected-message"] ?? 0);
  }

  #deliver(record: Uint8Array): void {
    this.end.handleDatagram(record, 0);
    this.listen();
  }
}

/** Demands no cookie. */
class OpenGate extends ServerGate {
  override handleDatagram(datagram: Uint8Array, peerAddress: Uint8Array, now: number): GateAnswer {
    return super.handleDatagram(datagram, peerAddress, now, false);
  }
}

export class ScriptedClient extends ScriptedPeer {
  readonly #usesPsk: boolean;
  readonly #hello: Uint8Array;

  constructor(server: ServerOptions, client: ClientOptions) {
    const gate = new OpenGate({ ...server, mtuBytes: 65_535, connectionId: false, sessionTickets: false });
    super("client", new TestEnd({ gate }));
    this.#usesPsk = client.psk !== undefined;
    const options = resolveClientOptions({ ...client, sessionTickets: false });
    const hello = composeClientHello(options, undefined, undefined);
    this.clientRandom = hello.random;
    this.#hello = encodeClientHello(hello);
    this.message(T.client_hello, this.#hello);
  }

  clientHello(): void {
    this.message(T.client_hello, this.#hello);
  }

  certificate(): void {
    this.message(T.certificate, encodeCertificate(credential("client").chain));
  }

  clientKeyExchange(): void {
    const ownShare = this.#usesPsk ? undefined : (this.#ownShare ??= generateKeyShare("secp256r1"));
    const body = ownShare === undefined ? { pskIdentity: PSK.identity } : { publicKey: ownShare.publicKey };
    this.message(T.client_key_exchange, encodeClientKeyExchange(body));
    const peers = this.#peersPublicKey;
    this.agree(peers === undefined ? undefined : ownShare?.sharedSecret(peers), this.#usesPsk);
  }

  certificateVerify(): void {
    const scheme = "ecdsa_secp256r1_sha256";
    const signature = signWith(scheme, credential("client").privateKey, this.transcript.bytes());
    this.message(T.certificate_verify, encodeCertificateVerify({ scheme: SIGNATURE_SCHEMES[scheme].id, signature }));
  }

  #ownShare: KeyShare | undefined;
  #peersPublicKey: Uint8Array | undefined;

  protected override heard(type: number, body: Uint8Array): void {
    if (type === T.server_hello) this.serverRandom = Uint8Array.from(decodeServerHello(body).random);
    if (type !== T.server_key_exchange) return;
    const { params } = decodeServerKeyExchange(body, this.#usesPsk ? "psk" : "ecdhe_ecdsa");
    this.#peersPublicKey = params && Uint8Array.from(params.publicKey);
  }
}

export class ScriptedServer extends ScriptedPeer {
  readonly #usesPsk: boolean;
  #clientsSecret: Uint8Array | undefined;
  hasClientKeyExchange = false;

  constructor(client: ClientOptions) {
    const association = Association.connect(
      { ...client, mtuBytes: 65_535, connectionId: false, sessionTickets: false },
      0,
    );
    super("server", new TestEnd({ client: association }));
    this.#usesPsk = client.psk !== undefined;
    this.serverRandom = new Uint8Array(32).fill(9);
    this.listen();
  }

  helloVerifyRequest(): void {
    // It does not count, nor does the ClientHello before it; the next one does.
    this.transcript.clear();
    this.message(
      T.hello_verify_request,
      encodeHelloVerifyRequest({ version: 0xfeff, cookie: Uint8Array.of(1) }),
      0,
      false,
    );
  }

  serverHello(): void {
    const suite = this.#usesPsk ? "TLS_PSK_WITH_AES_128_CCM_8" : "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8";
    const extensions = new Map([[EXTENSION_TYPES.extended_master_secret, NONE]]);
    const hello = {
      version: 0xfefd,
      random: this.serverRandom,
      sessionId: NONE,
      cipherSuite: CIPHER_SUITES[suite].id,
      compressionMethod: 0,
      extensions,
    };
    this.message(T.server_hello, encodeServerHello(hello));
  }

  certificate(): void {
    this.message(T.certificate, encodeCertificate(credential("p256").chain));
  }

  serverKeyExchange(): void {
    if (this.#usesPsk) {
      this.message(T.server_key_exchange, encodeServerKeyExchange({ pskIdentityHint: Uint8Array.of(104) }));
      return;
    }
    this.share ??= generateKeyShare("secp256r1");
    const params = { group: 23, publicKey: this.share.publicKey };
    const content = concat(this.clientRandom, this.serverRandom, encodeServerEcdhParams(params));
    const scheme = "ecdsa_secp256r1_sha256";
    const signature = signWith(scheme, credential("p256").privateKey, content);
    const signed = { scheme: SIGNATURE_SCHEMES[scheme].id, signature };
    this.message(T.server_key_exchange, encodeServerKeyExchange({ params, signature: signed }));
  }

  certificateRequest(): void {
    const request = {
      certificateTypes: [64],
      signatureSchemes: [SIGNATURE_SCHEMES.ecdsa_secp256r1_sha256.id],
      certificateAuthorities: [],
    };
    this.message(T.certificate_request, encodeCertificateRequest(request));
  }

  serverHelloDone(): void {
    this.message(T.server_hello_done, NONE);
  }

  /** The last flight, to a client that has sent its own. Its Finished is in the transcript. */
  finish(): void {
    this.changeCipherSpec();
    this.finished();
  }

  protected override heard(type: number, body: Uint8Array): void {
    if (type === T.client_hello) this.clientRandom = Uint8Array.from(decodeClientHello(body).random);
    if (type !== T.client_key_exchange) return;
    this.hasClientKeyExchange = true;
    const { publicKey } = decodeClientKeyExchange(body, this.#usesPsk ? "psk" : "ecdhe_ecdsa");
    this.#clientsSecret = publicKey === undefined ? undefined : this.share?.sharedSecret(publicKey);
    this.agree(this.#clientsSecret, this.#usesPsk);
  }
}
