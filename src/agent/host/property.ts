/** One reading of the host. */
export interface Property {
  /** A SenML name (RFC 8428 §4.5.1), such as `net/eth0/rx`. */
  readonly name: string;
  /** A unit of RFC 8428 §12.1 or RFC 8798; absent for text, booleans and plain counts without one. */
  readonly unit?: string;
  readonly value: number | string | boolean;
  /** `static`: fixed while the agent runs, goes into the registration; `dynamic`: goes into reports. */
  readonly kind: PropertyKind;
}

export type PropertyKind = "static" | "dynamic";

/** A property, or nothing where the sensor gave no usable value: absent sensors are absent, not zero. */
export function property(
  kind: PropertyKind,
  name: string,
  value: number | string | boolean | undefined,
  unit?: string,
): Property[] {
  if (value === undefined || value === "" || (typeof value === "number" && !Number.isFinite(value))) return [];
  return [{ name, value, kind, ...(unit === undefined ? {} : { unit }) }];
}

/**
 * One segment of a SenML name from a name that the host uses: RFC 8428 §4.5.1 allows A–Z a–z 0–9 - : . / _ and asks
 * for a letter or digit first. Everything else becomes `_`.
 */
export function segment(name: string): string {
  const legal = name.replaceAll(/[^A-Za-z0-9\-:._]/g, "_");
  return /^[A-Za-z0-9]/.test(legal) ? legal : `x${legal}`;
}

/** Names made distinct, in order: the second `eth0` becomes `eth0-2`. */
export function distinct(names: readonly string[]): string[] {
  const used = new Set<string>();
  return names.map((name) => {
    let unique = name;
    for (let count = 2; used.has(unique); count++) unique = `${name}-${count}`;
    used.add(unique);
    return unique;
  });
}
