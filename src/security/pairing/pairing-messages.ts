import { CborError, decodeCbor, encodeCbor } from "#cbor/index.js";
import { PAIRING_KEY, PAIRING_KIND, type PairingKind } from "#dpe/index.js";
import { SecurityError } from "../errors.js";

/**
 * What a device asks for: `POST /dpe1/pair`, and without a name `POST /dpe1/renew`; of which, without a request either, only the
 * anchors (docs/pairing.md).
 */
export interface PairingRequest {
  /** PKCS #10, DER. */
  readonly request?: Uint8Array;
  readonly endpoint?: string;
}

/** What a device is given. */
export interface PairingGrant {
  readonly endpoint: string;
  readonly subscriber: string;
  readonly kind: PairingKind;
  /** Kind certificate: DER, the device's own first. */
  readonly certificates?: readonly Uint8Array[];
  /** What the server's certificate leads to, DER; kinds certificate and digest. */
  readonly anchors?: readonly Uint8Array[];
  /** Kind digest: a password. Kind psk: a key. Both ASCII text. */
  readonly secret?: Uint8Array;
  /** How often to report. */
  readonly intervalSeconds?: number;
  /** Of registrations. */
  readonly lifetimeSeconds?: number;
}

export function encodePairingRequest({ request, endpoint }: PairingRequest): Uint8Array {
  return encodeMap([
    [PAIRING_KEY.request, request],
    [PAIRING_KEY.endpoint, endpoint],
  ]);
}

/** @throws SecurityError SECURITY_BAD_PAIRING_MESSAGE. */
export function decodePairingRequest(bytes: Uint8Array): PairingRequest {
  const map = decodeMap(bytes);
  return {
    ...optional("request", bytesAt(map, PAIRING_KEY.request)),
    ...optional("endpoint", textAt(map, PAIRING_KEY.endpoint)),
  };
}

export function encodePairingGrant(grant: PairingGrant): Uint8Array {
  return encodeMap([
    [PAIRING_KEY.endpoint, grant.endpoint],
    [PAIRING_KEY.subscriber, grant.subscriber],
    [PAIRING_KEY.kind, PAIRING_KIND[grant.kind]],
    [PAIRING_KEY.certificates, grant.certificates],
    [PAIRING_KEY.anchors, grant.anchors],
    [PAIRING_KEY.secret, grant.secret],
    [PAIRING_KEY.intervalSeconds, grant.intervalSeconds],
    [PAIRING_KEY.lifetimeSeconds, grant.lifetimeSeconds],
  ]);
}

/** @throws SecurityError SECURITY_BAD_PAIRING_MESSAGE. */
export function decodePairingGrant(bytes: Uint8Array): PairingGrant {
  const map = decodeMap(bytes);
  const number = map.get(PAIRING_KEY.kind);
  const kind = (Object.keys(PAIRING_KIND) as PairingKind[]).find((name) => PAIRING_KIND[name] === number);
  const endpoint = textAt(map, PAIRING_KEY.endpoint);
  const subscriber = textAt(map, PAIRING_KEY.subscriber);
  const certificates = listAt(map, PAIRING_KEY.certificates);
  const anchors = listAt(map, PAIRING_KEY.anchors);
  const secret = bytesAt(map, PAIRING_KEY.secret);
  if (kind === undefined || endpoint === undefined || subscriber === undefined)
    throw bad("kind, endpoint or subscriber");
  if (kind === "certificate" && certificates === undefined) throw bad("no certificate");
  if (kind !== "certificate" && (secret === undefined || secret.length === 0)) throw bad("no secret");
  if (kind !== "psk" && anchors === undefined) throw bad("no anchor for the server's certificate");
  return {
    endpoint,
    subscriber,
    kind,
    ...optional("certificates", certificates),
    ...optional("anchors", anchors),
    ...optional("secret", secret),
    ...optional("intervalSeconds", numberAt(map, PAIRING_KEY.intervalSeconds)),
    ...optional("lifetimeSeconds", numberAt(map, PAIRING_KEY.lifetimeSeconds)),
  };
}

/** The answer to who asks for nothing but the anchors. */
export function encodePairingAnchors(anchors: readonly Uint8Array[]): Uint8Array {
  return encodeMap([[PAIRING_KEY.anchors, anchors]]);
}

/** @throws SecurityError SECURITY_BAD_PAIRING_MESSAGE. */
export function decodePairingAnchors(bytes: Uint8Array): readonly Uint8Array[] {
  const anchors = listAt(decodeMap(bytes), PAIRING_KEY.anchors);
  if (anchors === undefined) throw bad("no anchor for the server's certificate");
  return anchors;
}

type PairingMap = ReadonlyMap<unknown, unknown>;

function encodeMap(entries: readonly (readonly [number, unknown])[]): Uint8Array {
  return encodeCbor(new Map(entries.filter(([, value]) => value !== undefined)));
}

function decodeMap(bytes: Uint8Array): PairingMap {
  try {
    const decoded = decodeCbor(bytes);
    if (decoded instanceof Map) return decoded;
  } catch (error) {
    if (!(error instanceof CborError)) throw error;
  }
  throw bad("it is no CBOR map");
}

function bytesAt(map: PairingMap, key: number): Uint8Array | undefined {
  return valueAt(map, key, (value): value is Uint8Array => value instanceof Uint8Array);
}

function textAt(map: PairingMap, key: number): string | undefined {
  return valueAt(map, key, (value): value is string => typeof value === "string" && value !== "");
}

function numberAt(map: PairingMap, key: number): number | undefined {
  return valueAt(map, key, (value): value is number => Number.isInteger(value) && Number(value) > 0);
}

function listAt(map: PairingMap, key: number): readonly Uint8Array[] | undefined {
  const isList = (value: unknown): value is readonly Uint8Array[] =>
    Array.isArray(value) && value.length > 0 && value.every((item) => item instanceof Uint8Array);
  return valueAt(map, key, isList);
}

function valueAt<T>(map: PairingMap, key: number, is: (value: unknown) => value is T): T | undefined {
  const value = map.get(key);
  if (value === undefined || is(value)) return value;
  throw bad(`the value of key ${key}`);
}

function optional<Name extends string, T>(name: Name, value: T | undefined): { readonly [N in Name]?: T } {
  return (value === undefined ? {} : { [name]: value }) as { readonly [N in Name]?: T };
}

function bad(what: string): SecurityError {
  return new SecurityError("SECURITY_BAD_PAIRING_MESSAGE", `the message of pairing is malformed: ${what}`);
}
