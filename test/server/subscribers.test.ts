import { Secret } from "#config/index.js";
import { type Subscriber, Subscribers } from "#security/index.js";
import { SubscriberDirectory } from "#server/subscriber-directory.js";
import { startServer } from "#testing/dpe-run.js";
import { type Backend, type Change, encodeRow, openBackend, Store } from "#store/index.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";

const NAMES = ["alice", "bob", "carol", "dave"];

/** Any subscriber of one of four names, with credentials of few, so that two often share one. */
const someone = (): fc.Arbitrary<Subscriber> =>
  fc
    .record({
      name: fc.constantFrom(...NAMES),
      psk: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined }),
      certificateNames: fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 2 }),
      keyFingerprints: fc.array(fc.constantFrom("1", "2", "3"), { maxLength: 2 }),
      hasDigest: fc.boolean(),
    })
    .map(({ name, psk, certificateNames, keyFingerprints, hasDigest }) => ({
      name,
      certificateNames,
      keyFingerprints,
      ...(psk === undefined ? {} : { psk: { identity: Uint8Array.of(psk), key: Uint8Array.of(1) } }),
      ...(hasDigest ? { digest: { username: name, realm: "r", ha1: {} } } : {}),
    }));

test("subscribers that are changed one by one are found as if all were taken anew", (t) => {
  fc.assert(
    fc.property(fc.array(fc.tuple(someone(), fc.boolean()), { maxLength: 30 }), (steps) => {
      const changed = new Subscribers([]);
      changed.ofUsername(Uint8Array.of(0), "r", "SHA-256");
      let all: Subscriber[] = [];
      for (const [one, isRemoved] of steps) {
        const others = all.filter(({ name }) => name !== one.name);
        all = isRemoved ? others : [...others, one];
        // What shares a credential is told by all of them together.
        if (!changed.change(one.name, isRemoved ? undefined : one)) changed.replace(all);
        const anew = new Subscribers(all);
        for (const name of NAMES) t.is(changed.named(name), anew.named(name));
        for (let psk = 0; psk <= 5; psk++)
          t.is(changed.ofPskIdentity(Uint8Array.of(psk)), anew.ofPskIdentity(Uint8Array.of(psk)));
        for (const name of ["a", "b", "c"]) t.is(changed.ofCertificateNames([name]), anew.ofCertificateNames([name]));
        for (const key of ["1", "2", "3"]) t.is(changed.ofKeyFingerprint(key), anew.ofKeyFingerprint(key));
        t.is(changed.hasPsk, anew.hasPsk);
        t.deepEqual(new Set(changed.all), new Set(anew.all));
      }
    }),
    { numRuns: 300 },
  );
});

/** A directory over a store that others have too, and whom it lets in. */
async function directoryOn(t: ExecutionContext, backend: Backend, catchUpMs?: number) {
  const store = await Store.on(backend);
  const subscribers = new Subscribers([]);
  const counts = { replaced: 0, changed: 0 };
  const toOne = ({ name, psk }: { readonly name: string; readonly psk?: unknown }): Subscriber =>
    psk === undefined ? { name } : { name, psk: { identity: new TextEncoder().encode(name), key: Uint8Array.of(1) } };
  const directory = new SubscriberDirectory({
    store,
    subscribers,
    realm: "r",
    configured: [{ name: "configured" }],
    connectionIdentities: [],
    replace: (all) => {
      counts.replaced += 1;
      subscribers.replace(all.map(toOne));
      return Promise.resolve();
    },
    change: (name, config) => {
      counts.changed += 1;
      return Promise.resolve(subscribers.change(name, config && toOne(config)));
    },
    onFault: (error) => t.fail(String(error)),
    ...(catchUpMs === undefined ? {} : { catchUpMs }),
  });
  await directory.start();
  t.teardown(() => directory.close());
  const names = (): string[] => [...subscribers.all].map(({ name }) => name).toSorted();
  return { directory, names, counts };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
test("D1 D2 what one server changes holds at the other, one by one, and all anew where a message was missed", async (t) => {
  const backend = await openBackend({ type: "memory" });
  let isHeard = true;
  const deaf: Backend = {
    kind: backend.kind,
    get: (places) => backend.get(places),
    range: (space, partition, range) => backend.range(space, partition, range),
    count: (space) => backend.count(space),
    scan: (space) => backend.scan(space),
    commit: (change) => backend.commit(change),
    publish: (channel, message) => backend.publish(channel, message),
    subscribe: (channel, listener) => backend.subscribe(channel, (message) => void (isHeard && listener(message))),
    close: () => backend.close(),
  };
  const here = await directoryOn(t, backend);
  const there = await directoryOn(t, deaf);
  for (const name of ["one", "two", "three"]) await here.directory.add({ name });
  await until(() => there.names().length === 4);
  t.deepEqual(there.counts, { replaced: 1, changed: 3 });
  isHeard = false;
  await here.directory.ban("one", true);
  await here.directory.add({ name: "four" });
  await pause(20);
  isHeard = true;
  t.deepEqual(there.names(), ["configured", "one", "three", "two"]);
  await here.directory.remove("two");
  await until(() => !there.names().includes("one"));
  t.deepEqual(there.names(), ["configured", "four", "three"]);
  t.deepEqual(there.counts, { replaced: 2, changed: 3 });
  t.deepEqual(here.names(), there.names());
  t.deepEqual(here.counts.replaced, 1);

  // Nothing more is told, and it is found out all the same.
  const third = await directoryOn(t, deaf, 50);
  isHeard = false;
  await here.directory.ban("configured", true);
  await until(() => !third.names().includes("configured"));
  await pause(20);
  isHeard = true;
  await here.directory.ban("configured", false);
  await until(() => third.names().includes("configured") && there.names().includes("configured"));
});

test("a name or PSK identity is taken also by one that is banned", async (t) => {
  const { directory, names } = await directoryOn(t, await openBackend({ type: "memory" }));
  const psk = (identity: string) => ({ identity, key: Uint8Array.of(1) });
  await directory.add({ name: "a", psk: psk("a") });
  await t.throwsAsync(directory.add({ name: "b", psk: psk("a") }), { code: "DPE_SUBSCRIBER_EXISTS" });
  await directory.ban("a", true);
  await t.throwsAsync(directory.add({ name: "b", psk: psk("a") }), { code: "DPE_SUBSCRIBER_EXISTS" });
  await t.throwsAsync(directory.add({ name: "a" }), { code: "DPE_SUBSCRIBER_EXISTS" });
  await t.throwsAsync(directory.replace({ name: "a" }), { code: "DPE_SUBSCRIBER_BANNED" });
  await t.throwsAsync(directory.add({ name: "configured" }), { code: "DPE_SUBSCRIBER_EXISTS" });
  t.deepEqual(names(), ["configured"]);
  t.true(await directory.isAdded("a"));
  t.false(await directory.isAdded("configured"));
  await directory.remove("a");
  await directory.add({ name: "b", psk: psk("a") });
  // Many at once: each is there, and counted.
  await Promise.all(Array.from({ length: 50 }, (_, index) => directory.add({ name: `n${index}` })));
  t.is(names().length, 52);
});

test("what one subscriber costs does not grow with the fleet", async (t) => {
  const backend = await openBackend({ type: "memory" });
  const sets: NonNullable<Change["sets"]>[number][] = [];
  const store = await Store.on(backend);
  for (let index = 0; index < 3000; index++) {
    const name = `fleet-${index}`;
    const key = Buffer.from(name).toString("hex");
    sets.push({ space: "subscriber", partition: "", key, value: encodeRow({ name, certificates: [name] }) });
    const request = { endpoint: name, subscriber: name, lifetimeSeconds: 600, dpe2: { type: "association" } } as const;
    await store.registrations.register({ ...request, isQueueMode: false }, { records: [], server: "a" }, Date.now());
  }
  await backend.commit({ sets });
  let read = 0;
  const counting: Backend = {
    kind: backend.kind,
    get: (places) => {
      read += places.length;
      return backend.get(places);
    },
    range: async (space, partition, range) => {
      const entries = await backend.range(space, partition, range);
      read += entries.length;
      return entries;
    },
    count: (space) => backend.count(space),
    scan: (space) => backend.scan(space),
    commit: (change) => backend.commit(change),
    publish: (channel, message) => backend.publish(channel, message),
    subscribe: (channel, listener) => backend.subscribe(channel, listener),
    close: () => backend.close(),
  };
  const { server, events } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [certificate, psk]",
    credentials: `{ psk: [{ identity: x, key: "hex:00112233445566778899aabbccddeeff" }], ca: ${new URL("../../../test/fixtures/dtls/ca.pem", import.meta.url).pathname} }`,
    parts: { store: await Store.on(counting) },
  });
  const costOf = async (change: () => Promise<void>): Promise<number> => {
    read = 0;
    await change();
    return read;
  };
  const { directory } = server;
  t.true((await costOf(() => directory.add({ name: "new", certificates: ["new"] }))) < 20);
  t.true((await costOf(() => directory.replace({ name: "fleet-7", certificates: ["other"] }))) < 20);
  t.truthy(await server.store.registrations.ofEndpoint("fleet-7", Date.now()), "who changed is registered still");
  t.true((await costOf(() => directory.ban("fleet-8", true))) < 20);
  t.true((await costOf(() => directory.remove("fleet-9"))) < 20);
  for (const name of ["fleet-8", "fleet-9"])
    t.is(await server.store.registrations.ofEndpoint(name, Date.now()), undefined);
  t.truthy(await server.store.registrations.ofEndpoint("fleet-10", Date.now()));
  t.deepEqual(
    events.all.flatMap((event) => (event.type === "gone" ? [event.registration.endpoint] : [])),
    ["fleet-8", "fleet-9"],
  );
});

test("what the configuration says anew goes beside what was added", async (t) => {
  const { server } = await startServer(t, { dpe1: "connection: dtls, clientAuthentication: [digest]" });
  const names = async (): Promise<readonly string[]> => (await server.directory.list()).map(({ name }) => name);
  await server.directory.configure([{ name: "alice", password: new Secret(new TextEncoder().encode("one")) }]);
  t.deepEqual(await names(), ["alice"]);
  await server.directory.add({ name: "added" });
  await server.directory.configure([]);
  t.deepEqual(await names(), ["added"]);
});
