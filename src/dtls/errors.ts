import type { AlertDescription } from "./wire/alert.js";

/** The root of all errors of this layer. `code` is API, the sentence is not. */
export class DtlsError extends Error {
  override readonly name = "DtlsError";
  readonly code: DtlsErrorCode;
  readonly fault: DtlsFault;
  /** The alert that the peer sent, when the error is an alert received. */
  readonly receivedAlert: AlertDescription | undefined;

  constructor(
    code: DtlsErrorCode,
    detail?: string,
    options?: { readonly cause?: unknown; readonly receivedAlert?: AlertDescription },
  ) {
    const entry = DTLS_ERRORS[code];
    super(detail === undefined ? entry.sentence : `${entry.sentence}: ${detail}`, { cause: options?.cause });
    this.code = code;
    this.fault = entry.fault;
    this.receivedAlert = options?.receivedAlert;
  }

  /** The alert that tells the peer, unless a verifier chose another; undefined where nothing is sent. */
  get alert(): AlertDescription | undefined {
    return alertOfError(this);
  }
}

/** Whose doing it was. */
export type DtlsFault = "peer-misbehaved" | "peer-incompatible" | "caller-misuse" | "local-limit";

export type DtlsErrorCode = keyof typeof DTLS_ERRORS;

/** The alert that tells the peer of `error`; undefined where nothing is sent (RFC 5246 §7.2.2). */
export function alertOfError(error: DtlsError): AlertDescription | undefined {
  return DTLS_ERRORS[error.code].alert;
}

/** An alert that was received, with what it means most often where its name does not say it. */
export function alertInWords(description: AlertDescription | number): string {
  const meaning = ALERT_MEANINGS[description];
  return meaning === undefined ? String(description) : `${description} (${meaning})`;
}

const ALERT_MEANINGS: Readonly<Partial<Record<AlertDescription | number, string>>> = {
  decrypt_error: "it knows another pre-shared key, or none, of that identity",
  handshake_failure: "no cipher suite or kind of credential is common to both",
  unknown_ca: "it does not trust the authority of this side's certificate",
};

/** Every code, with whose fault it is, the alert it is told by, and a sentence. */
export const DTLS_ERRORS = {
  DTLS_DECODE_ERROR: {
    fault: "peer-misbehaved",
    alert: "decode_error",
    sentence: "the peer sent a handshake message that does not parse",
  },
  DTLS_ILLEGAL_PARAMETER: {
    fault: "peer-misbehaved",
    alert: "illegal_parameter",
    sentence: "the peer sent a value that the protocol forbids",
  },
  DTLS_UNEXPECTED_MESSAGE: {
    fault: "peer-misbehaved",
    alert: "unexpected_message",
    sentence: "the peer sent a handshake message out of turn",
  },
  DTLS_UNSUPPORTED_EXTENSION: {
    fault: "peer-misbehaved",
    alert: "unsupported_extension",
    sentence: "the server answered an extension that was not offered",
  },
  DTLS_BAD_SIGNATURE: {
    fault: "peer-misbehaved",
    alert: "decrypt_error",
    sentence: "a handshake signature of the peer does not verify",
  },
  DTLS_BAD_FINISHED: {
    fault: "peer-misbehaved",
    alert: "decrypt_error",
    sentence: "the peer's Finished does not verify: its keys, or the messages it saw, differ from ours",
  },
  DTLS_WRONG_PSK: {
    fault: "peer-incompatible",
    alert: "decrypt_error",
    sentence: "the peer's Finished does not verify: it holds another pre-shared key for this identity",
  },
  DTLS_UNKNOWN_PSK_IDENTITY: {
    fault: "peer-incompatible",
    alert: "decrypt_error",
    sentence: "no pre-shared key is known for the peer's identity",
  },
  DTLS_BAD_KEY_SHARE: {
    fault: "peer-misbehaved",
    alert: "illegal_parameter",
    sentence: "the peer's key share is no point of the group, or gives a zero secret",
  },
  DTLS_PROTOCOL_VERSION: {
    fault: "peer-incompatible",
    alert: "protocol_version",
    sentence: "the peer does not speak DTLS 1.2",
  },
  DTLS_NO_COMMON_SUITE: {
    fault: "peer-incompatible",
    alert: "handshake_failure",
    sentence: "no cipher suite is common with the peer and usable with the credentials here",
  },
  DTLS_NO_COMMON_SIGNATURE: {
    fault: "peer-incompatible",
    alert: "handshake_failure",
    sentence: "no signature scheme is common with the peer",
  },
  DTLS_EXTENDED_MASTER_SECRET_REQUIRED: {
    fault: "peer-incompatible",
    alert: "handshake_failure",
    sentence: "the peer does not offer the extended master secret, which is required here",
  },
  DTLS_NO_APPLICATION_PROTOCOL: {
    fault: "peer-incompatible",
    alert: "no_application_protocol",
    sentence: "the client offers none of the application protocols of this server",
  },
  DTLS_INSECURE_RENEGOTIATION: {
    fault: "peer-misbehaved",
    alert: "handshake_failure",
    sentence: "the peer's renegotiation_info is not that of a first handshake",
  },
  DTLS_CLIENT_CERTIFICATE_REQUIRED: {
    fault: "peer-incompatible",
    alert: "handshake_failure",
    sentence: "the client sent no certificate, and one is required",
  },
  DTLS_UNSUPPORTED_CERTIFICATE: {
    fault: "peer-incompatible",
    alert: "unsupported_certificate",
    sentence: "the key of the peer's certificate does not serve the cipher suite",
  },
  DTLS_BAD_CERTIFICATE: {
    fault: "peer-misbehaved",
    alert: "bad_certificate",
    sentence: "the peer's certificate does not parse",
  },
  DTLS_CERTIFICATE_REFUSED: {
    fault: "peer-incompatible",
    alert: "certificate_unknown",
    sentence: "the peer's certificate was refused",
  },
  DTLS_ALERT_RECEIVED: {
    fault: "peer-incompatible",
    alert: undefined,
    sentence: "the peer ended the association with an alert",
  },
  DTLS_HANDSHAKE_TIMEOUT: {
    fault: "peer-incompatible",
    alert: undefined,
    sentence: "the handshake did not complete in time",
  },
  DTLS_REASSEMBLY_LIMIT: {
    fault: "local-limit",
    alert: "handshake_failure",
    sentence: "a handshake message is longer than the limit set here",
  },
  DTLS_SEQUENCE_EXHAUSTED: {
    fault: "local-limit",
    alert: undefined,
    sentence: "all record sequence numbers of the epoch are used",
  },
  DTLS_ABORTED: {
    fault: "caller-misuse",
    alert: undefined,
    sentence: "the association was aborted from this side",
  },
  DTLS_NOT_CONNECTED: {
    fault: "caller-misuse",
    alert: undefined,
    sentence: "the handshake is not complete",
  },
  DTLS_CLOSED: {
    fault: "caller-misuse",
    alert: undefined,
    sentence: "the association is closed",
  },
  DTLS_BAD_SAVED_STATE: {
    fault: "caller-misuse",
    alert: undefined,
    sentence: "the saved state of an association is not usable: changed, cut short, or of another version",
  },
  DTLS_NO_EXPORTER: {
    fault: "caller-misuse",
    alert: undefined,
    sentence: "nothing was kept to export keying material from: set the option exporter",
  },
  DTLS_MESSAGE_TOO_LARGE: {
    fault: "caller-misuse",
    alert: undefined,
    sentence: "the data do not fit in one datagram",
  },
  DTLS_BAD_OPTION: {
    fault: "caller-misuse",
    alert: undefined,
    sentence: "an option is not usable",
  },
  DTLS_INTERNAL_ERROR: {
    fault: "local-limit",
    alert: "internal_error",
    sentence: "a cryptographic operation failed on this side",
  },
} as const;
