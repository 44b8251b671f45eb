import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { Events } from "#testing/events.js";
import { until } from "#testing/until.js";
import { issueThrowawayCredentials } from "#x509/index.js";
import { freePort } from "#testing/free-port.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";
const PSK = { credentials: `psk: [{ identity: fleet, key: "hex:${KEY}" }]`, clientAuthentication: "[digest]" };

class Lives {
  readonly folder: string;
  readonly #t: ExecutionContext;
  #port: number | undefined;
  #server: DpeServer | undefined;
  events = new Events<ServerEvent>();
  readonly #heard = new Events<AgentEvent>();

  constructor(t: ExecutionContext) {
    this.#t = t;
    this.folder = mkdtempSync(join(tmpdir(), "dpe-restart-"));
    t.teardown(() => rmSync(this.folder, { recursive: true }));
  }

  /** Ends the server that runs, and starts one at its port, with its associations. */
  async start({ credentials, clientAuthentication }: typeof PSK): Promise<void> {
    await this.#server?.close();
    this.#port ??= await freePort();
    this.events = new Events();
    const config = `
credentials: { ${credentials} }
dtls: { associations: ./associations }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${this.#port} }, connection: dtls, clientAuthentication: ${clientAuthentication} }
subscribers: [{ name: alice, password: secret, certificates: [alice] }]
`;
    this.#server = await DpeServer.start(
      parseConfig(config, join(this.folder, "server.yaml"), SERVER_SCHEMA),
      this.events.push,
    );
    const server = this.#server;
    this.#t.teardown(() => server.close());
  }

  agent(dpe1: string): DpeAgent {
    const config = `
endpoint: pi-1
server: coaps://127.0.0.1:${this.#port}
interfaces: { dpe1: { connection: dtls, ${dpe1} } }
`;
    let value = 0;
    const source = { name: "s", everyMs: 1000, read: () => Promise.resolve([{ name: "a", value: value++ }]) };
    const agent = new DpeAgent(
      parseConfig(config, join(this.folder, "agent.yaml"), AGENT_SCHEMA),
      [source],
      this.#heard.push,
    );
    this.#t.teardown(() => agent.close());
    return agent;
  }

  /** Until the agent has heard that it is registered, so often since it began. */
  async registered(times: number): Promise<void> {
    await until(() => this.#heard.count("registered") >= times);
  }
}

test("a restarted server goes on with its agents' associations; who was bound by Digest is challenged anew", async (t) => {
  const lives = new Lives(t);
  await lives.start(PSK);
  const agent = lives.agent(
    `serverAuthentication: psk, credentials: { username: alice, password: secret, psk: { identity: fleet, key: "hex:${KEY}" } }`,
  );
  const { peer } = await lives.events.until("authentication-error");
  await lives.registered(1);
  for (let life = 0; life < 2; life++) {
    await lives.start(PSK);
    t.like(await lives.events.until("associations-restored"), { restored: 1, refused: 0 });
    const challenged = await lives.events.until("authentication-error");
    t.true(["credentials-required", "stale-nonce"].includes(challenged.error), challenged.error);
    // A new association of the agent would have a socket of its own.
    t.is(challenged.peer, peer);
    t.is((await lives.events.until("registered")).registration.subscriber, "alice");
    await lives.registered(life + 2);
  }
  // Before its server, which ends without a word to it.
  await agent.close();
});

test("an association whose key was changed meanwhile does not go on", async (t) => {
  const lives = new Lives(t);
  await lives.start(PSK);
  lives.agent(
    `serverAuthentication: psk, credentials: { username: alice, password: secret, psk: { identity: fleet, key: "hex:${KEY}" } }`,
  );
  await lives.events.until("report");
  await lives.start({ ...PSK, credentials: `psk: [{ identity: fleet, key: "hex:ff${KEY.slice(2)}" }]` });
  t.like(await lives.events.until("associations-restored"), { restored: 0, refused: 1 });
  t.is((await lives.events.until("handshake-failed")).cause, "DTLS_WRONG_PSK");
});

test("who showed a certificate is known by it after a restart, as long as its authority is trusted", async (t) => {
  const lives = new Lives(t);
  const atMs = Date.now();
  const server = await issueThrowawayCredentials({ commonName: "s", purpose: "serverAuth", atMs, ip: ["127.0.0.1"] });
  const client = await issueThrowawayCredentials({ commonName: "alice", purpose: "clientAuth", atMs });
  const other = await issueThrowawayCredentials({ commonName: "alice", purpose: "clientAuth", atMs });
  for (const [name, issued] of Object.entries({ server, client, other })) {
    writeFileSync(join(lives.folder, `${name}.pem`), issued.certificatePem);
    writeFileSync(join(lives.folder, `${name}.key`), issued.privateKeyPem, { mode: 0o600 });
    writeFileSync(join(lives.folder, `${name}-ca.pem`), issued.authority.certificatePem);
  }
  const own = "certificate: server.pem, key: server.key";
  const trusting = { credentials: `${own}, ca: client-ca.pem`, clientAuthentication: "[certificate]" };
  await lives.start(trusting);
  lives.agent(
    "serverAuthentication: certificate, ca: server-ca.pem, credentials: { certificate: client.pem, key: client.key }",
  );
  t.is((await lives.events.until("registered")).registration.subscriber, "alice");
  await lives.start(trusting);
  t.like(await lives.events.until("associations-restored"), { restored: 1, refused: 0 });
  t.is((await lives.events.until("registered")).registration.subscriber, "alice");
  await lives.start({ ...trusting, credentials: `${own}, ca: other-ca.pem` });
  t.like(await lives.events.until("associations-restored"), { restored: 0, refused: 1 });
  t.is((await lives.events.until("handshake-failed")).cause, "DTLS_CERTIFICATE_REFUSED");
});
