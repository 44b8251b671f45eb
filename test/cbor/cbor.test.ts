import { CborError, decodeCbor, encodeCbor } from "#cbor/index.js";
import test from "ava";
import fc from "fast-check";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

test("plain data of RFC 8949 Appendix A decodes", (t) => {
  for (const [bytes, value] of [
    ["00", 0],
    ["1903e8", 1000],
    ["3903e7", -1000],
    ["f93c00", 1],
    ["fa47c35000", 100_000],
    ["fb3ff199999999999a", 1.1],
    ["f5", true],
    ["f6", null],
    ["6449455446", "IETF"],
    ["83010203", [1, 2, 3]],
    ["9f018202039f0405ffff", [1, [2, 3], [4, 5]]],
    [
      "a201020304",
      new Map([
        [1, 2],
        [3, 4],
      ]),
    ],
  ] as const) {
    t.deepEqual(decodeCbor(hex(bytes)), value, bytes);
  }
});

test("everything else is refused with a CborError before a general decoder sees it", (t) => {
  for (const [what, bytes] of [
    ["nothing", ""],
    ["a tag", "c074323031332d30332d32315432303a30343a30305a"],
    ["a record definition of cbor-x", "d9dfff83194000816161 01"],
    ["a key twice", "a2 0101 0102"],
    ["a key that is an array", "a1 80 01"],
    ["trailing bytes", "0000"],
    ["an array cut off", "8201"],
    ["a string cut off", "6261"],
    ["text that is not UTF-8", "61ff"],
    ["a string in pieces", "7f6161ff"],
    ["a reserved head", "1c"],
    ["an unassigned simple value", "f0"],
    ["a lone break", "ff"],
    ["nesting five deep", "8181818181 00"],
    ["a length of 2^32 - 1", "9affffffff"],
    ["a length of 2^64 - 1", "9bffffffffffffffff"],
  ] as const) {
    t.throws(() => decodeCbor(hex(bytes)), { instanceOf: CborError }, what);
  }
  t.throws(() => decodeCbor(hex("83010203"), { maxItems: 3 }), { instanceOf: CborError });
});

test("where tags may be dropped, strings in pieces are joined, decimal fractions are numbers, and the rest is undefined", (t) => {
  for (const [bytes, value] of [
    ["d9d9f7 01", 1],
    ["c4 82 21 19 6ab3", 273.15],
    ["7f 61 61 61 62 ff", "ab"],
    ["82 7f 61 61 ff 01", ["a", 1]],
    ["83 c0 61 61 c2 5f 41 01 ff 02", [undefined, undefined, 2]],
    ["83 f0 f8 20 f6", [undefined, undefined, null]],
    ["82 d9dfff8319400081616101 01", [undefined, 1]],
    ["a1 7f 61 61 ff c4 82 20 05", new Map([["a", 0.5]])],
  ] as const)
    t.deepEqual(decodeCbor(hex(bytes), { tags: "drop" }), value, bytes);
  for (const [what, bytes] of [
    ["a key twice, once in pieces", "a2 6161 01 7f 61 61 ff 02"],
    ["a key twice in two forms", "a2 01 01 1801 02"],
    ["a self-description that is not the outermost", "81 d9d9f7"],
    ["tags five deep", "c6c6c6c6c6 00"],
  ] as const)
    t.throws(() => decodeCbor(hex(bytes), { tags: "drop" }), { instanceOf: CborError }, what);
});

test("what is encoded decodes to the same, and random bytes never do worse than a CborError", (t) => {
  const leaf = fc.oneof(fc.integer(), fc.string(), fc.boolean(), fc.uint8Array({ maxLength: 20 }));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: -20, max: 1000 }), leaf), { maxLength: 8 }), (entries) => {
      const map = new Map(entries);
      const decoded = decodeCbor(encodeCbor(map));
      t.deepEqual(
        [...(decoded as Map<unknown, unknown>)].map(([key, value]) => [
          key,
          value instanceof Uint8Array ? [...value] : value,
        ]),
        [...map].map(([key, value]) => [key, value instanceof Uint8Array ? [...value] : value]),
      );
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        decodeCbor(bytes);
      } catch (error) {
        t.true(error instanceof CborError, String(error));
      }
    }),
    { numRuns: 5000 },
  );
});
