import { type IpPrefix, ipPrefix } from "#ip/index.js";
import { ATTRIBUTE, ATTRIBUTE_3GPP, Attributes, VENDOR_3GPP } from "./attributes.js";
import { malformed, type RadiusPacket } from "./packet.js";

/** What an Accounting-Request tells of a session (RFC 2866), or of a NAS that starts or ends. */
export interface AccountingRecord {
  readonly status: AccountingStatus;
  /** Acct-Session-Id; empty for `on` and `off`. */
  readonly sessionId: string;
  readonly nas: NasIdentity;
  /** Acct-Delay-Time: how long the NAS has tried to send this, in whole seconds. */
  readonly delaySeconds: number;
  /** The addresses of the session's user, each as a prefix. */
  readonly prefixes: readonly IpPrefix[];
  /** The value of the attribute that identifies the user. */
  readonly identity: string | undefined;
}

/** `other` is acknowledged and changes nothing: tunnels and failures (RFC 2867). */
export type AccountingStatus = "start" | "stop" | "interim" | "on" | "off" | "other";

/** The attributes by which a NAS names itself (RFC 2866 §4.1: one of them at least). */
export interface NasIdentity {
  readonly identifier?: string;
  readonly address?: string;
  readonly ipv6Address?: string;
}

/** How a record is read. */
export interface RecordReading {
  readonly identity: IdentityAttribute;
  readonly interfaceId: "exact" | "prefix";
  /** Bits; a shorter prefix is left out. */
  readonly minPrefixLength: number;
}

/** @throws RadiusError RADIUS_MALFORMED. */
export function readAccountingRecord(packet: RadiusPacket, reading: RecordReading): AccountingRecord {
  const attributes = new Attributes(packet);
  const status = STATUSES.get(attributes.uint(ATTRIBUTE.AcctStatusType) ?? 0);
  if (status === undefined && attributes.uint(ATTRIBUTE.AcctStatusType) === undefined)
    throw malformed("no Acct-Status-Type");
  const sessionId = textOf(attributes.bytes(ATTRIBUTE.AcctSessionId)) ?? "";
  if (sessionId === "" && status !== undefined && status !== "on" && status !== "off")
    throw malformed("no Acct-Session-Id");
  const identifier = textOf(attributes.bytes(ATTRIBUTE.NasIdentifier));
  const address = attributes.address(ATTRIBUTE.NasIpAddress, 4);
  const ipv6Address = attributes.address(ATTRIBUTE.NasIpv6Address, 16);
  return {
    status: status ?? "other",
    sessionId,
    nas: {
      ...(identifier === undefined ? {} : { identifier }),
      ...(address === undefined ? {} : { address }),
      ...(ipv6Address === undefined ? {} : { ipv6Address }),
    },
    delaySeconds: attributes.uint(ATTRIBUTE.AcctDelayTime) ?? 0,
    prefixes: prefixesOf(attributes, reading),
    identity: textOf(identityOf(attributes, reading.identity)),
  };
}

/** Attributes that can identify a user, by their names in RADIUS dictionaries. */
export const IDENTITY_ATTRIBUTES = [
  "User-Name",
  "Calling-Station-Id",
  "Chargeable-User-Identity",
  "Class",
  "3GPP-IMSI",
  "3GPP-IMEISV",
] as const;

export type IdentityAttribute = (typeof IDENTITY_ATTRIBUTES)[number];

function identityOf(attributes: Attributes, name: IdentityAttribute): Uint8Array | undefined {
  switch (name) {
    case "User-Name":
      return attributes.bytes(ATTRIBUTE.UserName);
    case "Calling-Station-Id":
      return attributes.bytes(ATTRIBUTE.CallingStationId);
    case "Chargeable-User-Identity":
      return attributes.bytes(ATTRIBUTE.ChargeableUserIdentity);
    case "Class":
      return attributes.bytes(ATTRIBUTE.Class);
    case "3GPP-IMSI":
      return attributes.vendor(VENDOR_3GPP, ATTRIBUTE_3GPP.Imsi);
    case "3GPP-IMEISV":
      return attributes.vendor(VENDOR_3GPP, ATTRIBUTE_3GPP.Imeisv);
  }
}

function prefixesOf(attributes: Attributes, { interfaceId, minPrefixLength }: RecordReading): IpPrefix[] {
  const framed = attributes.prefixes(ATTRIBUTE.FramedIpv6Prefix);
  const [identifier] = attributes.all(ATTRIBUTE.FramedInterfaceId);
  if (identifier !== undefined && identifier.length !== 8) throw malformed("Framed-Interface-Id has no 8 bytes");
  const isExact = identifier !== undefined && interfaceId === "exact";
  const ipv6 = [
    ...framed.map((prefix) => (isExact && prefix.length <= 64 ? withInterface(prefix, identifier) : prefix)),
    ...attributes.addresses(ATTRIBUTE.FramedIpv6Address, 16).map(wholeAddress),
    ...attributes.prefixes(ATTRIBUTE.DelegatedIpv6Prefix),
  ].filter(({ bytes, length }) => length >= minPrefixLength && bytes.some((byte) => byte !== 0));
  const ipv4 = attributes.addresses(ATTRIBUTE.FramedIpAddress, 4).filter((address) => !isChosenElsewhere(address));
  return [...ipv4.map(wholeAddress), ...ipv6];
}

/** RFC 3162 §2.2: the interface identifier is what follows a /64. */
function withInterface(prefix: IpPrefix, identifier: Uint8Array): IpPrefix {
  const bytes = Uint8Array.from(prefix.bytes);
  bytes.set(identifier, 8);
  return wholeAddress(bytes);
}

function wholeAddress(address: Uint8Array): IpPrefix {
  return ipPrefix(address, address.length * 8) ?? { bytes: address, length: address.length * 8 };
}

/** RFC 2865 §5.8: 255.255.255.255 and 255.255.255.254 say who is to choose the address; 0.0.0.0 says nothing. */
function isChosenElsewhere(address: Uint8Array): boolean {
  const [first, second, third, last = 0] = address;
  if (first === 255 && second === 255 && third === 255) return last >= 254;
  return address.every((byte) => byte === 0);
}

/** UTF-8 text without control characters as it is, anything else in lowercase hex; undefined where empty. */
function textOf(value: Uint8Array | undefined): string | undefined {
  if (value === undefined || value.length === 0) return undefined;
  try {
    const text = TEXT_DECODER.decode(value);
    if (!/\p{Cc}/u.test(text)) return text;
  } catch {
    // Not UTF-8.
  }
  return Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** RFC 2866 §5.1. */
const STATUSES: ReadonlyMap<number, AccountingStatus> = new Map([
  [1, "start"],
  [2, "stop"],
  [3, "interim"],
  [7, "on"],
  [8, "off"],
]);
const TEXT_DECODER = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
