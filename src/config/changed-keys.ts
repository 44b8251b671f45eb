import { Secret } from "./secret.js";

/**
 * The keys of two readings of one configuration that differ, dotted and in the order of the second: `interfaces.dpe1.listen.coap`.
 * Of a list, and of a section that is new or gone, the key of the whole. Secrets are compared, and not told.
 */
export function changedKeys(before: unknown, after: unknown): string[] {
  return [...differences(before, after, "")];
}

function* differences(before: unknown, after: unknown, key: string): Generator<string> {
  if (!isSection(before) || !isSection(after)) {
    if (!isSame(before, after)) yield key;
    return;
  }
  for (const name of new Set([...Object.keys(after), ...Object.keys(before)]))
    yield* differences(before[name], after[name], key === "" ? name : `${key}.${name}`);
}

function isSame(before: unknown, after: unknown): boolean {
  if (before instanceof Secret && after instanceof Secret) return Buffer.compare(before.reveal(), after.reveal()) === 0;
  if (before instanceof Uint8Array && after instanceof Uint8Array) return Buffer.compare(before, after) === 0;
  if (typeof before !== "object" || typeof after !== "object" || before === null || after === null)
    return Object.is(before, after);
  if (Array.isArray(before) !== Array.isArray(after) || before instanceof Secret || after instanceof Secret)
    return false;
  const [left, right] = [new Map(Object.entries(before)), new Map(Object.entries(after))];
  return [...new Set([...left.keys(), ...right.keys()])].every((name) => isSame(left.get(name), right.get(name)));
}

function isSection(value: unknown): value is Readonly<Record<string, unknown>> {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Secret) &&
    !(value instanceof Uint8Array)
  );
}
