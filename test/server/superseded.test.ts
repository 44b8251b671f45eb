import { AGENT_SCHEMA, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { Events } from "#testing/events.js";
import { until } from "#testing/until.js";
import test from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";

test("a device that has come back on another association leaves room for the next, where one address may have two", async (t) => {
  t.timeout(60_000);
  const yaml = `
limits: { sessionsPerAddress: 2 }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA));
  t.teardown(() => server.close());
  const source: Source = { name: "door", everyMs: 3_600_000, read: () => Promise.resolve([]) };
  const registered = async (endpoint: string): Promise<void> => {
    const agentYaml = `
endpoint: ${endpoint}
server: coaps://127.0.0.1:${server.addresses.coaps?.port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
`;
    const events = new Events<AgentEvent>();
    const config = parseConfig(agentYaml, "agent.yaml", AGENT_SCHEMA);
    const agent = new DpeAgent(config, [source], events.push);
    t.teardown(() => agent.close());
    await events.until("registered");
  };
  // The first association of pi-1 is never closed: its path is lost, say.
  await registered("pi-1");
  await registered("pi-1");
  await registered("pi-2");
  t.is(server.associationCounts.full, 3);
});

test("two devices of one name are told of, once; one that moved to another association is not", async (t) => {
  t.timeout(60_000);
  const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
  const told = new Events<ServerEvent>();
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), told.push);
  t.teardown(() => server.close());
  const agentYaml = `
endpoint: pi-1
server: coaps://127.0.0.1:${server.addresses.coaps?.port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
`;
  const registrations = (): number => told.count("registered");
  const start = (everyMs: number): DpeAgent => {
    let count = 0;
    const source: Source = { name: "c", everyMs, read: () => Promise.resolve([{ name: "c", value: ++count }]) };
    const agent = new DpeAgent(parseConfig(agentYaml, "agent.yaml", AGENT_SCHEMA), [source]);
    t.teardown(() => agent.close());
    return agent;
  };
  const contests = () => told.all.filter((event) => event.type === "name-contested");
  // One device at a time, each on an association of its own, the one before of which is never closed by its device.
  start(3_600_000);
  await until(() => registrations() === 1);
  start(100);
  await until(() => registrations() === 2);
  t.deepEqual(contests(), []);
  start(100);
  await until(() => registrations() > 8);
  const [first, ...more] = contests();
  t.like(first, { endpoint: "pi-1" });
  t.is(new Set(first?.peers).size, 2);
  t.deepEqual(more, [], "once for the two");
});
