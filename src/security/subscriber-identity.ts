import { decodeCbor, encodeCbor } from "#cbor/index.js";
import { IDENTITY_FORM_NUMBER, type IdentityForm } from "#dpe/index.js";
import { canonicalIpAddress } from "#ip/index.js";
import { SecurityError } from "./errors.js";

/**
 * Who a subscriber is to functions outside of DPE: the network that knows the address of a device, or a proxy before the
 * server. Always in canonical form, so that two of them are the same exactly when form and value are equal.
 *
 * | form | value |
 * |---|---|
 * | msisdn | E.164: 5 to 15 digits, without "+" |
 * | imsi | 6 to 15 digits (3GPP TS 23.003 §2.2) |
 * | nai | RFC 7542, such as `alice@example.net`; the realm in lower case |
 * | ip | an address literal, IPv6 as in RFC 5952; IPv4 where it is IPv4-mapped |
 * | opaque | any text of 1 to 128 bytes without control characters |
 */
export interface SubscriberIdentity {
  readonly form: IdentityForm;
  readonly value: string;
}

/** An identity in canonical form. @throws SecurityError SECURITY_BAD_IDENTITY. */
export function subscriberIdentity(form: IdentityForm, value: string): SubscriberIdentity {
  const canonical = canonicalValue(form, value);
  if (canonical === undefined) throw new SecurityError("SECURITY_BAD_IDENTITY", `the value is no ${form}`);
  return { form, value: canonical };
}

/** An identity as configurations write it: `imsi:001010123456789`. @throws SecurityError SECURITY_BAD_IDENTITY. */
export function parseSubscriberIdentity(text: string): SubscriberIdentity {
  const colon = text.indexOf(":");
  const form = text.slice(0, Math.max(0, colon));
  if (!isIdentityForm(form)) {
    const forms = Object.keys(IDENTITY_FORM_NUMBER).join(", ");
    throw new SecurityError("SECURITY_BAD_IDENTITY", `an identity is FORM:VALUE with a form of ${forms}`);
  }
  return subscriberIdentity(form, text.slice(colon + 1));
}

/** The reverse of {@link parseSubscriberIdentity}; also a key that tells identities apart. */
export function formatSubscriberIdentity({ form, value }: SubscriberIdentity): string {
  return `${form}:${value}`;
}

/** Value of a Subscriber-Identity option: a CBOR array of the form's number and the value as text. */
export function encodeSubscriberIdentity({ form, value }: SubscriberIdentity): Uint8Array {
  return encodeCbor([IDENTITY_FORM_NUMBER[form], value]);
}

/** @throws SecurityError SECURITY_BAD_OPTION that names the field. */
export function decodeSubscriberIdentity(option: Uint8Array): SubscriberIdentity {
  let decoded: unknown;
  try {
    decoded = decodeCbor(option);
  } catch (error) {
    throw new SecurityError("SECURITY_BAD_OPTION", "Subscriber-Identity is no plain CBOR", { cause: error });
  }
  if (!Array.isArray(decoded) || decoded.length !== 2)
    throw new SecurityError("SECURITY_BAD_OPTION", "Subscriber-Identity is not an array of form and value");
  const [number, value]: readonly unknown[] = decoded;
  const form = FORMS.get(number);
  if (form === undefined) throw badField("form");
  const canonical = typeof value === "string" ? canonicalValue(form, value) : undefined;
  if (canonical === undefined) throw badField("value");
  return { form, value: canonical };
}

function canonicalValue(form: IdentityForm, value: string): string | undefined {
  switch (form) {
    case "msisdn": {
      const digits = value.startsWith("+") ? value.slice(1) : value;
      return /^\d{5,15}$/.test(digits) ? digits : undefined;
    }
    case "imsi":
      return /^\d{6,15}$/.test(value) ? value : undefined;
    case "nai":
      return canonicalNai(value);
    case "ip":
      return canonicalIpAddress(value);
    case "opaque":
      return isPlainText(value, MAX_OPAQUE_BYTES) ? value : undefined;
  }
}

/** RFC 7542 §2.2: at most 253 bytes, one "@" at most, labels in the realm. */
function canonicalNai(value: string): string | undefined {
  if (!isPlainText(value, MAX_NAI_BYTES) || value.includes(" ")) return undefined;
  const [user = "", realm, ...more] = value.split("@");
  if (more.length > 0 || (user === "" && realm === undefined)) return undefined;
  if (realm === undefined) return user;
  const lower = realm.toLowerCase();
  return /^[\p{L}\p{N}]([\p{L}\p{N}.-]*[\p{L}\p{N}])?$/u.test(lower) ? `${user}@${lower}` : undefined;
}

function isPlainText(value: string, maxBytes: number): boolean {
  return value !== "" && new TextEncoder().encode(value).length <= maxBytes && !/[\p{Cc}\p{Cs}]/u.test(value);
}

function isIdentityForm(text: string): text is IdentityForm {
  return Object.hasOwn(IDENTITY_FORM_NUMBER, text);
}

function badField(field: string): SecurityError {
  return new SecurityError(
    "SECURITY_BAD_OPTION",
    `Subscriber-Identity: ${field} is missing or not what the binding says`,
  );
}

const FORMS: ReadonlyMap<unknown, IdentityForm> = new Map(
  (Object.keys(IDENTITY_FORM_NUMBER) as IdentityForm[]).map((form) => [IDENTITY_FORM_NUMBER[form], form]),
);
const MAX_OPAQUE_BYTES = 128;
const MAX_NAI_BYTES = 253;
