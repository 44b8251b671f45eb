import { decodePack, encodePack, SenmlError, type SenmlFormat, type SenmlRecord } from "#senml/index.js";
import test from "ava";
import { Encoder } from "cbor-x";
import fc from "fast-check";

const NOW = 1_700_000_000;
const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
const cbor = (value: unknown): Uint8Array => new Encoder({ useRecords: false, mapsAsObjects: false }).encode(value);

function errorCode(operation: () => unknown): string | undefined {
  try {
    operation();
    return undefined;
  } catch (error) {
    return error instanceof SenmlError ? error.code : `not a SenmlError: ${String(error)}`;
  }
}

test("the examples of RFC 8428 §5.1 resolve as §5.1.4 shows", (t) => {
  const multiple = [
    { bn: "urn:dev:ow:10e2073a0108006:", bt: 1.276020076001e9, bu: "A", bver: 5, n: "voltage", u: "V", v: 120.1 },
    { n: "current", t: -5, v: 1.2 },
    { n: "current", t: -4, v: 1.3 },
  ];
  t.deepEqual(decodePack(json(multiple), "json", NOW), [
    { name: "urn:dev:ow:10e2073a0108006:voltage", unit: "V", value: 120.1, timeSeconds: 1.276020076001e9 },
    { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.2, timeSeconds: 1.276020071001e9 },
    { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.3, timeSeconds: 1.276020072001e9 },
  ]);
});

test("all value types, sums and base values resolve alike from JSON and CBOR", (t) => {
  const fromJson = [
    { bn: "a/", bv: 10, n: "v", v: 2.5 },
    { n: "base" },
    { n: "s", vs: "text" },
    { n: "b", vb: false },
    { n: "d", vd: "aGkgCg" },
    { bs: 5, n: "sum", s: 1 },
  ];
  const fromCbor = [
    new Map<number, unknown>([
      [-2, "a/"],
      [-5, 10],
      [0, "v"],
      [2, 2.5],
    ]),
    new Map([[0, "base"]]),
    new Map([
      [0, "s"],
      [3, "text"],
    ] as [number, unknown][]),
    new Map<number, unknown>([
      [0, "b"],
      [4, false],
    ]),
    new Map<number, unknown>([
      [0, "d"],
      [8, Buffer.from("hi \n")],
    ]),
    new Map<number, unknown>([
      [-6, 5],
      [0, "sum"],
      [5, 1],
    ]),
  ];
  const expected: SenmlRecord[] = [
    { name: "a/v", value: 12.5, timeSeconds: NOW },
    { name: "a/base", value: 10, timeSeconds: NOW },
    { name: "a/s", value: "text", timeSeconds: NOW },
    { name: "a/b", value: false, timeSeconds: NOW },
    { name: "a/d", value: Uint8Array.from(Buffer.from("hi \n")), timeSeconds: NOW },
    { name: "a/sum", sum: 6, timeSeconds: NOW },
  ];
  t.deepEqual(decodePack(json(fromJson), "json", NOW), expected);
  t.deepEqual(decodePack(cbor(fromCbor), "cbor", NOW), expected);
});

test("a version newer than 10 is refused, and what cannot be read back is not written", (t) => {
  t.is(
    errorCode(() => decodePack(json([{ bver: 11, n: "a", v: 1 }]), "json", NOW)),
    "SENML_UNSUPPORTED_VERSION",
  );
  t.is(
    errorCode(() => encodePack([{ name: "a", value: Number.NaN }], "cbor")),
    "SENML_BAD_FIELD",
  );
  t.is(
    errorCode(() => encodePack([{ name: "a" }], "cbor")),
    "SENML_NO_VALUE",
  );
});

test("relative times count from the receiver's now (RFC 8428 §4.5.3)", (t) => {
  const [a, b, c] = decodePack(
    json([
      { n: "a", v: 1, t: -60 },
      { n: "b", v: 1, t: 2 ** 28 },
      { n: "c", v: 1 },
    ]),
    "json",
    NOW,
  );
  t.deepEqual([a?.timeSeconds, b?.timeSeconds, c?.timeSeconds], [NOW - 60, 2 ** 28, NOW]);
});

const records = fc.array(
  fc.record(
    {
      name: fc.stringMatching(/^[a-z][a-z0-9/_.:-]{0,20}$/),
      unit: fc.constantFrom("Cel", "%", "B"),
      value: fc.oneof(
        fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0)),
        fc.integer(),
        fc.string(),
        fc.boolean(),
        fc.uint8Array({ maxLength: 20 }),
      ),
      timeSeconds: fc.integer({ min: 2 ** 28, max: 2 ** 33 }),
    },
    { requiredKeys: ["name", "value", "timeSeconds"] },
  ),
  { minLength: 1, maxLength: 10 },
);

test("decode(encode(records)) is the records, in both formats", (t) => {
  for (const format of ["cbor", "json"] as const satisfies readonly SenmlFormat[]) {
    fc.assert(
      fc.property(records, (list) => {
        t.deepEqual(decodePack(encodePack(list, format), format, NOW), list);
      }),
      { numRuns: 200 },
    );
  }
});

test("a common prefix and time are written once", (t) => {
  const list = ["cpu/load1", "cpu/load5", "cpu/temperature"].map((name) => ({ name, value: 1, timeSeconds: NOW }));
  t.deepEqual(JSON.parse(new TextDecoder().decode(encodePack(list, "json"))), [
    { bn: "cpu/", bt: NOW, n: "load1", v: 1 },
    { n: "load5", v: 1 },
    { n: "temperature", v: 1 },
  ]);
  t.is(encodePack(list, "cbor").length, 49);
});

test("what breaks the rules is refused whole, by code and record", (t) => {
  const faults: readonly [string, unknown, string][] = [
    ["no array", { n: "a", v: 1 }, "SENML_MALFORMED"],
    ["a record that is no map", [1], "SENML_MALFORMED"],
    ["an empty record", [{}], "SENML_MALFORMED"],
    ["a value of the wrong type", [{ n: "a", v: "1" }], "SENML_BAD_FIELD"],
    ["bad base64", [{ n: "a", vd: "a+b/" }], "SENML_BAD_FIELD"],
    ["two values", [{ n: "a", v: 1, vs: "1" }], "SENML_BAD_FIELD"],
    ["no value", [{ n: "a" }], "SENML_NO_VALUE"],
    ["no name", [{ v: 1 }], "SENML_BAD_NAME"],
    ["a name with a space", [{ n: "a b", v: 1 }], "SENML_BAD_NAME"],
    ["a name that starts with a slash", [{ n: "/a", v: 1 }], "SENML_BAD_NAME"],
    ["a field that must be understood", [{ n: "a", v: 1, x_: 1 }], "SENML_UNSUPPORTED_FIELD"],
  ];
  for (const [what, pack, code] of faults)
    t.is(
      errorCode(() => decodePack(json(pack), "json", NOW)),
      code,
      what,
    );
  t.deepEqual(decodePack(json([{ n: "a", v: 1, x: 1 }]), "json", NOW), [{ name: "a", value: 1, timeSeconds: NOW }]);
  t.is(
    errorCode(() => decodePack(json([{ n: "a", v: 1 }]), "json", NOW, { maxBytes: 5 })),
    "SENML_TOO_LARGE",
  );
  t.is(
    errorCode(() =>
      decodePack(json(Array.from({ length: 3 }, () => ({ n: "a", v: 1 }))), "json", NOW, { maxRecords: 2 }),
    ),
    "SENML_TOO_LARGE",
  );
  t.is(
    errorCode(() => encodePack([{ name: "", value: 1 }], "cbor")),
    "SENML_BAD_NAME",
  );
});

test("hostile bytes fail with a SenmlError and nothing else", (t) => {
  const hostile = [
    new Uint8Array(60_000).fill(0x81),
    Uint8Array.of(0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(0x9a, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(0x81, 0xba, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(0x81, 0xa1, 0x02, 0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0),
    Uint8Array.of(),
    // A tagged record, a label twice, a record definition of cbor-x, text that is not UTF-8.
    Uint8Array.of(0x81, 0xd9, 0xe0, 0x00, 0x82, 0x61, 0x61, 0x01),
    Uint8Array.of(0x81, 0xa3, 0x00, 0x61, 0x61, 0x02, 0x01, 0x02, 0x02),
    Uint8Array.of(0x81, 0xd9, 0xdf, 0xff, 0x83, 0x19, 0x00, 0x40, 0x81, 0x61, 0x61, 0x01),
    Uint8Array.of(0x81, 0xa2, 0x00, 0x61, 0xff, 0x02, 0x01),
  ];
  for (const bytes of hostile) t.regex(errorCode(() => decodePack(bytes, "cbor", NOW)) ?? "accepted", /^SENML_/);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), fc.constantFrom<SenmlFormat>("cbor", "json"), (bytes, format) => {
      t.regex(errorCode(() => decodePack(bytes, format, NOW)) ?? "SENML_accepted", /^SENML_/);
    }),
    { numRuns: 2000 },
  );
});
