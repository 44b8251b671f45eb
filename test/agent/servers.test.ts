import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { ServerRound } from "#agent/server-round.js";
import { serversOf } from "#agent/server-list.js";
import { parseConfig } from "#config/index.js";
import { Refusals } from "#agent/refusal.js";
import { DtlsError, UdpSocket } from "#net/index.js";
import { SecurityError } from "#security/index.js";
import { freePort } from "#testing/free-port.js";
import { UdpRelay } from "#testing/udp-relay.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { until } from "#testing/until.js";
import { issueThrowawayCredentials, type ThrowawayAuthority } from "#x509/index.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";
const OTHER_KEY = "0f0e0d0c0b0a09080706050403020100";

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "dpe-servers-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A server on that port (0: any), and every value of `counter` that it acknowledged. */
async function serve(t: ExecutionContext, port = 0, key = KEY) {
  const events: ServerEvent[] = [];
  const counts: number[] = [];
  const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${port} }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${key}" }, endpoints: ["*"] }]
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), (event) => {
    events.push(event);
    if (event.type !== "report") return;
    for (const { name, value } of event.records) if (name === "counter") counts.push(Number(value));
  });
  t.teardown(() => server.close());
  return { server, events, counts, port: server.addresses.coaps?.port ?? 0 };
}

/** A port where nobody answers, as behind a firewall: what comes is counted, and that is all. */
async function silence(t: ExecutionContext): Promise<{ readonly port: number; heard(): number }> {
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => socket.close());
  let heard = 0;
  socket.onDatagram = () => (heard += 1);
  return { port: socket.address.port, heard: () => heard };
}

function start(
  t: ExecutionContext,
  server: string,
  more = "",
  options: ConstructorParameters<typeof DpeAgent>[3] = {},
) {
  const yaml = `
endpoint: pi-1
server: ${server}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
${more}
`;
  const events: AgentEvent[] = [];
  let count = 0;
  const source: Source = {
    name: "counter",
    everyMs: 50,
    read: () => Promise.resolve([{ name: "counter", value: ++count }]),
  };
  const agent = new DpeAgent(
    parseConfig(yaml, "agent.yaml", AGENT_SCHEMA),
    [source],
    (event) => events.push(event),
    options,
  );
  t.teardown(() => agent.close());
  const registeredAt = (): string[] => events.flatMap((event) => (event.type === "registered" ? [event.server] : []));
  return { agent, events, registeredAt };
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

const uri = (port: number): string => `coaps://127.0.0.1:${port}`;

test("a restarted agent goes on with its session: the server sees an abbreviated handshake, and no reading is lost", async (t) => {
  t.timeout(120_000);
  const store = join(folderOf(t), "data");
  const { server, counts, port } = await serve(t);
  const first = start(t, uri(port), `store: ${store}`);
  await until(() => counts.length > 2);
  await first.agent.close();
  t.deepEqual(server.associationCounts, { full: 1, resumed: 0, restored: 0 });
  for (const name of ["sessions", "sessions.key"]) t.is(statSync(join(store, name)).mode & 0o777, 0o600);
  t.notRegex(readFileSync(join(store, "sessions"), "latin1"), /bench|127\.0\.0\.1/, "sealed");

  const second = start(t, uri(port), `store: ${store}`);
  await until(() => second.registeredAt().length > 0);
  t.deepEqual(server.associationCounts, { full: 1, resumed: 1, restored: 0 });
  await second.agent.close();

  writeFileSync(join(store, "sessions"), "damaged");
  const third = start(t, uri(port), `store: ${store}`);
  await until(() => third.registeredAt().length > 0);
  t.deepEqual(server.associationCounts, { full: 2, resumed: 1, restored: 0 }, "what does not verify is not used");
});

test("a session is used only under the policy that it was made under", async (t) => {
  t.timeout(120_000);
  const store = join(folderOf(t), "data");
  const { server, port } = await serve(t);
  const first = start(t, uri(port), `store: ${store}`);
  await until(() => first.registeredAt().length > 0);
  await first.agent.close();
  const yaml = `
endpoint: pi-1
server: ${uri(port)}
store: ${store}
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: [psk, address]
    addresses: [127.0.0.1]
    credentials: { psk: { identity: bench, key: "hex:${KEY}" } }
`;
  let isRegistered = false;
  const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [], ({ type }) => {
    if (type === "registered") isRegistered = true;
  });
  t.teardown(() => agent.close());
  await until(() => isRegistered);
  t.deepEqual(server.associationCounts, { full: 2, resumed: 0, restored: 0 });
});

test("an agent moves on to the next server when one does not answer, and goes back to the first when that does", async (t) => {
  t.timeout(180_000);
  const dead = await silence(t);
  const next = await serve(t);
  const { agent, events, registeredAt } = start(
    t,
    `[${uri(dead.port)}, ${uri(next.port)}]`,
    "failover: { giveUpAfter: 2s, returnAfter: 1s }",
  );
  await until(() => registeredAt().length > 0);
  t.is(registeredAt()[0], uri(next.port));
  t.true(dead.heard() > 0, "the first was tried first");
  const lost = events.find((event) => event.type === "lost");
  t.like(lost, { next: uri(next.port) });
  await until(() => next.counts.length > 2);

  await until(() => events.some(({ type }) => type === "not-returned"));
  const counted = next.counts.length;
  await until(() => next.counts.length > counted);
  t.is(registeredAt().length, 1, "it stays while the first does not answer");
  await agent.close();
});

test("an agent that was elsewhere goes back to its first server without losing a reading", async (t) => {
  t.timeout(180_000);
  const next = await serve(t);
  const firstPort = await freePort();
  const { agent, registeredAt } = start(
    t,
    `[${uri(firstPort)}, ${uri(next.port)}]`,
    "failover: { giveUpAfter: 2s, returnAfter: 1s }",
  );
  await until(() => next.counts.length > 2);
  const first = await serve(t, firstPort);
  await until(() => first.counts.length > 2);
  t.deepEqual(registeredAt(), [uri(next.port), uri(firstPort)]);
  await agent.close();
  const all = [...next.counts, ...first.counts];
  t.deepEqual(
    all,
    Array.from(all, (_, index) => index + 1),
    "each reading once, in order",
  );
  t.is(await next.server.store.registrations.ofEndpoint("pi-1", Date.now()), undefined, "left in order");
});

test("handshakes that are refused from the start end the agent soon, and the next server is no way around them", async (t) => {
  t.timeout(60_000);
  const first = await serve(t, 0, OTHER_KEY);
  const next = await serve(t);
  const { agent, events } = start(t, `[${uri(first.port)}, ${uri(next.port)}]`);
  await t.throwsAsync(agent.stopped, { code: "SECURITY_AUTHENTICATION_REFUSED" });
  t.deepEqual(
    events.map(({ type }) => type).filter((type) => type !== "audit"),
    ["lost", "lost", "refused"],
    "an alert alone may be forged, and is told of each time",
  );
  for (const event of events) if (event.type === "lost") t.is(event.next, uri(first.port));
  t.is(next.events.filter(({ type }) => type === "registered").length, 0);
});

test("an agent that was registered gets over handshakes that are refused, however many, and tells of each", async (t) => {
  t.timeout(120_000);
  const port = await freePort();
  const first = await serve(t, port);
  const { agent, events, registeredAt } = start(t, uri(port));
  await until(() => first.counts.length > 2);
  await first.server.close();
  const other = await serve(t, port, OTHER_KEY);
  const refusals = (): number =>
    events.filter((event) => event.type === "lost" && codeOf(event.error) === "SECURITY_AUTHENTICATION_REFUSED").length;
  await until(() => refusals() >= 4);
  await other.server.close();
  const again = await serve(t, port);
  await until(() => again.counts.length > 2);
  t.is(registeredAt().length, 2);
  t.false(events.some(({ type }) => type === "refused"));
  await agent.close();
  const all = [...first.counts, ...again.counts];
  t.deepEqual(
    all,
    Array.from(all, (_, index) => index + 1),
    "no reading is lost meanwhile",
  );
});

test("a refusal is got over where it is unproven, and the agent was registered, its clock is wrong, or it is one of the first", (t) => {
  const alert = new DtlsError("DTLS_ALERT_RECEIVED", undefined, { receivedAlert: "unknown_psk_identity" });
  const certificate = (cause: string): DtlsError =>
    new DtlsError("DTLS_CERTIFICATE_REFUSED", undefined, { cause: { ok: false, cause } });
  const passing = (error: Error, isClockTrusted = true, refusals = new Refusals()): number => {
    let count = 0;
    while (count < 20 && refusals.mayPass(error, isClockTrusted)) count++;
    return count;
  };
  t.is(passing(alert), 2);
  t.is(passing(certificate("unknown-issuer")), 2);
  t.is(passing(alert, false), 20);
  t.is(passing(certificate("not-yet-valid")), 20);
  const before = new Refusals();
  before.registered();
  t.is(passing(alert, true, before), 20);
  t.is(passing(new SecurityError("SECURITY_AUTHENTICATION_REFUSED", "4.01"), false, before), 0);
});

test("a server of the list may have credentials of its own, but is held to the same policy", (t) => {
  const yaml = `
endpoint: pi-1
server:
  - coaps://a.example
  - { uri: coaps://b.example, credentials: { psk: { identity: b, key: "hex:${OTHER_KEY}" } } }
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: a, key: "hex:${KEY}" } } }
`;
  const [a, b] = serversOf(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA));
  t.is(a.interfaces.dpe1.credentials.psk?.identity, "a");
  t.is(b?.interfaces.dpe1.credentials.psk?.identity, "b");
  t.is(b?.interfaces.dpe1.connection, "dtls");
  t.is(b?.interfaces.dpe1.serverAuthentication, "psk");
  const lax = yaml.replace("uri: coaps://b.example,", "uri: coaps://b.example, connection: none,");
  t.throws(() => parseConfig(lax, "agent.yaml", AGENT_SCHEMA), { code: "CONFIG_UNKNOWN_KEY" });
});

test("each address of a name is tried in turn, and the name is resolved anew when its turn comes again", async (t) => {
  const [config] = serversOf(
    parseConfig(
      `
endpoint: pi-1
server: coaps://a.example
interfaces: { dpe1: { connection: none, serverAuthentication: none } }
`,
      "agent.yaml",
      AGENT_SCHEMA,
    ),
  );
  let addresses = ["192.0.2.1", "2001:db8::1"];
  const other = { ...config, server: Object.assign({}, config.server, { host: "b.example" }) };
  const round = new ServerRound([config, other], (host) =>
    host === "a.example" ? Promise.resolve(addresses) : Promise.reject(new Error("no such name")),
  );
  t.is(await round.address(), "192.0.2.1");
  t.false(round.advance());
  t.is(await round.address(), "2001:db8::1");
  t.false(round.advance());
  await t.throwsAsync(round.address(), { message: "no such name" });
  addresses = ["192.0.2.9"];
  t.true(round.advance(), "everybody was tried");
  t.is(await round.address(), "192.0.2.9");
});

test("a server whose name leads to another address is found there", async (t) => {
  t.timeout(120_000);
  const { counts, port } = await serve(t);
  const asked: string[] = [];
  // Of TEST-NET-1 (RFC 5737): nobody is there.
  const resolve = (host: string): Promise<readonly string[]> => {
    asked.push(host);
    return Promise.resolve(asked.length === 1 ? ["127.0.0.77", "127.0.0.1"] : ["127.0.0.1"]);
  };
  const { agent } = start(t, `coaps://dpe.example:${port}`, "failover: { giveUpAfter: 2s }", { resolve });
  await until(() => counts.length > 2);
  t.deepEqual(new Set(asked), new Set(["dpe.example"]));
  await agent.close();
});

test("closing takes seconds though the server has gone, and leaves what it has not acknowledged in the queue", async (t) => {
  t.timeout(120_000);
  const folder = folderOf(t);
  const { counts, port } = await serve(t);
  const path = { seed: 1, loss: 0, reordering: 0, holdUpMs: 0 };
  const relay = await UdpRelay.start(port, path);
  t.teardown(() => relay.close());
  const { agent } = start(t, uri(relay.port), `store: ${join(folder, "data")}`);
  await until(() => counts.length > 2);
  path.loss = 1;
  const lost = relay.counts.lost;
  await until(() => relay.counts.lost > lost && agent.unsent > 2);
  const beganAt = performance.now();
  await agent.close();
  // A report alone would wait for MAX_TRANSMIT_WAIT, 93 s.
  t.true(performance.now() - beganAt < 45_000);
  t.true(agent.unsent > 0);
});

test("a server whose certificate is renewed goes on with its agents, and has every reading, also after it was restarted", async (t) => {
  t.timeout(120_000);
  const folder = folderOf(t);
  const counts: number[] = [];
  let authority: ThrowawayAuthority | undefined;
  const issue = async (commonName: string): Promise<void> => {
    const issued = await issueThrowawayCredentials({
      commonName,
      purpose: "serverAuth",
      ip: ["127.0.0.1"],
      atMs: Date.now(),
      ...(authority === undefined ? {} : { authority }),
    });
    authority = issued.authority;
    writeFileSync(join(folder, "ca.pem"), issued.authority.certificatePem);
    writeFileSync(join(folder, "server.pem"), issued.certificatePem);
    writeFileSync(join(folder, "server.key"), issued.privateKeyPem, { mode: 0o600 });
  };
  const port = await freePort();
  const config = () =>
    parseConfig(
      `
realm: dpe.example
credentials: { certificate: server.pem, key: server.key }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${port} }, connection: dtls, clientAuthentication: [digest] }
subscribers: [{ name: alice, password: secret-word, endpoints: ["*"] }]
`,
      join(folder, "server.yaml"),
      SERVER_SCHEMA,
    );
  const startServer = async (): Promise<DpeServer> => {
    const server = await DpeServer.start(config(), (event) => {
      if (event.type !== "report") return;
      for (const { name, value } of event.records) if (name === "counter") counts.push(Number(value));
    });
    t.teardown(() => server.close());
    return server;
  };
  await issue("first");
  const server = await startServer();
  const yaml = `
endpoint: pi-1
server: ${uri(port)}
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: certificate
    ca: ${join(folder, "ca.pem")}
    credentials: { username: alice, password: secret-word }
`;
  let count = 0;
  const source: Source = {
    name: "counter",
    everyMs: 50,
    read: () => Promise.resolve([{ name: "counter", value: ++count }]),
  };
  const events: AgentEvent[] = [];
  const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [source], (event) => events.push(event));
  t.teardown(() => agent.close());
  await until(() => counts.length > 2);
  await issue("renewed");
  await server.reload(config());
  const atRenewal = counts.length;
  await until(() => counts.length > atRenewal + 2);

  await server.close();
  const restarted = await startServer();
  const atRestart = counts.length;
  await until(() => counts.length > atRestart + 2);
  t.deepEqual(restarted.associationCounts, { full: 1, resumed: 0, restored: 0 }, "the new certificate was verified");
  t.deepEqual(
    counts,
    Array.from(counts, (_, index) => index + 1),
  );
  t.true(
    events.some(({ type }) => type === "lost"),
    "it is told that the server was away",
  );
  t.false(events.some(({ type }) => type === "refused"));
});
