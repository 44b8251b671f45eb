import fc from "fast-check";

/** A change of some bytes. Positions are fractions of the length, so that a plan fits every input and shrinks well. */
export interface Mutation {
  readonly op: (typeof OPS)[number];
  /** 0 to 65535: where, as a fraction of the length. */
  readonly at: number;
  readonly value: number;
  readonly count: number;
}

const OPS = ["flip", "set", "cut", "truncate", "insert", "repeat", "extreme"] as const;
/** Values at the edges of lengths and numbers. */
const EXTREMES = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];

export const mutation: fc.Arbitrary<Mutation> = fc.record({
  op: fc.constantFrom(...OPS),
  at: fc.nat(0xffff),
  value: fc.nat(0xff),
  count: fc.integer({ min: 1, max: 32 }),
});

export const mutations: fc.Arbitrary<Mutation[]> = fc.array(mutation, { minLength: 0, maxLength: 4 });

/** A changed copy. */
export function mutate(bytes: Uint8Array, plan: readonly Mutation[]): Uint8Array {
  let result = Uint8Array.from(bytes);
  for (const { op, at, value, count } of plan) {
    const index = Math.floor((at / 0x10000) * result.length);
    const head = result.subarray(0, index);
    const rest = result.subarray(index);
    switch (op) {
      case "flip":
        if (index < result.length) result[index] = (result[index] ?? 0) ^ (1 << (value & 7));
        break;
      case "set":
        if (index < result.length) result[index] = value;
        break;
      case "extreme":
        result.fill(EXTREMES[value % EXTREMES.length] ?? 0, index, index + (count & 3) + 1);
        break;
      case "cut":
        result = concat(head, rest.subarray(count));
        break;
      case "truncate":
        result = Uint8Array.from(head);
        break;
      case "insert":
        result = concat(head, new Uint8Array(count).fill(value), rest);
        break;
      case "repeat":
        result = concat(head, rest.subarray(0, count), rest);
    }
  }
  return result;
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    result.set(part, offset);
    offset += part.length;
  }
  return result;
}
