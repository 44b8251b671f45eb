import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import test from "ava";
import fc from "fast-check";
import * as z from "zod";
import {
  coapUri,
  ConfigError,
  duration,
  formatDuration,
  host,
  hostPort,
  oneOf,
  parseConfig,
  path,
  port,
  refuse,
  renderConfig,
  Secret,
  secret,
  secretFile,
  section,
  text,
} from "#config/index.js";
import { editDistance, nearest } from "#config/nearest.js";

const folder = mkdtempSync(join(tmpdir(), "dpe-blocks-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const environment = { ALICE: "wonderland" };

test("an alias stands for what it names, and faults in it are placed where it is written", (t) => {
  const schema = section({ a: section({ every: duration() }), b: section({ every: duration() }) });
  t.deepEqual(parseConfig("a: &a { every: 1m }\nb: *a\n", "x.yaml", schema), {
    a: { every: 60_000 },
    b: { every: 60_000 },
  });
  const error = t.throws(() => parseConfig("a: &a { every: x }\nb: *a\n", "x.yaml", schema), {
    instanceOf: ConfigError,
  });
  t.deepEqual(
    error?.faults.map(({ line, column, keyPath }) => [line, column, keyPath]),
    [
      [1, 16, "a.every"],
      [1, 16, "b.every"],
    ],
  );
});

test("defaults fill in, and the least that a section needs is enough", (t) => {
  const schema = section({
    every: duration().default(10_000),
    listen: hostPort({ defaultPort: 5683 }).prefault("localhost"),
    secret: secret().optional(),
    mode: oneOf("a", "b").default("b"),
  });
  t.deepEqual(parseConfig("{}", "x.yaml", schema), {
    every: 10_000,
    listen: { host: "localhost", port: 5683 },
    mode: "b",
  });
});

test("durations are milliseconds", (t) => {
  const read = (value: string): unknown => parseConfig(`d: ${value}`, "x.yaml", section({ d: duration() })).d;
  const table = { "10s": 10_000, "5m": 300_000, "1h": 3_600_000, "250ms": 250, "1h30m": 5_400_000, "2d": 172_800_000 };
  for (const [written, ms] of Object.entries({ ...table, "1.5s": 1500, 30: 30_000, 0.5: 500, 0: 0 }))
    t.is(read(written), ms);
  for (const ms of [0, 1, 999, 1000, 90_000, 5_400_000, 86_400_000, 90_061_001]) t.is(read(formatDuration(ms)), ms);
  t.is(formatDuration(5_400_000), "90m");
});

test("hosts, ports and URIs are taken in all their forms, and nothing else is", (t) => {
  const accepts = (schema: z.ZodType, value: unknown): boolean => schema.safeParse(value).success;
  for (const name of [
    "localhost",
    "a.example",
    "192.0.2.1",
    "::",
    "fe80::1%eth0",
    "2001:db8::1",
    "gw_1",
    "example.",
    "1.example",
  ]) {
    t.true(accepts(host(), name), name);
  }
  for (const name of [
    "",
    "-a",
    "a b",
    "1.2.3",
    "1.2.3.256",
    "1::2::3",
    "[::1]",
    "a/b",
    "a..b",
    `${"a".repeat(64)}.x`,
    5,
    null,
  ]) {
    t.false(accepts(host(), name), String(name));
  }
  t.deepEqual(hostPort().parse("[2001:db8::1]:5684"), { host: "2001:db8::1", port: 5684 });
  t.deepEqual(hostPort({ defaultPort: 1 }).parse({ host: "a" }), { host: "a", port: 1 });
  for (const value of ["a", "a:", "a:65536", "::1:5", "[a]:5", ":5", "a:5:6", 5]) t.false(accepts(hostPort(), value));
  for (const value of [0, 65_535]) t.true(accepts(port(), value));
  for (const value of [-1, 65_536, 1.5, "80", NaN, null]) t.false(accepts(port(), value));

  const uri = coapUri();
  t.is(uri.parse("coap://[2001:DB8::1]").port, 5683);
  t.like(uri.parse("COAPS://Gw.Example/a%2Fb?x=1&y"), {
    scheme: "coaps",
    host: "gw.example",
    port: 5684,
    path: "/a%2Fb",
    query: "x=1&y",
    href: "coaps://gw.example:5684/a%2Fb?x=1&y",
  });
  t.like(uri.parse("coap://[fe80::1%25eth0]:7/"), { host: "fe80::1%eth0", href: "coap://[fe80::1%25eth0]:7" });
  t.is(uri.parse("coap://h:/").port, 5683);
  t.is(uri.parse("coap://0.0.0.0:0").port, 0);
  for (const bad of [
    "coap:/h",
    "coap://",
    "coap://h:99999",
    "coap://h#f",
    "coap://a b",
    "coap://::1",
    "coap+tcp://h",
    "h:5683",
  ]) {
    t.false(accepts(uri, bad), bad);
  }
  t.false(accepts(coapUri({ schemes: ["coaps"] }), "coap://h"));
});

test("a secret is read from a file, the environment, hex or text", (t) => {
  const read = (value: string): Uint8Array =>
    parseConfig(`s: ${JSON.stringify(value)}`, join(folder, "x.yaml"), section({ s: secret() }), {
      environment,
    }).s.reveal();
  const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);
  writeFileSync(join(folder, "secret"), "from a file\n", { mode: 0o600 });
  t.deepEqual(read("file:secret"), bytes("from a file"));
  writeFileSync(join(folder, "binary-secret"), Uint8Array.of(0, 0xff, 0x0d, 0x0a), { mode: 0o600 });
  t.deepEqual(read("file:binary-secret"), Uint8Array.of(0, 0xff));
  t.deepEqual(read("env:ALICE"), bytes("wonderland"));
  t.deepEqual(read("hex:00:ff 7F"), Uint8Array.of(0, 255, 127));
  t.deepEqual(read("plain: text"), bytes("plain: text"));
  t.deepEqual(read("text:env:ALICE"), bytes("env:ALICE"));
  const whole = parseConfig("s: secret", join(folder, "x.yaml"), section({ s: secretFile() }));
  t.is(whole.s.text(), "from a file\n");
});

test("a secret never prints itself", (t) => {
  const value = new Secret("hunter2");
  const ways = [
    String(value),
    `${value as unknown as string}`,
    "" + value,
    JSON.stringify({ value }),
    inspect(value),
    inspect({ deep: [value] }, { showHidden: true, depth: 9 }),
    JSON.stringify(Object.entries(value)),
    JSON.stringify(structuredClone(value)),
    new Error(`x ${value as unknown as string}`).stack ?? "",
  ];
  for (const way of ways) t.false(way.includes("hunter2"), way);
  t.is(inspect({ value }), "{ value: [secret] }");
  t.is(value.text(), "hunter2");
  const revealed = value.reveal();
  revealed.fill(0);
  t.is(value.text(), "hunter2");
});

test("secrets stay masked where the schema cannot be turned round", (t) => {
  const schema = section({ a: secret(), every: duration() }).transform(({ a, every }) => ({ inner: { a }, every }));
  const value = parseConfig("a: hunter2\nevery: 1m\n", "x.yaml", schema);
  t.is(renderConfig(schema, value), 'inner:\n  a: "[secret]"\nevery: 60000\n');
});

test("a schema's own checks name their place, by a sentence or by a refusal", (t) => {
  const schema = section({
    a: text().refine((value) => value !== "x", "x is reserved"),
    b: section({ low: z.int(), high: z.int() }).superRefine(({ low, high }, context) => {
      if (low > high) refuse(context, { problem: "low is above high", hint: "exchange them" }, ["low"]);
    }),
    c: z.number().min(1).max(5),
    d: z.record(z.string().regex(/^[a-z]+$/), z.boolean()),
    e: z.string().max(2),
  });
  const yaml = "a: x\nb: { low: 5, high: 1 }\nc: 9\nd: { A: true, b: yes }\ne: abc\n";
  const error = t.throws(() => parseConfig(yaml, "x.yaml", schema), { instanceOf: ConfigError });
  t.deepEqual(error?.message.split("\n"), [
    "x.yaml:1:4 a: x is reserved",
    "x.yaml:2:11 b.low: low is above high; exchange them",
    "x.yaml:3:4 c: expected a number of at most 5; found 9",
    "x.yaml:4:6 d.A: the key is not allowed; expected text that matches /^[a-z]+$/",
    'x.yaml:4:18 d.b: expected true or false; found "yes"; YAML 1.2 has only true and false',
    'x.yaml:5:4 e: expected text of at most 2 characters; found "abc"',
  ]);
});

test("paths start from the folder of the file that holds them", (t) => {
  const schema = section({ a: path(), b: path() });
  t.deepEqual(parseConfig("a: x/../y\nb: /abs\n", "/etc/dpe/server.yaml", schema), { a: "/etc/dpe/y", b: "/abs" });
});

test("the nearest word is within a third of its letters", (t) => {
  t.is(nearest("conection", ["interfaces", "connection"]), "connection");
  t.is(nearest("client_authentication", ["clientAuthentication"]), "clientAuthentication");
  t.is(nearest("hots", ["host"]), "host");
  t.is(nearest("zebra", ["host", "port"]), undefined);
  t.is(nearest("x", ["y"]), undefined);
  t.is(editDistance("kitten", "sitting"), 3);
  t.is(editDistance("ab", "ba"), 1);
  fc.assert(
    fc.property(fc.string({ maxLength: 8 }), fc.string({ maxLength: 8 }), (a, b) => {
      const distance = editDistance(a, b);
      return (
        distance === editDistance(b, a) && distance <= Math.max(a.length, b.length) && (distance === 0) === (a === b)
      );
    }),
  );
});
