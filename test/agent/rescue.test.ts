import { AGENT_SCHEMA, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { Silence } from "#agent/silence.js";
import { CODE, OPTION, Options } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { CoapEndpoint, type CoapEndpointOptions, connect, listen, UdpSocket } from "#net/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { freePort } from "#testing/free-port.js";
import { type RelayConditions, UdpRelay } from "#testing/udp-relay.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";
const PSK = { identity: new TextEncoder().encode("bench"), key: Uint8Array.from(Buffer.from(KEY, "hex")) };
/** Types of records: RFC 6347 §4.1, RFC 9146 §4. */
const [APPLICATION_DATA, TLS12_CID] = [23, 25];
const QUICK = "failover: { suspectAfter: 500ms, giveUpAfter: 2s, returnAfter: 1h }";

async function serve(t: ExecutionContext) {
  const counts: number[] = [];
  const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0, coaps: 0 }, connection: none, clientAuthentication: [psk, none] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), (event) => {
    if (event.type !== "report") return;
    for (const { name, value } of event.records) if (name === "counter") counts.push(Number(value));
  });
  t.teardown(() => server.close());
  return { server, counts, port: server.addresses.coaps?.port ?? 0, plain: server.addresses.coap?.port ?? 0 };
}

/** A path to that port that can be cut, or led to another server, as if there were one that knows nothing. */
async function pathTo(t: ExecutionContext, port: number) {
  const conditions: Writable<RelayConditions> = { seed: 1, loss: 0, reordering: 0, holdUpMs: 0 };
  const relay = await UdpRelay.start(port, conditions);
  t.teardown(() => relay.close());
  return { relay, conditions, port: relay.port };
}

function start(t: ExecutionContext, server: string, more = QUICK) {
  const yaml = `
endpoint: pi-1
server: ${server}
interfaces:
  dpe1: { connection: ${server.includes("coaps") ? "dtls" : "none"}, serverAuthentication: [psk, none], credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
${more}
`;
  const events: AgentEvent[] = [];
  let count = 0;
  const read = () => Promise.resolve([{ name: "counter", value: ++count }]);
  const source: Source = { name: "counter", everyMs: 50, read };
  const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [source], (event) => events.push(event));
  t.teardown(() => agent.close());
  const of = (type: AgentEvent["type"]): number => events.filter((event) => event.type === type).length;
  const registeredAt = (): string[] => events.flatMap((event) => (event.type === "registered" ? [event.server] : []));
  return { agent, events, of, registeredAt };
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const uri = (port: number): string => `coaps://127.0.0.1:${port}`;

/** Each number once, in order, from one on. */
function isWhole(counts: readonly number[]): boolean {
  return counts.every((count, index) => count === index + 1);
}

test("a server that has forgotten its associations is found in seconds, and has every reading once", async (t) => {
  t.timeout(120_000);
  const [before, after] = [await serve(t), await serve(t)];
  const path = await pathTo(t, before.port);
  const { agent, of, events } = start(t, uri(path.port), "");
  await until(() => before.counts.length > 2);
  path.relay.leadTo(after.port);
  const cutAt = performance.now();
  await until(() => after.counts.length > 2);
  const tookMs = performance.now() - cutAt;
  t.true(tookMs < 15_000, `${tookMs} ms`);
  t.is(of("silent"), 1);
  t.is(of("moved"), 1);
  t.is(of("lost"), 0);
  await agent.close();
  t.true(isWhole([...before.counts, ...after.counts]), JSON.stringify([...before.counts, ...after.counts]));
  t.false(events.some(({ type }) => type === "dropped"));
});

test("an association outlives a server that is away for seconds, and goes on as soon as it is back", async (t) => {
  t.timeout(120_000);
  const { server, counts, port } = await serve(t);
  const path = await pathTo(t, port);
  const { agent, of } = start(t, uri(path.port));
  await until(() => counts.length > 2);
  path.conditions.loss = 1;
  await pause(6000);
  path.conditions.loss = 0;
  const [backAt, had] = [performance.now(), counts.length];
  await until(() => counts.length > had);
  t.true(performance.now() - backAt < 10_000, "a retransmission alone may take half a minute");
  await until(() => of("heard") === 1);
  t.is(of("registered"), 1);
  t.is(of("moved"), 0);
  t.is(server.associationCounts.full, 1);
  await agent.close();
  t.true(isWhole(counts));
});

test("an association outlives a server that is too busy to answer soon after it is back", async (t) => {
  t.timeout(60_000);
  const { counts, port } = await serve(t);
  const path = await pathTo(t, port);
  const { agent, of } = start(
    t,
    uri(path.port),
    "failover: { suspectAfter: 500ms, giveUpAfter: 20s, returnAfter: 1h }",
  );
  await until(() => counts.length > 2);
  path.conditions.loss = 1;
  await until(() => of("silent") === 1);
  await pause(1500);
  // Handshakes are fast, and what is protected takes its time: longer than a single word of the server is waited for.
  const isProtected = ([type]: Uint8Array): boolean => type === APPLICATION_DATA || type === TLS12_CID;
  Object.assign(path.conditions, { loss: 0, holdUpMs: 1000, holdsUp: isProtected });
  await until(() => of("heard") + of("moved") > 0);
  path.conditions.holdUpMs = 0;
  t.is(of("moved"), 0);
  t.is(of("registered"), 1);
  await agent.close();
  t.true(isWhole(counts));
});

test("on a path that loses every third datagram every reading arrives once", async (t) => {
  t.timeout(120_000);
  const { counts, port } = await serve(t);
  const path = await pathTo(t, port);
  const { agent } = start(t, uri(path.port));
  await until(() => counts.length > 2);
  path.conditions.loss = 0.33;
  const had = counts.length;
  await until(() => counts.length > had + 100);
  path.conditions.loss = 0;
  await agent.close();
  t.true(isWhole(counts), JSON.stringify(counts));
});

test("where the server is dead the next one is registered at within seconds", async (t) => {
  t.timeout(120_000);
  const [first, next] = [await serve(t), await serve(t)];
  const path = await pathTo(t, first.port);
  const { agent, of, registeredAt } = start(t, `[${uri(path.port)}, ${uri(next.port)}]`);
  await until(() => first.counts.length > 2);
  path.conditions.loss = 1;
  const cutAt = performance.now();
  await until(() => next.counts.length > 2);
  t.true(performance.now() - cutAt < 20_000);
  t.deepEqual(registeredAt(), [uri(path.port), uri(next.port)]);
  t.is(of("moved"), 1);
  await agent.close();
  // What the dead one took, and could not acknowledge, the next one has too.
  const [last = 0] = first.counts.slice(-1);
  t.true(isWhole(first.counts) && next.counts.every((count, index) => count === (next.counts[0] ?? 0) + index));
  t.true((next.counts[0] ?? Infinity) <= last + 1, "none is lost");
});

test("a port where nobody listens is told by its host, so the next server is tried at once", async (t) => {
  t.timeout(60_000);
  const gone = await freePort();
  const next = await serve(t);
  const began = performance.now();
  const { agent, events, registeredAt } = start(t, `[${uri(gone)}, ${uri(next.port)}]`, "");
  await until(() => registeredAt().length > 0);
  t.true(performance.now() - began < 10_000, "giveUpAfter is 20 s");
  const lost = events.find((event) => event.type === "lost");
  t.regex(String(lost?.error), /nobody listens there/);
  await agent.close();
});

test("one refusal ends no handshake, two in a row do", async (t) => {
  const port = await freePort();
  const session = await connect({ host: "127.0.0.1", port }, { psk: PSK, endsOnRefusal: true });
  await pause(300);
  // It was refused once; the next flight is answered.
  const options = { host: "127.0.0.1", port, server: { pskEnabled: true }, pskOf: () => PSK.key };
  const endpoint = await listen(() => undefined, options);
  t.teardown(() => endpoint.close());
  await t.notThrowsAsync(session.opened);
  await session.close();
  const gone = await connect({ host: "127.0.0.1", port: 9 }, { psk: PSK, endsOnRefusal: true });
  const began = performance.now();
  await t.throwsAsync(gone.opened, { code: "NET_CONNECTION_REFUSED" });
  t.true(performance.now() - began > 500);
});

test("a socket that was connected for its handshake keeps its port when it is not any more", async (t) => {
  const heard: number[] = [];
  const endpoint = await listen(
    (session) =>
      (session.onmessage = (data) => {
        heard.push(session.remoteAddress.port);
        session.send(data);
      }),
    { host: "127.0.0.1", server: { pskEnabled: true }, pskOf: () => PSK.key },
  );
  t.teardown(() => endpoint.close());
  const session = await connect({ host: "127.0.0.1", port: endpoint.address.port }, { psk: PSK, endsOnRefusal: true });
  const answers: number[] = [];
  session.onmessage = (data) => answers.push(data[0] ?? 0);
  await session.opened;
  // The socket is disconnected by now, and keeps its port.
  await pause(50);
  session.send(Uint8Array.of(1));
  await until(() => answers.length === 1);
  session.send(Uint8Array.of(2));
  await until(() => answers.length === 2);
  t.is(new Set(heard).size, 1);
  await session.close();
});

/** A server that shakes hands, and answers by this; without it nothing. */
async function speakTo(t: ExecutionContext, answers: CoapEndpointOptions | undefined) {
  const coap = new CoapEndpoint(answers);
  const counts = { handshakes: 0 };
  const endpoint = await listen(
    (session) => {
      counts.handshakes += 1;
      if (answers !== undefined) coap.addSession(session);
    },
    { host: "127.0.0.1", server: { pskEnabled: true }, pskOf: () => PSK.key },
  );
  t.teardown(async () => {
    await endpoint.close();
    await coap.close();
  });
  return { port: endpoint.address.port, counts };
}

test("a server that takes its time, and acknowledges, is not left", async (t) => {
  t.timeout(60_000);
  const created = Options.none.withAll(OPTION.LocationPath, ["r", "1"]);
  let asked = 0;
  const slow = await speakTo(t, {
    onRequest: async ({ options }) => {
      asked += 1;
      const isRegistration = options.uriPath.join("/") === "dpe1/reg";
      if (isRegistration) await pause(6000);
      return {
        code: isRegistration ? CODE.Created : CODE.Changed,
        options: isRegistration ? created : Options.none,
        payload: new Uint8Array(0),
      };
    },
  });
  const { agent, of } = start(t, uri(slow.port));
  await until(() => of("registered") > 0 && of("reported") > 0);
  t.is(slow.counts.handshakes, 1);
  t.is(of("moved"), 0);
  t.true(asked > 1);
  await agent.close();
});

test("a server that shakes hands and then says nothing is left for the next one, and not flooded with handshakes", async (t) => {
  t.timeout(60_000);
  const mute = await speakTo(t, undefined);
  const next = await serve(t);
  const { agent, registeredAt } = start(t, `[${uri(mute.port)}, ${uri(next.port)}]`);
  await until(() => registeredAt().length > 0);
  t.deepEqual(registeredAt(), [uri(next.port)]);
  t.true(mute.counts.handshakes <= 3, `${mute.counts.handshakes} handshakes`);
  await agent.close();
});

test("on plain UDP, too, the next server is found in seconds", async (t) => {
  t.timeout(60_000);
  const [first, next] = [await serve(t), await serve(t)];
  const path = await pathTo(t, first.plain);
  const { agent, of } = start(t, `[coap://127.0.0.1:${path.port}, coap://127.0.0.1:${next.plain}]`);
  await until(() => first.counts.length > 2);
  path.conditions.loss = 1;
  const cutAt = performance.now();
  await until(() => next.counts.length > 2);
  t.true(performance.now() - cutAt < 20_000);
  t.is(of("moved"), 1);
  await agent.close();
});

test("a process that stood still reads what came meanwhile before it suspects anybody", async (t) => {
  const silence = new Silence();
  const [here, there] = [await UdpSocket.bind({ host: "127.0.0.1" }), await UdpSocket.bind({ host: "127.0.0.1" })];
  t.teardown(() => Promise.all([here.close(), there.close()]));
  here.onDatagram = () => silence.heard();
  const over = new AbortController();
  let isSuspected = false;
  silence.asked();
  void silence.lasts(300, over.signal).then(() => (isSuspected = !over.signal.aborted));
  await pause(50);
  there.send(Uint8Array.of(1), { address: "127.0.0.1", port: here.address.port });
  const until500 = performance.now() + 500;
  while (performance.now() < until500);
  await pause(50);
  t.false(isSuspected);
  await until(() => isSuspected);
  over.abort();
});
