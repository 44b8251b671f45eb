/** CoAP option numbers (RFC 7252 §5.10, RFC 7641, RFC 7959, RFC 7967, RFC 8613, RFC 8768, RFC 9175, RFC 9177). */
export const OPTION = {
  IfMatch: 1,
  UriHost: 3,
  ETag: 4,
  IfNoneMatch: 5,
  Observe: 6,
  UriPort: 7,
  LocationPath: 8,
  UriPath: 11,
  ContentFormat: 12,
  MaxAge: 14,
  UriQuery: 15,
  HopLimit: 16,
  Accept: 17,
  QBlock1: 19,
  LocationQuery: 20,
  Block2: 23,
  Block1: 27,
  Size2: 28,
  QBlock2: 31,
  ProxyUri: 35,
  ProxyScheme: 39,
  Size1: 60,
  Echo: 252,
  NoResponse: 258,
  RequestTag: 292,
} as const;

/** What a registry says of one option. Lengths are bytes. */
export interface OptionFormat {
  readonly number: number;
  readonly name: string;
  readonly format: "empty" | "opaque" | "uint" | "string";
  readonly minLength: number;
  readonly maxLength: number;
  /** Default false. "request": there only. */
  readonly isRepeatable?: boolean | "request";
  /** Default: in either. In the other kind of message it is as unknown (RFC 7252 §5.4). */
  readonly onlyIn?: MessageKind | undefined;
}

export type MessageKind = "request" | "response";

export type OptionRegistry = ReadonlyMap<number, OptionFormat>;

/** The registry of the RFCs, with the application's own options added. */
export function optionRegistry(extensions: readonly OptionFormat[] = []): OptionRegistry {
  // All of one shape: they are looked at for each option of each message.
  const own = extensions.map(({ isRepeatable = false, onlyIn, ...option }) => ({ ...option, isRepeatable, onlyIn }));
  return new Map([...RFC_OPTIONS, ...own].map((option) => [option.number, option]));
}

/** RFC 7252 §5.4.6: odd numbers are critical. */
export function isCritical(number: number): boolean {
  return (number & 1) === 1;
}

/** RFC 7252 §5.4.6: bit 1 set is unsafe to forward for a proxy that does not know the option. */
export function isUnsafe(number: number): boolean {
  return (number & 2) === 2;
}

/** RFC 7252 §5.4.6: a safe-to-forward option with bits 2–4 all set is no part of the cache key. */
export function isNoCacheKey(number: number): boolean {
  return (number & 0x1e) === 0x1c;
}

type Row = readonly [
  number: number,
  name: string,
  format: OptionFormat["format"],
  minLength: number,
  maxLength: number,
  onlyIn?: MessageKind | undefined,
  isRepeatable?: OptionFormat["isRepeatable"],
];

const ROWS: readonly Row[] = [
  [OPTION.IfMatch, "If-Match", "opaque", 0, 8, "request", true],
  [OPTION.UriHost, "Uri-Host", "string", 1, 255, "request"],
  [OPTION.ETag, "ETag", "opaque", 1, 8, undefined, "request"],
  [OPTION.IfNoneMatch, "If-None-Match", "empty", 0, 0, "request"],
  [OPTION.Observe, "Observe", "uint", 0, 3],
  [OPTION.UriPort, "Uri-Port", "uint", 0, 2, "request"],
  [OPTION.LocationPath, "Location-Path", "string", 0, 255, "response", true],
  [OPTION.UriPath, "Uri-Path", "string", 0, 255, "request", true],
  [OPTION.ContentFormat, "Content-Format", "uint", 0, 2],
  [OPTION.MaxAge, "Max-Age", "uint", 0, 4, "response"],
  [OPTION.UriQuery, "Uri-Query", "string", 0, 255, "request", true],
  [OPTION.HopLimit, "Hop-Limit", "uint", 1, 1, "request"],
  [OPTION.Accept, "Accept", "uint", 0, 2, "request"],
  [OPTION.LocationQuery, "Location-Query", "string", 0, 255, "response", true],
  [OPTION.Block2, "Block2", "uint", 0, 3],
  [OPTION.Block1, "Block1", "uint", 0, 3],
  [OPTION.Size2, "Size2", "uint", 0, 4],
  [OPTION.QBlock1, "Q-Block1", "uint", 0, 3],
  [OPTION.QBlock2, "Q-Block2", "uint", 0, 3, undefined, true],
  [OPTION.ProxyUri, "Proxy-Uri", "string", 1, 1034, "request"],
  [OPTION.ProxyScheme, "Proxy-Scheme", "string", 1, 255, "request"],
  [OPTION.Size1, "Size1", "uint", 0, 4],
  [OPTION.Echo, "Echo", "opaque", 1, 40],
  [OPTION.NoResponse, "No-Response", "uint", 0, 1, "request"],
  [OPTION.RequestTag, "Request-Tag", "opaque", 0, 8, "request", true],
];

const RFC_OPTIONS: readonly OptionFormat[] = ROWS.map(
  ([number, name, format, minLength, maxLength, onlyIn, isRepeatable]) => ({
    number,
    name,
    format,
    minLength,
    maxLength,
    isRepeatable: isRepeatable ?? false,
    onlyIn,
  }),
);
