import { isCritical, isUnsafe, type MessageKind, OPTION, type OptionRegistry } from "../wire/option-registry.js";
import { type Option, Options } from "../wire/options.js";

/**
 * Checks the options of a received message against a registry (RFC 7252 §5.4). Unknown elective options, elective ones
 * with a bad value, repeats of non-repeatable ones and those of the other kind of message are left out; the same of a
 * critical option is named. A proxy keeps what is unknown to it and safe to forward, critical or not (§5.7.2).
 */
export function checkOptions(
  options: Options,
  registry: OptionRegistry,
  kind: MessageKind,
  isForProxy = false,
): CheckedOptions {
  let hasUnrecognized = false;
  for (let position = 0; position < options.length; position++) {
    if (isRecognized(options, position, registry, kind, isForProxy)) continue;
    const number = options.numberAt(position);
    if (isCritical(number) || isReservedLocation(options, number)) return { ok: false, number };
    hasUnrecognized = true;
  }
  return { ok: true, options: hasUnrecognized ? recognized(options, registry, kind, isForProxy) : options };
}

export type CheckedOptions =
  | { readonly ok: true; readonly options: Options }
  | { readonly ok: false; readonly number: number };

/** RFC 7252 §5.4.3 and §5.4.5: a bad length or a needless repeat makes an option an unrecognized one. */
function isRecognized(
  options: Options,
  position: number,
  registry: OptionRegistry,
  kind: MessageKind,
  isForProxy: boolean,
): boolean {
  const number = options.numberAt(position);
  const known = registry.get(number);
  if (known === undefined) return isForProxy && !isUnsafe(number);
  const { onlyIn, isRepeatable = false } = known;
  if (onlyIn !== undefined && onlyIn !== kind) return false;
  const length = options.lengthAt(position);
  if (length < known.minLength || length > known.maxLength) return false;
  if (known.format === "string" && !options.isTextAt(position)) return false;
  // RFC 7252 §5.10.1, §5.10.7: no segment of a path is one of dots.
  const isSegment = length <= 2 && (number === OPTION.UriPath || number === OPTION.LocationPath);
  if (isSegment && options.isDotsAt(position)) return false;
  return isRepeatable === true || isRepeatable === kind || position === 0 || options.numberAt(position - 1) !== number;
}

/** RFC 7252 §5.10.7: what more may tell of a location is to be understood, though its number is an elective option's. */
function isReservedLocation(options: Options, number: number): boolean {
  return RESERVED_LOCATIONS.has(number) && (options.has(OPTION.LocationPath) || options.has(OPTION.LocationQuery));
}

function recognized(options: Options, registry: OptionRegistry, kind: MessageKind, isForProxy: boolean): Options {
  const kept: Option[] = [];
  let position = 0;
  for (const option of options) if (isRecognized(options, position++, registry, kind, isForProxy)) kept.push(option);
  return Options.of(kept);
}

const RESERVED_LOCATIONS: ReadonlySet<number> = new Set([128, 132, 136, 140]);
