import { AGENT_SCHEMA, DpeAgent } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { UdpSocket } from "#net/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { until } from "#testing/until.js";
import test from "ava";
import { NatRelay } from "../testing/nat-relay.js";

const KEY = "000102030405060708090a0b0c0d0e0f";

for (const check of ["none", "basic", "enhanced"] as const) {
  test(`an agent that a NAT moves goes on in its association, with returnRoutabilityCheck: ${check}`, async (t) => {
    const events: ServerEvent[] = [];
    const yaml = `
credentials: { psk: [{ identity: fleet, key: "hex:${KEY}" }] }
dtls: { returnRoutabilityCheck: ${check} }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [digest] }
subscribers: [{ name: alice, password: secret }]
`;
    const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), (event) =>
      events.push(event),
    );
    t.teardown(() => server.close());
    const address = server.addresses.coaps!;
    const nat = await NatRelay.start(address);
    t.teardown(() => nat.close());
    const agentYaml = `
endpoint: pi-1
server: coaps://127.0.0.1:${nat.address.port}
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: psk
    credentials: { username: alice, password: secret, psk: { identity: fleet, key: "hex:${KEY}" } }
`;
    let value = 0;
    const source = { name: "s", everyMs: 100, read: () => Promise.resolve([{ name: "a", value: value++ }]) };
    const agent = new DpeAgent(parseConfig(agentYaml, "agent.yaml", AGENT_SCHEMA), [source]);
    t.teardown(() => agent.close());
    const after = (index: number, type: ServerEvent["type"]): Promise<number> =>
      until(
        () => {
          const found = events.findIndex((event, at) => at >= index && event.type === type);
          return found >= 0 && found;
        },
        { what: type },
      );

    const reported = await after(0, "report");
    await nat.rebind();
    const moved = await after(reported, "address-changed");
    const { peer, previous } = events[moved] as Extract<ServerEvent, { type: "address-changed" }>;
    t.not(peer, previous);
    await after(moved, "report");
    t.deepEqual({ ...server.associationCounts }, { full: 1, resumed: 0, restored: 0 });

    const stranger = await UdpSocket.bind({ host: "127.0.0.1" });
    t.teardown(() => stranger.close());
    // An application record of nobody's association.
    stranger.send(Uint8Array.of(23, 254, 253, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 0), address);
    await after(events.length, "report");
    await after(events.length, "report");
    t.is(
      Object.values(server.dtlsDropped).reduce((sum, count) => sum + count, 0),
      1,
    );
  });
}
