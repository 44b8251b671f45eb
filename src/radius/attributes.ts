import { formatIpAddress, type IpPrefix, ipPrefix } from "#ip/index.js";
import { malformed, type RadiusPacket } from "./packet.js";

/** Attribute types (RFC 2865, RFC 2866, RFC 2869, RFC 3162, RFC 4372, RFC 4818, RFC 6911). */
export const ATTRIBUTE = {
  UserName: 1,
  NasIpAddress: 4,
  FramedIpAddress: 8,
  Class: 25,
  VendorSpecific: 26,
  CallingStationId: 31,
  NasIdentifier: 32,
  ProxyState: 33,
  AcctStatusType: 40,
  AcctDelayTime: 41,
  AcctSessionId: 44,
  MessageAuthenticator: 80,
  ChargeableUserIdentity: 89,
  NasIpv6Address: 95,
  FramedInterfaceId: 96,
  FramedIpv6Prefix: 97,
  DelegatedIpv6Prefix: 123,
  FramedIpv6Address: 168,
} as const;

/** Vendor-specific ones of 3GPP (TS 29.061 §16.4.7). */
export const VENDOR_3GPP = 10_415;
export const ATTRIBUTE_3GPP = { Imsi: 1, Imeisv: 20 } as const;

/** The attributes of a packet by type, read by their form. Every read @throws RadiusError RADIUS_MALFORMED. */
export class Attributes {
  readonly #packet: RadiusPacket;

  constructor(packet: RadiusPacket) {
    this.#packet = packet;
  }

  all(type: number): Uint8Array[] {
    return this.#packet.attributes.filter((attribute) => attribute.type === type).map(({ value }) => value);
  }

  /** The first one. */
  bytes(type: number): Uint8Array | undefined {
    return this.#packet.attributes.find((attribute) => attribute.type === type)?.value;
  }

  uint(type: number): number | undefined {
    const value = this.bytes(type);
    if (value === undefined) return undefined;
    if (value.length !== 4) throw malformed(`attribute ${type} has no 4 bytes`);
    return value.reduce((number, byte) => number * 256 + byte, 0);
  }

  /** Of all attributes of that type. */
  addresses(type: number, bytes: 4 | 16): Uint8Array[] {
    return this.all(type).map((value) => {
      if (value.length !== bytes) throw malformed(`attribute ${type} has no ${bytes} bytes`);
      return value;
    });
  }

  /** In text, for a key or a log. */
  address(type: number, bytes: 4 | 16): string | undefined {
    const [address] = this.addresses(type, bytes);
    return address === undefined ? undefined : formatIpAddress(address);
  }

  /** Of all attributes of that type (RFC 3162 §2.3): reserved, length in bits, then as many bytes as are needed. */
  prefixes(type: number): IpPrefix[] {
    return this.all(type).map((value) => {
      const length = value[1] ?? Number.NaN;
      const bytes = new Uint8Array(16);
      if (value.length < 2 || value.length > 18 || length > 128 || (value.length - 2) * 8 < length)
        throw malformed(`attribute ${type} is no prefix`);
      bytes.set(value.subarray(2));
      const prefix = ipPrefix(bytes, length);
      if (prefix === undefined) throw malformed(`attribute ${type} is no prefix`);
      return prefix;
    });
  }

  /** The first one of a vendor's (RFC 2865 §5.26), where its value has the recommended form; else undefined. */
  vendor(vendor: number, type: number): Uint8Array | undefined {
    for (const value of this.all(ATTRIBUTE.VendorSpecific)) {
      const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
      if (value.length < 4 || view.getUint32(0) !== vendor) continue;
      for (let offset = 4; offset + 2 <= value.length;) {
        const size = value[offset + 1] ?? 0;
        if (size < 2 || offset + size > value.length) break;
        if (value[offset] === type) return value.subarray(offset + 2, offset + size);
        offset += size;
      }
    }
    return undefined;
  }
}
