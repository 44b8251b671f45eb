import { type KeyObject, randomBytes } from "node:crypto";
import type { DropReason } from "./association-output.js";
import type { GroupName } from "./crypto/key-exchange.js";
import type { SignatureSchemeName } from "./crypto/signatures.js";
import { CIPHER_SUITE_NAMES, type CipherSuiteName } from "./crypto/suites.js";
import { DtlsError } from "./errors.js";
import { SharedKeys } from "./shared-keys.js";
import type { CertificateType } from "./wire/certificate-type.js";
import { MAX_PLAINTEXT_BYTES } from "./wire/record.js";
import { LEAST_RECORD_SIZE_LIMIT, type MaxFragmentLength } from "./wire/record-limits.js";

/** What both roles can be told. */
export interface CommonOptions {
  /** In order of preference; those that the credentials given cannot serve are left out. Default: all, certificates first. */
  readonly cipherSuites?: readonly CipherSuiteName[];
  /** For ECDHE, in order of preference. Default: secp256r1 (RFC 7925 §4.4), x25519, secp384r1. */
  readonly groups?: readonly GroupName[];
  /** Made and accepted, in order of preference. Default: all. */
  readonly signatureSchemes?: readonly SignatureSchemeName[];
  /** Our own: DER, leaf first, and the leaf's private key (EC P-256 or P-384, RSA, Ed25519). Default: none. */
  readonly certificate?: CertificateCredential;
  /** Our own key pair without a certificate (RFC 7250): EC P-256 or P-384, RSA, Ed25519. Default: none. */
  readonly rawPublicKey?: { readonly privateKey: KeyObject };
  /** What a peer may show, in order of preference. Default: X.509 only. */
  readonly peerCertificateTypes?: readonly CertificateType[];
  /** Offered or taken by ALPN (RFC 7301), in order of preference; CoAP's is "coap". Default: none, ALPN is not used. */
  readonly applicationProtocols?: readonly string[];
  /**
   * The longest plaintext of a protected record that we take (RFC 8449); longer ones are dropped. Default: a client does
   * not limit it, a server answers 16,384. Range 64–16,384.
   */
  readonly recordSizeLimitBytes?: number;
  /** Give the output `save` whenever the state must be kept to outlive a restart. Default false. */
  readonly isSaved?: boolean;
  /** Keep what `exportKeyingMaterial` needs, 112 bytes an association. Default false. */
  readonly exporter?: boolean;
  /** Client: ask for session tickets. Server: issue them, and take them (RFC 5077). Default true. */
  readonly sessionTickets?: boolean;
  /**
   * Path MTU in bytes, IP and UDP headers included: datagrams are at most 48 bytes shorter. Default 1280, range
   * 128–65535. Too high: datagrams are fragmented by IP, or lost; too low: large flights in many datagrams.
   */
  readonly mtuBytes?: number;
  /** First retransmission timeout in ms; doubles with each. Default 1000 (RFC 6347 §4.2.4.1). Low: needless repeats. */
  readonly initialRetransmitMs?: number;
  /** Where the doubling ends, in ms. Default 60,000. */
  readonly maxRetransmitMs?: number;
  /** How many times one flight is sent again. Default 7. */
  readonly maxRetransmissions?: number;
  /** A handshake not complete after this many ms is given up. Default 60,000. High: stalled handshakes hold memory. */
  readonly handshakeTimeoutMs?: number;
  /** Bytes of unprocessed handshake messages held, and so the longest message taken. Default 8192. */
  readonly maxReassemblyBytes?: number;
  /** Bytes of records held that arrive before their keys, or data before Finished. Default 4096. */
  readonly maxEarlyRecordBytes?: number;
  /**
   * Our own connection identifier (RFC 9146), asked for once an association, by which the peer's records find us: at most
   * 255 bytes; empty when records shall come without. None may be the beginning of another's: of one length they never are.
   * An endpoint asks again for one that a session has, 100 times at most, and fails the handshake then. Default: a client's is empty, a server's 6 random bytes. False: the
   * extension is not used, and a changed address loses the association.
   */
  readonly connectionId?: (() => Uint8Array) | false;
  /**
   * Records that carry a connection identifier are padded to multiples of this many bytes, against the analysis of their
   * lengths (RFC 9146 §4). Default 1: no padding. Range 1–256.
   */
  readonly paddingBlockBytes?: number;
  /**
   * How a peer that sends from a new address proves that it receives there (RFC 9853), where both sides can, and we issue
   * connection identifiers. "basic": the new address is asked. "enhanced": the old address is asked first, so that nobody
   * takes a peer's place who only hands its datagrams on faster. "none": the newest authentic record is believed. Default
   * "basic". In a client "basic" and "enhanced" also answer the server's question.
   */
  readonly returnRoutabilityCheck?: "none" | "basic" | "enhanced";
  /**
   * How long an address is asked, in ms, once a second. Default 5000. Range 1–60,000. Low: slow peers stay at their old
   * address; high: large answers wait longer for a peer that is not there. Differs from RFC 9853 §5.5, whose 1 s is less
   * than a round trip over NB-IoT.
   */
  readonly pathValidationTimeoutMs?: number;
  /** Bytes of data that wait until a new address is validated; more are dropped. Default 16,384. */
  readonly maxHeldPathBytes?: number;
  /**
   * Records of one association that fail to verify in a second; the others of that second are then dropped unopened.
   * Default 1000, some 5 ms of work. Low: whoever can forge a peer's address or identifier can silence it.
   */
  readonly maxMacFailuresPerSecond?: number;
  /** Told of each record that an association drops; also counted in `counters`. Must be quick: anybody can cause it. */
  readonly onDrop?: (reason: DropReason) => void;
  /** Refuse peers without RFC 7627. Default false. */
  readonly requireExtendedMasterSecret?: boolean;
  /** A cryptographic source. Default: that of node:crypto. */
  readonly random?: (size: number) => Uint8Array;
}

export interface ClientOptions extends CommonOptions {
  /** Offered with the PSK suites. Identity at most 65,535 bytes, key 1–65,535. Default: none. */
  readonly psk?: { readonly identity: Uint8Array; readonly key: Uint8Array };
  /** Sent as server_name (RFC 6066 §3): a DNS name, no address literal. Default: not sent. */
  readonly serverName?: string;
  /** Sent as max_fragment_length (RFC 6066 §4). Default: not sent. */
  readonly maxFragmentLengthBytes?: MaxFragmentLength;
  /**
   * The state of an earlier `session` output with this server, to be resumed; a server that does not know it any more
   * makes a full handshake of it. Not used if the key or name differ from then. Default: none.
   */
  readonly session?: Uint8Array;
}

export interface ServerOptions extends CommonOptions {
  /** Take PSK suites, and ask for keys by `need-psk`. Default false. */
  readonly pskEnabled?: boolean;
  /** psk_identity_hint (RFC 4279 §5.2). Default: none. */
  readonly pskIdentityHint?: Uint8Array;
  /** With the certificate suites: whether the client is asked for a certificate, and may decline. Default none. */
  readonly clientCertificate?: "none" | "request" | "require";
  /** Distinguished names (DER) sent in CertificateRequest. Default: none, any authority. */
  readonly certificateAuthorities?: readonly Uint8Array[];
  /** Cookies are taken for one to two of these, in ms. Default 30,000. Low: slow clients never get in. */
  readonly cookieLifetimeMs?: number;
  /** The source of the keys of cookies and tickets. Default: a secret of this gate's own. */
  readonly sharedKeys?: SharedKeys;
  /** Give sessions identifiers, and ask for them by `need-session`. Default false. */
  readonly sessionCache?: boolean;
  /**
   * How long a session can be resumed after its full handshake, or its last renewal; a ticket that is resumed past half of
   * it is renewed. Default 86,400. Range 1–604,800.
   */
  readonly sessionLifetimeSeconds?: number;
  /**
   * How long renewals can go on after the full handshake, whose secret they keep in use. Default 604,800, which is also the
   * most that TLS 1.3 allows (RFC 8446 §4.6.1). Range 1–604,800; up to `sessionLifetimeSeconds` nothing is renewed.
   */
  readonly maxSessionAgeSeconds?: number;
}

export interface CertificateCredential {
  readonly chain: readonly Uint8Array[];
  readonly privateKey: KeyObject;
}

export type ResolvedClientOptions = ClientOptions & Required<Defaults> & Required<Pick<CommonOptions, "connectionId">>;
export type ResolvedServerOptions = ServerOptions &
  Required<Defaults> &
  Required<ServerDefaults> &
  Required<Pick<ServerOptions, "connectionId" | "sharedKeys">>;

type Defaults = Omit<
  CommonOptions,
  "onDrop" | "certificate" | "rawPublicKey" | "recordSizeLimitBytes" | "connectionId"
>;
type ServerDefaults = Pick<
  ServerOptions,
  | "pskEnabled"
  | "clientCertificate"
  | "certificateAuthorities"
  | "cookieLifetimeMs"
  | "sessionCache"
  | "sessionLifetimeSeconds"
  | "maxSessionAgeSeconds"
>;

/** All defaults. */
export const DTLS_DEFAULTS: Required<Defaults> & Required<ServerDefaults> = {
  cipherSuites: CIPHER_SUITE_NAMES,
  groups: ["secp256r1", "x25519", "secp384r1"],
  signatureSchemes: [
    "ecdsa_secp256r1_sha256",
    "ecdsa_secp384r1_sha384",
    "ed25519",
    "rsa_pss_rsae_sha256",
    "rsa_pkcs1_sha256",
  ],
  peerCertificateTypes: ["X.509"],
  applicationProtocols: [],
  isSaved: false,
  exporter: false,
  sessionTickets: true,
  mtuBytes: 1280,
  initialRetransmitMs: 1000,
  maxRetransmitMs: 60_000,
  maxRetransmissions: 7,
  handshakeTimeoutMs: 60_000,
  maxReassemblyBytes: 8192,
  maxEarlyRecordBytes: 4096,
  paddingBlockBytes: 1,
  returnRoutabilityCheck: "basic",
  pathValidationTimeoutMs: 5000,
  maxHeldPathBytes: 16_384,
  maxMacFailuresPerSecond: 1000,
  requireExtendedMasterSecret: false,
  random: (size) => randomBytes(size),
  pskEnabled: false,
  clientCertificate: "none",
  certificateAuthorities: [],
  cookieLifetimeMs: 30_000,
  sessionCache: false,
  sessionLifetimeSeconds: 86_400,
  maxSessionAgeSeconds: 604_800,
};

/** IPv6 and UDP headers: what a datagram must be shorter than the path MTU. */
export const IP_UDP_HEADER_BYTES = 48;

/** @throws DtlsError DTLS_BAD_OPTION */
export function resolveClientOptions(options: ClientOptions): ResolvedClientOptions {
  const resolved = { ...DTLS_DEFAULTS, connectionId: () => new Uint8Array(0), ...given(options) };
  checkCommon(resolved);
  const psk = resolved.psk;
  if (psk !== undefined && (psk.key.length === 0 || psk.key.length > 0xffff || psk.identity.length > 0xffff)) {
    throw new DtlsError("DTLS_BAD_OPTION", "psk: a key of 1 to 65535 bytes, an identity of at most 65535");
  }
  return resolved;
}

/** @throws DtlsError DTLS_BAD_OPTION */
export function resolveServerOptions(options: ServerOptions): ResolvedServerOptions {
  const random = options.random ?? DTLS_DEFAULTS.random;
  const resolved = {
    ...DTLS_DEFAULTS,
    connectionId: () => random(CONNECTION_ID_BYTES),
    sharedKeys: options.sharedKeys ?? new SharedKeys(random(SECRET_BYTES)),
    ...given(options),
  };
  checkCommon(resolved);
  if (!resolved.pskEnabled && resolved.certificate === undefined && resolved.rawPublicKey === undefined) {
    throw new DtlsError("DTLS_BAD_OPTION", "a server needs a certificate, a rawPublicKey, pskEnabled, or several");
  }
  for (const name of ["sessionLifetimeSeconds", "maxSessionAgeSeconds"] as const) {
    if (!(resolved[name] >= 1 && resolved[name] <= 604_800)) {
      throw new DtlsError("DTLS_BAD_OPTION", `${name}: 1 to 604800`);
    }
  }
  if (!(resolved.cookieLifetimeMs > 0)) throw new DtlsError("DTLS_BAD_OPTION", "cookieLifetimeMs: above 0");
  return resolved;
}

/** Without what is undefined, which is as good as absent: it would take the place of a default, and a limit would be none. */
function given<Options extends object>(options: Options): Options {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Options;
}

/** One of a server's own, by default. */
const CONNECTION_ID_BYTES = 6;
const SECRET_BYTES = 32;

/** Our own connection identifier for one association. @throws DtlsError DTLS_BAD_OPTION */
export function ownConnectionId(make: () => Uint8Array): Uint8Array {
  const connectionId = make();
  if (connectionId.length > 255) throw new DtlsError("DTLS_BAD_OPTION", "connectionId: at most 255 bytes");
  return connectionId;
}

function checkCommon(options: Required<Defaults> & Pick<CommonOptions, "certificate" | "recordSizeLimitBytes">): void {
  if (!(options.mtuBytes >= 128 && options.mtuBytes <= 65_535)) {
    throw new DtlsError("DTLS_BAD_OPTION", "mtuBytes: 128 to 65535");
  }
  if (!(options.maxMacFailuresPerSecond >= 1)) throw new DtlsError("DTLS_BAD_OPTION", "maxMacFailuresPerSecond: 1");
  for (const name of ["initialRetransmitMs", "maxRetransmitMs", "handshakeTimeoutMs", "maxReassemblyBytes"] as const) {
    if (!(options[name] > 0)) throw new DtlsError("DTLS_BAD_OPTION", `${name}: above 0`);
  }
  if (!(options.paddingBlockBytes >= 1 && options.paddingBlockBytes <= 256)) {
    throw new DtlsError("DTLS_BAD_OPTION", "paddingBlockBytes: 1 to 256");
  }
  if (!(options.pathValidationTimeoutMs >= 1 && options.pathValidationTimeoutMs <= 60_000)) {
    throw new DtlsError("DTLS_BAD_OPTION", "pathValidationTimeoutMs: 1 to 60000");
  }
  for (const name of ["maxHeldPathBytes", "maxEarlyRecordBytes", "maxRetransmissions"] as const) {
    if (!(options[name] >= 0)) throw new DtlsError("DTLS_BAD_OPTION", `${name}: 0 or more`);
  }
  const limit = options.recordSizeLimitBytes;
  if (limit !== undefined && !(limit >= LEAST_RECORD_SIZE_LIMIT && limit <= MAX_PLAINTEXT_BYTES)) {
    throw new DtlsError("DTLS_BAD_OPTION", "recordSizeLimitBytes: 64 to 16384");
  }
  if (options.applicationProtocols.some((name) => name.length === 0 || name.length > 255)) {
    throw new DtlsError("DTLS_BAD_OPTION", "applicationProtocols: names of 1 to 255 bytes");
  }
  if (options.peerCertificateTypes.length === 0) throw new DtlsError("DTLS_BAD_OPTION", "peerCertificateTypes: empty");
  if (options.certificate !== undefined && options.certificate.chain.length === 0) {
    throw new DtlsError("DTLS_BAD_OPTION", "certificate: the chain is empty");
  }
}
