import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import * as z from "zod";
import {
  coapUri,
  ConfigError,
  duration,
  host,
  listOf,
  loadConfig,
  oneOf,
  parseConfig,
  path,
  port,
  renderConfig,
  secret,
  secretFile,
  section,
  text,
  type CoapUri,
} from "#config/index.js";
import { readFault } from "#config/load.js";

// Schemas in the shape of the specification's examples: they prove that the blocks suffice and are pleasant to write.

const psk = section({ identity: text(), key: secret({ minBytes: 16 }) });

const serverInterface = section({
  listen: section({ host: host(), coap: port().optional(), coaps: port().optional() }).optional(),
  connection: oneOf("none", "dtls"),
  clientAuthentication: listOf(oneOf("certificate", "psk", "digest", "rawPublicKey", "external", "none"), {
    minItems: 1,
  }),
  digest: section({
    algorithms: listOf(oneOf("SHA-256", "SHA-512-256", "MD5")).default(["SHA-256"]),
    qop: listOf(oneOf("auth", "auth-int")).default(["auth-int", "auth"]),
    scope: oneOf("request", "association").default("request"),
    nonceLifetime: duration().default(300_000),
  }).prefault({}),
  external: section({
    radius: section({ listen: port(), secret: secret(), identity: text() }).optional(),
    proxies: listOf(text()),
  }).optional(),
});

const subscriber = { name: text(), endpoints: listOf(text()), interfaces: listOf(oneOf("dpe1", "dpe2")).optional() };

const serverSchema = section({
  store: path(),
  realm: text(),
  http: section({ host: host(), port: port() }).optional(),
  credentials: section({
    certificate: path({ isReadableFile: true }),
    key: secretFile(),
    ca: path({ isReadableFile: true }).optional(),
  }).optional(),
  interfaces: section({ dpe1: serverInterface, dpe2: serverInterface }),
  subscribers: listOf(
    z.union([section({ ...subscriber, password: secret() }), section({ ...subscriber, psk })]),
  ).default([]),
});

const agentSchema = section({
  endpoint: text(),
  server: coapUri(),
  store: path(),
  interfaces: section({
    dpe1: section({
      connection: oneOf("none", "dtls"),
      serverAuthentication: oneOf("certificate", "psk", "rawPublicKey", "address", "none"),
      ca: path({ isReadableFile: true }).optional(),
      credentials: z.union([section({ username: text(), password: secret() }), section({ psk })]),
    }),
    dpe2: section({ bind: z.union([z.literal("association"), coapUri()]) }),
  }),
  sources: listOf(
    z.discriminatedUnion("use", [
      section({ use: z.literal("host"), every: duration({ minMs: 1000, maxMs: 86_400_000 }) }),
      section({ use: z.literal("firmware"), port: text() }),
    ]),
  ),
});

const folder = mkdtempSync(join(tmpdir(), "dpe-config-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

function put(name: string, content: string | Uint8Array, mode = 0o600): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  chmodSync(file, mode);
  return file;
}

put("secret", "from a file\n");
put("open-secret", "x", 0o640);
put("empty-secret", "\n");
put("ca.pem", "certificate");
put("server.pem", "certificate");
put("server.key", "-----BEGIN PRIVATE KEY-----\n");
put("clients-ca.pem", "certificate");

const environment = { ALICE: "wonderland", RADIUS_SECRET: "radius", EMPTY: "" };

const SERVER_EXAMPLE = `store: ./dpe-data
realm: dpe.example
http: { host: 127.0.0.1, port: 8080 }
credentials: { certificate: server.pem, key: server.key, ca: clients-ca.pem }
interfaces:
  dpe1:
    listen: { host: 0.0.0.0, coap: 5683, coaps: 5684 }
    connection: dtls
    clientAuthentication: [certificate, psk, digest]
    digest: { algorithms: [SHA-256], qop: [auth-int, auth], scope: association }
    external: { radius: { listen: 1813, secret: env:RADIUS_SECRET, identity: User-Name }, proxies: [] }
  dpe2:
    connection: none
    clientAuthentication: [none]
subscribers:
  - { name: alice, password: env:ALICE, endpoints: ["pi-*"], interfaces: [dpe1, dpe2] }
  - { name: bench, psk: { identity: bench, key: "hex:30313233343536373839616263646566" }, endpoints: ["bench-*"] }
`;

const AGENT_EXAMPLE = `endpoint: pi-kitchen
server: coaps://dpe.example
store: ./agent-data
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: certificate
    ca: ca.pem
    credentials: { username: alice, password: file:secret }
  dpe2: { bind: association }
sources:
  - { use: host, every: 10s }
  - { use: firmware, port: /dev/ttyACM0 }
`;

test("the examples of the specification load into typed values", (t) => {
  const server = loadConfig(put("server.yaml", SERVER_EXAMPLE), serverSchema, { environment });
  t.is(server.store, join(folder, "dpe-data"));
  t.deepEqual(server.http, { host: "127.0.0.1", port: 8080 });
  t.deepEqual(server.interfaces.dpe1.listen, { host: "0.0.0.0", coap: 5683, coaps: 5684 });
  t.deepEqual(server.interfaces.dpe1.clientAuthentication, ["certificate", "psk", "digest"]);
  t.is(server.interfaces.dpe1.external?.radius?.secret.text(), "radius");
  t.is(server.credentials?.key.text(), "-----BEGIN PRIVATE KEY-----\n");
  t.deepEqual(server.interfaces.dpe2.digest.qop, ["auth-int", "auth"]);
  const [alice, bench] = server.subscribers;
  t.true(alice !== undefined && "password" in alice && alice.password.text() === "wonderland");
  t.true(bench !== undefined && "psk" in bench);
  t.deepEqual(bench !== undefined && "psk" in bench && bench.psk.key.text(), "0123456789abcdef");

  const agent = loadConfig(put("agent.yaml", AGENT_EXAMPLE), agentSchema, { environment });
  t.deepEqual(agent.server, {
    scheme: "coaps",
    host: "dpe.example",
    port: 5684,
    path: "/",
    query: "",
    href: "coaps://dpe.example:5684",
  });
  t.is(agent.interfaces.dpe1.ca, join(folder, "ca.pem"));
  const credentials = agent.interfaces.dpe1.credentials;
  t.is("password" in credentials ? credentials.password.text() : "", "from a file");
  t.deepEqual(agent.sources, [
    { use: "host", every: 10_000 },
    { use: "firmware", port: "/dev/ttyACM0" },
  ]);
  // The types are those of the schema, and a schema may be exported under an interface of its own.
  const exported: z.ZodType<{ readonly endpoint: string; readonly server: CoapUri }, unknown> = agentSchema;
  t.is(parseConfig(AGENT_EXAMPLE, join(folder, "agent.yaml"), exported).server.port, 5684);
});

/** Each: what is wrong, the file (server if it begins with `store`, else agent), the exact message. */
const BAD_FILES: readonly (readonly [title: string, yaml: string, message: string])[] = [
  [
    "a misspelt key",
    AGENT_EXAMPLE.replace("    connection:", "    conection:"),
    'bad.yaml:6:5 interfaces.dpe1.conection: unknown key; did you mean "connection"?',
  ],
  [
    "a key that is nothing like any other",
    AGENT_EXAMPLE.replace("bind:", "zzz: 1, bind:"),
    "bad.yaml:10:11 interfaces.dpe2.zzz: unknown key; known keys: bind",
  ],
  [
    "a key of the prototype",
    `${AGENT_EXAMPLE}__proto__: { x: 1 }\n`,
    "bad.yaml:14:1 __proto__: unknown key; known keys: endpoint, server, store, interfaces, sources",
  ],
  [
    "a key with a line end in it",
    `${AGENT_EXAMPLE}"a\\nb": 1\n`,
    'bad.yaml:14:1 ["a\\nb"]: unknown key; known keys: endpoint, server, store, interfaces, sources',
  ],
  [
    "a missing key at the top",
    AGENT_EXAMPLE.replace(/^endpoint.*\n/, ""),
    "bad.yaml:1:1 endpoint: required key is missing; expected text",
  ],
  [
    "a missing key below another",
    AGENT_EXAMPLE.replace("    serverAuthentication: certificate\n", ""),
    "bad.yaml:5:3 interfaces.dpe1.serverAuthentication: required key is missing; expected one of certificate, psk, rawPublicKey, address, none",
  ],
  [
    "a key without a value",
    AGENT_EXAMPLE.replace("pi-kitchen", ""),
    "bad.yaml:1:1 endpoint: expected text; found nothing",
  ],
  [
    "a number for text",
    AGENT_EXAMPLE.replace("pi-kitchen", "42"),
    "bad.yaml:1:11 endpoint: expected text; found 42; put it in quotes",
  ],
  [
    "a mapping for text",
    AGENT_EXAMPLE.replace("pi-kitchen", "{ a: 1 }"),
    "bad.yaml:1:11 endpoint: expected text; found a mapping",
  ],
  [
    "a wrong word",
    AGENT_EXAMPLE.replace("connection: dtls", "connection: dlts"),
    'bad.yaml:6:17 interfaces.dpe1.connection: expected one of none, dtls; found "dlts"; did you mean "dtls"?',
  ],
  [
    "a word unlike all",
    AGENT_EXAMPLE.replace("connection: dtls", "connection: carrier-pigeon"),
    'bad.yaml:6:17 interfaces.dpe1.connection: expected one of none, dtls; found "carrier-pigeon"',
  ],
  [
    "a wrong word in a list",
    SERVER_EXAMPLE.replace("[certificate, psk, digest]", "[certificate, pks]"),
    'bad.yaml:9:41 interfaces.dpe1.clientAuthentication[1]: expected one of certificate, psk, digest, rawPublicKey, external, none; found "pks"; did you mean "psk"?',
  ],
  [
    "a word twice in a list",
    SERVER_EXAMPLE.replace("[certificate, psk, digest]", "[psk, digest, psk]"),
    "bad.yaml:9:41 interfaces.dpe1.clientAuthentication[2]: already item 0 of this list",
  ],
  [
    "an empty list where something is needed",
    SERVER_EXAMPLE.replace("[certificate, psk, digest]", "[]"),
    "bad.yaml:9:27 interfaces.dpe1.clientAuthentication: expected a list of at least 1 item; found a list",
  ],
  [
    "a word for a list",
    SERVER_EXAMPLE.replace("[certificate, psk, digest]", "psk"),
    'bad.yaml:9:27 interfaces.dpe1.clientAuthentication: expected a list; found "psk"; put it in brackets: [ … ]',
  ],
  [
    "a port that is too large",
    SERVER_EXAMPLE.replace("port: 8080", "port: 65536"),
    "bad.yaml:3:32 http.port: expected a port (0–65535); found 65536",
  ],
  [
    "a port with a fraction",
    SERVER_EXAMPLE.replace("port: 8080", "port: 80.5"),
    "bad.yaml:3:32 http.port: expected a port (0–65535); found 80.5",
  ],
  [
    "an address that is none",
    SERVER_EXAMPLE.replace("host: 0.0.0.0", "host: 0.0.0.256"),
    'bad.yaml:7:21 interfaces.dpe1.listen.host: expected a host name or an IP address; found "0.0.0.256"',
  ],
  [
    "a URI of another scheme",
    AGENT_EXAMPLE.replace("coaps://", "https://"),
    'bad.yaml:2:9 server: expected a coap:// or coaps:// URI; found "https://dpe.example"',
  ],
  [
    "a URI with a password, which is not shown",
    AGENT_EXAMPLE.replace("coaps://", "coaps://alice:wonderland@"),
    "bad.yaml:2:9 server: a CoAP URI carries no user name or password; write them under credentials",
  ],
  [
    "a union that nothing fits",
    AGENT_EXAMPLE.replace("bind: association", "bind: asociation"),
    'bad.yaml:10:17 interfaces.dpe2.bind: expected association or a coap:// or coaps:// URI; found "asociation"; did you mean "association"?',
  ],
  [
    "a misspelt key in one alternative",
    AGENT_EXAMPLE.replace("password:", "pasword:"),
    'bad.yaml:9:37 interfaces.dpe1.credentials.pasword: unknown key; did you mean "password"?',
  ],
  [
    "a wrong discriminator",
    AGENT_EXAMPLE.replace("use: host", "use: hots"),
    'bad.yaml:12:12 sources[0].use: expected one of host, firmware; found "hots"; did you mean "host"?',
  ],
  [
    "a duration without a unit",
    AGENT_EXAMPLE.replace("10s", '"10"'),
    'bad.yaml:12:25 sources[0].every: expected a duration such as 10s, 5m or 1h, or a number of seconds; found "10"',
  ],
  [
    "a negative duration",
    AGENT_EXAMPLE.replace("10s", "-1"),
    "bad.yaml:12:25 sources[0].every: expected a duration such as 10s, 5m or 1h, or a number of seconds; found -1",
  ],
  [
    "a duration below the least",
    AGENT_EXAMPLE.replace("10s", "10ms"),
    'bad.yaml:12:25 sources[0].every: expected a duration of at least 1s and at most 1d; found "10ms"',
  ],
  [
    "an environment variable that is not set",
    SERVER_EXAMPLE.replace("env:ALICE", "env:ALICIA"),
    "bad.yaml:16:30 subscribers[0].password: the environment variable ALICIA is not set",
  ],
  [
    "an empty environment variable",
    SERVER_EXAMPLE.replace("env:ALICE", "env:EMPTY"),
    "bad.yaml:16:30 subscribers[0].password: the secret is empty",
  ],
  [
    "a secret that looks like a number, which is not shown",
    SERVER_EXAMPLE.replace("env:ALICE", "0123"),
    "bad.yaml:16:30 subscribers[0].password: expected a secret: file:PATH, env:NAME, hex:… or text; found a number; put it in quotes",
  ],
  [
    "a broken hex key, which is not shown",
    SERVER_EXAMPLE.replace("hex:3031", "hex:303"),
    "bad.yaml:17:49 subscribers[1].psk.key: hex: must be followed by pairs of hexadecimal digits",
  ],
  [
    "a key that is too short",
    SERVER_EXAMPLE.replace(/hex:\w+/, "hex:3031"),
    "bad.yaml:17:49 subscribers[1].psk.key: the secret has 2 bytes, fewer than the least of 16",
  ],
  [
    "a secrets file that others can read",
    AGENT_EXAMPLE.replace("file:secret", "file:open-secret"),
    "bad.yaml:9:47 interfaces.dpe1.credentials.password: the secrets file open-secret is open to other users (mode 640); run: chmod 600 open-secret",
  ],
  [
    "a secrets file that is not there",
    AGENT_EXAMPLE.replace("file:secret", "file:nowhere"),
    "bad.yaml:9:47 interfaces.dpe1.credentials.password: the secrets file nowhere does not exist",
  ],
  [
    "an empty secrets file",
    AGENT_EXAMPLE.replace("file:secret", "file:empty-secret"),
    "bad.yaml:9:47 interfaces.dpe1.credentials.password: the secret is empty",
  ],
  [
    "a secrets file that is a folder",
    AGENT_EXAMPLE.replace("file:secret", "file:."),
    "bad.yaml:9:47 interfaces.dpe1.credentials.password: FOLDER is not a file",
  ],
  [
    "a file that is needed and not there",
    AGENT_EXAMPLE.replace("ca: ca.pem", "ca: other.pem"),
    "bad.yaml:8:9 interfaces.dpe1.ca: the file other.pem does not exist",
  ],
  [
    "a duplicate key",
    `${AGENT_EXAMPLE}store: elsewhere\n`,
    "bad.yaml:14:1 store: duplicate key; first given on line 3",
  ],
  [
    "a duplicate key in a list",
    AGENT_EXAMPLE.replace("use: host,", "use: host, use: host,"),
    "bad.yaml:12:18 sources[0].use: duplicate key; first given on line 12",
  ],
  ["a tab as indentation", "interfaces:\n\tdpe1: {}\n", "bad.yaml:2:1: a tab is used for indentation; use spaces"],
  ["a bracket that is not closed", "sources: [1, 2\n", "bad.yaml:2:1: a bracket is not closed; expected ]"],
  ["a quote that is not closed", "endpoint: 'pi\n", "bad.yaml:2:1: YAML syntax: Missing closing 'quote"],
  [
    "a second colon",
    "endpoint: pi: kitchen\n",
    "bad.yaml:1:11: a second colon, or an indented line, follows the value; put a text with a colon in quotes",
  ],
  [
    "wrong indentation",
    "interfaces:\n    dpe1: 1\n  dpe2: 2\n",
    "bad.yaml:3:1: the indentation does not fit the lines above",
  ],
  [
    "a tag",
    "endpoint: !kitchen x\n",
    "bad.yaml:1:11: tags (words that begin with !) are not supported; put text that begins with ! in quotes",
  ],
  ["a mapping as a key", "? { a: 1 }\n: 2\n", "bad.yaml:1:3: a key must be plain text"],
  [
    "two documents",
    "a: 1\n---\nb: 2\n",
    "bad.yaml:2:1: the file holds more than one YAML document; remove the --- line",
  ],
  [
    "an alias of nothing",
    "endpoint: *pi\n",
    "bad.yaml:1:11: the alias *pi has no anchor before it; put text that begins with * in quotes",
  ],
  [
    "a bomb of aliases",
    `a0: &a0 [${"x,".repeat(20)}]\n${Array.from({ length: 8 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i},`.repeat(20)}]\n`).join("")}`,
    "bad.yaml:2:10: aliases expand to too much data; write the values out",
  ],
  ["an empty file", "", "bad.yaml: the file is empty"],
  ["nothing but comments", "# store: x\n\n", "bad.yaml: the file is empty"],
  ["a list for the whole", "- a\n- b\n", "bad.yaml:1:1: expected a mapping; found a list"],
  ["text for the whole", "hello\n", 'bad.yaml:1:1: expected a mapping; found "hello"'],
];

BAD_FILES.forEach(([title, yaml, message], index) => {
  test(`refused in one clear line: ${title}`, (t) => {
    const file = put(`bad-${index}.yaml`, yaml);
    const schema = yaml.startsWith("store") ? serverSchema : agentSchema;
    const error = t.throws(() => loadConfig(file, schema, { environment }), { instanceOf: ConfigError });
    const shown = error?.message
      .replaceAll(`${file}:`, "bad.yaml:")
      .replaceAll(`${folder}/`, "")
      .replaceAll(folder, "FOLDER");
    t.is(shown, message);
    t.is(error?.file, file);
  });
});

function refused(file: string, options = {}): ConfigError {
  try {
    loadConfig(file, agentSchema, { environment, ...options });
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error(`${file} was accepted`);
}

test("a file that cannot be read is one line with its name", (t) => {
  const missing = refused(join(folder, "nowhere.yaml"));
  t.is(missing.message, `${folder}/nowhere.yaml: no such file`);
  t.is(missing.code, "CONFIG_FILE_MISSING");
  mkdirSync(join(folder, "folder.yaml"));
  t.is(refused(join(folder, "folder.yaml")).message, `${folder}/folder.yaml: this is a folder, not a file`);
  symlinkSync("loop.yaml", join(folder, "loop.yaml"));
  t.is(refused(join(folder, "loop.yaml")).message, `${folder}/loop.yaml: the file cannot be read (ELOOP)`);
  t.is(readFault(Object.assign(new Error("no"), { code: "EACCES" })).problem, "this user may not read the file");
  const large = refused(put("large.yaml", AGENT_EXAMPLE), { maxFileBytes: 100 });
  t.is(large.message, `${folder}/large.yaml: the file has more than 100 bytes`);
  const binary = refused(put("binary.yaml", Uint8Array.of(0x61, 0x3a, 0x20, 0x31, 0x0a, 0x62, 0xff, 0x0a)));
  t.is(binary.message, `${folder}/binary.yaml:2:2: the file is not UTF-8 text`);
});

test("every fault of a file is listed, in the order of its lines, with its fields", (t) => {
  const yaml = AGENT_EXAMPLE.replace("pi-kitchen", "7")
    .replace("coaps://", "ftp://")
    .replace("    ca:", "    cas:")
    .concat("store: twice\n");
  const error = t.throws(() => parseConfig(yaml, join(folder, "many.yaml"), agentSchema, { environment }), {
    instanceOf: ConfigError,
  });
  t.deepEqual(
    error?.faults.map(({ code, line, column, keyPath }) => [code, line, column, keyPath]),
    [
      ["CONFIG_WRONG_TYPE", 1, 11, "endpoint"],
      ["CONFIG_BAD_VALUE", 2, 9, "server"],
      ["CONFIG_UNKNOWN_KEY", 8, 5, "interfaces.dpe1.cas"],
      ["CONFIG_DUPLICATE_KEY", 14, 1, "store"],
    ],
  );
  t.is(error?.message.split("\n").length, 4);
  t.is(error?.expected, "text");
  t.is(error?.found, "7");
  t.is(error?.hint, "put it in quotes");
});

test("the list of faults is bounded, and what is left out is counted", (t) => {
  const yaml = Array.from({ length: 500 }, (_, index) => `unknown${index}: 1\n`).join("");
  const schema = section({ nothing: text().optional() });
  const error = t.throws(() => parseConfig(yaml, "x.yaml", schema, { maxFaults: 10 }), { instanceOf: ConfigError });
  t.is(error?.faults.length, 11);
  t.is(error?.message.split("\n").at(-1), "x.yaml: 490 more faults");
});

test("control characters of a file reach no terminal and forge no line", (t) => {
  const yaml = '"a\\nx.yaml:1:1 forged\\e[2J\\u202e": 1\n';
  const error = t.throws(() => parseConfig(yaml, "x\n.yaml", section({})), { instanceOf: ConfigError });
  t.is(error?.message, 'x\\u{a}.yaml:1:1 ["a\\nx.yaml:1:1 forged\\u001b[2J\\u{202e}"]: unknown key');
});

test("deep nesting is refused, not a crash", (t) => {
  for (const yaml of ["[".repeat(50_000), `a: ${"{a: ".repeat(30_000)}`, "- ".repeat(30_000)]) {
    const error = t.throws(() => parseConfig(yaml, "deep.yaml", agentSchema), { instanceOf: ConfigError });
    t.true(["CONFIG_SYNTAX", "CONFIG_WRONG_TYPE"].includes(error?.code ?? ""), error?.message.slice(0, 200));
  }
});

test("no text makes loading throw anything but a ConfigError of plain lines", (t) => {
  const fragment = fc.constantFrom(
    ...AGENT_EXAMPLE.split(/(?<=[\s:{}[\],])/),
    "&a ",
    "*a",
    "<<: ",
    "!x ",
    "'",
    '"',
    "|\n",
    "\0",
  );
  fc.assert(
    fc.property(fc.array(fragment, { maxLength: 60 }), (parts) => {
      try {
        parseConfig(parts.join(""), "fuzz.yaml", agentSchema, { environment });
        return true;
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        return error.message.split("\n").every((line) => line.startsWith("fuzz.yaml") && !line.includes("\0"));
      }
    }),
    { numRuns: 300 },
  );
  t.pass();
});

test("the effective configuration is YAML that loads again, with every secret masked", (t) => {
  const file = join(folder, "server.yaml");
  const server = parseConfig(SERVER_EXAMPLE, file, serverSchema, { environment });
  const shown = renderConfig(serverSchema, server);
  for (const leak of ["wonderland", "0123456789abcdef", "30313233", "PRIVATE KEY", "env:"])
    t.false(shown.includes(leak), leak);
  t.is(shown.match(/\[secret\]/g)?.length, 4);
  t.regex(shown, /^ {6}nonceLifetime: 5m$/m);
  const again = parseConfig(
    shown
      .replaceAll(/key: "\[secret\]"$/gm, `key: "text:0123456789abcdef"`)
      .replace(/^ {2}key: .*$/m, "  key: server.key"),
    file,
    serverSchema,
  );
  t.is(renderConfig(serverSchema, again), shown);
  const agent = parseConfig(AGENT_EXAMPLE, file, agentSchema, { environment });
  t.true(renderConfig(agentSchema, agent).includes("server: coaps://dpe.example:5684\n"));
});
