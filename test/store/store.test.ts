import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SenmlRecord } from "#senml/index.js";
import {
  type Backend,
  checkStore,
  exportStore,
  importStore,
  openBackend,
  Store,
  type StoreLocation,
  type StoreOptions,
  upgradeSchema,
} from "#store/index.js";
import { indexDevicesBySubscriber } from "#store/schema.js";
import { timeKey } from "#store/time-key.js";
import { codeOf } from "#testing/code-of.js";
import { startRedis } from "#testing/redis-peer.js";
import { testWith } from "#testing/peer-process.js";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";
import { open } from "lmdb";

const NOW = 1_800_000_000_000;
const reading = (name: string, timeSeconds: number, value: number): SenmlRecord => ({
  name,
  timeSeconds,
  value,
  unit: "Cel",
});
const request = (endpoint: string, subscriber: string | undefined = "alice", lifetimeSeconds = 60) => ({
  endpoint,
  subscriber,
  lifetimeSeconds,
  dpe2: { type: "association" } as const,
  isQueueMode: false,
});
const of = (...records: SenmlRecord[]) => ({ records, server: "a" });
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "dpe-store-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "store");
}

async function faultsOf(backend: Backend): Promise<string[]> {
  const faults: string[] = [];
  for await (const { invariant, message } of checkStore(backend)) faults.push(`${invariant} ${message}`);
  return faults;
}

const LOCATIONS = {
  memory: (): Promise<StoreLocation> => Promise.resolve({ type: "memory" }),
  lmdb: (t: ExecutionContext): Promise<StoreLocation> => Promise.resolve({ type: "lmdb", folder: folderOf(t) }),
  redis: async (): Promise<StoreLocation> => ({ type: "redis", url: await sharedRedis() }),
};

/** One Redis for all tests, each of which has a prefix of its own. */
let redis: Promise<string> | undefined;
const afterwards: (() => unknown)[] = [];
function sharedRedis(): Promise<string> {
  return (redis ??= startRedis({ teardown: (end) => void afterwards.push(end) }));
}
test.after.always(async () => {
  for (const end of afterwards.toReversed()) await end();
});

for (const kind of ["memory", "lmdb", "redis"] as const) {
  const on = (
    title: string,
    run: (t: ExecutionContext, open: (options?: StoreOptions) => Promise<Store>) => Promise<void>,
  ) => {
    const body = async (t: ExecutionContext): Promise<void> => {
      const location = await LOCATIONS[kind](t);
      const open: Store[] = [];
      await run(t, async (options) => {
        const store = await Store.open(location, { prefix: `${title}:`, ...options });
        open.push(store);
        return store;
      });
      for (const store of open) {
        t.deepEqual(await faultsOf(store.backend), []);
        await store.close();
      }
    };
    if (kind === "redis") testWith("redis", `${title} (${kind})`, body, test.serial);
    else test.serial(`${title} (${kind})`, body);
  };

  on("B1 B3 B4 a backend agrees with a sorted map, whatever is done to it", async (t, open) => {
    const { backend } = await open();
    const key = fc.constantFrom("a", "b", "ba", "c", "c.", "c-", "d");
    const place = fc.record({
      space: fc.constantFrom("heard" as const, "queue" as const),
      partition: fc.constantFrom("", "p", "pp"),
      key,
    });
    const value = fc.uint8Array({ maxLength: 3 });
    const change = fc.record({
      sets: fc.array(fc.tuple(place, value), { maxLength: 4 }),
      deletes: fc.array(place, { maxLength: 2 }),
      clears: fc.array(place, { maxLength: 1 }),
      check: fc.option(fc.tuple(place, fc.option(value, { nil: undefined })), { nil: undefined }),
    });
    const model = new Map<string, Uint8Array>();
    const nameOf = (one: { space: string; partition: string; key: string }) =>
      `${one.space} ${one.partition} ${one.key}`;
    await fc.assert(
      fc.asyncProperty(
        change,
        place,
        fc.boolean(),
        key,
        key,
        fc.integer({ min: 1, max: 4 }),
        async (given, at, isReverse, low, high, limit) => {
          const expected = given.check === undefined ? undefined : model.get(nameOf(given.check[0]));
          const holds =
            given.check === undefined ||
            (Buffer.from(expected ?? []).equals(Buffer.from(given.check[1] ?? [])) &&
              (expected === undefined) === (given.check[1] === undefined));
          const isApplied = await backend.commit({
            clears: given.clears,
            deletes: given.deletes,
            sets: given.sets.map(([one, bytesOf]) => ({ ...one, value: bytesOf })),
            ...(given.check === undefined ? {} : { checks: [{ ...given.check[0], value: given.check[1] }] }),
          });
          t.is(isApplied, holds);
          if (holds) {
            for (const one of given.clears)
              for (const name of model.keys())
                if (name.startsWith(`${one.space} ${one.partition} `)) model.delete(name);
            for (const one of given.deletes) model.delete(nameOf(one));
            for (const [one, bytesOf] of given.sets) model.set(nameOf(one), bytesOf);
          }
          const inside = [...model]
            .filter(([name]) => name.startsWith(`${at.space} ${at.partition} `))
            .map(([name, bytesOf]) => ({ key: name.split(" ")[2] ?? "", value: [...bytesOf] }))
            .filter((entry) => entry.key >= low && entry.key < high)
            .toSorted((one, other) => (one.key < other.key ? -1 : 1));
          const wanted = (isReverse ? inside.toReversed() : inside).slice(0, limit);
          const found = await backend.range(at.space, at.partition, { from: low, before: high, limit, isReverse });
          t.deepEqual(
            found.map((entry) => ({ key: entry.key, value: [...entry.value] })),
            wanted,
          );
          const after = await backend.range(at.space, at.partition, { after: low, limit: 10 });
          t.true(after.every((entry) => entry.key > low));
          const [got] = await backend.get([at]);
          t.deepEqual(
            got === undefined ? undefined : [...got],
            model.has(nameOf(at)) ? [...(model.get(nameOf(at)) ?? [])] : undefined,
          );
        },
      ),
      { numRuns: 60, seed: 7 },
    );
    const scanned: string[] = [];
    for await (const one of backend.scan("queue")) scanned.push(nameOf(one));
    t.deepEqual(scanned.toSorted(), [...model.keys()].filter((name) => name.startsWith("queue")).toSorted());
    await backend.commit({
      clears: ["", "p", "pp"].flatMap((partition) => [
        { space: "heard" as const, partition },
        { space: "queue" as const, partition },
      ]),
    });
  });

  on("B1 of many changes that expect the same, one is applied", async (t, open) => {
    const { backend } = await open();
    const place = { space: "meta", partition: "", key: "test" } as const;
    const outcomes = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        backend.commit({ checks: [{ ...place, value: undefined }], sets: [{ ...place, value: Uint8Array.of(index) }] }),
      ),
    );
    t.is(outcomes.filter(Boolean).length, 1);
  });

  on("R1 R2 R3 a name has one registration, which is its subscriber's until it ends", async (t, open) => {
    const { registrations, properties } = await open();
    const first = await registrations.register(request("pi-1"), of(reading("t", 1e9, 1)), NOW);
    const second = await registrations.register(request("pi-1"), of(), NOW + 1);
    t.is(second.replaced?.id, first.registration.id);
    t.is(await codeOf(registrations.report(first.registration.id, "alice", of(), NOW)), "DPE_UNKNOWN_REGISTRATION");
    t.is(await codeOf(registrations.register(request("pi-1", "bob"), of(), NOW)), "DPE_NAME_TAKEN");
    t.is(await codeOf(registrations.report(second.registration.id, "bob", of(), NOW)), "DPE_UNKNOWN_REGISTRATION");
    t.is(await codeOf(registrations.report(second.registration.id, undefined, of(), NOW)), "DPE_UNKNOWN_REGISTRATION");
    const { registration } = await registrations.report(second.registration.id, "alice", of(), NOW);
    t.is(registration.endpoint, "pi-1");

    const later = NOW + 60_002;
    t.is(await registrations.ofEndpoint("pi-1", later), undefined);
    t.like(await registrations.device("pi-1", later), { registration: undefined, ended: { cause: "expired" } });
    t.is(await codeOf(registrations.report(second.registration.id, "alice", of(), later)), "DPE_UNKNOWN_REGISTRATION");
    t.is((await properties.latest("pi-1")).length, 1);
    await registrations.register(request("pi-1", "bob"), of(), later);
    t.deepEqual(await properties.latest("pi-1"), []);
    t.deepEqual(await properties.history("pi-1", "t", {}, 1e12), []);
  });

  on("R4 R5 devices are bounded, expire, are remembered for a while and forgotten", async (t, open) => {
    const { registrations, properties } = await open({ limits: { maxRegistrations: 2, maxAgeMs: 1000 } });
    await registrations.register(request("pi-1"), of(reading("t", NOW / 1000, 1)), NOW);
    const { registration } = await registrations.register(request("pi-2"), of(), NOW);
    t.is(await codeOf(registrations.register(request("pi-3"), of(), NOW)), "DPE_TOO_MANY_REGISTRATIONS");
    await registrations.deregister(registration.id, "alice", NOW);
    await registrations.register(request("pi-3"), of(), NOW);
    t.is(await registrations.device("pi-2", NOW), undefined);
    t.is(await codeOf(registrations.register(request("x y"), of(), NOW)), "DPE_BAD_ENDPOINT_NAME");
    t.is(await codeOf(registrations.register(request("pi-4", "alice", 1), of(), NOW)), "DPE_LIFETIME_OUT_OF_RANGE");

    const ended = await registrations.sweep(NOW + 60_001);
    t.deepEqual(ended.map(({ endpoint }) => endpoint).toSorted(), ["pi-1", "pi-3"]);
    t.is(await registrations.count(), 2);
    t.deepEqual(await registrations.sweep(NOW + 61_500), []);
    t.is(await registrations.count(), 0);
    t.deepEqual(await properties.latest("pi-1"), []);
  });

  on("R5 a refresh moves the deadline, and pages list names in order", async (t, open) => {
    const { registrations } = await open();
    const { registration } = await registrations.register(request("b-1"), of(), NOW);
    for (const name of ["a-1", "b-2", "c-1"]) await registrations.register(request(name, undefined), of(), NOW);
    await registrations.refresh(registration.id, "alice", { lifetimeSeconds: 600 }, of(), NOW + 1000);
    t.deepEqual((await registrations.sweep(NOW + 60_001)).map(({ endpoint }) => endpoint).toSorted(), [
      "a-1",
      "b-2",
      "c-1",
    ]);
    t.is((await registrations.ofEndpoint("b-1", NOW + 60_001))?.expiresAt, NOW + 601_000);
    const names = async (page: object) =>
      (await registrations.page({ limit: 10, ...page }, NOW)).map(({ endpoint }) => endpoint);
    t.deepEqual(await names({ limit: 2 }), ["a-1", "b-1"]);
    t.deepEqual(await names({ after: "b-1" }), ["b-2", "c-1"]);
    t.deepEqual(await names({ prefix: "b-" }), ["b-1", "b-2"]);
    t.deepEqual(await names({ prefix: "b-", after: "b-1" }), ["b-2"]);
  });

  on(
    "P1 P2 P3 a report sent twice is kept once, in the order of time, and a late one replaces nothing",
    async (t, open) => {
      const store = await open();
      const { registrations, properties } = store;
      const { registration } = await registrations.register(request("pi-1"), of(reading("t", 10, 1)), NOW);
      const send = (...records: SenmlRecord[]) => registrations.report(registration.id, "alice", of(...records), NOW);
      t.is((await send(reading("t", 20, 2), reading("t", 30, 3))).added.length, 2);
      t.is((await send(reading("t", 20, 2), reading("t", 30, 3))).added.length, 0);
      t.is((await send(reading("t", 25, 2.5), reading("t", 30, 3))).added.length, 1);
      const past = { fromSeconds: -Infinity };
      const history = await properties.history("pi-1", "t", past, 1000);
      t.deepEqual(
        history.map(({ timeSeconds, value }) => [timeSeconds, value]),
        [
          [10, 1],
          [20, 2],
          [25, 2.5],
          [30, 3],
        ],
      );
      t.deepEqual(await properties.latest("pi-1"), [reading("t", 30, 3)]);
      t.deepEqual(
        (await properties.history("pi-1", "t", { fromSeconds: 20, untilSeconds: 30 }, 1000)).map(({ value }) => value),
        [2, 2.5],
      );
      t.deepEqual(
        (await properties.history("pi-1", "t", { limit: 1 }, 1000)).map(({ value }) => value),
        [3],
      );
      await Promise.all(Array.from({ length: 20 }, (_, index) => send(reading("t", NOW / 1000 + index, index))));
      t.is((await properties.history("pi-1", "t", {}, NOW)).length, 20);
    },
  );

  on("P4 P5 history is bounded by count and age, properties by number", async (t, open) => {
    const { registrations, properties, backend } = await open({
      limits: { maxValues: 20, maxProperties: 3, maxAgeMs: 100_000 },
    });
    const { registration } = await registrations.register(request("pi-1"), of(), NOW);
    const send = (...records: SenmlRecord[]) => registrations.report(registration.id, "alice", of(...records), NOW);
    const start = NOW / 1000;
    for (let index = 0; index < 60; index++) await send(reading("t", start - 60 + index, index));
    const kept = await backend.range("history", "pi-1\0t", { limit: 1000 });
    t.true(kept.length >= 20 && kept.length <= 22, `${kept.length} kept`);
    const history = await properties.history("pi-1", "t", {}, NOW);
    t.deepEqual(
      history.map(({ value }) => value),
      Array.from({ length: 20 }, (_, index) => 40 + index),
    );
    t.is((await properties.history("pi-1", "t", {}, NOW + 90_000)).length, 10);
    await send(...Array.from({ length: 200 }, (_, index) => reading("many", start + index, index)));
    t.is((await properties.history("pi-1", "many", {}, NOW)).length, 20);
    await send(reading("a", start, 1));
    t.is(await codeOf(send(reading("b", start, 1))), "DPE_TOO_MANY_PROPERTIES");
    t.is((await properties.latest("pi-1")).length, 3);
  });

  on("R6 missed reports are counted against the interval that was declared", async (t, open) => {
    const { registrations } = await open();
    const at = (seconds: number) => NOW + seconds * 1000;
    const declared = { ...reading("t", 10, 1), updateTimeSeconds: 10 };
    const { registration } = await registrations.register(request("pi-1"), of(declared), at(0));
    const overdue = async (seconds: number) => (await registrations.device("pi-1", at(seconds)))?.overdue;
    t.is(await overdue(11), 0);
    t.is(await overdue(26), 2);
    await registrations.report(registration.id, "alice", of(), at(36));
    t.is(await overdue(37), 0);
    t.like((await registrations.device("pi-1", at(37)))?.heard, { missed: 3, at: at(36), intervalSeconds: 10 });
  });

  on("R6 what is no interval counts nothing as missed, and takes the place of none", async (t, open) => {
    const { registrations } = await open();
    const declaring = (...seconds: number[]) =>
      of(...seconds.map((updateTimeSeconds, index) => ({ ...reading(`t${index}`, 10, 1), updateTimeSeconds })));
    const odd = [5e-324, -10, 0];
    const { registration } = await registrations.register(request("pi-1"), declaring(...odd), NOW);
    t.like(await registrations.device("pi-1", NOW + 1000), { overdue: 0 });
    await registrations.report(registration.id, "alice", declaring(...odd, 10), NOW + 1000);
    const device = await registrations.device("pi-1", NOW + 27_000);
    t.like(device, { overdue: 2, heard: { missed: 0, intervalSeconds: 10 } });
  });

  on("S1 S2 S3 subscribers are kept, banned and removed, and each change is counted", async (t, open) => {
    const { subscribers } = await open();
    const row = { name: "älice x", digest: { realm: "r", ha1: { "SHA-256": Uint8Array.of(1, 2) } } };
    t.is(await subscribers.version(), 0);
    t.is(await subscribers.add(row), 1);
    t.is(await subscribers.add(row), undefined);
    t.is(await subscribers.change(row.name, (one) => ({ ...one, isBanned: true })), 2);
    t.true((await subscribers.named(row.name))?.isBanned);
    const [kept] = await subscribers.list();
    t.true(kept?.isBanned);
    t.deepEqual([...(kept?.digest?.ha1["SHA-256"] ?? [])], [1, 2]);
    t.is(await subscribers.remove(row.name), 3);
    t.is(await subscribers.remove(row.name), undefined);
    t.is(await subscribers.change(row.name, (one) => one), undefined);
    t.is(await subscribers.version(), 3);
  });

  on(
    "R7 a subscriber's devices are found without looking at all others, whoever had the name before",
    async (t, open) => {
      const { registrations, backend } = await open();
      for (const name of ["pi-1", "pi-2", "pi-3"]) await registrations.register(request(name), of(), NOW);
      await registrations.register(request("pi-4", "bob"), of(), NOW);
      await registrations.register({ ...request("open"), subscriber: undefined }, of(), NOW);
      const namesOf = async (subscriber: string, now = NOW): Promise<string[]> => {
        const found: string[] = [];
        for (let after: string | undefined; ;) {
          const page = { ...(after === undefined ? {} : { after }), limit: 2 };
          const { registrations: some, next } = await registrations.ofSubscriber(subscriber, page, now);
          found.push(...some.map(({ endpoint }) => endpoint));
          if (next === undefined) return found;
          after = next;
        }
      };
      t.deepEqual(await namesOf("alice"), ["pi-1", "pi-2", "pi-3"]);
      t.deepEqual(await namesOf("bob"), ["pi-4"]);
      t.deepEqual(await namesOf("carol"), []);
      // Ended: not among the registrations, and the name may go to another.
      t.deepEqual(await namesOf("alice", NOW + 61_000), []);
      await registrations.register(request("pi-2", "bob"), of(), NOW + 61_000);
      t.deepEqual(await namesOf("bob", NOW + 61_000), ["pi-2"]);
      await registrations.register(request("pi-1"), of(), NOW + 61_000);
      t.true(await registrations.forget("pi-3"));
      t.deepEqual(await namesOf("alice", NOW + 61_000), ["pi-1"]);
      t.deepEqual(await faultsOf(backend), []);

      // A store of before there was such an index gets it when it is opened.
      await backend.commit({
        clears: ["alice", "bob"].map((name) => ({ space: "owned", partition: Buffer.from(name).toString("hex") })),
        sets: [{ space: "owned", partition: "636172", key: "pi-1", value: new Uint8Array(0) }],
      });
      t.is((await faultsOf(backend)).filter((fault) => fault.startsWith("R7")).length, 4);
      await backend.commit({ clears: [{ space: "owned", partition: "636172" }] });
      await indexDevicesBySubscriber(backend);
      t.deepEqual(await faultsOf(backend), []);
    },
  );

  on("Q1 Q2 requests wait, bounded, are claimed once, answered or expire", async (t, open) => {
    const { requests } = await open({ limits: { maxQueuedRequests: 2 } });
    t.truthy(await requests.add("pi-1", "1", ["t"], NOW, 1000));
    t.truthy(await requests.add("pi-1", "2", [], NOW, 5000));
    t.is(await requests.add("pi-1", "3", [], NOW, 1000), undefined);
    const claimed = await Promise.all([
      requests.claim("pi-1", NOW),
      requests.claim("pi-1", NOW),
      requests.claim("pi-1", NOW),
    ]);
    t.deepEqual(
      claimed.flatMap((one) => one?.id ?? []).toSorted((a, b) => (a < b ? -1 : 1)),
      ["1", "2"],
    );
    const first = claimed.find((one) => one?.id === "1");
    await requests.settle(first!, { state: "answered", records: [reading("t", 1, 1)] });
    t.deepEqual(
      (await requests.list("pi-1", NOW + 6000)).map(({ state }) => state),
      ["answered", "expired"],
    );
    t.truthy(await requests.add("pi-1", "4", [], NOW, 1000));
    t.deepEqual(
      (await requests.list("pi-1", NOW)).map(({ id }) => id),
      ["2", "4"],
    );
  });

  on("A1 A2 the audit log is bounded, and a flood is told of in one event a minute", async (t, open) => {
    const { audit, backend } = await open({ limits: { maxAuditEvents: 100, maxAuditPerSecond: 10 } });
    for (let second = 0; second < 20; second++)
      for (let n = 0; n < 12; n++) await audit.append({ type: n % 2 === 0 ? "even" : "odd", n }, NOW + second * 1000);
    t.true((await backend.count("audit")) <= 60);
    const newest = await audit.page({ limit: 5 });
    t.deepEqual(
      newest.map(({ event }) => event["n"]),
      [9, 8, 7, 6, 5],
    );
    t.deepEqual(await audit.page({ limit: 1, type: "suppressed" }), [], "it was told of at first, and made way since");
    await audit.append({ type: "even", n: 0 }, NOW + 90_000);
    const [suppressed] = await audit.page({ limit: 1, type: "suppressed" });
    t.like(suppressed?.event, { count: 2 * 19 });
    const older = await audit.page({ limit: 2, before: newest.at(-1)!.key, type: "even" });
    t.deepEqual(
      older.map(({ event }) => event["n"]),
      [4, 2],
    );
  });

  on(
    "A3 what nobody authenticated displaces no change, and one address not the failures of others",
    async (t, open) => {
      const { audit, backend } = await open({ limits: { maxAuditEvents: 200, maxAuditPerSecond: 40 } });
      await audit.append({ type: "subscriber-added", name: "bob" }, NOW);
      await audit.append({ type: "authentication", n: -1 }, NOW, { isProven: false, name: "192.0.2.7" });
      for (let n = 0; n < 4000; n++) {
        const source = { isProven: false, name: "198.51.100.1" };
        await audit.append({ type: "authentication", n }, NOW + n * 10, source);
      }
      await audit.append({ type: "subscriber-banned", name: "bob" }, NOW + 39_990);
      t.deepEqual(
        (await audit.page({ limit: 200 }))
          .filter(({ event }) => event["n"] === undefined || event["n"] === -1)
          .map(({ event }) => event.type),
        ["subscriber-banned", "suppressed", "authentication", "subscriber-added"],
      );
      t.true((await backend.count("unproven")) <= 110);
      await audit.append({ type: "authentication", n: -2 }, NOW + 70_000, { isProven: false, name: "192.0.2.7" });
      const suppressed = await audit.page({ limit: 10, type: "suppressed" });
      t.true(suppressed.every(({ event }) => event["peer"] === "198.51.100.1"));
      // 50 at once, and one in 5 s.
      const counts = suppressed.map(({ event }) => Number(event["count"]));
      t.is(
        counts.reduce((sum, count) => sum + count, 0),
        4000 - 50 - 7,
      );
      for (let n = 0; n < 200; n++)
        await audit.append({ type: "renewed", n }, NOW + 80_000 + n * 50, { isProven: true, name: "carol" });
      t.is(
        (await audit.page({ limit: 200, type: "renewed" })).length,
        51,
        "a device that misbehaves is no flood either",
      );
      t.is((await audit.page({ limit: 1, type: "subscriber-added" })).length, 1);
    },
  );

  on("O1 O2 new readings stand in the outbox until they are forwarded, by one server", async (t, open) => {
    const { registrations, outbox } = await open({ hasOutbox: true, limits: { maxOutbox: 2 } });
    const { registration } = await registrations.register(request("pi-1"), of(reading("t", 1, 1)), NOW);
    await registrations.report(registration.id, "alice", of(reading("t", 1, 1)), NOW);
    for (const n of [2, 3]) await registrations.report(registration.id, "alice", of(reading("t", n, n)), NOW);
    t.is(await outbox.trim(), 1);
    const waiting = await outbox.next(10);
    t.deepEqual(
      waiting.map(({ records }) => records[0]?.value),
      [2, 3],
    );
    await outbox.forwarded([waiting[0]!.key]);
    t.is(await outbox.count(), 1);
    t.true(await outbox.lease("a", NOW, 1000));
    t.false(await outbox.lease("b", NOW + 999, 1000));
    t.true(await outbox.lease("a", NOW + 999, 1000));
    t.true(await outbox.lease("b", NOW + 2000, 1000));
    t.false(await outbox.lease("a", NOW - 30_000, 1000), "clocks differ");
    t.true(await outbox.lease("a", NOW - 3_600_000, 1000), "b's clock was an hour ahead when it took it");
  });

  on("an export fills another store, of another kind too, and tells of a broken one", async (t, open) => {
    const store = await open();
    const { registration } = await store.registrations.register(
      request("pi-1"),
      of(reading("t", 1, 1), { name: "raw", timeSeconds: 2, value: Uint8Array.of(0, 255) }),
      NOW,
    );
    await store.subscribers.add({ name: "bob", psk: { identity: "b", key: Uint8Array.of(9) } });
    const lines: string[] = [];
    for await (const line of exportStore(store.backend)) lines.push(line);
    const from = async function* (given: readonly string[]) {
      yield* given;
    };
    const other = await openBackend(kind === "memory" ? { type: "lmdb", folder: folderOf(t) } : { type: "memory" });
    t.is(await importStore(other, from(lines)), lines.length - 2);
    t.deepEqual(await faultsOf(other), []);
    const again: string[] = [];
    for await (const line of exportStore(other)) again.push(line);
    t.deepEqual(again.toSorted(), lines.toSorted());
    t.is(await codeOf(importStore(other, from(lines))), "STORE_NOT_EMPTY");
    const copy = await Store.on(other);
    t.is((await copy.registrations.report(registration.id, "alice", of(), NOW)).registration.endpoint, "pi-1");
    await copy.close();
    const half = await openBackend({ type: "memory" });
    t.is(await codeOf(importStore(half, from(lines.slice(0, -1)))), "STORE_CORRUPT");
    t.is(await codeOf(importStore(half, from(["{}"]))), "STORE_CORRUPT");
  });

  on("P1 P2 a reading that is ahead of time is kept once, and is the latest until another comes", async (t, open) => {
    const { backend, registrations, properties } = await open();
    const now = NOW / 1000;
    const { registration } = await registrations.register(request("pi-1"), of(reading("t", now - 60, 1)), NOW);
    const send = async (...records: SenmlRecord[]) =>
      (await registrations.report(registration.id, "alice", of(...records), NOW)).added.length;
    const latest = async () => (await properties.latest("pi-1")).map(({ value }) => value);
    const wrong = reading("t", now + 1e9, 2);
    t.is(await send(wrong), 1);
    t.deepEqual(await latest(), [1], "another is there already");
    t.is(await send(reading("u", now + 1e9, 5)), 1);
    t.is(await send(reading("u", now - 30, 6)), 1);
    t.deepEqual(await latest(), [1, 6], "it has made way");
    t.is(await send(wrong, reading("u", now + 1e9, 5)), 0, "sent again");
    t.is(await send(reading("t", now + 3600, 3)), 1, "clocks differ by an hour or two");
    t.is(await send(reading("t", now, 4)), 1);
    t.deepEqual(await latest(), [3, 6]);
    t.deepEqual(
      (await properties.history("pi-1", "t", {}, NOW)).map(({ value }) => value),
      [1, 4, 3, 2],
    );
    t.deepEqual(await faultsOf(backend), []);
  });

  on("the check finds each kind of fault by its invariant", async (t, open) => {
    const { backend, registrations } = await open();
    await registrations.register(request("pi-1"), of(reading("t", 1, 1)), NOW);
    const [deadline] = await backend.range("deadline", "registered", { limit: 1 });
    const undo = {
      sets: [{ space: "deadline", partition: "registered", key: deadline!.key, value: new Uint8Array(0) }],
    } as const;
    await backend.commit({
      deletes: [{ space: "deadline", partition: "registered", key: deadline!.key }],
      sets: [
        { space: "registration", partition: "", key: "stray", value: bytes("pi-1") },
        { space: "history", partition: "pi-1\0t", key: timeKey(2), value: Uint8Array.of(0xa0) },
        { space: "latest", partition: "pi-1", key: "bad", value: Uint8Array.of(0xff) },
      ],
    });
    const faults = await faultsOf(backend);
    t.deepEqual(
      faults.map((one) => one.split(" ")[0] ?? "").toSorted((a, b) => (a < b ? -1 : 1)),
      ["P2", "P4", "R1", "R5", "bytes"],
    );
    await backend.commit({
      ...undo,
      deletes: [
        { space: "registration", partition: "", key: "stray" },
        { space: "history", partition: "pi-1\0t", key: timeKey(2) },
        { space: "latest", partition: "pi-1", key: "bad" },
      ],
    });
  });

  on("a schema is upgraded step by step, also when a step was interrupted; a newer one is refused", async (t, open) => {
    const { backend } = await open();
    const ran: string[] = [];
    let fails = true;
    const steps = [
      () => Promise.reject(new Error("it was done before")),
      () => Promise.resolve(void ran.push("one")),
      () => (fails ? Promise.reject(new Error("interrupted")) : Promise.resolve(void ran.push("two"))),
    ];
    await t.throwsAsync(upgradeSchema(backend, steps), { message: "interrupted" });
    fails = false;
    t.deepEqual(await upgradeSchema(backend, steps), { from: 3, to: 4 });
    t.deepEqual(ran, ["one", "two"]);
    t.is(await codeOf(upgradeSchema(backend, [])), "STORE_NEWER_SCHEMA");
  });
}

test("B2 LMDB keeps what was acknowledged, for its owner alone, and refuses a second writer", async (t) => {
  const folder = folderOf(t);
  const store = await Store.open({ type: "lmdb", folder });
  await store.registrations.register(request("pi-1"), of(reading("t", 1, 1)), NOW);
  for (const name of ["data.mdb", "lock.mdb", "owner"]) t.is(statSync(join(folder, name)).mode & 0o777, 0o600);
  t.is(statSync(folder).mode & 0o777, 0o700);
  t.is(await codeOf(Store.open({ type: "lmdb", folder })), "STORE_IN_USE");
  const reader = await openBackend({ type: "lmdb", folder }, { isReader: true });
  t.deepEqual(await faultsOf(reader), []);
  await reader.close();
  await store.close();
  // As an older version left one, which knew fewer spaces.
  const older = folderOf(t);
  await open({ path: older, maxDbs: 1, noSubdir: false }).close();
  const olderReader = await openBackend({ type: "lmdb", folder: older }, { isReader: true });
  const found: string[] = [];
  for await (const { key } of olderReader.scan("unproven")) found.push(key);
  t.deepEqual(found, []);
  await olderReader.close();
  writeFileSync(join(folder, "owner"), `${process.pid} another-boot:1\n`);
  const again = await Store.open({ type: "lmdb", folder });
  t.is((await again.registrations.ofEndpoint("pi-1", NOW))?.subscriber, "alice");
  await again.close();
  const file = folderOf(t);
  writeFileSync(file, "no folder");
  t.is(await codeOf(Store.open({ type: "lmdb", folder: file })), "STORE_UNAVAILABLE");
});

testWith("redis", "B2 a Redis that would forget is refused, unless that is asked for", async (t) => {
  const url = await startRedis(t, "--appendonly", "no");
  t.is(await codeOf(Store.open({ type: "redis", url })), "STORE_NOT_DURABLE");
  await (await Store.open({ type: "redis", url }, { dangerVolatile: true })).close();
  t.is(await codeOf(Store.open({ type: "redis", url: "redis://127.0.0.1:1" })), "STORE_UNAVAILABLE");
});

testWith(
  "redis",
  "two stores on one Redis hear each other's messages, and those of another fleet do not",
  async (t) => {
    const url = await startRedis(t);
    const [one, two, other] = await Promise.all([
      Store.open({ type: "redis", url }),
      Store.open({ type: "redis", url }),
      Store.open({ type: "redis", url }, { prefix: "other:" }),
    ]);
    let isHeardElsewhere = false;
    await other.backend.subscribe("c", () => (isHeardElsewhere = true));
    const heard = new Promise<string>((resolve) => {
      void two.backend
        .subscribe("c", (message) => resolve(new TextDecoder().decode(message)))
        .then(() => one.backend.publish("c", () => bytes("hello")));
    });
    t.is(await heard, "hello");
    t.false(isHeardElsewhere);
    await one.registrations.register(request("pi-1"), of(), NOW);
    t.truthy(await two.registrations.ofEndpoint("pi-1", NOW));
    t.is(await other.registrations.ofEndpoint("pi-1", NOW), undefined);
    await Promise.all([one.close(), two.close(), other.close()]);
  },
);
