import { CoapError } from "../errors.js";

/**
 * When an observer wants to be told (draft-ietf-core-conditional-attributes): at most every `pminSeconds`, at least every
 * `pmaxSeconds`, and of the values between only those that cross a limit or differ by a step from the last one told.
 */
export interface ConditionalAttributes {
  readonly pminSeconds?: number;
  readonly pmaxSeconds?: number;
  /** Told when the value crosses this, in either direction. */
  readonly greaterThan?: number;
  readonly lessThan?: number;
  readonly step?: number;
}

/**
 * Reads `c.pmin`, `c.pmax`, `c.gt`, `c.lt` and `c.st` out of Uri-Query; undefined where there is none.
 *
 * @throws CoapError COAP_FORMAT_ERROR for another attribute that begins with `c.`, one given twice, or one that is no number;
 * for periods that are not positive, a pmax below pmin, or a step that is not positive. The request is to be answered with 4.00.
 */
export function conditionalAttributesOf(query: readonly string[]): ConditionalAttributes | undefined {
  const given = new Map<string, number>();
  for (const parameter of query) {
    if (!parameter.startsWith("c.")) continue;
    const [, name = "", value = ""] = /^([^=]*)=?(.*)$/s.exec(parameter) ?? [];
    if (!NAMES.has(name)) throw malformed(`${name} is not known`);
    if (given.has(name)) throw malformed(`${name} is there twice`);
    if (!/^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$/.test(value)) throw malformed(`${name} is no number`);
    const number = Number(value);
    if (!Number.isFinite(number)) throw malformed(`${name} is too large`);
    if (POSITIVE.has(name) && number <= 0) throw malformed(`${name} must be positive`);
    given.set(name, number);
  }
  if (given.size === 0) return undefined;
  const pmin = given.get("c.pmin");
  const pmax = given.get("c.pmax");
  if (pmin !== undefined && pmax !== undefined && pmax < pmin) throw malformed("c.pmax is below c.pmin");
  const greaterThan = given.get("c.gt");
  const lessThan = given.get("c.lt");
  const step = given.get("c.st");
  return {
    ...(pmin === undefined ? {} : { pminSeconds: pmin }),
    ...(pmax === undefined ? {} : { pmaxSeconds: pmax }),
    ...(greaterThan === undefined ? {} : { greaterThan }),
    ...(lessThan === undefined ? {} : { lessThan }),
    ...(step === undefined ? {} : { step }),
  };
}

/** Whether any of them looks at the value, which then must be one number. */
export function needsNumber({ greaterThan, lessThan, step }: ConditionalAttributes): boolean {
  return greaterThan !== undefined || lessThan !== undefined || step !== undefined;
}

function malformed(what: string): CoapError {
  return new CoapError("COAP_FORMAT_ERROR", `conditional attributes: ${what}`);
}

const NAMES: ReadonlySet<string> = new Set(["c.pmin", "c.pmax", "c.gt", "c.lt", "c.st"]);
const POSITIVE: ReadonlySet<string> = new Set(["c.pmin", "c.pmax", "c.st"]);
