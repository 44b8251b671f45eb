import { EMPTY_RENEGOTIATION_INFO_SCSV, usesCertificate } from "../crypto/suites.js";
import { DtlsError } from "../errors.js";
import { ownConnectionId, type ResolvedServerOptions } from "../options.js";
import { decodeApplicationProtocols, encodeApplicationProtocols } from "../wire/application-protocol.js";
import { type CertificateType, decodeCertificateTypes, encodeCertificateType } from "../wire/certificate-type.js";
import type { ClientHello } from "../wire/client-hello.js";
import {
  decodeConnectionId,
  decodeServerName,
  EMPTY_RENEGOTIATION_INFO,
  encodeConnectionId,
  encodePointFormats,
  EXTENSION_TYPES,
  isEmptyRenegotiationInfo,
} from "../wire/extensions.js";
import { DTLS_1_2, MAX_PLAINTEXT_BYTES } from "../wire/record.js";
import {
  decodeMaxFragmentLength,
  decodeRecordSizeLimit,
  encodeMaxFragmentLength,
  encodeRecordSizeLimit,
  type MaxFragmentLength,
} from "../wire/record-limits.js";
import type { CipherSuite } from "../crypto/suites.js";
import { NO_RECORD_LIMITS, type RecordLimits } from "./record-limits.js";

/** What a ClientHello's extensions ask for, apart from the choice of the suite. */
export interface ClientTerms {
  readonly extendedMasterSecret: boolean;
  readonly signalsRenegotiation: boolean;
  readonly serverName: string | undefined;
  /** Ours and the client's, where both sides use them (RFC 9146 §3). */
  readonly connectionIds: { readonly own: Uint8Array; readonly peers: Uint8Array } | undefined;
  /** RFC 9853 §3: asked for, and with connection identifiers. */
  readonly returnRoutabilityCheck: boolean;
  /** The type of the client's Certificate message; undefined when no type is common. */
  readonly clientCertificateType: CertificateType | undefined;
  readonly applicationProtocol: string | undefined;
  readonly recordLimits: RecordLimits;
  /** To be echoed (RFC 6066 §4). */
  readonly maxFragmentLengthBytes: MaxFragmentLength | undefined;
}

/** @throws DtlsError DTLS_PROTOCOL_VERSION, DTLS_ILLEGAL_PARAMETER, DTLS_EXTENDED_MASTER_SECRET_REQUIRED, … */
export function readClientTerms(hello: ClientHello, options: ResolvedServerOptions): ClientTerms {
  // Versions count down: DTLS 1.0 is 0xfeff, 1.2 is 0xfefd.
  if (hello.version > DTLS_1_2) throw new DtlsError("DTLS_PROTOCOL_VERSION");
  if (!hello.compressionMethods.includes(0)) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "no null compression");
  const { extensions } = hello;
  const renegotiation = extensions.get(EXTENSION_TYPES.renegotiation_info);
  if (renegotiation !== undefined && !isEmptyRenegotiationInfo(renegotiation)) {
    throw new DtlsError("DTLS_INSECURE_RENEGOTIATION");
  }
  const extendedMasterSecret = extensions.has(EXTENSION_TYPES.extended_master_secret);
  if (!extendedMasterSecret && options.requireExtendedMasterSecret) {
    throw new DtlsError("DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
  }
  const serverName = extensions.get(EXTENSION_TYPES.server_name);
  const clientTypes = extensions.get(EXTENSION_TYPES.client_certificate_type);
  const offered = clientTypes === undefined ? ["X.509"] : decodeCertificateTypes(clientTypes);
  const connectionIds = agreeOnConnectionIds(hello, options);
  const { recordLimits, maxFragmentLengthBytes } = agreeOnRecordLimits(hello, options);
  return {
    extendedMasterSecret,
    signalsRenegotiation: renegotiation !== undefined || hello.cipherSuites.includes(EMPTY_RENEGOTIATION_INFO_SCSV),
    serverName: serverName === undefined ? undefined : decodeServerName(serverName),
    connectionIds,
    returnRoutabilityCheck: connectionIds !== undefined && agreesToPathChecks(hello, options),
    clientCertificateType: options.peerCertificateTypes.find((type) => offered.includes(type)),
    applicationProtocol: chooseProtocol(hello, options),
    recordLimits,
    maxFragmentLengthBytes,
  };
}

/** The extensions of the ServerHello that answers `hello`. `asksCertificate`: a CertificateRequest follows. */
export function serverExtensions(
  hello: ClientHello,
  terms: ClientTerms,
  answer: {
    readonly suite: CipherSuite;
    readonly usesPoints: boolean;
    readonly ownCertificateType: CertificateType | undefined;
    readonly asksCertificate: boolean;
  },
  options: ResolvedServerOptions,
): Map<number, Uint8Array> {
  const extensions = new Map<number, Uint8Array>();
  if (terms.signalsRenegotiation) extensions.set(EXTENSION_TYPES.renegotiation_info, EMPTY_RENEGOTIATION_INFO);
  if (terms.extendedMasterSecret) extensions.set(EXTENSION_TYPES.extended_master_secret, NO_BYTES);
  if (terms.connectionIds !== undefined) {
    extensions.set(EXTENSION_TYPES.connection_id, encodeConnectionId(terms.connectionIds.own));
  }
  if (terms.returnRoutabilityCheck) extensions.set(EXTENSION_TYPES.rrc, NO_BYTES);
  if (answer.usesPoints && hello.extensions.has(EXTENSION_TYPES.ec_point_formats)) {
    extensions.set(EXTENSION_TYPES.ec_point_formats, encodePointFormats());
  }
  if (usesCertificate(answer.suite)) addCertificateTypes(extensions, hello, terms, answer);
  if (terms.applicationProtocol !== undefined) {
    const protocol = encodeApplicationProtocols([terms.applicationProtocol]);
    extensions.set(EXTENSION_TYPES.application_layer_protocol_negotiation, protocol);
  }
  if (terms.maxFragmentLengthBytes !== undefined) {
    extensions.set(EXTENSION_TYPES.max_fragment_length, encodeMaxFragmentLength(terms.maxFragmentLengthBytes));
  } else if (hello.extensions.has(EXTENSION_TYPES.record_size_limit)) {
    const limit = options.recordSizeLimitBytes ?? MAX_PLAINTEXT_BYTES;
    extensions.set(EXTENSION_TYPES.record_size_limit, encodeRecordSizeLimit(limit));
  }
  return extensions;
}

/** Each answers the client's own (RFC 7250 §4.2); the client's type only where its certificate is asked for. */
function addCertificateTypes(
  extensions: Map<number, Uint8Array>,
  hello: ClientHello,
  { clientCertificateType }: ClientTerms,
  answer: { readonly ownCertificateType: CertificateType | undefined; readonly asksCertificate: boolean },
): void {
  const { ownCertificateType, asksCertificate } = answer;
  const { client_certificate_type: client, server_certificate_type: server } = EXTENSION_TYPES;
  if (asksCertificate && clientCertificateType !== undefined && hello.extensions.has(client)) {
    extensions.set(client, encodeCertificateType(clientCertificateType));
  }
  if (ownCertificateType !== undefined && hello.extensions.has(server)) {
    extensions.set(server, encodeCertificateType(ownCertificateType));
  }
}

function agreeOnConnectionIds(hello: ClientHello, options: ResolvedServerOptions): ClientTerms["connectionIds"] {
  const peers = hello.extensions.get(EXTENSION_TYPES.connection_id);
  if (peers === undefined || options.connectionId === false) return undefined;
  return { peers: decodeConnectionId(peers), own: ownConnectionId(options.connectionId) };
}

function agreesToPathChecks({ extensions }: ClientHello, { returnRoutabilityCheck }: ResolvedServerOptions): boolean {
  const rrc = extensions.get(EXTENSION_TYPES.rrc);
  if (rrc !== undefined && rrc.length > 0) throw new DtlsError("DTLS_DECODE_ERROR", "rrc");
  return rrc !== undefined && returnRoutabilityCheck !== "none";
}

/** RFC 7301 §3.2: ours decide the order; a client that offers none of them is refused. */
function chooseProtocol(hello: ClientHello, { applicationProtocols }: ResolvedServerOptions): string | undefined {
  const data = hello.extensions.get(EXTENSION_TYPES.application_layer_protocol_negotiation);
  if (data === undefined || applicationProtocols.length === 0) return undefined;
  const offered = decodeApplicationProtocols(data);
  const chosen = applicationProtocols.find((name) => offered.includes(name));
  if (chosen === undefined) throw new DtlsError("DTLS_NO_APPLICATION_PROTOCOL");
  return chosen;
}

/** Of both extensions record_size_limit alone counts (RFC 8449 §5). */
function agreeOnRecordLimits(
  { extensions }: ClientHello,
  options: ResolvedServerOptions,
): Pick<ClientTerms, "recordLimits" | "maxFragmentLengthBytes"> {
  const size = extensions.get(EXTENSION_TYPES.record_size_limit);
  const fragment = extensions.get(EXTENSION_TYPES.max_fragment_length);
  if (size !== undefined) {
    const limit = decodeRecordSizeLimit(size);
    if (limit === undefined) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "record_size_limit");
    const recordLimits = {
      sendPlaintextBytes: MAX_PLAINTEXT_BYTES,
      sendProtectedBytes: Math.min(limit, MAX_PLAINTEXT_BYTES),
      receiveProtectedBytes: options.recordSizeLimitBytes ?? MAX_PLAINTEXT_BYTES,
    };
    return { recordLimits, maxFragmentLengthBytes: undefined };
  }
  if (fragment === undefined) return { recordLimits: NO_RECORD_LIMITS, maxFragmentLengthBytes: undefined };
  const bytes = decodeMaxFragmentLength(fragment);
  if (bytes === undefined) throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "max_fragment_length");
  return {
    recordLimits: { sendPlaintextBytes: bytes, sendProtectedBytes: bytes, receiveProtectedBytes: bytes },
    maxFragmentLengthBytes: bytes,
  };
}

const NO_BYTES: Uint8Array = new Uint8Array(0);
