import { once } from "node:events";
import { connect } from "node:net";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { DpeServer, recordsOf, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { Events } from "#testing/events.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";

async function serve(t: ExecutionContext, policy: string) {
  const events = new Events<ServerEvent>();
  const config = `
realm: test
credentials: { psk: [{ identity: fleet, key: "hex:${KEY}" }] }
interfaces: { dpe1: { listen: { host: 127.0.0.1, coapTcp: 0, coapsTcp: 0 }, ${policy} } }
subscribers:
  - { name: alice, password: secret, endpoints: ["pi-*"] }
  - { name: bench, psk: { identity: bench, key: "hex:ff${KEY.slice(2)}" }, endpoints: ["bench-*"] }
`;
  const server = await DpeServer.start(parseConfig(config, "server.yaml", SERVER_SCHEMA), events.push);
  t.teardown(() => server.close());
  return { server, events };
}

function start(t: ExecutionContext, server: string, endpoint: string, dpe1: string) {
  const events: AgentEvent[] = [];
  const config = parseConfig(
    `{ endpoint: ${endpoint}, server: "${server}", interfaces: { dpe1: { ${dpe1} } } }`,
    "agent.yaml",
    AGENT_SCHEMA,
  );
  let reading = 20;
  const source = {
    name: "thermometer",
    everyMs: 1000,
    read: () => Promise.resolve([{ name: "temperature", unit: "Cel", value: reading++ }]),
  };
  const agent = new DpeAgent(config, [source], (event) => events.push(event));
  t.teardown(() => agent.close());
  return { agent, events };
}

test("R18 DPE-1 and DPE-2 run over TLS as over DTLS: Digest over a shared key, PSK as credential, query and observe back", async (t) => {
  const { server, events } = await serve(t, "connection: dtls, clientAuthentication: [psk, digest]");
  const uri = `coaps+tcp://127.0.0.1:${server.addresses.coapsTcp?.port}`;
  start(
    t,
    uri,
    "pi-1",
    `connection: dtls, serverAuthentication: psk, credentials: { username: alice, password: secret, psk: { identity: fleet, key: "hex:${KEY}" } }`,
  );
  start(
    t,
    uri,
    "bench-1",
    `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:ff${KEY.slice(2)}" } }`,
  );
  for (const [endpoint, subscriber] of [
    ["pi-1", "alice"],
    ["bench-1", "bench"],
  ] as const) {
    await events.until("report", (event) => event.registration.endpoint === endpoint);
    t.is((await server.store.registrations.ofEndpoint(endpoint, Date.now()))?.subscriber, subscriber);
    const [temperature] = await server.query(endpoint, "temperature");
    t.is(temperature?.unit, "Cel");
    const observation = await server.observe(endpoint, "temperature");
    for await (const notification of observation) {
      t.true(Number(recordsOf(notification)[0]?.value) > Number(temperature?.value));
      break;
    }
  }
});

test("R17 plain TCP is served where the policy allows it, and refused with security-required where not", async (t) => {
  const open = await serve(t, "connection: none, clientAuthentication: [none]");
  const plain = "connection: none, serverAuthentication: none";
  start(t, `coap+tcp://127.0.0.1:${open.server.addresses.coapTcp?.port}`, "pi-1", plain);
  await open.events.until("registered");
  const strict = await serve(t, "connection: dtls, clientAuthentication: [digest]");
  const { agent } = start(t, `coap+tcp://127.0.0.1:${strict.server.addresses.coapTcp?.port}`, "pi-1", plain);
  t.like(await t.throwsAsync(agent.stopped), { authError: "security-required" });
});

test("what TCP connections of one address are too many is counted", async (t) => {
  t.timeout(60_000);
  const { server } = await serve(t, "connection: none, clientAuthentication: [none]");
  const { port = 0 } = server.addresses.coapTcp ?? {};
  let cutOff = 0;
  for (let opened = 0; opened <= 1000; opened++) {
    const socket = connect({ host: "127.0.0.1", port })
      .on("close", () => cutOff++)
      .resume();
    t.teardown(() => socket.destroy());
    await once(socket, "connect");
  }
  await until(() => cutOff > 0, { what: "the one too many" });
  t.deepEqual(server.tcpRefused, { "too-many-connections": 0, "too-many-connections-of-address": 1 });
});

test("R09 a key that the server does not know ends the TLS handshake by name on both sides", async (t) => {
  const { server, events } = await serve(t, "connection: dtls, clientAuthentication: [psk]");
  const { agent } = start(
    t,
    `coaps+tcp://127.0.0.1:${server.addresses.coapsTcp?.port}`,
    "pi-1",
    `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: mallory, key: "hex:${KEY}" } }`,
  );
  t.like(await t.throwsAsync(agent.stopped), { code: "SECURITY_AUTHENTICATION_REFUSED" });
  await events.until("handshake-failed");
  const failed = events.all.find((event) => event.type === "handshake-failed");
  t.regex(failed?.cause ?? "", /PSK/i);
});
