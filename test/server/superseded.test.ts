import { AGENT_SCHEMA, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
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
    const events: AgentEvent[] = [];
    const config = parseConfig(agentYaml, "agent.yaml", AGENT_SCHEMA);
    const agent = new DpeAgent(config, [source], (event) => events.push(event));
    t.teardown(() => agent.close());
    while (!events.some(({ type }) => type === "registered")) await new Promise((resolve) => setTimeout(resolve, 10));
  };
  // The first association of pi-1 is never closed: its path is lost, say.
  await registered("pi-1");
  await registered("pi-1");
  await registered("pi-2");
  t.is(server.associationCounts.full, 3);
});
