import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "#config/index.js";
import { UdpSocket } from "#net/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { issueThrowawayCredentials } from "#x509/index.js";
import { DPE } from "#testing/dpe-program.js";
import { PeerProcess } from "#testing/peer-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const DAY_MS = 86_400_000;
const KEY = "hex:000102030405060708090a0b0c0d0e0f";

/** Runs `dpe COMMAND --config` on a configuration; gives its exit code, and what it says when it ends. */
function dpe(folder: string, command: "server" | "agent" | "check", config: string) {
  const file = join(folder, `${command}.yaml`);
  writeFileSync(file, config);
  return new Promise<{ readonly code: number | null; readonly stderr: string }>((resolve) => {
    const args = [DPE, command, "--config", file];
    const child = execFile(process.execPath, args, { timeout: 55_000 }, (_error, _stdout, stderr) =>
      resolve({ code: child.exitCode, stderr: stderr.replaceAll(`${folder}/`, "") }),
    );
  });
}

/** A folder with the certificates of a server and of the client alice under one CA. */
async function makeFolder(
  t: ExecutionContext,
  expired: "server" | "client" | "neither",
  shiftMs = -60 * DAY_MS,
): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "dpe-errors-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const atMs = Date.now();
  const beforeMs = atMs - 60 * DAY_MS;
  const ca = await issueThrowawayCredentials({
    commonName: "ca",
    purpose: "clientAuth",
    atMs: beforeMs,
    validityDays: 400,
  });
  const issue = async (name: "server" | "client", rest: { readonly ip?: readonly string[] }): Promise<void> => {
    const purpose = name === "server" ? "serverAuth" : "clientAuth";
    const issuedAt = expired === name ? atMs + shiftMs : atMs;
    const { authority } = ca;
    const options = { commonName: "alice", purpose, atMs: issuedAt, validityDays: 30, authority, ...rest } as const;
    const { certificatePem, privateKeyPem } = await issueThrowawayCredentials(options);
    writeFileSync(join(folder, `${name}.pem`), certificatePem);
    writeFileSync(join(folder, `${name}.key`), privateKeyPem, { mode: 0o600 });
  };
  await issue("server", { ip: ["127.0.0.1"] });
  await issue("client", {});
  writeFileSync(join(folder, "ca.pem"), ca.authority.certificatePem);
  return folder;
}

const serverConfig = (clientAuthentication: string): string => `
credentials: { certificate: server.pem, key: server.key, ca: ca.pem, psk: [{ identity: fleet, key: "${KEY}" }] }
interfaces:
  dpe1:
    listen: { host: 127.0.0.1, coaps: 0 }
    connection: dtls
    clientAuthentication: [${clientAuthentication}]
subscribers: [{ name: alice, password: secret, certificates: [alice] }]
`;

const agentConfig = (server: DpeServer, dpe1: string): string => `
endpoint: pi-1
server: coaps://127.0.0.1:${server.addresses.coaps!.port}
interfaces:
  dpe1: { connection: dtls, ${dpe1} }
`;

async function serve(t: ExecutionContext, folder: string, clientAuthentication: string) {
  const events: ServerEvent[] = [];
  const config = parseConfig(serverConfig(clientAuthentication), join(folder, "server.yaml"), SERVER_SCHEMA);
  const server = await DpeServer.start(config, (event) => events.push(event));
  t.teardown(() => server.close());
  return { server, events };
}

/** One line, no stack trace, and an exit code. */
function endsIn(t: ExecutionContext, outcome: Awaited<ReturnType<typeof dpe>>, code: number, line: RegExp): void {
  t.regex(outcome.stderr, line);
  t.is(outcome.stderr.split("\n").length, 2, outcome.stderr);
  t.is(outcome.code, code);
}

test("a wrong password ends the agent with the authentication error by name, exit code 3", async (t) => {
  const folder = await makeFolder(t, "neither");
  const { server } = await serve(t, folder, "digest");
  const credentials = `{ username: alice, password: wrong, psk: { identity: fleet, key: "${KEY}" } }`;
  const config = agentConfig(server, `serverAuthentication: psk, credentials: ${credentials}`);
  const outcome = await dpe(folder, "agent", config);
  endsIn(t, outcome, 3, /^dpe: the server refused the registration: 4\.01 invalid-credentials \(SECURITY_/);
});

test("a server's certificate that has expired meanwhile ends the agent with that, exit code 3", async (t) => {
  const folder = await makeFolder(t, "server");
  const { server } = await serve(t, folder, "digest");
  const credentials = "{ username: alice, password: secret }";
  const config = agentConfig(server, `serverAuthentication: certificate, ca: ca.pem, credentials: ${credentials}`);
  const outcome = await dpe(folder, "agent", config);
  endsIn(
    t,
    outcome,
    3,
    /^dpe: the peer's certificate was refused: "CN=alice" was valid until \S+Z; the clock here says \S+Z \(SECURITY_SERVER/,
  );
});

test("a clock that is behind is told of beside the time from which the server's certificate is valid, and waited for", async (t) => {
  t.timeout(60_000);
  const folder = await makeFolder(t, "server", 60 * DAY_MS);
  const { server } = await serve(t, folder, "digest");
  const credentials = "{ username: alice, password: secret }";
  const file = join(folder, "agent.yaml");
  writeFileSync(
    file,
    agentConfig(server, `serverAuthentication: certificate, ca: ca.pem, credentials: ${credentials}`),
  );
  const agent = PeerProcess.start(t, process.execPath, [DPE, "agent", "--config", file]);
  const told = /CN=alice\\?" is valid from \S+Z on; the clock here says \d/g;
  await until(() => (agent.output.match(told) ?? []).length >= 4, { what: "a fourth refusal" });
  t.regex(agent.output, told);
});

test("a client's certificate that has expired ends the agent with the server's alert, exit code 3", async (t) => {
  const folder = await makeFolder(t, "client");
  const { server, events } = await serve(t, folder, "certificate");
  const credentials = "{ certificate: client.pem, key: client.key }";
  const config = agentConfig(server, `serverAuthentication: certificate, ca: ca.pem, credentials: ${credentials}`);
  const outcome = await dpe(folder, "agent", config);
  endsIn(
    t,
    outcome,
    3,
    /^dpe: the server refused the handshake: certificate_expired \(SECURITY_AUTHENTICATION_REFUSED/,
  );
  t.like(events.at(-1), { type: "handshake-failed", cause: "DTLS_CERTIFICATE_REFUSED" });
});

test("dpe check reads certificates and keys as a start does, and names the file that does not serve", async (t) => {
  const folder = await makeFolder(t, "neither");
  const config = serverConfig("certificate");
  t.is((await dpe(folder, "check", config)).code, 0);
  for (const [wrong, line] of [
    [
      config.replace("key: server.key", "key: client.key"),
      /^dpe: server\.pem with client\.key: .*\(X509_KEY_MISMATCH\)/,
    ],
    [config.replace("server.pem", "server.key"), /^dpe: server\.key with server\.key: .*\(X509_NO_CERTIFICATE\)/],
    [config.replace("ca: ca.pem", "ca: server.key"), /^dpe: server\.key: .*\(X509_NO_CERTIFICATE\)/],
    [
      `${config}pairing: { ca: client.pem, key: client.key }`,
      /^dpe: client\.pem with client\.key: this certificate may not issue others/,
    ],
  ] as const) {
    endsIn(t, await dpe(folder, "check", wrong), 2, line);
    endsIn(t, await dpe(folder, "server", wrong), 2, line);
  }
  const agent = `
endpoint: pi-1
server: coaps://127.0.0.1
interfaces:
  dpe1: { connection: dtls, serverAuthentication: certificate, ca: client.key, credentials: { username: a, password: b } }
`;
  endsIn(t, await dpe(folder, "check", agent), 2, /^dpe: client\.key: .*\(X509_NO_CERTIFICATE\)/);
});

test("a server whose own certificate has expired does not start, exit code 2", async (t) => {
  const folder = await makeFolder(t, "server");
  const outcome = await dpe(folder, "server", serverConfig("digest"));
  endsIn(
    t,
    outcome,
    2,
    /^dpe: server\.pem with server\.key: the certificate of CN=alice was valid until \S+Z: peers refuse it.*\(X509_EXPIRED\)/,
  );
});

test("a certificate and key that are not each other's end the server, exit code 2", async (t) => {
  const folder = await makeFolder(t, "neither");
  const outcome = await dpe(folder, "server", serverConfig("digest").replace("key: server.key", "key: client.key"));
  endsIn(
    t,
    outcome,
    2,
    /^dpe: server\.pem with client\.key: the private key is not that of the first .*\(X509_KEY_MISMATCH\)/,
  );
});

test("a configuration that does not parse is refused with file, line and column, exit code 2", async (t) => {
  const folder = await makeFolder(t, "neither");
  const outcome = await dpe(folder, "server", serverConfig("digest").replace("[digest]", "[digest"));
  endsIn(t, outcome, 2, /^dpe: server\.yaml:\d+:\d+: a bracket is not closed/);
});

test("a secure port in use ends the server, exit code 1", async (t) => {
  const folder = await makeFolder(t, "neither");
  const taken = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => taken.close());
  const config = serverConfig("digest").replace("coaps: 0", `coaps: ${taken.address.port}`);
  const outcome = await dpe(folder, "server", config);
  endsIn(t, outcome, 1, /^dpe: listening on UDP 127\.0\.0\.1:\d+: the port is in use by another program \(NET_/);
});
