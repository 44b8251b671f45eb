import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, DpeAgent } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { Events } from "#testing/events.js";
import { issueThrowawayCredentials, type ThrowawayCredentials } from "#x509/index.js";
import test, { type ExecutionContext } from "ava";

const DAY_MS = 86_400_000;

/** A folder with the files of a PKI: a server's certificate, a client's, and the CA of both. */
class Pki {
  readonly folder: string;

  private constructor(t: ExecutionContext) {
    this.folder = mkdtempSync(join(tmpdir(), "dpe-pki-"));
    t.teardown(() => rmSync(this.folder, { recursive: true }));
  }

  static async make(t: ExecutionContext, server: { readonly ip?: string; readonly atMs?: number } = {}): Promise<Pki> {
    const pki = new Pki(t);
    const { ip = "127.0.0.1", atMs = Date.now() } = server;
    const issued = await issueThrowawayCredentials({
      commonName: "server",
      purpose: "serverAuth",
      atMs,
      ip: [ip],
      validityDays: 30,
    });
    const client = await issueThrowawayCredentials({
      commonName: "alice",
      purpose: "clientAuth",
      atMs: Date.now(),
      authority: (await issueThrowawayCredentials({ commonName: "x", purpose: "clientAuth", atMs: Date.now() }))
        .authority,
    });
    pki.#write("server", issued);
    pki.#write("client", client);
    return pki;
  }

  #write(name: string, { certificatePem, privateKeyPem, authority }: ThrowawayCredentials): void {
    writeFileSync(join(this.folder, `${name}.pem`), certificatePem);
    writeFileSync(join(this.folder, `${name}.key`), privateKeyPem, { mode: 0o600 });
    writeFileSync(join(this.folder, `${name}-ca.pem`), authority.certificatePem);
  }
}

async function pair(
  t: ExecutionContext,
  pki: Pki,
  clientAuthentication: string,
  credentials: string,
  caFile = "server-ca.pem",
) {
  const events = new Events<ServerEvent>();
  const server = await DpeServer.start(
    parseConfig(
      `
credentials: { certificate: server.pem, key: server.key, ca: client-ca.pem }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: ${clientAuthentication} }
subscribers: [{ name: alice, password: secret, certificates: [alice] }]
`,
      join(pki.folder, "server.yaml"),
      SERVER_SCHEMA,
    ),
    events.push,
  );
  const agent = new DpeAgent(
    parseConfig(
      `
endpoint: pi-1
server: coaps://127.0.0.1:${server.addresses.coaps!.port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: certificate, ca: ${caFile}, credentials: ${credentials} }
`,
      join(pki.folder, "agent.yaml"),
      AGENT_SCHEMA,
    ),
    [],
  );
  t.teardown(async () => {
    await agent.close();
    await server.close();
  });
  const registered = async () => (await events.until("registered")).registration.subscriber;
  return { server, agent, events, registered };
}

const DIGEST = "{ username: alice, password: secret }";
const CERTIFICATE = "{ certificate: client.pem, key: client.key }";

test("R10 the server's certificate is verified to anchor and address, and Digest runs inside", async (t) => {
  const { registered } = await pair(t, await Pki.make(t), "[digest]", DIGEST);
  t.is(await registered(), "alice");
});

test("R08 a client certificate authenticates its subscriber; without one the handshake fails", async (t) => {
  const pki = await Pki.make(t);
  t.is(await (await pair(t, pki, "[certificate]", CERTIFICATE)).registered(), "alice");
  t.is(await (await pair(t, pki, "[certificate, digest]", CERTIFICATE)).registered(), "alice");
  t.is(await (await pair(t, pki, "[certificate, digest]", DIGEST)).registered(), "alice");
  const bare = await pair(t, pki, "[certificate]", "{}");
  await bare.events.until("handshake-failed");
  t.is(await bare.server.store.registrations.count(), 0);
});

for (const [what, server, caFile, cause] of [
  ["expired", { atMs: Date.now() - 100 * DAY_MS }, "server-ca.pem", /was valid until/],
  ["for another address", { ip: "127.0.0.2" }, "server-ca.pem", /name|127\.0\.0\.1/],
  ["of an unknown authority", {}, "client-ca.pem", /issue|anchor|trust/],
] as const) {
  test(`R12 a server certificate ${what} is refused, and the server is told by an alert`, async (t) => {
    const { agent, events } = await pair(t, await Pki.make(t, server), "[digest]", DIGEST, caFile);
    const error = await t.throwsAsync(agent.stopped);
    t.like(error, { code: "SECURITY_SERVER_NOT_ACCEPTED" });
    t.regex(error?.message ?? "", cause);
    t.like(await events.until("handshake-failed"), { cause: "DTLS_ALERT_RECEIVED" });
  });
}
