import { isCritical, isUnsafe, type OptionRegistry } from "../wire/option-registry.js";
import { type Option, Options } from "../wire/options.js";

/**
 * Checks the options of a received message against a registry (RFC 7252 §5.4). Unknown elective options, elective ones
 * with a bad value and repeats of non-repeatable ones are left out; the same of a critical option is named. A proxy keeps
 * what is unknown to it and safe to forward, critical or not (§5.7.2).
 */
export function checkOptions(options: Options, registry: OptionRegistry, isForProxy = false): CheckedOptions {
  let hasUnrecognized = false;
  for (let position = 0; position < options.length; position++) {
    if (isRecognized(options, position, registry, isForProxy)) continue;
    const number = options.numberAt(position);
    if (isCritical(number)) return { ok: false, number };
    hasUnrecognized = true;
  }
  return { ok: true, options: hasUnrecognized ? recognized(options, registry, isForProxy) : options };
}

export type CheckedOptions =
  | { readonly ok: true; readonly options: Options }
  | { readonly ok: false; readonly number: number };

/** RFC 7252 §5.4.3 and §5.4.5: a bad length or a needless repeat makes an option an unrecognized one. */
function isRecognized(options: Options, position: number, registry: OptionRegistry, isForProxy: boolean): boolean {
  const number = options.numberAt(position);
  const known = registry.get(number);
  if (known === undefined) return isForProxy && !isUnsafe(number);
  const length = options.lengthAt(position);
  if (length < known.minLength || length > known.maxLength) return false;
  if (known.format === "string" && !options.isTextAt(position)) return false;
  return known.isRepeatable === true || position === 0 || options.numberAt(position - 1) !== number;
}

function recognized(options: Options, registry: OptionRegistry, isForProxy: boolean): Options {
  const kept: Option[] = [];
  let position = 0;
  for (const option of options) if (isRecognized(options, position++, registry, isForProxy)) kept.push(option);
  return Options.of(kept);
}
