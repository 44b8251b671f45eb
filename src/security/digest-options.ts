import { decodeCbor, encodeCbor } from "#cbor/index.js";
import {
  DIGEST_ALGORITHMS,
  DIGEST_HASH_BYTES,
  DIGEST_QOPS,
  type AuthenticationInfo,
  type Authorization,
  type Challenge,
  type DigestAlgorithm,
  type DigestQop,
  hashOf,
  isNonceCount,
  isSessionAlgorithm,
} from "#digest/index.js";
import { DIGEST_ALGORITHM_NUMBER, DIGEST_KEY, DIGEST_QOP_NUMBER, DIGEST_SCOPE_NUMBER } from "#dpe/index.js";
import { SecurityError } from "./errors.js";

/** How far a Digest success reaches: one message, or the DTLS association that carries it. */
export type DigestScope = keyof typeof DIGEST_SCOPE_NUMBER;

export interface ScopedChallenge extends Challenge {
  readonly scope: DigestScope;
}

/** Value of a Digest-Challenge option. */
export function encodeChallenge(challenge: ScopedChallenge): Uint8Array {
  return encodeMap([
    [DIGEST_KEY.realm, challenge.realm],
    [DIGEST_KEY.nonce, challenge.nonce],
    [DIGEST_KEY.opaque, challenge.opaque],
    [DIGEST_KEY.stale, challenge.stale ? true : undefined],
    [DIGEST_KEY.algorithm, challenge.algorithms.map((algorithm) => DIGEST_ALGORITHM_NUMBER[algorithm])],
    [DIGEST_KEY.qop, challenge.qops.length === 0 ? undefined : challenge.qops.map((qop) => DIGEST_QOP_NUMBER[qop])],
    [DIGEST_KEY.userhash, challenge.userhash ? true : undefined],
    [DIGEST_KEY.scope, DIGEST_SCOPE_NUMBER[challenge.scope]],
  ]);
}

/** Algorithms and qops that this version does not know are left out. @throws SecurityError SECURITY_BAD_OPTION. */
export function decodeChallenge(value: Uint8Array): ScopedChallenge {
  const map = new OptionMap("Digest-Challenge", value);
  const algorithms = map
    .numbers(DIGEST_KEY.algorithm, "algorithms")
    .flatMap((number) => ALGORITHM_NAMES.get(number) ?? []);
  const qopNumbers = map.optionalNumbers(DIGEST_KEY.qop, "qop") ?? [];
  const qops = qopNumbers.flatMap((number) => QOP_NAMES.get(number) ?? []);
  // An empty list would ask for an answer without qop, which is less than any that is unknown here.
  if (qops.length === 0 && qopNumbers.length > 0) map.fail("qop");
  const opaque = map.optionalBytes(DIGEST_KEY.opaque, "opaque");
  const scope =
    map.optionalNumber(DIGEST_KEY.scope, "scope") === DIGEST_SCOPE_NUMBER.association ? "association" : "request";
  return {
    realm: map.text(DIGEST_KEY.realm, "realm"),
    nonce: map.bytes(DIGEST_KEY.nonce, "nonce"),
    ...(opaque === undefined ? {} : { opaque }),
    stale: map.flag(DIGEST_KEY.stale, "stale"),
    algorithms,
    qops,
    userhash: map.flag(DIGEST_KEY.userhash, "userhash"),
    scope,
  };
}

/** Value of a Digest-Authorization or Digest-Proof option. */
export function encodeAuthorization(authorization: Authorization): Uint8Array {
  const { qop, cnonce } = authorization;
  return encodeMap([
    [DIGEST_KEY.realm, authorization.realm],
    [DIGEST_KEY.nonce, authorization.nonce],
    [DIGEST_KEY.opaque, authorization.opaque],
    [DIGEST_KEY.algorithm, DIGEST_ALGORITHM_NUMBER[authorization.algorithm]],
    [DIGEST_KEY.qop, qop === "none" ? undefined : DIGEST_QOP_NUMBER[qop]],
    [DIGEST_KEY.username, authorization.username],
    [DIGEST_KEY.cnonce, cnonce.length === 0 ? undefined : cnonce],
    [DIGEST_KEY.nonceCount, qop === "none" ? undefined : authorization.nonceCount],
    [DIGEST_KEY.response, authorization.response],
  ]);
}

/** @throws SecurityError SECURITY_BAD_OPTION that names the field. */
export function decodeAuthorization(value: Uint8Array, name = "Digest-Authorization"): Authorization {
  const map = new OptionMap(name, value);
  const algorithm = ALGORITHM_NAMES.get(map.number(DIGEST_KEY.algorithm, "algorithm")) ?? map.fail("algorithm");
  const qopNumber = map.optionalNumber(DIGEST_KEY.qop, "qop");
  const qop = qopNumber === undefined ? "none" : (QOP_NAMES.get(qopNumber) ?? map.fail("qop"));
  const opaque = map.optionalBytes(DIGEST_KEY.opaque, "opaque");
  const nonceCount = qop === "none" ? 1 : map.number(DIGEST_KEY.nonceCount, "nc");
  const isCnonceNeeded = qop !== "none" || isSessionAlgorithm(algorithm);
  const response = map.bytes(DIGEST_KEY.response, "response");
  if (!isNonceCount(nonceCount)) map.fail("nc");
  if (response.length !== DIGEST_HASH_BYTES[hashOf(algorithm)]) map.fail("response");
  return {
    realm: map.text(DIGEST_KEY.realm, "realm"),
    nonce: map.bytes(DIGEST_KEY.nonce, "nonce"),
    ...(opaque === undefined ? {} : { opaque }),
    algorithm,
    qop,
    username: map.textOrBytes(DIGEST_KEY.username, "username"),
    cnonce: isCnonceNeeded ? map.bytes(DIGEST_KEY.cnonce, "cnonce") : NO_BYTES,
    nonceCount,
    response,
  };
}

/** Value of a Digest-Info option. */
export function encodeInfo(info: AuthenticationInfo): Uint8Array {
  return encodeMap([
    [DIGEST_KEY.rspauth, info.rspauth],
    [DIGEST_KEY.nextnonce, info.nextnonce],
    [DIGEST_KEY.qop, info.qop === undefined ? undefined : DIGEST_QOP_NUMBER[info.qop]],
    [DIGEST_KEY.nonceCount, info.nonceCount],
    [DIGEST_KEY.cnonce, info.cnonce],
  ]);
}

/** @throws SecurityError SECURITY_BAD_OPTION that names the field. */
export function decodeInfo(value: Uint8Array): AuthenticationInfo {
  const map = new OptionMap("Digest-Info", value);
  const rspauth = map.optionalBytes(DIGEST_KEY.rspauth, "rspauth");
  const nextnonce = map.optionalBytes(DIGEST_KEY.nextnonce, "nextnonce");
  const qopNumber = map.optionalNumber(DIGEST_KEY.qop, "qop");
  const nonceCount = map.optionalNumber(DIGEST_KEY.nonceCount, "nc");
  const cnonce = map.optionalBytes(DIGEST_KEY.cnonce, "cnonce");
  const qop = qopNumber === undefined ? undefined : (QOP_NAMES.get(qopNumber) ?? map.fail("qop"));
  return {
    ...(rspauth === undefined ? {} : { rspauth }),
    ...(nextnonce === undefined ? {} : { nextnonce }),
    ...(qop === undefined ? {} : { qop }),
    ...(nonceCount === undefined ? {} : { nonceCount }),
    ...(cnonce === undefined ? {} : { cnonce }),
  };
}

/** A CBOR map with integer keys, read field by field; unknown keys are ignored. */
class OptionMap {
  readonly #name: string;
  readonly #fields: ReadonlyMap<unknown, unknown>;

  constructor(name: string, value: Uint8Array) {
    this.#name = name;
    let decoded: unknown;
    try {
      decoded = decodeCbor(value);
    } catch (error) {
      throw new SecurityError("SECURITY_BAD_OPTION", `${name} is no plain CBOR`, { cause: error });
    }
    if (!(decoded instanceof Map)) throw new SecurityError("SECURITY_BAD_OPTION", `${name} is not a CBOR map`);
    this.#fields = decoded;
  }

  text(key: number, field: string): string {
    const value = this.#fields.get(key);
    return typeof value === "string" && value !== "" ? value : this.fail(field);
  }

  bytes(key: number, field: string): Uint8Array {
    return this.optionalBytes(key, field) ?? this.fail(field);
  }

  textOrBytes(key: number, field: string): string | Uint8Array {
    return typeof this.#fields.get(key) === "string" ? this.text(key, field) : this.bytes(key, field);
  }

  number(key: number, field: string): number {
    return this.optionalNumber(key, field) ?? this.fail(field);
  }

  numbers(key: number, field: string): readonly number[] {
    return this.optionalNumbers(key, field) ?? this.fail(field);
  }

  optionalNumbers(key: number, field: string): readonly number[] | undefined {
    const value = this.#fields.get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || value.length === 0 || value.length > MAX_LIST) return this.fail(field);
    return value.map((number: unknown) => (Number.isInteger(number) ? Number(number) : this.fail(field)));
  }

  flag(key: number, field: string): boolean {
    const value = this.#fields.get(key);
    if (value !== undefined && typeof value !== "boolean") return this.fail(field);
    return value === true;
  }

  optionalNumber(key: number, field: string): number | undefined {
    const value = this.#fields.get(key);
    if (value === undefined) return undefined;
    return typeof value === "number" && Number.isInteger(value) && value >= 0 ? value : this.fail(field);
  }

  optionalBytes(key: number, field: string): Uint8Array | undefined {
    const value = this.#fields.get(key);
    if (value === undefined) return undefined;
    const isGood = value instanceof Uint8Array && value.length > 0 && value.length <= MAX_FIELD_BYTES;
    return isGood ? Uint8Array.from(value) : this.fail(field);
  }

  fail(field: string): never {
    throw new SecurityError("SECURITY_BAD_OPTION", `${this.#name}: ${field} is missing or not what the binding says`);
  }
}

function encodeMap(entries: readonly (readonly [number, unknown])[]): Uint8Array {
  const present = entries.filter(([, value]) => value !== undefined);
  return encodeCbor(new Map(present.map(([key, value]) => [key, value])));
}

const ALGORITHM_NAMES: ReadonlyMap<number, DigestAlgorithm> = new Map(
  DIGEST_ALGORITHMS.map((name) => [DIGEST_ALGORITHM_NUMBER[name], name]),
);
const QOP_NAMES: ReadonlyMap<number, DigestQop> = new Map(DIGEST_QOPS.map((name) => [DIGEST_QOP_NUMBER[name], name]));
const NO_BYTES = new Uint8Array(0);
const MAX_LIST = 16;
const MAX_FIELD_BYTES = 64;
