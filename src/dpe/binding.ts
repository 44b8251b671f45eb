/**
 * Every name and number of the binding of DPE to CoAP (docs/binding.md). They are this project's own: OMA has
 * published none for CoAP.
 */

/** CoAP option numbers, from the experimental range of RFC 7252 §12.2. Odd is critical; bit 1 set is unsafe to forward. */
export const BINDING_OPTION = {
  DigestChallenge: 65_032,
  DigestAuthorization: 65_033,
  DigestProof: 65_034,
  SubscriberIdentity: 65_035,
  DigestInfo: 65_036,
  AuthError: 65_040,
  SecurityRequired: 65_042,
  SecurityRequest: 65_043,
} as const;

/** Formats of the options above, for a CoAP endpoint's option registry. Lengths are bytes. */
export const BINDING_OPTION_FORMATS: readonly BindingOptionFormat[] = [
  { number: BINDING_OPTION.DigestChallenge, name: "Digest-Challenge", format: "opaque", minLength: 1, maxLength: 512 },
  {
    number: BINDING_OPTION.DigestAuthorization,
    name: "Digest-Authorization",
    format: "opaque",
    minLength: 1,
    maxLength: 512,
  },
  { number: BINDING_OPTION.DigestProof, name: "Digest-Proof", format: "opaque", minLength: 1, maxLength: 512 },
  {
    number: BINDING_OPTION.SubscriberIdentity,
    name: "Subscriber-Identity",
    format: "opaque",
    minLength: 1,
    maxLength: 272,
  },
  { number: BINDING_OPTION.DigestInfo, name: "Digest-Info", format: "opaque", minLength: 1, maxLength: 512 },
  { number: BINDING_OPTION.AuthError, name: "Auth-Error", format: "uint", minLength: 0, maxLength: 1 },
  { number: BINDING_OPTION.SecurityRequired, name: "Security-Required", format: "opaque", minLength: 1, maxLength: 64 },
  { number: BINDING_OPTION.SecurityRequest, name: "Security-Request", format: "uint", minLength: 0, maxLength: 1 },
];

/** Keys of the CBOR maps in the Digest options. Challenge uses 1–8; Authorization and Proof 1, 2, 3, 5, 6 and 9–12. */
export const DIGEST_KEY = {
  realm: 1,
  nonce: 2,
  opaque: 3,
  stale: 4,
  algorithm: 5,
  qop: 6,
  userhash: 7,
  scope: 8,
  username: 9,
  cnonce: 10,
  nonceCount: 11,
  response: 12,
  rspauth: 13,
  nextnonce: 14,
} as const;

/** Digest algorithms on the wire, by their name in RFC 7616 §6.1. */
export const DIGEST_ALGORITHM_NUMBER = {
  MD5: 1,
  "MD5-sess": 2,
  "SHA-256": 3,
  "SHA-256-sess": 4,
  "SHA-512-256": 5,
  "SHA-512-256-sess": 6,
} as const;

export const DIGEST_QOP_NUMBER = { auth: 1, "auth-int": 2 } as const;
export const DIGEST_SCOPE_NUMBER = { request: 1, association: 2 } as const;

/** Forms of a subscriber's identity in the Subscriber-Identity option. */
export const IDENTITY_FORM_NUMBER = { msisdn: 1, imsi: 2, nai: 3, ip: 4, opaque: 5 } as const;
export type IdentityForm = keyof typeof IDENTITY_FORM_NUMBER;

/** Values of the Auth-Error option. */
export const AUTH_ERROR = {
  "credentials-required": 1,
  "invalid-credentials": 2,
  "stale-nonce": 3,
  replayed: 4,
  "not-authorized": 5,
  "security-required": 6,
  "untrusted-identity": 7,
  "unsupported-method": 8,
  "too-many-failures": 9,
  "server-not-accepted": 10,
} as const;

export type AuthErrorName = keyof typeof AUTH_ERROR;

/** The name of an Auth-Error value; undefined for a value that this version does not know. */
export function authErrorName(value: number): AuthErrorName | undefined {
  return AUTH_ERROR_NAMES.get(value);
}

/** Keys of the Security-Required map. */
export const SECURITY_REQUIRED_KEY = { level: 1, port: 2, interface: 3 } as const;

/** Connection security, ordered: a higher number satisfies every lower demand. */
export const CONNECTION_LEVEL = { none: 0, dtls: 1 } as const;
export type ConnectionLevel = keyof typeof CONNECTION_LEVEL;

export const INTERFACES = ["dpe1", "dpe2"] as const;
export type InterfaceName = (typeof INTERFACES)[number];

/** Uri-Path segments. */
export const PATH = {
  dpe1: "dpe1",
  dpe2: "dpe2",
  registrations: "reg",
  properties: "p",
  errors: "err",
  pairing: "pair",
  renewal: "renew",
} as const;

/** Begins the PSK identity of an association that may do nothing but pair; the rest is the code's identifier. */
export const PAIRING_IDENTITY_PREFIX = "dpe-pair:";

/** Keys of the CBOR maps of pairing and renewal (docs/pairing.md). */
export const PAIRING_KEY = {
  request: 1,
  endpoint: 2,
  subscriber: 3,
  kind: 4,
  certificates: 5,
  anchors: 6,
  secret: 7,
  intervalSeconds: 8,
  lifetimeSeconds: 9,
} as const;

/** Kinds of credentials that pairing gives. */
export const PAIRING_KIND = { certificate: 1, digest: 2, psk: 3 } as const;
export type PairingKind = keyof typeof PAIRING_KIND;

/** Uri-Query names of a registration. */
export const QUERY = { endpoint: "ep", lifetimeSeconds: "lt", dpe2: "dpe2", queueMode: "q" } as const;

/** The `dpe2` query value that asks for DPE-2 over the association which carries DPE-1. */
export const DPE2_OVER_ASSOCIATION = "association";

/** CoAP content-formats (IANA CoRE parameters registry). */
export const CONTENT_FORMAT = {
  linkFormat: 40,
  cbor: 60,
  json: 50,
  senmlJson: 110,
  senmlCbor: 112,
  problemDetailsCbor: 257,
  senmlEtchJson: 320,
  senmlEtchCbor: 322,
} as const;

export interface BindingOptionFormat {
  readonly number: number;
  readonly name: string;
  readonly format: "opaque" | "uint";
  readonly minLength: number;
  readonly maxLength: number;
}

const AUTH_ERROR_NAMES: ReadonlyMap<number, AuthErrorName> = new Map(
  (Object.keys(AUTH_ERROR) as AuthErrorName[]).map((name) => [AUTH_ERROR[name], name]),
);
