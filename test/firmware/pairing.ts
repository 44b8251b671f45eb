import { until } from "#testing/until.js";
import type { ExecutionContext } from "ava";
import { AGENT_SCHEMA, agentsOf, DpeAgent, type FirmwareSourceEvent, sourcesOf } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import type { SenmlRecord } from "#senml/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";

/** A server, and the agents of one file with these `sources`, paired with it over DTLS and Digest. */
export async function paired(
  t: ExecutionContext,
  sources: string,
): Promise<{ readonly server: DpeServer; readonly events: FirmwareSourceEvent[] }> {
  const key = "000102030405060708090a0b0c0d0e0f";
  const events: FirmwareSourceEvent[] = [];
  const serverConfig = `
realm: test
credentials: { psk: [{ identity: fleet, key: "hex:${key}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [digest] }
  dpe2: { connection: dtls, clientAuthentication: [none] }
subscribers:
  - { name: alice, password: secret, endpoints: ["pi-*"] }
  - { name: mcu, password: other, endpoints: ["mcu-*"] }
`;
  const server = await DpeServer.start(parseConfig(serverConfig, "server.yaml", SERVER_SCHEMA));
  t.teardown(() => server.close());
  const psk = `psk: { identity: fleet, key: "hex:${key}" }`;
  const agentConfig = `
endpoint: pi-1
server: coaps://127.0.0.1:${server.addresses.coaps?.port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { username: alice, password: secret, ${psk} } }
  dpe2: { connection: dtls }
sources:
${sources.replaceAll("OWN", `{ username: mcu, password: other, ${psk} }`)}
`;
  const config = parseConfig(agentConfig, "agent.yaml", AGENT_SCHEMA);
  const agents = agentsOf(config).map(
    (own) =>
      new DpeAgent(
        own,
        sourcesOf(own.sources, (event) => events.push(event)),
      ),
  );
  t.teardown(() => Promise.all(agents.map((agent) => agent.close())));
  return { server, events };
}

/** A property at the server, as soon as it is there and its value is `isWanted`. */
export function reported(
  server: DpeServer,
  endpoint: string,
  name: string,
  isWanted: (value: SenmlRecord["value"]) => boolean = () => true,
): Promise<SenmlRecord> {
  return until(
    async () => (await server.store.properties.latestOf(endpoint, [name])).find(({ value }) => isWanted(value)),
    { what: `a report of ${name} by ${endpoint}` },
  );
}
