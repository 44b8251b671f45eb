import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "redis";
import type { SenmlRecord } from "#senml/index.js";
import { checkStore, Store, type StoreLocation, type StoreOptions } from "#store/index.js";
import { codeOf } from "#testing/code-of.js";
import { testWith } from "#testing/peer-process.js";
import { startRedis } from "#testing/redis-peer.js";
import test, { type ExecutionContext } from "ava";

const NOW = 1_800_000_000_000;
const reading = (name: string, timeSeconds: number, value: number): SenmlRecord => ({
  name,
  timeSeconds: NOW / 1000 + timeSeconds,
  value,
});
const request = (endpoint: string, lifetimeSeconds = 60) => ({
  endpoint,
  subscriber: "alice",
  lifetimeSeconds,
  dpe2: { type: "association" } as const,
  isQueueMode: false,
});
const of = (...records: SenmlRecord[]) => ({ records, server: "a" });

async function located(t: ExecutionContext, kind: StoreLocation["type"]): Promise<StoreLocation> {
  if (kind === "memory") return { type: kind };
  if (kind === "redis") return { type: kind, url: await startRedis(t) };
  const folder = mkdtempSync(join(tmpdir(), "dpe-reports-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return { type: kind, folder: join(folder, "store") };
}

for (const kind of ["memory", "lmdb", "redis"] as const) {
  /** `open` gives two servers on one database; what they wrote is checked at the end. */
  const on = (
    title: string,
    run: (t: ExecutionContext, open: (options?: StoreOptions) => Promise<readonly [Store, Store]>) => Promise<void>,
  ) => {
    const body = async (t: ExecutionContext): Promise<void> => {
      const location = await located(t, kind);
      await run(t, async (options) => {
        const first = await Store.open(location, options);
        t.teardown(() => first.close());
        const second = kind === "redis" ? await Store.open(location, options) : await Store.on(first.backend, options);
        if (kind === "redis") t.teardown(() => second.close());
        return [first, second];
      });
    };
    if (kind === "redis") testWith("redis", `${title} (${kind})`, body, test.serial);
    else test.serial(`${title} (${kind})`, body);
  };
  const isWhole = async (t: ExecutionContext, { backend }: Store): Promise<void> => {
    const faults: string[] = [];
    for await (const { invariant, message } of checkStore(backend)) faults.push(`${invariant} ${message}`);
    t.deepEqual(faults, []);
  };

  on("P1 P2 P4 R6 an endpoint that moves between servers loses nothing to what each remembers", async (t, open) => {
    const servers = await open();
    const [first, second] = servers;
    const { registration } = await first.registrations.register(request("pi-1"), of(reading("t", 1, 1)), NOW);
    for (let n = 2; n <= 20; n++) {
      const { registrations } = n % 3 === 0 ? second : first;
      const names = n % 2 === 0 ? ["t"] : ["t", "u"];
      const { added } = await registrations.report(
        registration.id,
        "alice",
        { records: names.map((name) => reading(name, n, n)), server: n % 3 === 0 ? "b" : "a" },
        NOW + n,
      );
      t.is(added.length, names.length);
    }
    // Sent again, to both: what is there already is known, whoever took it.
    for (const { registrations } of servers)
      t.deepEqual((await registrations.report(registration.id, "alice", of(reading("t", 9, 9)), NOW)).added, []);
    const history = await second.properties.history("pi-1", "t", {}, NOW);
    t.deepEqual(
      history.map(({ value }) => value),
      Array.from({ length: 20 }, (_, index) => index + 1),
    );
    t.deepEqual(
      (await first.properties.latest("pi-1")).map(({ value }) => value),
      [20, 19],
    );
    await isWhole(t, first);
  });

  on("R2 R3 R6 what another server did to a registration counts at once, though it was remembered", async (t, open) => {
    const [first, second] = await open();
    const { registration } = await first.registrations.register(request("pi-1"), of(), NOW);
    const report = (n: number, at: number) =>
      codeOf(first.registrations.report(registration.id, "alice", of(reading("t", n, n)), at));
    t.is(await report(1, NOW), "no failure");
    t.is(
      await codeOf(first.registrations.report(registration.id, "bob", of(reading("t", 1, 1)), NOW)),
      "DPE_UNKNOWN_REGISTRATION",
    );
    // Remembered as it expires, it was refreshed elsewhere meanwhile.
    await second.registrations.refresh(registration.id, "alice", { lifetimeSeconds: 600 }, of(), NOW + 1000);
    t.is(await report(2, NOW + 100_000), "no failure");
    t.is(await report(3, NOW + 700_000), "DPE_UNKNOWN_REGISTRATION");
    t.is(await report(3, NOW + 100_001), "no failure");
    await second.registrations.deregister(registration.id, "alice", NOW + 100_002);
    t.is(await report(4, NOW + 100_003), "DPE_UNKNOWN_REGISTRATION");
    const again = await second.registrations.register(request("pi-1"), of(), NOW + 100_004);
    t.is(await report(5, NOW + 100_005), "DPE_UNKNOWN_REGISTRATION");
    await first.registrations.report(again.registration.id, "alice", of(reading("t", 6, 6)), NOW + 100_006);
    t.true(await second.registrations.forget("pi-1"));
    t.is(
      await codeOf(first.registrations.report(again.registration.id, "alice", of(reading("t", 7, 7)), NOW + 100_007)),
      "DPE_UNKNOWN_REGISTRATION",
    );
    t.deepEqual(await first.properties.latest("pi-1"), []);
    await isWhole(t, first);
  });

  on("R6 reports that were missed are counted once, whichever server hears the endpoint", async (t, open) => {
    const servers = await open();
    const [first] = servers;
    const declared = { ...reading("t", 1, 1), updateTimeSeconds: 10 };
    const { registration } = await first.registrations.register(request("pi-1", 6000), of(declared), NOW);
    for (let n = 1; n <= 6; n++) {
      const at = NOW + n * 30_000;
      const { registrations } = servers[n % 2] ?? first;
      await registrations.report(registration.id, "alice", of(reading("t", n + 1, n)), at);
    }
    t.like((await first.registrations.device("pi-1", NOW + 180_000))?.heard, { missed: 12, at: NOW + 180_000 });
  });

  on("P1 P4 what comes at once for one endpoint is all kept, and the same of it once", async (t, open) => {
    const servers = await open({ limits: { maxKnownRows: 7 } });
    const [first] = servers;
    const ids: string[] = [];
    for (const endpoint of ["pi-1", "pi-2", "pi-3"])
      ids.push((await first.registrations.register(request(endpoint), of(), NOW)).registration.id);
    const reports = servers.flatMap(({ registrations }) =>
      ids.flatMap((id) =>
        Array.from({ length: 30 }, (_, n) =>
          registrations.report(id, "alice", of(reading("t", Math.floor(n / 2), Math.floor(n / 2))), NOW),
        ),
      ),
    );
    const added = (await Promise.all(reports)).reduce((sum, report) => sum + report.added.length, 0);
    t.is(added, 45);
    for (const endpoint of ["pi-1", "pi-2", "pi-3"])
      t.deepEqual(
        (await first.properties.history(endpoint, "t", {}, NOW)).map(({ value }) => value),
        Array.from({ length: 15 }, (_, index) => index),
      );
    await isWhole(t, first);
  });
}

testWith("redis", "B1 of a group that is written together, one that fails alone leaves the others whole", async (t) => {
  const url = await startRedis(t);
  const store = await Store.open({ type: "redis", url });
  const client = await createClient({ url }).connect();
  const ids: string[] = [];
  for (const endpoint of ["pi-1", "pi-2", "pi-3"])
    ids.push((await store.registrations.register(request(endpoint), of(), NOW)).registration.id);
  await client.set("dpe:h:history:pi-2\0t", "no hash");
  const outcomes = await Promise.all(
    ids.map((id) => codeOf(store.registrations.report(id, "alice", of(reading("t", 0, 1)), NOW))),
  );
  t.deepEqual(outcomes, ["no failure", "STORE_UNAVAILABLE", "no failure"]);
  for (const endpoint of ["pi-1", "pi-3"])
    t.is((await store.properties.history(endpoint, "t", {}, NOW)).length, 1, endpoint);
  client.destroy();
  await store.close();
});
