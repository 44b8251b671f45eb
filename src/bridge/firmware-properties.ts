import {
  CODE,
  CONTENT_FORMAT,
  decodeLinks,
  formatCode,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { decodeCbor } from "#cbor/index.js";
import { messageOf } from "#errors/index.js";
import { checkName, decodePack, encodeFetchPack, encodePack, SenmlError, type SenmlValue } from "#senml/index.js";
import { BridgeError } from "./errors.js";
import type { FirmwareReading } from "./reading.js";

/** A property as `.well-known/core` of a firmware lists it. */
export interface FirmwareProperty {
  readonly name: string;
  readonly path: readonly string[];
  readonly unit?: string;
  readonly isObservable: boolean;
  readonly isWritable: boolean;
}

/** What a firmware has, by its links. */
export interface FirmwareResources {
  readonly properties: readonly FirmwareProperty[];
  /** Where all of them are, for FETCH. */
  readonly collection: readonly string[] | undefined;
  /** Where firmware-bridge tells of itself. */
  readonly status: readonly string[] | undefined;
}

/** What firmware-bridge tells of itself at `/dpe`. */
export interface FirmwareStatus {
  /** Since it started; wraps around after 2^32. */
  readonly uptimeMs: number;
  readonly observations: number;
  readonly droppedFrames: number;
  readonly lostBytes: number;
}

/**
 * Resources that give SenML-CBOR are properties, named by their path without the leading `p/` that firmware-bridge has.
 *
 * @throws BridgeError BRIDGE_BAD_ANSWER.
 */
export function resourcesOf(response: ResponseMessage): FirmwareResources {
  const links = answered(response, "/.well-known/core", () => decodeLinks(TEXT.decode(response.payload)));
  const properties: FirmwareProperty[] = [];
  let collection: readonly string[] | undefined;
  let status: readonly string[] | undefined;
  for (const { target, attributes } of links) {
    if (properties.length === MAX_PROPERTIES) break;
    const path = target.replace(/^\//, "").split("/");
    const kinds = String(attributes["rt"] ?? "").split(" ");
    const formats = String(attributes["ct"] ?? "").split(" ");
    if (kinds.includes("dpe.bridge")) status = path;
    else if (kinds.includes("dpe.p")) collection = path;
    else if (formats.includes(String(CONTENT_FORMAT["application/senml+cbor"]))) {
      const name = (path[0] === "p" && path.length > 1 ? path.slice(1) : path).join("/");
      if (!isName(name)) continue;
      const { u: unit } = attributes;
      properties.push({
        name,
        path,
        ...(typeof unit === "string" ? { unit } : {}),
        isObservable: attributes["obs"] !== undefined,
        isWritable: attributes["if"] === "core.a" || attributes["if"] === "core.p",
      });
    }
  }
  return { properties, collection, status };
}

/** @throws BridgeError BRIDGE_BAD_ANSWER. */
export function statusOf(response: ResponseMessage): FirmwareStatus {
  const items = answered(response, "/dpe", () => decodeCbor(response.payload));
  if (!Array.isArray(items) || items.length < STATUS_ITEMS || items[0] !== STATUS_FORMAT || !items.every(isCount))
    throw new BridgeError("BRIDGE_BAD_ANSWER", "/dpe holds no status of format 1");
  const [, uptimeMs = 0, observations = 0, droppedFrames = 0, lostBytes = 0] = items as readonly number[];
  return { uptimeMs, observations, droppedFrames, lostBytes };
}

/** The readings in a SenML-CBOR answer. @throws BridgeError BRIDGE_BAD_ANSWER, BRIDGE_REFUSED for an error response. */
export function readingsOf(response: ResponseMessage, what: string, nowSeconds: number): FirmwareReading[] {
  return answered(response, what, () =>
    decodePack(response.payload, "cbor", nowSeconds, LIMITS).flatMap(({ name, unit, value, timeSeconds }) =>
      value === undefined
        ? []
        : [{ name, ...(unit === undefined ? {} : { unit }), value, timeSeconds: timeSeconds ?? nowSeconds }],
    ),
  );
}

/** A FETCH of these properties. */
export function fetchOf(collection: readonly string[], names: readonly string[]): RequestMessage {
  return {
    code: CODE.FETCH,
    options: Options.none
      .withAll(OPTION.UriPath, collection)
      .with(OPTION.ContentFormat, CONTENT_FORMAT["application/senml-etch+cbor"]),
    payload: encodeFetchPack(
      names.map((name) => ({ name })),
      "cbor",
    ),
  };
}

/** A PUT of a value, a number as a decimal fraction: firmware-bridge has no floating point. @throws BridgeError BRIDGE_NOT_SUPPORTED. */
export function putOf(path: readonly string[], value: SenmlValue): RequestMessage {
  return {
    code: CODE.PUT,
    options: Options.none
      .withAll(OPTION.UriPath, path)
      .with(OPTION.ContentFormat, CONTENT_FORMAT["application/senml+cbor"]),
    payload: typeof value === "number" ? numberPack(value) : encodePack([{ name: path.at(-1) ?? "v", value }], "cbor"),
  };
}

/** @throws BridgeError BRIDGE_REFUSED, with the code of the answer. */
export function checkChanged(response: ResponseMessage, what: string): void {
  if (response.code !== CODE.Changed)
    throw new BridgeError("BRIDGE_REFUSED", `the firmware answered ${what} with ${formatCode(response.code)}`);
}

/** `[{2: value}]`, written by hand for the decimal fraction. */
function numberPack(value: number): Uint8Array {
  const [, digits = "", fraction = "", power = "0"] = /^(-?\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value)) ?? [];
  let mantissa = Number(digits + fraction);
  let exponent = Number(power) - fraction.length;
  for (; Math.abs(mantissa) > MAX_MANTISSA && mantissa % 10 === 0; exponent++) mantissa /= 10;
  if (digits === "" || !Number.isInteger(mantissa) || Math.abs(mantissa) > MAX_MANTISSA || Math.abs(exponent) > 32)
    throw new BridgeError("BRIDGE_NOT_SUPPORTED", `${value} has more digits than a firmware takes`);
  const number = exponent === 0 ? integer(mantissa) : [0xc4, 0x82, ...integer(exponent), ...integer(mantissa)];
  return Uint8Array.of(0x81, 0xa1, 0x02, ...number);
}

/** A CBOR integer of at most 32 bits. */
function integer(value: number): readonly number[] {
  const major = value < 0 ? 0x20 : 0;
  const size = value < 0 ? -1 - value : value;
  if (size < 24) return [major | size];
  if (size < 0x100) return [major | 24, size];
  if (size < 0x10000) return [major | 25, size >> 8, size & 0xff];
  return [major | 26, size >>> 24, (size >> 16) & 0xff, (size >> 8) & 0xff, size & 0xff];
}

function answered<T>(response: ResponseMessage, what: string, read: () => T): T {
  if (response.code !== CODE.Content)
    throw new BridgeError("BRIDGE_REFUSED", `the firmware answered ${what} with ${formatCode(response.code)}`);
  try {
    return read();
  } catch (error) {
    const why = messageOf(error);
    throw new BridgeError("BRIDGE_BAD_ANSWER", `what the firmware answered for ${what} is none: ${why}`, {
      cause: error,
    });
  }
}

function isName(name: string): boolean {
  try {
    checkName(name);
    return true;
  } catch (error) {
    if (error instanceof SenmlError) return false;
    throw error;
  }
}

function isCount(item: unknown): boolean {
  return Number.isSafeInteger(item) && Number(item) >= 0;
}

/** More than firmware-bridge has; a bound on what a firmware can make us keep. */
const MAX_PROPERTIES = 128;
const LIMITS = { maxBytes: 16_384, maxRecords: MAX_PROPERTIES };
const STATUS_FORMAT = 1;
const STATUS_ITEMS = 5;
const MAX_MANTISSA = 0x7fff_ffff;
const TEXT = new TextDecoder();
