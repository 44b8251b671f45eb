/**
 * Alert (RFC 5246 §7.2): `struct { AlertLevel level; AlertDescription description; } Alert;`
 *
 * ```
 *  +-------+-------------+
 *  | level | description |
 *  +-------+-------------+
 * ```
 */
export interface Alert {
  readonly level: AlertLevel;
  /** The number itself when it has no name here. */
  readonly description: AlertDescription | number;
}

export type AlertLevel = "warning" | "fatal";
export type AlertDescription = keyof typeof ALERT_DESCRIPTIONS;

export function encodeAlert(level: AlertLevel, description: AlertDescription): Uint8Array {
  const bytes = new Uint8Array(ALERT_BYTES);
  bytes[0] = level === "warning" ? 1 : 2;
  bytes[1] = ALERT_DESCRIPTIONS[description];
  return bytes;
}

/** Undefined when `bytes` is no alert. */
export function decodeAlert(bytes: Uint8Array): Alert | undefined {
  const level = bytes[0];
  const description = bytes[1];
  if (bytes.length !== ALERT_BYTES || description === undefined || (level !== 1 && level !== 2)) return undefined;
  return { level: level === 1 ? "warning" : "fatal", description: NAMES.get(description) ?? description };
}

/** RFC 5246 §7.2, RFC 6066 §9, RFC 4279 §6, RFC 7301 §3.2. */
export const ALERT_DESCRIPTIONS = {
  close_notify: 0,
  unexpected_message: 10,
  bad_record_mac: 20,
  record_overflow: 22,
  handshake_failure: 40,
  bad_certificate: 42,
  unsupported_certificate: 43,
  certificate_revoked: 44,
  certificate_expired: 45,
  certificate_unknown: 46,
  illegal_parameter: 47,
  unknown_ca: 48,
  access_denied: 49,
  decode_error: 50,
  decrypt_error: 51,
  protocol_version: 70,
  insufficient_security: 71,
  internal_error: 80,
  user_canceled: 90,
  no_renegotiation: 100,
  unsupported_extension: 110,
  unrecognized_name: 112,
  unknown_psk_identity: 115,
  no_application_protocol: 120,
} as const;

const ALERT_BYTES = 2;
const NAMES: ReadonlyMap<number, AlertDescription> = new Map(
  (Object.entries(ALERT_DESCRIPTIONS) as [AlertDescription, number][]).map(([name, value]) => [value, name]),
);
