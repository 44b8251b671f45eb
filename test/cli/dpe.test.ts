import { execFile } from "node:child_process";
import { createHash, createPublicKey } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { UdpSocket } from "#net/index.js";
import { DPE, IS_BUNDLED } from "#testing/dpe-program.js";
import test, { type ExecutionContext } from "ava";

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function dpe(...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [DPE, ...args], { timeout: 30_000 }, (_error, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
  });
}

function fileOf(t: ExecutionContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), "dpe-test-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "config.yaml");
  writeFileSync(file, text);
  return file;
}

const SERVER = (coap: number): string => `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: ${coap} }, connection: none, clientAuthentication: [none] }
`;
const AGENT = (server: string, credentials: string): string => `
endpoint: pi-1
server: ${server}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: ${credentials} }
`;

test("the demo pairs, reports, queries and refuses, and exits 0", async (t) => {
  const { code, stdout, stderr } = await dpe("demo");
  t.is(code, 0, stderr);
  for (const line of [
    /server +challenge to 127\.0\.0\.1:\d+: Digest/,
    /this-machine +registered over DTLS/,
    /\n {2}cpu\/count +\d+/,
    /DPE-2 query of uptime answered: \d+/,
    /DPE-2 notification of uptime: \d+/,
    /sim-3 +registered over DTLS/,
    /sim-wrong +the server refused the registration: 4\.01 invalid-credentials/,
  ]) {
    t.regex(stdout, line);
  }
});

test("an older Node.js than package.json asks for is told so, before anything else fails", async (t) => {
  const { engines } = JSON.parse(readFileSync("package.json", "utf8")) as {
    readonly engines: { readonly node: string };
  };
  const [, major = "", minor = ""] = /^>=(\d+)\.(\d+)$/.exec(engines.node) ?? [];
  for (const [node, isRefused] of [
    ["18.20.8", true],
    [`${major}.${Number(minor) - 1}.9`, true],
    [`${major}.${minor}.0`, false],
    [`${Number(major) + 1}.0.0`, false],
  ] as const) {
    const pretend = `Object.defineProperty(process,"versions",{value:{...process.versions,node:"${node}"}})`;
    const words = ["--import", `data:text/javascript,${encodeURIComponent(pretend)}`, DPE, "--version"];
    const stderr = await new Promise((resolve) =>
      execFile(process.execPath, words, (_error, _out, err) => resolve(err)),
    );
    t.is(stderr, isRefused ? `dpe: Node.js ${major}.${minor} or later is needed, and this is ${node}\n` : "");
  }
});

test("what dpe ha1 prints is taken in place of a password, also from a file", async (t) => {
  const printed = await new Promise<string>((resolve) => {
    const child = execFile(process.execPath, [DPE, "ha1", "--realm", "r", "--user", "dave"], (_, stdout) =>
      resolve(stdout),
    );
    child.stdin?.end("secret\n");
  });
  t.is(printed, `hex:${createHash("sha256").update("dave:r:secret").digest("hex")}\n`);
  const subscriber = (ha1: string): string =>
    `${SERVER(0)}realm: r\nsubscribers: [{ name: dave, ha1: { SHA-256: "${ha1}" } }]\n`;
  const file = fileOf(t, subscriber("file:dave.ha1"));
  writeFileSync(join(dirname(file), "dave.ha1"), printed, { mode: 0o600 });
  t.is((await dpe("check", "--config", file)).code, 0);
  t.is((await dpe("check", "--config", fileOf(t, subscriber(printed.trim())))).code, 0);
  t.is((await dpe("check", "--config", fileOf(t, subscriber("hex:00")))).code, 2);
});

test("each command tells its line, its options and an example, in lines that fit", async (t) => {
  t.timeout(120_000);
  const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { readonly version: string };
  t.is((await dpe("--version")).stdout, `dpe-coap ${version}\n`);
  const { code, stdout: usage } = await dpe("--help");
  t.is(code, 0);
  const names = [...usage.matchAll(/^ {2}([a-z0-9]+) /gm)].map(([, name = ""]) => name);
  t.is(names.length, 28);
  const helps = names.map((name, index) => [name, names.indexOf(name) < index ? ["coaps://h"] : []] as const);
  for (const [name, words] of helps) {
    const help = await dpe(name, ...words, "--help");
    t.is(help.code, 0, name);
    t.regex(help.stdout, new RegExp(`^usage: dpe ${name} [^]*\\nexample:\\n {2}dpe ${name}( |\\n)`), name);
    for (const line of `${usage}${help.stdout}`.split("\n"))
      if (!line.startsWith("usage")) t.true(line.length <= 130, line);
  }
});

test("what is wrong with the command line is said with the usage, exit code 2", async (t) => {
  for (const [args, said] of [
    [[], /^usage: dpe COMMAND …[^]*\n {2}server +run a DPE Server\n/],
    [["sever"], /^dpe: there is no command sever; did you mean server\?/],
    [["device"], /^dpe device: EP is missing\nusage: dpe device EP /],
    [["devices", "--state", "gone"], /^dpe devices: --state: gone is none of registered, overdue, ended\nusage: /],
    [["subscriber", "mend", "x"], /^dpe subscriber: mend is not understood\nusage: /],
    [["subscriber", "add", "x", "--password-file", "/nonexistent"], /\/nonexistent: no such file or folder/],
    [["key", "/"], /^dpe key: \/: this is a folder, not a file \(EISDIR\)\n$/],
    [["key", "/nonexistent"], /^dpe key: \/nonexistent: no such file or folder \(ENOENT\)\n$/],
    [["pair", "coap://host", "CODE"], /^dpe pair: coap:\/\/host is not coaps:\/\/HOST or/],
    [
      ["pair", "coaps://host", "0000-0000-0000-0000-0000-0000", "--endpoint", "a b"],
      /^dpe pair: --endpoint: an endpoint name is/,
    ],
    [["pair", "revoke"], /^dpe pair: revoke needs the ID of one code/],
    [["serve", "x"], /^dpe: there is no command serve; did you mean server\? dpe --help lists them\n$/],
    [["frobnicate"], /^dpe: there is no command frobnicate; dpe --help lists them\n$/],
    [["pair", "coaps://host"], /^dpe pair: CODE is missing: dpe pair on the server shows one/],
    [["pair", "host", "CODE"], /^dpe pair: host is not understood; on a device it is dpe pair coaps:\/\/HOST CODE/],
    [["server"], /dpe server needs --config FILE/],
    [["server", "--confg", "x"], /--confg/],
    [["check", "--config", "/nonexistent.yaml"], /\/nonexistent\.yaml: no such file/],
    [["demo", "--config", "x"], /dpe demo: Unknown option '--config'\nusage: dpe demo \[--keep\]/],
  ] as const) {
    const { code, stdout, stderr } = await dpe(...args);
    t.is(code, 2, stderr);
    t.regex(stderr, said);
    t.is(stdout, "");
    t.notRegex(stderr, /\n {4}at /);
  }
});

test("a wrong configuration is refused with file, line and key, each fault on a line", async (t) => {
  const file = fileOf(
    t,
    `
interfaces:
  dpe1:
    listen: { host: 127.0.0.1, coap: 70000 }
    conection: dtls
    clientAuthentication: [digest, magic]
`,
  );
  const { code, stderr } = await dpe("server", "--config", file);
  t.is(code, 2);
  t.regex(stderr, /config\.yaml:4:\d+ interfaces\.dpe1\.listen\.coap: .*port/);
  t.regex(stderr, /config\.yaml:5:\d+ interfaces\.dpe1\.conection: unknown key; did you mean "connection"\?/);
  t.regex(stderr, /config\.yaml:6:\d+ interfaces\.dpe1\.clientAuthentication\[1\]/);
});

test("dpe check prints the effective configuration with secrets masked", async (t) => {
  const file = fileOf(
    t,
    AGENT("coaps://dpe.example", '{ username: alice, password: hunter2, psk: { identity: a, key: "hex:00" } }'),
  );
  const { code, stdout, stderr } = await dpe("check", "--config", file);
  t.is(code, 0, stderr);
  t.regex(stdout, /endpoint: pi-1/);
  t.regex(stdout, /\[secret\]/);
  t.notRegex(stdout, /hunter2|hex:00/);
});

test("a port in use ends the server with one line and exit code 1", async (t) => {
  const taken = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => taken.close());
  const { code, stderr } = await dpe("server", "--config", fileOf(t, SERVER(taken.address.port)));
  t.is(code, 1);
  t.regex(
    stderr,
    /^dpe: listening on UDP 127\.0\.0\.1:\d+: the port is in use by another program \(NET_PORT_IN_USE\)\n$/,
  );
});

test("a server that the agent's policy does not accept ends the agent with exit code 3", async (t) => {
  const config = `
endpoint: pi-1
server: coap://127.0.0.1:9
interfaces:
  dpe1:
    connection: none
    serverAuthentication: address
    addresses: [192.0.2.0/24]
    credentials: { username: alice, password: secret }
`;
  const { code, stderr } = await dpe("agent", "--config", fileOf(t, config));
  t.is(code, 3);
  t.regex(stderr, /^dpe: .*dpe1\.serverAuthentication: address.*\(SECURITY_SERVER_NOT_ACCEPTED\)\n$/);
});

test("a raw public key is made once, and its fingerprint is what OpenSSL computes of it", async (t) => {
  const folder = dirname(fileOf(t, ""));
  const file = join(folder, "own.key");
  const made = await dpe("key", "--new", file);
  t.is(made.code, 0, made.stderr);
  t.is(statSync(file).mode & 0o777, 0o600);
  const spki = createPublicKey(readFileSync(file)).export({ type: "spki", format: "der" });
  t.is(made.stdout, `${createHash("sha256").update(spki).digest("hex")}\n`);
  const again = await dpe("key", "--new", file);
  t.is(again.code, 1);
  t.regex(again.stderr, /EEXIST/);
});

const packaged = IS_BUNDLED ? test : test.skip;

packaged(
  "the package has the bundle that `dpe` runs, the licences of what is in it, and what it loads besides",
  async (t) => {
    const root = join(dirname(DPE), "..", "..", "..");
    const listing = await new Promise<string>((resolve, reject) => {
      execFile(
        "npm",
        ["pack", "--dry-run", "--json", "--ignore-scripts"],
        { cwd: root, maxBuffer: 1e7 },
        (error, stdout) => (error === null ? resolve(stdout) : reject(error)),
      );
    });
    const [pack] = JSON.parse(listing) as readonly [{ readonly files: readonly { readonly path: string }[] }];
    const paths = new Set(pack.files.map(({ path }) => path));
    const own = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as PackageFile;
    t.is(own.bin.dpe, "dist/bundle/cli/dpe.js");
    const chunks = readdirSync(dirname(DPE));
    for (const chunk of chunks) t.true(paths.has(`dist/bundle/cli/${chunk}`), chunk);
    const licences = readFileSync(join(dirname(DPE), "..", "LICENSES.txt"), "utf8");
    for (const joined of ["zod", "yaml", "pino", "cbor-x", "@peculiar/x509"])
      t.regex(licences, new RegExp(`^${joined} \\d`, "m"));
    t.true(paths.has("dist/bundle/LICENSES.txt"));

    const loaded = new Set(
      chunks.flatMap((chunk) => packagesLoadedBy(readFileSync(join(dirname(DPE), chunk), "utf8"))),
    );
    t.true(loaded.has("lmdb"));
    // Two are for `dpe sim` of devices by others' programs, and say so when they are missing; one is of cbor-x, faster with it.
    const optional = ["node-dtls-client", "coap-packet", "cbor-extract"];
    for (const name of [...Object.keys(own.dependencies), ...optional]) loaded.delete(name);
    t.deepEqual([...loaded], []);
  },
);

interface PackageFile {
  readonly bin: { readonly dpe: string };
  readonly dependencies: Readonly<Record<string, string>>;
}

function packagesLoadedBy(code: string): readonly string[] {
  const named = code.matchAll(/(?:\bfrom|\bimport|\bimport\(|\brequire\d*\()"((?:@[\w.-]+\/)?[a-z][\w:./-]*)"/g);
  const packages = [...named].flatMap(([, name]) => /^(?:@[^/]+\/)?[^/]+/.exec(name ?? "")?.[0] ?? []);
  return packages.filter((name) => !isBuiltin(name));
}
