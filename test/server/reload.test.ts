import "reflect-metadata";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { webcrypto } from "node:crypto";
import { parseConfig } from "#config/index.js";
import {
  type ClientOptions,
  type CoapStream,
  connect,
  connectStream,
  type DtlsSession,
  type EndpointOptions,
} from "#net/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { until } from "#testing/until.js";
import {
  decodePemCertificates,
  issueThrowawayCredentials,
  loadCredentials,
  type ThrowawayAuthority,
  type ThrowawayCredentials,
} from "#x509/index.js";
import { X509Certificate, X509CrlGenerator } from "@peculiar/x509";
import { DPE } from "#testing/dpe-program.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";

/** A folder with what a server and its clients need, all of it replaceable. */
class Pki {
  readonly folder: string = mkdtempSync(join(tmpdir(), "dpe-reload-"));
  readonly clients = new Map<string, ThrowawayCredentials>();
  #authority: ThrowawayAuthority | undefined;

  static async make(t: ExecutionContext): Promise<Pki> {
    const pki = new Pki();
    t.teardown(() => rmSync(pki.folder, { recursive: true }));
    await pki.issueServer("first");
    for (const name of ["alice", "bob"]) await pki.issueClient(name);
    pki.write("clients-ca.pem", pki.authority.certificatePem);
    await pki.revoke([]);
    return pki;
  }

  get authority(): ThrowawayAuthority {
    if (this.#authority === undefined) throw new Error("no client was issued");
    return this.#authority;
  }

  /** By renaming, so that nobody reads half a file. */
  write(name: string, content: string | Uint8Array): void {
    writeFileSync(join(this.folder, `${name}.new`), content, { mode: 0o600 });
    renameSync(join(this.folder, `${name}.new`), join(this.folder, name));
  }

  async issueServer(commonName: string): Promise<void> {
    const made = await issueThrowawayCredentials({
      commonName,
      purpose: "serverAuth",
      atMs: Date.now(),
      ip: ["127.0.0.1"],
    });
    this.write("server.pem", made.certificatePem);
    this.write("server.key", made.privateKeyPem);
  }

  async issueClient(commonName: string): Promise<void> {
    const issued = await issueThrowawayCredentials({
      commonName,
      purpose: "clientAuth",
      atMs: Date.now(),
      ...(this.#authority === undefined ? {} : { authority: this.#authority }),
    });
    this.#authority = issued.authority;
    this.clients.set(commonName, issued);
  }

  async revoke(names: readonly string[]): Promise<void> {
    const issuer = new X509Certificate(this.authority.certificatePem);
    const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
    const pkcs8 = Buffer.from(this.authority.privateKeyPem.replaceAll(/-----[^-]+-----|\s/g, ""), "base64");
    const list = await X509CrlGenerator.create(
      {
        issuer: issuer.subject,
        thisUpdate: new Date(Date.now() - 60_000),
        nextUpdate: new Date(Date.now() + 3_600_000),
        entries: names.map((name) => ({
          serialNumber: new X509Certificate(this.clients.get(name)!.certificatePem).serialNumber,
          revocationDate: new Date(),
        })),
        signingAlgorithm: algorithm,
        signingKey: await webcrypto.subtle.importKey("pkcs8", pkcs8, algorithm, false, ["sign"]),
      },
      webcrypto,
    );
    this.write("clients.crl", new Uint8Array(list.rawData));
  }

  config(
    subscribers = '[{ name: alice, certificates: [alice] }, { name: psk, psk: { identity: dev, key: "hex:KEY" } }]',
  ) {
    return `
credentials:
  certificate: server.pem
  key: server.key
  ca: clients-ca.pem
  revocation: { lists: [clients.crl], required: false }
  psk: [{ identity: fleet, key: "hex:${KEY}" }]
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [certificate, psk, digest] }
subscribers: ${subscribers.replace("KEY", KEY)}
`;
  }

  parse(text = this.config()) {
    return parseConfig(text, join(this.folder, "server.yaml"), SERVER_SCHEMA);
  }
}

async function serve(t: ExecutionContext, pki: Pki) {
  const events: ServerEvent[] = [];
  const server = await DpeServer.start(pki.parse(), (event) => events.push(event));
  t.teardown(() => server.close());
  const port = server.addresses.coaps!.port;
  const dial = async (options: ClientOptions & Pick<EndpointOptions, "verify">): Promise<DtlsSession> => {
    const session = await connect({ host: "127.0.0.1", port }, options);
    t.teardown(() => session.close());
    await session.opened;
    return session;
  };
  const as = (name: string, resumed?: Uint8Array): Promise<DtlsSession> => {
    const { certificatePem, privateKeyPem } = pki.clients.get(name)!;
    return dial({
      certificate: loadCredentials(certificatePem, privateKeyPem),
      verify: () => ({ ok: true }),
      ...(resumed === undefined ? {} : { session: resumed }),
    });
  };
  const byPsk = (identity: string, key = KEY): Promise<DtlsSession> =>
    dial({ psk: { identity: new TextEncoder().encode(identity), key: Buffer.from(key, "hex") } });
  return { server, events, as, byPsk };
}

const alertOf = async (session: DtlsSession): Promise<string> =>
  (await session.closed)?.receivedAlert ?? "close_notify";
const refusalOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "none",
    (error: unknown) =>
      error instanceof Error && "receivedAlert" in error ? String(error.receivedAlert) : String(error),
  );

test("R16 a certificate that is revoked ends its association with certificate_revoked and no other, and cannot come back", async (t) => {
  const pki = await Pki.make(t);
  const { server, events, as } = await serve(t, pki);
  const [alice, bob] = [await as("alice"), await as("bob")];
  await pki.revoke(["alice"]);
  await server.reload(pki.parse());
  t.is(await alertOf(alice), "certificate_revoked");
  t.is(bob.state, "connected");
  t.is(await refusalOf(as("alice")), "certificate_revoked");
  await as("bob");
  t.like(
    events.find(({ type }) => type === "reloaded"),
    { associationsEnded: 1 },
  );
  const ended = events.find(({ type }) => type === "association-ended");
  t.regex(ended?.type === "association-ended" ? ended.cause : "", /"CN=alice" was revoked by/);
});

test("R16 a session from before a change is not resumed after it: a revoked certificate does not come back so", async (t) => {
  const pki = await Pki.make(t);
  const { server, as } = await serve(t, pki);
  const [alice, bob] = [await as("alice"), await as("bob")];
  t.true((await as("alice", alice.resumption)).peer?.isResumed, "it would be, without a change");
  await pki.revoke(["alice"]);
  await server.reload(pki.parse());
  t.is(await refusalOf(as("alice", alice.resumption)), "certificate_revoked");
  const again = await as("bob", bob.resumption);
  t.false(again.peer?.isResumed);
  t.true((await as("bob", again.resumption)).peer?.isResumed, "new sessions are resumed as before");
});

test("R16 an anchor that is removed ends the associations of its certificates with unknown_ca", async (t) => {
  const pki = await Pki.make(t);
  const { server, as, byPsk } = await serve(t, pki);
  const [alice, fleet] = [await as("alice"), await byPsk("fleet")];
  const other = await issueThrowawayCredentials({ commonName: "x", purpose: "clientAuth", atMs: Date.now() });
  pki.write("clients-ca.pem", other.authority.certificatePem);
  await server.reload(pki.parse());
  t.is(await alertOf(alice), "unknown_ca");
  t.is(fleet.state, "connected");
  t.is(await refusalOf(as("alice")), "unknown_ca");
});

test("R16 a new certificate of the server is shown in the next handshake; associations go on", async (t) => {
  const pki = await Pki.make(t);
  const { server, as } = await serve(t, pki);
  const nameOf = (session: DtlsSession): string => new X509Certificate(session.peer!.certificates![0]!.slice()).subject;
  const before = await as("alice");
  t.is(nameOf(before), "CN=first");
  await pki.issueServer("second");
  await server.reload(pki.parse());
  t.is(nameOf(await as("alice")), "CN=second");
  t.is(before.state, "connected");
});

test("a changed key, and a subscriber that is gone, end the associations made with them and no others", async (t) => {
  const pki = await Pki.make(t);
  const { server, as, byPsk } = await serve(t, pki);
  const [alice, fleet, device] = [await as("alice"), await byPsk("fleet"), await byPsk("dev")];
  const otherKey = `ff${KEY.slice(2)}`;
  await server.reload(
    pki.parse(pki.config().replace(`identity: fleet, key: "hex:${KEY}"`, `identity: fleet, key: "hex:${otherKey}"`)),
  );
  t.is(await alertOf(fleet), "access_denied");
  t.is(device.state, "connected");
  t.is(alice.state, "connected");
  t.is(await refusalOf(byPsk("fleet")), "decrypt_error");
  await byPsk("fleet", otherKey);

  await server.reload(pki.parse(pki.config("[{ name: alice, certificates: [alice] }]")));
  await device.closed;
  t.is(alice.state, "connected");
  t.is(await refusalOf(byPsk("dev")), "decrypt_error");
  await server.reload(pki.parse(pki.config("[]")));
  await alice.closed;
});

test("what does not serve is refused whole: the server goes on with what it had", async (t) => {
  const pki = await Pki.make(t);
  const { server, as, byPsk } = await serve(t, pki);
  const alice = await as("alice");
  pki.write("clients.crl", "no list");
  await t.throwsAsync(server.reload(pki.parse(pki.config("[]"))), { code: "X509_NO_CRL" });
  await pki.revoke([]);
  const { certificatePem } = await issueThrowawayCredentials({
    commonName: "other",
    purpose: "serverAuth",
    atMs: Date.now(),
    ip: ["127.0.0.1"],
  });
  pki.write("server.pem", certificatePem);
  await t.throwsAsync(server.reload(pki.parse()), { code: "X509_KEY_MISMATCH" });
  t.is(alice.state, "connected");
  await as("bob");
  await byPsk("dev");
  t.is(decodePemCertificates(certificatePem).length, 1);
});

test("R16 TLS over TCP takes changed credentials as DTLS does: new ones at once, and what those before opened ends", async (t) => {
  const pki = await Pki.make(t);
  const overTcp = (text = pki.config()) => pki.parse(text.replace("coaps: 0", "coapsTcp: 0"));
  const events: ServerEvent[] = [];
  const server = await DpeServer.start(overTcp(), (event) => events.push(event));
  t.teardown(() => server.close());
  const remote = { host: "127.0.0.1", port: server.addresses.coapsTcp!.port };
  const opened = async (stream: CoapStream): Promise<CoapStream> => {
    t.teardown(() => stream.close());
    // The server has taken it when its CSM is here (RFC 8323 §5.3).
    await new Promise<void>((resolve, reject) => {
      stream.onData = () => resolve();
      void stream.closed.then(() => reject(new Error("closed")));
    });
    return stream;
  };
  const as = async (name: string): Promise<CoapStream> => {
    const { certificatePem, privateKeyPem } = pki.clients.get(name)!;
    const certificate = loadCredentials(certificatePem, privateKeyPem);
    return opened(await connectStream(remote, { tls: { certificate, verify: () => ({ ok: true }) } }));
  };
  const byPsk = async (identity: string): Promise<CoapStream> => {
    const psk = { identity: new TextEncoder().encode(identity), key: Buffer.from(KEY, "hex") };
    return opened(await connectStream(remote, { tls: { psk, verify: () => ({ ok: true }) } }));
  };
  const nameOf = (stream: CoapStream): string => new X509Certificate(stream.peer!.certificates![0]!.slice()).subject;
  const isOpen = (stream: CoapStream): Promise<boolean> =>
    Promise.race([stream.closed.then(() => false), Promise.resolve(true)]);

  const [alice, bob, device] = [await as("alice"), await as("bob"), await byPsk("dev")];
  t.is(nameOf(alice), "CN=first");
  const unfinished = connectTcp(remote);
  const isEnded = new Promise((resolve) => unfinished.once("close", resolve));
  await new Promise((resolve) => unfinished.once("connect", resolve));
  await pki.issueServer("second");
  await pki.revoke(["alice"]);
  await server.reload(overTcp());
  await alice.closed;
  await isEnded;
  t.true(await isOpen(bob));
  t.true(await isOpen(device));
  t.is(nameOf(await as("bob")), "CN=second");
  await t.throwsAsync(as("alice"));
  const refused = events.findLast(({ type }) => type === "audit");
  t.like(refused, {
    event: { outcome: "failure", mode: "handshake", cause: "certificate_revoked", detail: "revoked" },
  });

  await server.directory.ban("psk", true);
  await device.closed;
  await t.throwsAsync(byPsk("dev"));
  await server.reload(overTcp(pki.config().replace(`psk: [{ identity: fleet, key: "hex:${KEY}" }]`, "psk: []")));
  await t.throwsAsync(byPsk("fleet"));
  t.true(await isOpen(bob));
});

/** `dpe server`, or `dpe agent`, as a process, and what it logs. */
function runServer(t: ExecutionContext, file: string, command: "server" | "agent" = "server") {
  const child: ChildProcess = spawn(process.execPath, [DPE, command, "--config", file], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.teardown(() => child.kill("SIGKILL"));
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (text: string) => (output += text));
  const logged = async (pattern: RegExp): Promise<RegExpExecArray> => {
    const match = await until(() => pattern.exec(output) ?? undefined, { what: String(pattern) });
    output = output.slice(match.index + match[0].length);
    return match;
  };
  return { child, logged };
}

test("R16 dpe server takes a changed list by itself and on SIGHUP, and logs a broken one without stopping", async (t) => {
  const pki = await Pki.make(t);
  pki.write("server.yaml", pki.config());
  const { child, logged } = runServer(t, join(pki.folder, "server.yaml"));
  const [, port] = await logged(/"dpe1":"coaps:\/\/127\.0\.0\.1:(\d+);.*"msg":"listening"/);
  const as = async (name: string): Promise<DtlsSession> => {
    const { certificatePem, privateKeyPem } = pki.clients.get(name)!;
    const session = await connect(
      { host: "127.0.0.1", port: Number(port) },
      { certificate: loadCredentials(certificatePem, privateKeyPem), verify: () => ({ ok: true }) },
    );
    t.teardown(() => session.close());
    await session.opened;
    return session;
  };
  const [alice, bob] = [await as("alice"), await as("bob")];
  await pki.revoke(["alice"]);
  await logged(/"associationsEnded":1,"msg":"reloaded"/);
  t.is(await alertOf(alice), "certificate_revoked");

  pki.write("server.yaml", "credentials: [\n");
  await logged(/server\.yaml:\d+.*"msg":"reload-failed"/);
  t.is(bob.state, "connected");
  pki.write("server.yaml", pki.config());
  await logged(/"associationsEnded":0,"msg":"reloaded"/);
  child.kill("SIGHUP");
  await logged(/"associationsEnded":0,"msg":"reloaded"/);
  pki.write(
    "server.yaml",
    pki.config().replace("connection: dtls", "connection: none").replace("\ncred", "\nrealm: x\ncred"),
  );
  await logged(
    /"keys":\["realm","interfaces.dpe1.connection"\],"msg":"changed, but in force from the next start only"/,
  );
  t.is(bob.state, "connected");
});

test("SIGHUP while dpe server starts ends nothing, and a list that changes meanwhile is taken", async (t) => {
  const pki = await Pki.make(t);
  pki.write("server.yaml", pki.config());
  const { child, logged } = runServer(t, join(pki.folder, "server.yaml"));
  const handlesHangup = (): boolean =>
    Number.parseInt(
      /SigCgt:\s+[0-9a-f]+([0-9a-f])$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? "0",
      16,
    ) %
      2 ===
    1;
  await until(() => handlesHangup());
  child.kill("SIGHUP");
  await logged(/"msg":"reloaded"/);
  await pki.revoke(["alice"]);
  await logged(/"msg":"reloaded"/);
  t.is(child.exitCode, null);
});

test("R16 dpe agent takes a changed certificate by itself, and keeps what it has where a file does not serve", async (t) => {
  const pki = await Pki.make(t);
  const { server, events } = await serve(t, pki);
  const hand = async (): Promise<void> => {
    await pki.issueClient("alice");
    pki.write("agent.pem", pki.clients.get("alice")!.certificatePem);
    pki.write("agent.key", pki.clients.get("alice")!.privateKeyPem);
  };
  await hand();
  pki.write(
    "agent.yaml",
    `
endpoint: pi-1
server: coaps://127.0.0.1:${server.addresses.coaps!.port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: none, credentials: { certificate: agent.pem, key: agent.key } }
`,
  );
  const { child, logged } = runServer(t, join(pki.folder, "agent.yaml"), "agent");
  await logged(/"msg":"registered"/);
  pki.write("agent.key", "no key");
  await logged(/X509_NO_PRIVATE_KEY.*"msg":"reload-failed"/);
  t.is(child.exitCode, null);
  await hand();
  await logged(/"msg":"reloaded"/);
  await logged(/"msg":"registered"/);
  t.deepEqual(
    events.flatMap((event) => (event.type === "registered" ? [event.registration.subscriber] : [])),
    ["alice", "alice"],
  );
});
