import { CborError, CborTag, decodeCbor, encodeCbor, LANGUAGE_TAGGED } from "#cbor/index.js";
import { CoapError } from "./errors.js";

/** Concise problem details (RFC 9290), content-format 257: what went wrong, for a program and for a person. */
export interface ProblemDetails {
  readonly title?: ProblemText;
  readonly detail?: ProblemText;
  /** A URI reference of this occurrence. */
  readonly instance?: string;
  /** The response's code, where the body may travel without it. */
  readonly responseCode?: number;
  readonly baseUri?: string;
  readonly baseLanguage?: string;
  readonly isBaseRightToLeft?: boolean;
  /**
   * Custom problem detail entries (RFC 9290 §2.2) by their registered number or URI, each a map of its own; and standard
   * ones that are not known here, by their negative number.
   */
  readonly entries?: ReadonlyMap<number | string, unknown>;
}

/** A text, or one with its language (RFC 9290 appendix A). */
export type ProblemText =
  | string
  | { readonly text: string; readonly language: string; readonly isRightToLeft?: boolean };

/** The body. @throws CoapError COAP_INVALID_MESSAGE for an entry under a standard key, or one that is no map with something in it. */
export function encodeProblemDetails(problem: ProblemDetails): Uint8Array {
  const map = new Map<number | string, unknown>();
  const put = (key: number, value: unknown): void => {
    if (value !== undefined) map.set(key, value);
  };
  put(KEY.title, textValue(problem.title));
  put(KEY.detail, textValue(problem.detail));
  put(KEY.instance, problem.instance);
  put(KEY.responseCode, problem.responseCode);
  put(KEY.baseUri, problem.baseUri);
  put(KEY.baseLanguage, problem.baseLanguage);
  put(KEY.baseRightToLeft, problem.isBaseRightToLeft);
  for (const [key, value] of problem.entries ?? []) {
    if (typeof key === "number" && key < 0)
      throw new CoapError("COAP_INVALID_MESSAGE", `a custom entry has a number from 0 or a URI, not ${key}`);
    if (!isFilledMap(value)) throw new CoapError("COAP_INVALID_MESSAGE", `the custom entry ${key} is no map, or empty`);
    map.set(key, value);
  }
  return encodeCbor(map);
}

/**
 * Decodes a body from whoever sent it. Entries that are not as RFC 9290 §2 says are left out, as unknown ones are.
 *
 * @throws CoapError COAP_FORMAT_ERROR when it is no CBOR map.
 */
export function decodeProblemDetails(body: Uint8Array): ProblemDetails {
  let decoded: unknown;
  try {
    decoded = decodeCbor(body, { maxDepth: 8, tags: "drop" });
  } catch (error) {
    if (!(error instanceof CborError)) throw error;
    throw new CoapError("COAP_FORMAT_ERROR", `problem details: ${error.message}`, { cause: error });
  }
  if (!(decoded instanceof Map)) throw new CoapError("COAP_FORMAT_ERROR", "problem details are a map");
  const map: ReadonlyMap<unknown, unknown> = decoded;
  const title = problemText(map.get(KEY.title));
  const detail = problemText(map.get(KEY.detail));
  const instance = map.get(KEY.instance);
  const responseCode = map.get(KEY.responseCode);
  const baseUri = map.get(KEY.baseUri);
  const baseLanguage = map.get(KEY.baseLanguage);
  const isBaseRightToLeft = map.get(KEY.baseRightToLeft);
  const entries = new Map<number | string, unknown>();
  for (const [key, value] of map) {
    const isUnknownStandard = typeof key === "number" && key < 0 && !STANDARD_KEYS.has(key);
    const isCustom = (typeof key === "string" || (typeof key === "number" && key >= 0)) && isFilledMap(value);
    if (isUnknownStandard || isCustom) entries.set(key, value);
  }
  return {
    ...(title === undefined ? {} : { title }),
    ...(detail === undefined ? {} : { detail }),
    ...(typeof instance === "string" ? { instance } : {}),
    ...(isByte(responseCode) ? { responseCode } : {}),
    ...(typeof baseUri === "string" ? { baseUri } : {}),
    ...(isLanguage(baseLanguage) ? { baseLanguage } : {}),
    ...(typeof isBaseRightToLeft === "boolean" ? { isBaseRightToLeft } : {}),
    ...(entries.size === 0 ? {} : { entries }),
  };
}

/** RFC 9290 appendix A: tag 38 with language, text and direction. */
function textValue(text: ProblemText | undefined): unknown {
  if (text === undefined || typeof text === "string") return text;
  const { language, isRightToLeft } = text;
  return new CborTag([language, text.text, ...(isRightToLeft === undefined ? [] : [isRightToLeft])], LANGUAGE_TAGGED);
}

function problemText(value: unknown): ProblemText | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const [language, text, isRightToLeft] = value as unknown[];
  if (!isLanguage(language) || typeof text !== "string") return undefined;
  return { text, language, ...(typeof isRightToLeft === "boolean" ? { isRightToLeft } : {}) };
}

/** RFC 9290 §2.2: a custom entry is a map with something in it. */
function isFilledMap(value: unknown): boolean {
  return value instanceof Map && value.size > 0;
}

function isByte(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 0xff;
}

/** RFC 9290 appendix A. */
function isLanguage(value: unknown): value is string {
  return typeof value === "string" && /^[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*$/.test(value);
}

/** RFC 9290 §2.1 */
const KEY = {
  title: -1,
  detail: -2,
  instance: -3,
  responseCode: -4,
  baseUri: -5,
  baseLanguage: -6,
  baseRightToLeft: -7,
} as const;
const STANDARD_KEYS: ReadonlySet<number> = new Set(Object.values(KEY));
