import {
  decodeFetchPack,
  decodePack,
  encodePack,
  SenmlError,
  type SenmlFormat,
  type SenmlValue,
} from "#senml/index.js";
import { decodeCbor, encodeCbor } from "#cbor/index.js";
import test from "ava";
import { Decoder } from "cbor-x";
import fc from "fast-check";

const NOW = 1_700_000_000;
const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
const hexOf = (value: Uint8Array): string => Buffer.from(value).toString("hex");

/** The value of a one-record pack whose `v`, `vs`, `vb` or `vd` is this item; else the error's code. */
function valueOf(item: string, label = "02"): SenmlValue | string | undefined {
  try {
    return decodePack(bytes(`81 a2 00 61 61 ${label} ${item}`), "cbor", NOW)[0]?.value;
  } catch (error) {
    if (!(error instanceof SenmlError)) throw error;
    return error.code;
  }
}

function numberBytes(value: number): string {
  return hexOf(encodeCbor(value));
}

// RFC 8949 appendix A, the numbers whose encoding is preferred there.
const NUMBERS: readonly (readonly [number, string])[] = [
  [0, "00"],
  [1, "01"],
  [10, "0a"],
  [23, "17"],
  [24, "1818"],
  [25, "1819"],
  [100, "1864"],
  [1000, "1903e8"],
  [1000000, "1a000f4240"],
  [-1, "20"],
  [-10, "29"],
  [-100, "3863"],
  [-1000, "3903e7"],
  [1.1, "fb3ff199999999999a"],
  [1.5, "f93e00"],
  [3.4028234663852886e38, "fa7f7fffff"],
  [1e300, "fb7e37e43c8800759c"],
  [5.960464477539063e-8, "f90001"],
  [0.00006103515625, "f90400"],
  [-4.1, "fbc010666666666666"],
];

test("numbers are written and read as RFC 8949 appendix A has them", (t) => {
  for (const [value, hex] of NUMBERS) {
    t.is(numberBytes(value), hex, String(value));
    t.is(valueOf(hex), value, hex);
  }
  // Not preferred, or past what is written, but well-formed all the same.
  const others: readonly (readonly [string, number])[] = [
    ["f90000", 0],
    ["f93c00", 1],
    ["f97bff", 65504],
    ["fa47c35000", 100000],
    ["f9c400", -4],
    ["1800", 0],
    ["1b000000e8d4a51000", 1000000000000],
    ["f98000", -0],
    ["1b0000000000000001", 1],
    ["1bffffffffffffffff", 2 ** 64],
    ["3bffffffffffffffff", -(2 ** 64)],
    ["1b0020000000000001", 2 ** 53],
    ["1b0020000000000003", 2 ** 53 + 4],
  ];
  for (const [hex, value] of others) t.is(valueOf(hex), value, hex);
  for (const hex of ["f97c00", "f97e00", "f9fc00", "fa7f800000", "fb7ff8000000000000"])
    t.is(valueOf(hex), "SENML_BAD_FIELD", "an infinity or no number");
});

test("every number takes the fewest bytes that keep it, and comes back the same", (t) => {
  const decoder = new Decoder({ useRecords: false, mapsAsObjects: false });
  const anyNumber = fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.float({ noNaN: true, noDefaultInfinity: true }),
    fc.maxSafeInteger(),
    fc.integer({ min: -70_000, max: 70_000 }),
    fc.integer({ min: -2048, max: 2048 }).map((value) => value / 64),
    fc.integer({ min: 0, max: 1023 }).map((value) => value * 2 ** -24),
    fc.integer({ min: 32, max: 60 }).map((exponent) => 2 ** exponent),
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(anyNumber, (any) => {
        // Zero is written without its sign.
        const value = any + 0;
        const hex = numberBytes(value);
        t.is(Number(decoder.decode(bytes(hex))), value, "as another decoder reads it");
        t.is(decodeCbor(bytes(hex)), value);
        if (Math.fround(value) === value) t.true(hex.length <= 10, `${value}: ${hex}`);
      }),
      { numRuns: 2000 },
    ),
  );
});

test("decimal fractions (tag 4) are read, with integers and bignums, rounded once", (t) => {
  t.is(valueOf("c4 82 21 19 6ab3"), 273.15);
  t.is(valueOf("c4 82 20 18 e7"), 23.1);
  t.is(valueOf("c4 82 20 38 e6"), -23.1);
  t.is(valueOf("c4 82 02 03"), 300);
  t.is(valueOf("c4 82 20 c2 49 01 0000000000000000"), 2 ** 64 / 10);
  t.is(valueOf("c4 82 20 c3 41 e6"), -23.1);
  t.is(valueOf("c4 82 20 1b 0020000000000001"), 900719925474099.3);
  t.is(valueOf("c4 82 39 ffff 01"), 0);
  t.is(valueOf("c4 82 19 ffff 01"), "SENML_BAD_FIELD");
  t.is(valueOf("c4 82 1b ffffffffffffffff 01"), "SENML_BAD_FIELD");
  t.is(valueOf(`c4 82 00 c2 58 81 ${"ff".repeat(129)}`), "SENML_BAD_FIELD");
  for (const item of [
    "c4 81 01",
    "c4 83 010203",
    "c4 01",
    "c4 82 f93c00 01",
    "c4 82 01 f93c00",
    "c4 82 20 c2 01",
    "c4",
  ])
    t.is(valueOf(item), "SENML_MALFORMED", item);
});

test("no other tag makes a value of its content", (t) => {
  for (const item of [
    "c1 1a 514b67b0",
    "c0 61 61",
    "c2 41 01",
    "d81b 82 65 4572726f72 61 61",
    "d8 40 41 01",
    "c5 82 01 01",
  ])
    t.is(valueOf(item), "SENML_BAD_FIELD", item);
  t.deepEqual(decodePack(bytes("d9d9f7 81 a2 00 61 61 02 01"), "cbor", NOW), [
    { name: "a", value: 1, timeSeconds: NOW },
  ]);
});

test("strings, arrays and maps of indefinite length are read", (t) => {
  t.deepEqual(
    decodePack(bytes("9f bf 00 7f 61 61 61 62 ff 03 7f ff ff bf 00 61 63 08 5f 41 01 40 41 02 ff ff ff"), "cbor", NOW),
    [
      { name: "ab", value: "", timeSeconds: NOW },
      { name: "c", value: Uint8Array.of(1, 2), timeSeconds: NOW },
    ],
  );
  t.is(valueOf("64 efbbbf61", "03"), "\ufeffa", "a mark at the start is part of the text");
});

test("labels are the integers of RFC 8428 table 4: a text that is one in JSON is an unknown field", (t) => {
  t.is(valueOf("01", "61 76"), "SENML_NO_VALUE");
  t.is(valueOf("01", "1903e8"), "SENML_NO_VALUE");
});

test("what is not well-formed is refused by code", (t) => {
  const malformed: readonly [string, string][] = [
    ["nothing", ""],
    ["no array", "a0"],
    ["a record that is no map", "81 01"],
    ["cut short in a map", "81 a2 00"],
    ["cut short in a text", "81 a2 00 65 61"],
    ["cut short in a number", "81 a2 00 61 61 02 fb 00"],
    ["a length without an end", "9b ffffffffffffffff"],
    ["a large length", "9a ffffffff"],
    ["a large map", "81 ba ffffffff"],
    ["a large text", "81 a1 03 7a ffffffff"],
    ["a large byte string", "81 a1 08 5b 7fffffffffffffff"],
    ["a label twice", "81 a3 00 61 61 02 01 02 02"],
    ["a label twice, in two forms", "81 a3 00 61 61 02 01 1802 02"],
    ["an unknown label twice", "81 a4 00 61 61 02 01 61 78 01 61 78 02"],
    ["a label that is a float", "81 a2 00 61 61 f93c00 01"],
    ["a label that is an array", "81 a2 00 61 61 80 01"],
    ["a text that is not UTF-8", "81 a2 00 61 ff 02 01"],
    ["a chunk of another kind", "81 a2 00 7f 41 61 ff 02 01"],
    ["a chunk within a chunk", "81 a2 00 7f 7f 61 61 ff ff 02 01"],
    ["a reserved head", "81 a2 00 61 61 02 1c"],
    ["an unsigned of indefinite length", "81 a2 00 61 61 02 1f"],
    ["a break out of place", "81 a2 00 61 61 61 78 ff"],
    ["a break after a label", "9f bf 00 ff ff"],
    ["a simple value in the long form", "81 a3 00 61 61 02 01 61 78 f8 14"],
    ["bytes after the pack", "81 a2 00 61 61 02 01 00"],
  ];
  for (const [what, hex] of malformed)
    t.like(
      t.throws(() => decodePack(bytes(hex), "cbor", NOW)),
      { name: "SenmlError", code: "SENML_MALFORMED" },
      what,
    );
});

test("nesting in fields that are ignored is bounded, as deep as it pretends to be", (t) => {
  const nested = (open: string, depth: number): string => `${open.repeat(depth)} 01`;
  const decode = (item: string): unknown =>
    decodePack(bytes(`81 a3 00 61 61 02 01 61 78 ${item}`), "cbor", NOW)[0]?.value;
  t.is(decode(nested("81", 16)), 1);
  for (const open of ["81", "a101", "9f", "c6"])
    t.like(
      t.throws(() => decode(nested(open, 30_000))),
      { code: "SENML_MALFORMED" },
      open,
    );
  t.like(
    t.throws(() => decodePack(new Uint8Array(60_000).fill(0x81), "cbor", NOW)),
    { code: "SENML_MALFORMED" },
  );
});

test("bytes, random or changed from a good pack, end in records or a SenmlError, never in another error", (t) => {
  const good = encodePack(
    [
      { name: "cpu/load", unit: "/", value: 0.25, timeSeconds: NOW },
      { name: "cpu/model", value: "Raspberry Pi 4", sum: 5, timeSeconds: NOW + 10 },
      { name: "cpu/id", value: Uint8Array.of(1, 2, 3), timeSeconds: NOW },
    ],
    "cbor",
  );
  const changed = fc
    .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
    .map((changes) => changes.reduce((pack, [at, byte]) => pack.with(at, byte), good));
  const cut = fc.nat(good.length).map((length) => good.subarray(0, length));
  const input = fc.oneof(fc.uint8Array({ maxLength: 64 }), changed, cut);
  const passes = (decode: () => unknown): boolean => {
    try {
      decode();
      return true;
    } catch (error) {
      if (!(error instanceof SenmlError)) throw error;
      return true;
    }
  };
  t.notThrows(() =>
    fc.assert(
      fc.property(
        input,
        fc.constantFrom<SenmlFormat>("cbor", "json"),
        (pack, format) =>
          passes(() => decodePack(pack, format, NOW)) && passes(() => decodeFetchPack(pack, format, NOW)),
      ),
      { numRuns: 4000 },
    ),
  );
});

test("work is linear in the bytes of a hostile pack", (t) => {
  const labels = Array.from({ length: 12_000 }, (_, index) => `19${(1000 + index).toString(16).padStart(4, "0")} 01`);
  const pack = bytes(`81 b9 2ee0 ${labels.join("")}`);
  t.deepEqual(decodePack(pack, "cbor", NOW), []);
  const chunks = bytes(`81 a1 03 7f ${"60".repeat(60_000)} ff`);
  t.like(
    t.throws(() => decodePack(chunks, "cbor", NOW)),
    { code: "SENML_BAD_NAME" },
  );
});
