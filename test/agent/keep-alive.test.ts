import { AGENT_SCHEMA, type AgentConfig, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { ConfigError, parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { UdpRelay } from "#testing/udp-relay.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";
const NAT_FORGETS_AFTER_MS = 3000;

async function serve(t: ExecutionContext) {
  const server = await DpeServer.start(
    parseConfig(
      `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`,
      "server.yaml",
      SERVER_SCHEMA,
    ),
  );
  t.teardown(() => server.close());
  return { server, port: server.addresses.coaps?.port ?? 0 };
}

/** A server, and behind a NAT a device that has nothing to report. */
async function start(t: ExecutionContext, keepAlive: number | undefined) {
  const { server, port } = await serve(t);
  const nat = await UdpRelay.start(port, {
    seed: 1,
    loss: 0,
    reordering: 0,
    holdUpMs: 0,
    forgetsAfterMs: NAT_FORGETS_AFTER_MS,
  });
  t.teardown(() => nat.close());
  const events: AgentEvent[] = [];
  const source: Source = {
    name: "door",
    everyMs: 3_600_000,
    read: () => Promise.resolve([{ name: "door", value: 1 }]),
  };
  const config = withKeepAlive(parseConfig(agentYaml(nat.port, ""), "agent.yaml", AGENT_SCHEMA), keepAlive);
  const agent = new DpeAgent(config, [source], (event) => events.push(event));
  t.teardown(() => agent.close());
  const of = (type: AgentEvent["type"]): number => events.filter((event) => event.type === type).length;
  while (of("reported") === 0) await pause(10);
  return { server, nat, of };
}

const agentYaml = (port: number, more: string): string => `
endpoint: pi-1
server: coaps://127.0.0.1:${port}
failover: { suspectAfter: 500ms }
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
${more}
`;

/** Sooner than a configuration may have it. */
function withKeepAlive(config: AgentConfig, keepAlive: number | undefined): AgentConfig {
  const { dpe1, dpe2 } = config.interfaces;
  return { ...config, interfaces: { dpe1, dpe2: { ...dpe2, keepAlive } } };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("behind a NAT a silent device is asked at once where it keeps the path alive, and is not reached where it does not", async (t) => {
  t.timeout(60_000);
  const [kept, lost] = await Promise.all([start(t, 500), start(t, undefined)]);
  await pause(2 * NAT_FORGETS_AFTER_MS);
  const askedAt = performance.now();
  let isLostReached = false;
  const unreached = lost.server.query("pi-1", "door").then(() => (isLostReached = true));
  unreached.catch(() => undefined);
  t.is((await kept.server.query("pi-1", "door"))[0]?.value, 1);
  t.true(performance.now() - askedAt < 2000, "before a retransmission");
  await pause(1000);
  t.false(isLostReached);
  t.is(kept.of("silent"), 0);
});

test("what comes from the server spares words that keep the path alive", async (t) => {
  t.timeout(60_000);
  const { server, nat } = await start(t, 3000);
  const before = nat.counts.relayed;
  for (let asked = 0; asked < 14; asked++, await pause(300)) await server.query("pi-1", "door");
  t.is(nat.counts.relayed - before, 2 * 14, "a question and its answer each, and nothing else");
});

test("a server that has forgotten a device with nothing to report is found out by the next word", async (t) => {
  t.timeout(60_000);
  const { nat, of } = await start(t, 500);
  const { server, port } = await serve(t);
  nat.leadTo(port);
  while (of("moved") === 0) await pause(10);
  while (of("registered") < 2) await pause(10);
  t.is((await server.query("pi-1", "door"))[0]?.value, 1);
});

test("keepAlive is at least 15 s, and for the association", (t) => {
  const faultOf = (dpe2: string): string | undefined =>
    t.throws(() => parseConfig(agentYaml(1, `  dpe2: ${dpe2}`), "agent.yaml", AGENT_SCHEMA), {
      instanceOf: ConfigError,
    })?.message;
  t.regex(
    faultOf("{ bind: association, keepAlive: 5s }") ?? "",
    /agent.yaml:7:\d+ interfaces.dpe2.keepAlive: .*at least 15s/,
  );
  t.regex(faultOf("{ bind: none, keepAlive: 100s }") ?? "", /interfaces.dpe2: keepAlive is for bind: association/);
});
