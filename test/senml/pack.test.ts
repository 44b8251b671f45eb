import { readFileSync } from "node:fs";
import {
  decodeFetchPack,
  decodePack,
  encodeFetchPack,
  encodePack,
  SenmlError,
  type SenmlFormat,
  type SenmlRecord,
  selectRecords,
} from "#senml/index.js";
import test from "ava";
import { Encoder } from "cbor-x";
import fc from "fast-check";

const NOW = 1_700_000_000;
const FORMATS = ["cbor", "json"] as const satisfies readonly SenmlFormat[];
const VECTORS = JSON.parse(
  readFileSync(new URL("../../../test/vectors/senml-rfc8428.json", import.meta.url), "utf8"),
) as Readonly<Record<string, readonly Readonly<Record<string, unknown>>[]>> & { readonly "§6": string };

const LABELS: Readonly<Record<string, number>> = {
  bver: -1,
  bn: -2,
  bt: -3,
  bu: -4,
  bv: -5,
  bs: -6,
  n: 0,
  u: 1,
  v: 2,
  vs: 3,
  vb: 4,
  s: 5,
  t: 6,
  ut: 7,
  vd: 8,
};

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** The pack in CBOR, by another encoder than ours. */
function cbor(pack: readonly Readonly<Record<string, unknown>>[]): Uint8Array {
  const maps = pack.map(
    (record) =>
      new Map(
        Object.entries(record).map(([field, value]) => [
          LABELS[field] ?? field,
          field === "vd" && typeof value === "string" ? Buffer.from(value, "base64url") : value,
        ]),
      ),
  );
  return new Encoder({ useRecords: false, mapsAsObjects: false }).encode(maps);
}

function errorOf(operation: () => unknown): { code: string; record: number | undefined } | undefined {
  try {
    operation();
    return undefined;
  } catch (error) {
    if (!(error instanceof SenmlError)) throw error;
    return { code: error.code, record: error.record };
  }
}

function vector(section: string): readonly Readonly<Record<string, unknown>>[] {
  const pack = VECTORS[section];
  if (pack === undefined) throw new Error(section);
  return pack;
}

const MULTIPLE: readonly SenmlRecord[] = [
  { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.2, timeSeconds: 1276020071.001, version: 5 },
  { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.3, timeSeconds: 1276020072.001, version: 5 },
  { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.4, timeSeconds: 1276020073.001, version: 5 },
  { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.5, timeSeconds: 1276020074.001, version: 5 },
  { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.6, timeSeconds: 1276020075.001, version: 5 },
  { name: "urn:dev:ow:10e2073a0108006:voltage", unit: "V", value: 120.1, timeSeconds: 1276020076.001, version: 5 },
  { name: "urn:dev:ow:10e2073a0108006:current", unit: "A", value: 1.7, timeSeconds: 1276020076.001, version: 5 },
];

const EXAMPLES: Readonly<Record<string, readonly SenmlRecord[]>> = {
  "§5.1.1": [{ name: "urn:dev:ow:10e2073a01080063", unit: "Cel", value: 23.1, timeSeconds: NOW }],
  "§5.1.2 first": [
    { name: "urn:dev:ow:10e2073a01080063:voltage", unit: "V", value: 120.1, timeSeconds: NOW },
    { name: "urn:dev:ow:10e2073a01080063:current", unit: "A", value: 1.2, timeSeconds: NOW },
  ],
  "§5.1.2 second": MULTIPLE,
  "§5.1.5": [
    { name: "urn:dev:ow:10e2073a01080063:temp", unit: "Cel", value: 23.1, timeSeconds: NOW },
    { name: "urn:dev:ow:10e2073a01080063:label", value: "Machine Room", timeSeconds: NOW },
    { name: "urn:dev:ow:10e2073a01080063:open", value: false, timeSeconds: NOW },
    {
      name: "urn:dev:ow:10e2073a01080063:nfv-reader",
      value: Uint8Array.of(0x68, 0x69, 0x20, 0x0a),
      timeSeconds: NOW,
    },
  ],
  "§5.1.6": [
    { name: "2001:db8::2/temperature", unit: "Cel", value: 25.2, timeSeconds: 1320078429 },
    { name: "2001:db8::2/humidity", unit: "%RH", value: 30, timeSeconds: 1320078429 },
    { name: "2001:db8::1/temperature", unit: "Cel", value: 12.3, timeSeconds: 1320078429 },
    { name: "2001:db8::1/humidity", unit: "%RH", value: 67, timeSeconds: 1320078429 },
  ],
  "§5.1.7 first": [
    { name: "urn:dev:ow:10e2073a01080063:temp", unit: "Cel", value: 23.1, timeSeconds: NOW },
    { name: "urn:dev:ow:10e2073a01080063:heat", unit: "/", value: 1, timeSeconds: NOW },
    { name: "urn:dev:ow:10e2073a01080063:fan", unit: "/", value: 0, timeSeconds: NOW },
  ],
  "§5.1.7 third": [
    { name: "2001:db8::3", unit: "/", value: 0.5, timeSeconds: 1320078429 },
    { name: "2001:db8::4", unit: "/", value: 0.5, timeSeconds: 1320078429 },
    { name: "2001:db8::3", unit: "/", value: 0, timeSeconds: 1320078429.1 },
    { name: "2001:db8::4", unit: "/", value: 0, timeSeconds: 1320078429.1 },
  ],
};

for (const [section, expected] of Object.entries(EXAMPLES))
  test(`RFC 8428 ${section} resolves from JSON and from CBOR`, (t) => {
    t.deepEqual(decodePack(json(vector(section)), "json", NOW), expected);
    t.deepEqual(decodePack(cbor(vector(section)), "cbor", NOW), expected);
  });

test("RFC 8428 §5.1.3 resolves to §5.1.4, and is encoded in no more bytes than §5.1.3 takes", (t) => {
  const resolved = decodePack(json(vector("§5.1.3")), "json", NOW);
  t.deepEqual(decodePack(json(vector("§5.1.4")), "json", NOW), resolved);
  t.deepEqual(decodePack(cbor(vector("§5.1.3")), "cbor", NOW), resolved);
  t.deepEqual(
    resolved.map(({ name: n, unit: u, value: v, timeSeconds }) => ({ n, u, t: timeSeconds, v })),
    vector("§5.1.4") as unknown as { n: string; u: string; t: number; v: number }[],
  );
  // Table 3.
  t.true(encodePack(resolved, "json").length <= 573);
  t.true(encodePack(resolved, "cbor").length <= 254);
});

test("RFC 8428 §6: the published bytes resolve as §5.1.2, in the order of time", (t) => {
  t.deepEqual(decodePack(new Uint8Array(Buffer.from(VECTORS["§6"], "hex")), "cbor", NOW), MULTIPLE);
});

test("all value types, sums, update times and base values resolve alike from JSON and CBOR", (t) => {
  const pack = [
    { bn: "a/", bv: 10, n: "v", v: 2.5, ut: 60 },
    { n: "base" },
    { n: "s", vs: "text" },
    { n: "b", vb: false },
    { n: "d", vd: "aGkgCg" },
    { n: "only-sum", s: 3 },
    { bs: 5, n: "sum", s: 1 },
    { n: "both-bases" },
  ];
  const expected: SenmlRecord[] = [
    { name: "a/v", value: 12.5, timeSeconds: NOW, updateTimeSeconds: 60 },
    { name: "a/base", value: 10, timeSeconds: NOW },
    { name: "a/s", value: "text", timeSeconds: NOW },
    { name: "a/b", value: false, timeSeconds: NOW },
    { name: "a/d", value: Uint8Array.from(Buffer.from("hi \n")), timeSeconds: NOW },
    { name: "a/only-sum", sum: 3, timeSeconds: NOW },
    { name: "a/sum", sum: 6, timeSeconds: NOW },
    { name: "a/both-bases", value: 10, sum: 5, timeSeconds: NOW },
  ];
  t.deepEqual(decodePack(json(pack), "json", NOW), expected);
  t.deepEqual(decodePack(cbor(pack), "cbor", NOW), expected);
});

test("a base field holds until the next of its kind, and a base name alone names the records", (t) => {
  const pack = [{ bn: "a", bt: NOW, bu: "V" }, { v: 1 }, { t: 1, v: 2 }, { bn: "b", bu: "A", v: 3 }, { u: "W", v: 4 }];
  t.deepEqual(decodePack(json(pack), "json", 0), [
    { name: "a", unit: "V", value: 1, timeSeconds: NOW },
    { name: "b", unit: "A", value: 3, timeSeconds: NOW },
    { name: "b", unit: "W", value: 4, timeSeconds: NOW },
    { name: "a", unit: "V", value: 2, timeSeconds: NOW + 1 },
  ]);
});

test("relative times count from the receiver's now (RFC 8428 §4.5.3), and records come in the order of time", (t) => {
  const pack = [
    { n: "b", v: 1 },
    { n: "a", v: 1, t: -60 },
    { n: "future", v: 1, t: 2 ** 28 - 1 },
    { n: "absolute", v: 1, t: 2 ** 28 },
    { bt: 2 ** 28 - 10, n: "summed", t: 10, v: 1 },
  ];
  t.deepEqual(
    decodePack(json(pack), "json", NOW).map(({ name, timeSeconds }) => [name, timeSeconds]),
    [
      ["absolute", 2 ** 28],
      ["summed", 2 ** 28],
      ["a", NOW - 60],
      ["b", NOW],
      ["future", NOW + 2 ** 28 - 1],
    ],
  );
});

test("versions up to 10, and 26 for secondary units (RFC 9100), are used; others, and two of them, are not", (t) => {
  const decode = (...versions: (number | undefined)[]): unknown =>
    decodePack(json(versions.map((bver) => ({ bver, n: "a", v: 1 }))), "json", NOW)[0]?.version;
  t.is(decode(10, undefined, 10), undefined);
  t.is(decode(undefined, 10), undefined);
  t.is(decode(5, undefined), 5);
  t.is(decode(26), 26);
  for (const version of [0, -1, 1.5, 11, 27, 42, 2 ** 53])
    t.deepEqual(
      errorOf(() => decode(undefined, version)),
      { code: "SENML_UNSUPPORTED_VERSION", record: 1 },
    );
  t.deepEqual(
    errorOf(() => decode(undefined, 5)),
    { code: "SENML_BAD_FIELD", record: 1 },
  );
});

const names = fc.oneof(
  fc.stringMatching(/^[a-z][a-z0-9/_.:-]{0,20}$/),
  fc.constantFrom("cpu/load1", "cpu/load5", "cpu", "net/eth0/address"),
);
const records = fc.array(
  fc.record(
    {
      name: names,
      unit: fc.constantFrom("Cel", "%", "B"),
      value: fc.oneof(
        fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0)),
        fc.float({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0)),
        fc.maxSafeInteger(),
        fc.string({ unit: "binary" }),
        fc.boolean(),
        fc.uint8Array({ maxLength: 20 }),
      ),
      sum: fc.integer(),
      updateTimeSeconds: fc.nat(),
      timeSeconds: fc.oneof(
        fc.integer({ min: 2 ** 28, max: 2 ** 33 }),
        fc.double({ min: 2 ** 28, max: 2 ** 33, noNaN: true }),
      ),
    },
    { requiredKeys: ["name", "value", "timeSeconds"] },
  ),
  { maxLength: 10 },
);

test("decode(encode(records)) is the records in the order of time, exactly, in both formats", (t) => {
  for (const format of FORMATS)
    t.notThrows(() =>
      fc.assert(
        fc.property(records, (list) => {
          const sorted = list.toSorted((one, other) => one.timeSeconds - other.timeSeconds);
          t.deepEqual(decodePack(encodePack(list, format), format, NOW), sorted);
        }),
        { numRuns: 300 },
      ),
    );
});

test("what names, times and units share is written once", (t) => {
  const list = ["cpu/load1", "cpu/load5", "cpu/temperature"].map((name) => ({ name, value: 1, timeSeconds: NOW }));
  t.deepEqual(JSON.parse(new TextDecoder().decode(encodePack(list, "json"))), [
    { bn: "cpu/", bt: NOW, n: "load1", v: 1 },
    { n: "load5", v: 1 },
    { n: "temperature", v: 1 },
  ]);
  t.is(encodePack(list, "cbor").length, 49);
  const series = [0, 10, 20].map((offset) => ({ name: "a:t", unit: "Cel", value: 20.5, timeSeconds: NOW + offset }));
  t.deepEqual(JSON.parse(new TextDecoder().decode(encodePack(series, "json"))), [
    { bn: "a:t", bt: NOW, bu: "Cel", v: 20.5 },
    { t: 10, v: 20.5 },
    { t: 20, v: 20.5 },
  ]);
});

test("a base that would change a record is not used: a unit or a time that some lack, a difference that rounds", (t) => {
  const encode = (list: readonly SenmlRecord[]): unknown =>
    (JSON.parse(new TextDecoder().decode(encodePack(list, "json"))) as unknown[])[0];
  t.deepEqual(
    encode([
      { name: "a", unit: "V", value: 1 },
      { name: "b", unit: "V", value: 1 },
      { name: "c", value: 1 },
    ]),
    { n: "a", u: "V", v: 1 },
  );
  t.deepEqual(
    encode([
      { name: "a", value: 1, timeSeconds: NOW },
      { name: "b", value: 1 },
    ]),
    { n: "a", v: 1, t: NOW },
  );
  const [base, relative] = [NOW + 0.3, -5.123];
  t.not(base + (relative - base), relative, "the case is one that rounds");
  t.deepEqual(
    encode([
      { name: "a", value: 1, timeSeconds: base },
      { name: "b", value: 1, timeSeconds: relative },
      { name: "c", value: 1, timeSeconds: NOW },
    ]),
    { n: "a", v: 1, t: base },
  );
});

test("times relative to now are sent as such, next to absolute ones", (t) => {
  const list = [
    { name: "a", value: 1, timeSeconds: NOW - 5 },
    { name: "b", value: 1, timeSeconds: -60 },
    { name: "c", value: 1, timeSeconds: NOW - 4 },
  ];
  for (const format of FORMATS)
    t.deepEqual(
      decodePack(encodePack(list, format), format, NOW + 1000).map(({ name, timeSeconds }) => [name, timeSeconds]),
      [
        ["a", NOW - 5],
        ["c", NOW - 4],
        ["b", NOW + 940],
      ],
    );
});

test("what breaks the rules is refused whole, by code and record, in both formats", (t) => {
  const good = { n: "good", v: 1 };
  const faults: readonly [string, Readonly<Record<string, unknown>>, string][] = [
    ["an empty record", {}, "SENML_MALFORMED"],
    ["a number as text", { n: "a", v: "1" }, "SENML_BAD_FIELD"],
    ["no value but null", { n: "a", v: null }, "SENML_BAD_FIELD"],
    ["a name as number", { n: 1, v: 1 }, "SENML_BAD_FIELD"],
    ["a boolean as number", { n: "a", vb: 1 }, "SENML_BAD_FIELD"],
    ["a base that is no number", { bt: [], n: "a", v: 1 }, "SENML_BAD_FIELD"],
    ["two values", { n: "a", v: 1, vs: "1" }, "SENML_BAD_FIELD"],
    ["a sum without an end", { bv: 1e308, n: "a", v: 1e308 }, "SENML_BAD_FIELD"],
    ["no value", { n: "a" }, "SENML_NO_VALUE"],
    ["only a time", { t: 1 }, "SENML_NO_VALUE"],
    ["no name", { v: 1 }, "SENML_BAD_NAME"],
    ["a name with a space", { n: "a b", v: 1 }, "SENML_BAD_NAME"],
    ["a name with a line end", { n: "a\n", v: 1 }, "SENML_BAD_NAME"],
    ["a name that starts with a slash", { n: "/a", v: 1 }, "SENML_BAD_NAME"],
    ["a base name that starts with a dot", { bn: ".", n: "a", v: 1 }, "SENML_BAD_NAME"],
    ["a name that is too long", { bn: "a".repeat(200), n: "b".repeat(56), v: 1 }, "SENML_BAD_NAME"],
    ["a field that must be understood", { n: "a", v: 1, x_: 1 }, "SENML_UNSUPPORTED_FIELD"],
  ];
  for (const [what, record, code] of faults) {
    const expected = { code, record: 1 };
    t.deepEqual(
      errorOf(() => decodePack(json([good, record]), "json", NOW)),
      expected,
      `${what}, JSON`,
    );
    t.deepEqual(
      errorOf(() => decodePack(cbor([good, record]), "cbor", NOW)),
      expected,
      `${what}, CBOR`,
    );
  }
  const ignored = [{ n: "a", v: 1, x: { deep: [1, { er: "x" }] }, _y: null }];
  for (const [format, pack] of [
    ["json", json(ignored)],
    ["cbor", cbor(ignored)],
  ] as const)
    t.deepEqual(decodePack(pack, format, NOW), [{ name: "a", value: 1, timeSeconds: NOW }]);
});

test("JSON of another shape, base64 of another form and halves of surrogate pairs are refused", (t) => {
  const decode = (text: string): string | undefined =>
    errorOf(() => decodePack(new TextEncoder().encode(text), "json", NOW))?.code;
  for (const text of ["", "[", "{}", "1", "null", "[1]", "[[]]", "[null]", '[{"n":"a","v":1}] x'])
    t.is(decode(text), "SENML_MALFORMED", text);
  t.is(decode("[".repeat(60_000)), "SENML_MALFORMED");
  for (const vd of ["a+b/", "aGkgCg==", "a", "aGkgCh", "aG kg", 7])
    t.is(decode(JSON.stringify([{ n: "a", vd }])), "SENML_BAD_FIELD", String(vd));
  t.is(decode('[{"n":"a","vs":"\\ud800"}]'), "SENML_BAD_FIELD");
  t.is(decode('[{"n":"a","v":1e999}]'), "SENML_BAD_FIELD");
  t.is(decode("[]"), undefined);
  t.is(decode('[{"__proto__":1,"n":"a","v":1}]'), "SENML_UNSUPPORTED_FIELD");
  t.is(decode('[{"constructor":1,"n":"a","v":1}]'), undefined);
  t.is(errorOf(() => decodePack(Uint8Array.of(0x22, 0xff, 0x22), "json", NOW))?.code, "SENML_MALFORMED");
});

test("bounds are options: bytes and records", (t) => {
  const three = Array.from({ length: 3 }, () => ({ n: "a", v: 1 }));
  for (const [format, pack] of [
    ["json", json(three)],
    ["cbor", cbor(three)],
  ] as const) {
    const decode = (limits: object): string | undefined => errorOf(() => decodePack(pack, format, NOW, limits))?.code;
    t.is(decode({ maxRecords: 3, maxBytes: pack.length }), undefined);
    t.is(decode({ maxRecords: 2 }), "SENML_TOO_LARGE");
    t.is(decode({ maxBytes: pack.length - 1 }), "SENML_TOO_LARGE");
  }
});

test("what has no form in SenML is refused when encoding, by code and record", (t) => {
  const good: SenmlRecord = { name: "good", value: 1 };
  const faults: readonly [SenmlRecord, string][] = [
    [{ name: "", value: 1 }, "SENML_BAD_NAME"],
    [{ name: "a b", value: 1 }, "SENML_BAD_NAME"],
    [{ name: "a" }, "SENML_NO_VALUE"],
    [{ name: "a", value: Number.NaN }, "SENML_BAD_FIELD"],
    [{ name: "a", sum: Number.POSITIVE_INFINITY }, "SENML_BAD_FIELD"],
    [{ name: "a", value: 1, timeSeconds: Number.NaN }, "SENML_BAD_FIELD"],
    [{ name: "a", value: "\udc00" }, "SENML_BAD_FIELD"],
    [{ name: "a", value: 1, unit: "\ud800" }, "SENML_BAD_FIELD"],
    [{ name: "a", value: 1, version: 5 }, "SENML_BAD_FIELD"],
  ];
  for (const format of FORMATS)
    for (const [record, code] of faults)
      t.deepEqual(
        errorOf(() => encodePack([good, record], format)),
        { code, record: 1 },
      );
  t.is(errorOf(() => encodePack([{ ...good, version: 11 }], "json"))?.code, "SENML_UNSUPPORTED_VERSION");
  t.deepEqual(decodePack(encodePack([{ ...good, version: 26 }], "cbor"), "cbor", NOW), [
    { ...good, version: 26, timeSeconds: NOW },
  ]);
  for (const format of FORMATS) t.deepEqual(decodePack(encodePack([], format), format, NOW), []);
});

test("decoded bytes are the receiver's own", (t) => {
  const payload = Buffer.from(encodePack([{ name: "a", value: Uint8Array.of(1, 2) }], "cbor"));
  const value = decodePack(payload, "cbor", NOW)[0]?.value;
  payload.fill(0);
  t.deepEqual(value, Uint8Array.of(1, 2));
});

test("RFC 8790 §3.1: a Fetch Pack selects by name, and by time where it gives one", (t) => {
  const light = decodePack(
    json([
      { bn: "2001:db8::2/3311/0/", n: "5850", vb: true },
      { n: "5851", v: 42 },
      { n: "5750", vs: "Ceiling light" },
    ]),
    "json",
    NOW,
  );
  const fetched = decodeFetchPack(json([{ bn: "2001:db8::2/3311/0/", n: "5850" }, { n: "5851" }]), "json", NOW);
  t.deepEqual(fetched, [{ name: "2001:db8::2/3311/0/5850" }, { name: "2001:db8::2/3311/0/5851" }]);
  t.deepEqual(selectRecords(light, fetched), light.slice(0, 2));

  const readings = [1276020090, 1276020091, 1276020092].map((timeSeconds) => ({
    name: "x/5850",
    value: 1,
    timeSeconds,
  }));
  const byTime = decodeFetchPack(json([{ bn: "x/", n: "5850", t: 1.276020091e9 }]), "json", NOW);
  t.deepEqual(selectRecords(readings, byTime), readings.slice(1, 2));
  t.deepEqual(selectRecords(readings, [...byTime, { name: "x/5850" }]), readings, "without a time: all");
  t.deepEqual(selectRecords(readings, [{ name: "x/5850", timeSeconds: 5 }, { name: "x" }]), []);
});

test("fields of a Fetch Pack other than names and times are ignored, but those that must be understood", (t) => {
  const pack = [
    { bn: "a", bver: 99, v: null, vd: 7 },
    { bt: NOW, n: "b", t: 1, u: 5 },
  ];
  const expected = [{ name: "a" }, { name: "ab", timeSeconds: NOW + 1 }];
  t.deepEqual(decodeFetchPack(json(pack), "json", NOW), expected);
  t.deepEqual(decodeFetchPack(cbor(pack), "cbor", NOW), expected);
  const codeOf = (record: Readonly<Record<string, unknown>>): string | undefined =>
    errorOf(() => decodeFetchPack(cbor([record]), "cbor", NOW))?.code;
  t.is(codeOf({ n: "a", x_: 1 }), "SENML_UNSUPPORTED_FIELD");
  t.is(codeOf({ u: "V" }), "SENML_BAD_NAME");
  t.is(codeOf({ n: "a", t: "x" }), "SENML_BAD_FIELD");
  t.is(codeOf({ bt: 1e308, n: "a", t: 1e308 }), "SENML_BAD_FIELD");
  t.is(errorOf(() => decodeFetchPack(cbor(pack), "cbor", NOW, { maxRecords: 1 }))?.code, "SENML_TOO_LARGE");
});

test("decode(encode(fetch)) is the Fetch Pack, in both formats", (t) => {
  const pack = fc.array(
    fc.record({ name: names, timeSeconds: fc.integer({ min: 2 ** 28, max: 2 ** 33 }) }, { requiredKeys: ["name"] }),
    { maxLength: 8 },
  );
  for (const format of FORMATS)
    t.notThrows(() =>
      fc.assert(
        fc.property(pack, (list) => {
          t.deepEqual(decodeFetchPack(encodeFetchPack(list, format), format, NOW), list);
        }),
      ),
    );
  t.is(errorOf(() => encodeFetchPack([{ name: "a b" }], "json"))?.code, "SENML_BAD_NAME");
  t.is(errorOf(() => encodeFetchPack([{ name: "a", timeSeconds: Number.NaN }], "json"))?.code, "SENML_BAD_FIELD");
});
