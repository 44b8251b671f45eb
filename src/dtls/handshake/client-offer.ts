import { GROUPS } from "../crypto/key-exchange.js";
import { SIGNATURE_SCHEMES } from "../crypto/signatures.js";
import { suiteByName, usesCertificate, usesEcdhe, usesPsk } from "../crypto/suites.js";
import { DtlsError } from "../errors.js";
import type { ResolvedClientOptions } from "../options.js";
import { decodeApplicationProtocols, encodeApplicationProtocols } from "../wire/application-protocol.js";
import { type CertificateType, decodeCertificateType, encodeCertificateTypes } from "../wire/certificate-type.js";
import { type ClientHello, RANDOM_BYTES } from "../wire/client-hello.js";
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
import { DTLS_1_2, MAX_PLAINTEXT_BYTES } from "../wire/record.js";
import {
  decodeMaxFragmentLength,
  decodeRecordSizeLimit,
  encodeMaxFragmentLength,
  encodeRecordSizeLimit,
} from "../wire/record-limits.js";
import type { ServerHello } from "../wire/server-hello.js";
import { decodeSession, isPskOf, type ResumableSession } from "../resumable-session.js";
import { ownCertificateTypes } from "./own-credential.js";
import { NO_RECORD_LIMITS, type RecordLimits } from "./record-limits.js";

/** The ClientHello that offers what the options allow. @throws DtlsError DTLS_BAD_OPTION */
export function composeClientHello(
  options: ResolvedClientOptions,
  connectionId: Uint8Array | undefined,
  session: ResumableSession | undefined,
): ClientHello {
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
  if (connectionId !== undefined) {
    extensions.set(EXTENSION_TYPES.connection_id, encodeConnectionId(connectionId));
    if (options.returnRoutabilityCheck !== "none") extensions.set(EXTENSION_TYPES.rrc, new Uint8Array(0));
  }
  if (suites.some(usesEcdhe)) {
    extensions.set(EXTENSION_TYPES.supported_groups, encodeIdList(options.groups.map((group) => GROUPS[group].id)));
    extensions.set(EXTENSION_TYPES.ec_point_formats, encodePointFormats());
  }
  if (suites.some(usesCertificate)) {
    const ids = options.signatureSchemes.map((scheme) => SIGNATURE_SCHEMES[scheme].id);
    extensions.set(EXTENSION_TYPES.signature_algorithms, encodeIdList(ids));
    addCertificateTypes(extensions, options);
  }
  if (options.maxFragmentLengthBytes !== undefined) {
    extensions.set(EXTENSION_TYPES.max_fragment_length, encodeMaxFragmentLength(options.maxFragmentLengthBytes));
  }
  if (options.recordSizeLimitBytes !== undefined) {
    extensions.set(EXTENSION_TYPES.record_size_limit, encodeRecordSizeLimit(options.recordSizeLimitBytes));
  }
  if (options.applicationProtocols.length > 0) {
    const protocols = encodeApplicationProtocols(options.applicationProtocols);
    extensions.set(EXTENSION_TYPES.application_layer_protocol_negotiation, protocols);
  }
  if (options.sessionTickets) extensions.set(EXTENSION_TYPES.session_ticket, session?.ticket ?? new Uint8Array(0));
  // With a ticket, an identifier that the server repeats tells that it took the ticket (RFC 5077 §3.4).
  const usesTicket = options.sessionTickets && session !== undefined && session.ticket.length > 0;
  const sessionId = usesTicket ? options.random(SESSION_ID_BYTES) : (session?.sessionId ?? new Uint8Array(0));
  return {
    version: DTLS_1_2,
    random,
    sessionId,
    cookie: new Uint8Array(0),
    cipherSuites: suites.map((suite) => suite.id),
    compressionMethods: [0],
    extensions,
  };
}

/**
 * The session of the options, if it can be resumed with what else they hold: the same suite, the same name, the same key.
 * What does not decode is none.
 */
export function offeredSession(options: ResolvedClientOptions): ResumableSession | undefined {
  const session = options.session === undefined ? undefined : decodeSession(options.session);
  if (session === undefined) return undefined;
  const { suite, pskIdentity } = session.peer;
  if (!options.cipherSuites.includes(suite) || session.serverName !== options.serverName) return undefined;
  if (pskIdentity === undefined) return session;
  const { psk } = options;
  if (psk === undefined || Buffer.compare(psk.identity, pskIdentity) !== 0) return undefined;
  return isPskOf(session, psk.key) ? session : undefined;
}

/** Whether a ServerHello's session identifier takes up the session that was offered (RFC 5246 §7.4.1.3). */
export function isRepeated(sessionId: Uint8Array, offered: Uint8Array): boolean {
  return offered.length > 0 && Buffer.compare(sessionId, offered) === 0;
}

/** A list of X.509 alone is left out, being what its absence means (RFC 7250 §4.1). */
function addCertificateTypes(extensions: Map<number, Uint8Array>, options: ResolvedClientOptions): void {
  const own = ownCertificateTypes(options);
  if (own.includes("RawPublicKey")) {
    extensions.set(EXTENSION_TYPES.client_certificate_type, encodeCertificateTypes(own));
  }
  if (options.peerCertificateTypes.includes("RawPublicKey")) {
    const types = encodeCertificateTypes(options.peerCertificateTypes);
    extensions.set(EXTENSION_TYPES.server_certificate_type, types);
  }
}

/** What a ServerHello's extensions settle. */
export interface ServerTerms {
  readonly extendedMasterSecret: boolean;
  /** What the peer's connection identifier is, where both sides use them. */
  readonly peersConnectionId: Uint8Array | undefined;
  /** RFC 9853. */
  readonly returnRoutabilityCheck: boolean;
  /** Of the client's Certificate message, and of the server's. */
  readonly clientCertificateType: CertificateType;
  readonly serverCertificateType: CertificateType;
  readonly applicationProtocol: string | undefined;
  readonly recordLimits: RecordLimits;
}

/** @throws DtlsError DTLS_UNSUPPORTED_EXTENSION, DTLS_ILLEGAL_PARAMETER, DTLS_DECODE_ERROR, … */
export function readServerTerms(
  { extensions }: ServerHello,
  offer: ClientHello,
  options: ResolvedClientOptions,
): ServerTerms {
  for (const type of extensions.keys()) {
    if (!offer.extensions.has(type)) throw new DtlsError("DTLS_UNSUPPORTED_EXTENSION", String(type));
  }
  const renegotiation = extensions.get(EXTENSION_TYPES.renegotiation_info);
  if (renegotiation !== undefined && !isEmptyRenegotiationInfo(renegotiation)) {
    throw new DtlsError("DTLS_INSECURE_RENEGOTIATION");
  }
  const secret = extensions.get(EXTENSION_TYPES.extended_master_secret);
  if (secret !== undefined && secret.length > 0) throw new DtlsError("DTLS_DECODE_ERROR", "extended_master_secret");
  if (secret === undefined && options.requireExtendedMasterSecret) {
    throw new DtlsError("DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
  }
  const formats = extensions.get(EXTENSION_TYPES.ec_point_formats);
  if (formats !== undefined && !decodePointFormats(formats).includes(UNCOMPRESSED_POINT)) {
    throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "ec_point_formats");
  }
  const connectionId = extensions.get(EXTENSION_TYPES.connection_id);
  const rrc = extensions.get(EXTENSION_TYPES.rrc);
  if (rrc !== undefined && rrc.length > 0) throw new DtlsError("DTLS_DECODE_ERROR", "rrc");
  return {
    extendedMasterSecret: secret !== undefined,
    peersConnectionId: connectionId === undefined ? undefined : decodeConnectionId(connectionId),
    returnRoutabilityCheck: rrc !== undefined && connectionId !== undefined,
    clientCertificateType: chosenType(
      extensions.get(EXTENSION_TYPES.client_certificate_type),
      ownCertificateTypes(options),
    ),
    serverCertificateType: chosenType(
      extensions.get(EXTENSION_TYPES.server_certificate_type),
      options.peerCertificateTypes,
    ),
    applicationProtocol: chosenProtocol(
      extensions.get(EXTENSION_TYPES.application_layer_protocol_negotiation),
      options.applicationProtocols,
    ),
    recordLimits: recordLimitsOf(extensions, options),
  };
}

function chosenType(data: Uint8Array | undefined, offered: readonly CertificateType[]): CertificateType {
  if (data === undefined) return "X.509";
  const type = decodeCertificateType(data);
  if (type === undefined || !offered.includes(type)) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "certificate_type");
  return type;
}

/** RFC 7301 §3.1: exactly one name, of those offered. */
function chosenProtocol(data: Uint8Array | undefined, offered: readonly string[]): string | undefined {
  if (data === undefined) return undefined;
  const [name, ...more] = decodeApplicationProtocols(data);
  if (name === undefined || more.length > 0 || !offered.includes(name)) {
    throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "application_layer_protocol_negotiation");
  }
  return name;
}

/** RFC 8449 §5: both extensions in one ServerHello are illegal. */
function recordLimitsOf(extensions: ServerHello["extensions"], options: ResolvedClientOptions): RecordLimits {
  const fragment = extensions.get(EXTENSION_TYPES.max_fragment_length);
  const size = extensions.get(EXTENSION_TYPES.record_size_limit);
  if (size !== undefined) {
    const limit = decodeRecordSizeLimit(size);
    if (limit === undefined || fragment !== undefined)
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "record_size_limit");
    return {
      sendPlaintextBytes: MAX_PLAINTEXT_BYTES,
      sendProtectedBytes: Math.min(limit, MAX_PLAINTEXT_BYTES),
      receiveProtectedBytes: options.recordSizeLimitBytes ?? MAX_PLAINTEXT_BYTES,
    };
  }
  if (fragment === undefined) return NO_RECORD_LIMITS;
  const bytes = decodeMaxFragmentLength(fragment);
  if (bytes === undefined || bytes !== options.maxFragmentLengthBytes) {
    throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "max_fragment_length");
  }
  return { sendPlaintextBytes: bytes, sendProtectedBytes: bytes, receiveProtectedBytes: bytes };
}

const SESSION_ID_BYTES = 32;
