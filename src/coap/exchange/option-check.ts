import { isCritical, type OptionRegistry } from "../wire/option-registry.js";
import { type Option, Options } from "../wire/options.js";

/**
 * Checks the options of a received message against a registry (RFC 7252 §5.4). Unknown elective options, elective ones
 * with a bad length and repeats of non-repeatable ones are left out; the same of a critical option is named.
 */
export function checkOptions(options: Options, registry: OptionRegistry): CheckedOptions {
  let previous = -1;
  let faults = 0;
  for (const option of options) {
    if (isAcceptable(option, previous, registry)) {
      previous = option.number;
      continue;
    }
    if (isCritical(option.number)) return { ok: false, number: option.number };
    previous = option.number;
    faults++;
  }
  return { ok: true, options: faults === 0 ? options : withoutUnrecognized(options, registry) };
}

export type CheckedOptions =
  | { readonly ok: true; readonly options: Options }
  | { readonly ok: false; readonly number: number };

function isAcceptable({ number, value }: Option, previous: number, registry: OptionRegistry): boolean {
  const known = registry.get(number);
  if (known === undefined || value.length < known.minLength || value.length > known.maxLength) return false;
  return number !== previous || known.isRepeatable === true;
}

function withoutUnrecognized(options: Options, registry: OptionRegistry): Options {
  const kept: Option[] = [];
  let previous = -1;
  for (const option of options) {
    if (isAcceptable(option, previous, registry)) kept.push(option);
    previous = option.number;
  }
  return Options.ofSorted(kept);
}
