import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodePack } from "#senml/index.js";
import { Journal } from "#store/index.js";
import { DeviceClock, type ClockSource } from "#agent/queue/device-clock.js";
import { type Importance, Outbox, type OutboxStore, type QueuedReading } from "#agent/queue/outbox.js";
import { outboxJournal } from "#agent/queue/outbox-journal.js";
import { nextBatch } from "#agent/queue/report-batch.js";
import { until } from "#testing/until.js";
import test from "ava";

const TRUE_NOW = Date.UTC(2026, 10, 24, 12);

class FakeClock implements ClockSource {
  bootId = "boot-1";
  uptime = 60_000;
  wall = TRUE_NOW;
  synchronized = false;
  uptimeMs = (): number => this.uptime;
  wallMs = (): number => this.wall;
  isSynchronized = (): boolean => this.synchronized;

  pass(ms: number): void {
    this.uptime += ms;
    this.wall += ms;
  }
}

const reading = (name: string, importance: Importance = "normal", stamp = new FakeClock()): QueuedReading => ({
  name,
  value: 1,
  importance,
  stamp: { bootId: stamp.bootId, uptimeMs: stamp.uptime, wallMs: stamp.wall },
});

const namesOf = (outbox: Outbox): string[] => outbox.oldest(1000).map(([, { name }]) => name);

test("a reading taken before the clock was set is dated right once it is", (t) => {
  const source = new FakeClock();
  source.wall = 1000; // 1970, as a Pi without network has it.
  const clock = new DeviceClock(source);
  t.false(clock.learn());
  const stamp = clock.stamp();
  source.pass(30_000);
  t.is(clock.timeSeconds(stamp), -30, "relative to now while the wall clock is wrong");
  source.wall = TRUE_NOW;
  t.true(clock.learn());
  t.is(clock.timeSeconds(stamp), (TRUE_NOW - 30_000) / 1000);
  source.pass(10_000);
  t.is(clock.timeSeconds(stamp), (TRUE_NOW - 30_000) / 1000, "the same date each time");
});

test("a clock that is set back a year is not trusted, and readings are dated by the boot clock", (t) => {
  const source = new FakeClock();
  const clock = new DeviceClock(source);
  clock.learn();
  const later = new FakeClock();
  later.bootId = "boot-2";
  later.wall = TRUE_NOW - 365 * 86_400_000;
  const restarted = new DeviceClock(later, clock.known());
  t.false(restarted.learn());
  const stamp = restarted.stamp();
  later.pass(5000);
  t.is(restarted.timeSeconds(stamp), -5);
  later.synchronized = true;
  t.true(restarted.learn(), "unless a time service set it");
  t.is(restarted.timeSeconds(stamp), (later.wall - 5000) / 1000);
});

test("within one boot a clock set back does not move the dates", (t) => {
  const source = new FakeClock();
  const clock = new DeviceClock(source);
  clock.learn();
  source.wall -= 365 * 86_400_000;
  t.false(clock.learn());
  source.pass(1000);
  t.is(clock.timeSeconds(clock.stamp()), (TRUE_NOW + 1000) / 1000);
});

test("a reading of an earlier boot is dated by that boot's offset, learned after it was taken", (t) => {
  const source = new FakeClock();
  source.wall = 0;
  const clock = new DeviceClock(source);
  const stamp = clock.stamp();
  source.pass(2000);
  source.wall = TRUE_NOW;
  clock.learn();
  const next = new FakeClock();
  next.bootId = "boot-2";
  const restarted = new DeviceClock(next, clock.known());
  t.is(restarted.timeSeconds(stamp), (TRUE_NOW - 2000) / 1000);
});

test("two readings of one moment have two times", (t) => {
  const clock = new DeviceClock(new FakeClock());
  clock.learn();
  const times = [clock.stamp(), clock.stamp(), clock.stamp()].map((stamp) => clock.timeSeconds(stamp));
  t.deepEqual(
    times,
    [0, 1, 2].map((ms) => (TRUE_NOW + ms) / 1000),
  );
});

test("a small drift of the wall clock leaves the dates as they are", (t) => {
  const source = new FakeClock();
  const clock = new DeviceClock(source);
  clock.learn();
  const stamp = clock.stamp();
  source.wall += 1500;
  clock.learn();
  t.is(clock.timeSeconds(stamp), TRUE_NOW / 1000);
});

test("a full outbox drops the oldest, or the oldest of the least important, and counts them", (t) => {
  const oldest = new Outbox({ limits: { maxReadings: 2 } });
  oldest.add([reading("a", "high"), reading("b", "low"), reading("c")]);
  t.deepEqual(namesOf(oldest), ["b", "c"]);
  t.is(oldest.dropped, 1);

  const least = new Outbox({ limits: { maxReadings: 2, dropFirst: "leastImportant" } });
  least.add([reading("a", "high"), reading("b", "low"), reading("c"), reading("d", "low")]);
  t.deepEqual(namesOf(least), ["a", "c"]);
  least.add([reading("e", "high")]);
  t.deepEqual(namesOf(least), ["a", "e"]);
  t.is(least.dropped, 3);
});

test("the copy on disk follows, and a disk that fails loses nothing in memory", async (t) => {
  const disk = new Map<number, QueuedReading>();
  let isBroken = false;
  const store: OutboxStore = {
    load: () => disk,
    knownTime: () => ({}),
    change: (added, removed) => {
      if (isBroken) return Promise.reject(new Error("ENOSPC"));
      for (const [id, value] of added) disk.set(id, value);
      for (const id of removed) disk.delete(id);
      return Promise.resolve();
    },
    rememberTime: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  const faults: unknown[] = [];
  const outbox = new Outbox({ store, onFault: (error) => faults.push(error) });
  outbox.add([reading("a")]);
  outbox.add([reading("b")]);
  t.deepEqual([...disk.keys()], [0, 1]);
  outbox.remove([0]);
  t.deepEqual([...disk.keys()], [1]);
  isBroken = true;
  outbox.add([reading("c")]);
  t.deepEqual(namesOf(outbox), ["b", "c"]);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(faults.length, 1);

  isBroken = false;
  const restarted = new Outbox({ store });
  restarted.add([reading("d")]);
  t.deepEqual(namesOf(restarted), ["b", "d"], "ids go on after those on disk");
});

test("what is acknowledged soon never comes to the disk; what waits does, and at once where more waits", async (t) => {
  t.timeout(20_000);
  const disk = new Map<number, QueuedReading>();
  let writings = 0;
  const outbox = new Outbox({
    store: {
      load: () => [],
      knownTime: () => ({}),
      change: (added, removed) => {
        writings += 1;
        for (const [id, value] of added) disk.set(id, value);
        for (const id of removed) disk.delete(id);
        return Promise.resolve();
      },
      rememberTime: () => Promise.resolve(),
      close: () => Promise.resolve(),
    },
  });
  for (let id = 0; id < 5; id++) {
    outbox.add([reading("a")]);
    outbox.remove([id]);
  }
  outbox.add([reading("b"), reading("c")]);
  outbox.remove([5]);
  t.is(writings, 0);
  await until(() => writings === 1);
  t.deepEqual([...disk.keys()], [6], "after some time what still waits");
  outbox.add([reading("d")]);
  t.deepEqual([...disk.keys()], [6, 7], "and then at once");
  outbox.remove([6, 7]);
  t.is(disk.size, 0);
  outbox.add([reading("e")]);
  await outbox.close();
  t.deepEqual([...disk.keys()], [8], "at the end all");
});

test("what an earlier version kept that no report can carry is dropped when it is loaded, and told once", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-outbox-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const kept = { name: "x", value: 1, importance: "normal", stamp: { bootId: "b", uptimeMs: 1, wallMs: 2 } } as const;
  const unusable = [
    { ...kept, value: "\ud800" },
    { ...kept, value: Infinity },
    { ...kept, name: "n".repeat(256) },
    { ...kept, unit: "\udc00" },
    { ...kept, importance: "urgent" },
    { ...kept, stamp: undefined },
    null,
  ];
  const journal = new Journal<unknown>(join(folder, "unsent.log"));
  await journal.change(
    [...unusable, { ...kept, name: "last" }].map((reading, id) => [id, reading]),
    [],
  );
  await journal.close();
  for (const damaged of [unusable.length, 0]) {
    const store = outboxJournal(folder);
    const outbox = new Outbox({ store });
    t.deepEqual(
      outbox.oldest(10).map(([, { name }]) => name),
      ["last"],
    );
    t.is(store.damagedLines, damaged);
    t.truthy(nextBatch(outbox, new DeviceClock(new FakeClock()), 1000));
    await outbox.close();
  }
});

test("a batch holds the oldest readings that fit, in order, with their times", (t) => {
  const outbox = new Outbox();
  t.is(nextBatch(outbox, new DeviceClock(new FakeClock()), 200), undefined);
  const source = new FakeClock();
  const clock = new DeviceClock(source);
  clock.learn();
  for (let index = 0; index < 300; index++) outbox.add([reading(`sensor/${index}`, "normal", source)]);
  const seen: string[] = [];
  for (;;) {
    const batch = nextBatch(outbox, clock, 200);
    if (batch === undefined) break;
    t.true(batch.payload.length <= 200);
    const records = decodePack(batch.payload, "cbor", 0);
    t.deepEqual(
      records.map(({ name }) => name),
      batch.names,
    );
    t.is(records[0]?.timeSeconds, TRUE_NOW / 1000);
    seen.push(...batch.names);
    outbox.remove(batch.ids);
  }
  t.deepEqual(
    seen,
    Array.from({ length: 300 }, (_, index) => `sensor/${index}`),
  );
});

test("a single reading that is longer than a batch goes alone", (t) => {
  const outbox = new Outbox();
  outbox.add([{ ...reading("long"), value: "x".repeat(500) }, reading("short")]);
  t.deepEqual(nextBatch(outbox, new DeviceClock(new FakeClock()), 200)?.names, ["long"]);
});
