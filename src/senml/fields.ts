/** Labels of SenML (RFC 8428 §12.2, Table 4): the name in JSON and the integer in CBOR. */
export const FIELDS = {
  bver: { label: -1, type: "number" },
  bn: { label: -2, type: "string" },
  bt: { label: -3, type: "number" },
  bu: { label: -4, type: "string" },
  bv: { label: -5, type: "number" },
  bs: { label: -6, type: "number" },
  n: { label: 0, type: "string" },
  u: { label: 1, type: "string" },
  v: { label: 2, type: "number" },
  vs: { label: 3, type: "string" },
  vb: { label: 4, type: "boolean" },
  s: { label: 5, type: "number" },
  t: { label: 6, type: "number" },
  ut: { label: 7, type: "number" },
  vd: { label: 8, type: "bytes" },
} as const;

export type FieldName = keyof typeof FIELDS;

/** The fields of one record as they are on the wire; `vd` as bytes in either format. */
export type WireRecord = { -readonly [Name in FieldName]?: FieldValue<(typeof FIELDS)[Name]["type"]> };

type FieldValue<T extends "number" | "string" | "boolean" | "bytes"> = {
  number: number;
  string: string;
  boolean: boolean;
  bytes: Uint8Array;
}[T];

export function isFieldName(name: string): name is FieldName {
  return Object.hasOwn(FIELDS, name);
}

/** The name of a CBOR label; undefined for one that RFC 8428 does not define. */
export function fieldOfLabel(label: number): FieldName | undefined {
  return NAMES.get(label);
}

const NAMES: ReadonlyMap<number, FieldName> = new Map(
  (Object.keys(FIELDS) as FieldName[]).map((name) => [FIELDS[name].label, name]),
);
