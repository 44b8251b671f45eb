import { parseConfig } from "#config/index.js";
import { DpeError } from "#dpe/index.js";
import { FleetObservations } from "#server/fleet-observations.js";
import { EndpointChanged, type PropertyObservation } from "#server/property-observation.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { type Message, Store } from "#store/index.js";
import { testWith } from "#testing/peer-process.js";
import { startRedis } from "#testing/redis-peer.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";
import { countingAgent, FLEET_KEY, told } from "./counting-agent.js";

async function serve(t: ExecutionContext, redis: string): Promise<DpeServer> {
  const yaml = `
credentials: { psk: [{ identity: fleet, key: "hex:${FLEET_KEY}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [digest] }
subscribers: [{ name: alice, password: secret }]
`;
  const store = await Store.open({ type: "redis", url: redis });
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA), () => undefined, { store });
  t.teardown(async () => {
    await server.close();
    await store.close();
  });
  return server;
}

testWith(
  "redis",
  "an endpoint is followed at a server that it is not connected to, through its restart and its moves between servers",
  async (t) => {
    t.timeout(120_000);
    const redis = await startRedis(t);
    const [here, there] = [await serve(t, redis), await serve(t, redis)];
    const first = countingAgent(t, "coaps", there.addresses.coaps?.port ?? 0, 0);
    await until(async () => (await here.store.registrations.ofEndpoint("pi-1", Date.now())) !== undefined);
    const ended = new AbortController();
    t.teardown(() => ended.abort());
    // Of somebody who comes for the first time: what cannot be reached would be an error.
    const steps = here.follow("pi-1", { name: "a", signal: ended.signal });
    const early = await told(steps, 0);
    await told(steps, early + 5);

    await first.close();
    const second = countingAgent(t, "coaps", there.addresses.coaps?.port ?? 0, 1_000_000);
    await told(steps, 1_000_001);

    await second.close();
    const third = countingAgent(t, "coaps", here.addresses.coaps?.port ?? 0, 2_000_000);
    await told(steps, 2_000_001);

    await third.close();
    countingAgent(t, "coaps", there.addresses.coaps?.port ?? 0, 3_000_000);
    await told(steps, 3_000_001);

    await t.throwsAsync(here.follow("pi-1", { name: "absent", signal: ended.signal }).next(), {
      code: "DPE_BAD_REQUEST",
    });
  },
);

/** Servers by name, with what is sent between them; `loses` says which messages are lost, by their number. */
function bus(loses: (channel: string, index: number) => boolean) {
  const listeners = new Map<string, Set<(message: Uint8Array) => void>>();
  let index = 0;
  const backend = {
    publish: (channel: string, message: Message): void => {
      if (loses(channel, index++)) return;
      const bytes = message();
      setImmediate(() => {
        for (const listener of listeners.get(channel) ?? []) listener(bytes);
      });
    },
    subscribe: (channel: string, listener: (message: Uint8Array) => void): Promise<() => void> => {
      listeners.set(channel, (listeners.get(channel) ?? new Set()).add(listener));
      return Promise.resolve(() => void listeners.get(channel)?.delete(listener));
    },
  };
  return (server: string) => ({ server, backend });
}

/** An observation that is told by hand. */
function byHand() {
  let isCancelled = false;
  let notify: (value: number) => void = () => undefined;
  const observation: PropertyObservation = {
    first: [{ name: "a", value: 0 }],
    cancel: () => {
      isCancelled = true;
      notify(-1);
    },
    [Symbol.asyncIterator]: async function* () {
      for (;;) {
        const value = await new Promise<number>((resolve) => (notify = resolve));
        if (isCancelled) return;
        yield [{ name: "a", value }];
      }
    },
  };
  return { observation, tell: (value: number) => notify(value), isCancelled: () => isCancelled };
}

// A busy machine may be silent for longer than a test would like to wait.
const PATIENT = { keepMs: 20, leaseMs: 30_000, answerMs: 30_000 };
const IMPATIENT = { keepMs: 20, leaseMs: 1500, answerMs: 1500 };
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 10));

async function pair(
  t: ExecutionContext,
  loses: (channel: string, index: number) => boolean,
  observe: () => Promise<PropertyObservation>,
  times = PATIENT,
) {
  const at = bus(loses);
  const asker = new FleetObservations(
    { store: at("asker"), observe: () => Promise.reject(new Error("not here")) },
    times,
  );
  const owner = new FleetObservations({ store: at("owner"), observe }, times);
  await asker.start();
  await owner.start();
  t.teardown(() => {
    asker.close();
    owner.close();
  });
  return { asker, owner };
}

test("a state that is lost between two servers is noticed, and the observation begun anew", async (t) => {
  const { observation, tell, isCancelled } = byHand();
  let isLossy = false;
  const { asker } = await pair(
    t,
    (channel) => isLossy && channel.endsWith("asker"),
    () => Promise.resolve(observation),
  );
  const ours = await asker.observe("owner", "pi-1", {});
  t.deepEqual(ours.first, [{ name: "a", value: 0 }]);
  const states = ours[Symbol.asyncIterator]();
  const next = states.next();
  await turn();
  tell(1);
  t.deepEqual((await next).value, [{ name: "a", value: 1 }]);
  isLossy = true;
  tell(2);
  await turn();
  isLossy = false;
  await t.throwsAsync(states.next(), { instanceOf: EndpointChanged });
  await until(() => isCancelled());
});

test("an observation by way of a server that is gone ends, and so does one whose asker is gone", async (t) => {
  const { observation, isCancelled } = byHand();
  let isCut = false;
  const { asker } = await pair(
    t,
    () => isCut,
    () => Promise.resolve(observation),
    IMPATIENT,
  );
  const ours = await asker.observe("owner", "pi-1", {});
  isCut = true;
  await t.throwsAsync(ours[Symbol.asyncIterator]().next(), { code: "DPE_NOT_REACHABLE" });
  await until(() => isCancelled());
  await t.throwsAsync(asker.observe("owner", "pi-1", {}), { code: "DPE_NOT_REACHABLE" }, "nobody answers");
});

test("what the other server is refused is refused by its code; what its endpoint changed is to be asked anew", async (t) => {
  const { observation, isCancelled } = byHand();
  let isRefused = true;
  const { asker, owner } = await pair(
    t,
    () => false,
    () => (isRefused ? Promise.reject(new DpeError("DPE_BAD_REQUEST", "no")) : Promise.resolve(observation)),
  );
  await t.throwsAsync(asker.observe("owner", "pi-1", {}), { code: "DPE_BAD_REQUEST" });
  isRefused = false;
  const ours = await asker.observe("owner", "pi-1", {});
  const next = ours[Symbol.asyncIterator]().next();
  owner.changed("pi-2");
  await turn();
  t.false(isCancelled());
  owner.changed("pi-1");
  await t.throwsAsync(next, { instanceOf: EndpointChanged });
  await until(() => isCancelled());
});
