import type { Change } from "#store/index.js";
import { GroupCommit, type WriteGroup } from "#store/group-commit.js";
import { until } from "#testing/until.js";
import test from "ava";

/** A change that is known by its key. */
const change = (key: string): Change => ({ deletes: [{ space: "meta", partition: "", key }] });
const keysOf = (changes: readonly Change[]): string =>
  changes.map(({ deletes = [] }) => deletes[0]?.key ?? "").join("");

/** Notes each group, and writes it when it is told to. */
function scripted(maxChanges: number) {
  const groups: string[] = [];
  let release: () => void = () => undefined;
  const write: WriteGroup = async (changes) => {
    groups.push(keysOf(changes));
    await new Promise<void>((resolve) => (release = resolve));
    return changes.map(() => true);
  };
  return { groups, commit: new GroupCommit(write, maxChanges), release: () => release() };
}

test("G1 what comes while a group is written is the next one, in order, and no larger than it may be", async (t) => {
  const { groups, commit, release } = scripted(3);
  const first = commit.commit(change("a"));
  await until(() => groups.length === 1);
  const others = "bcdefgh".split("").map((key) => commit.commit(change(key)));
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.deepEqual(groups, ["a"], "one group at a time");
  for (let count = 2; count <= 4; count++) {
    release();
    await until(() => groups.length === count);
  }
  release();
  t.deepEqual(
    await Promise.all([first, ...others]),
    Array.from({ length: 8 }, () => true),
  );
  t.deepEqual(groups, ["a", "bcd", "efg", "h"]);
  await commit.settled();
});

test("G2 what fails alone is told to its change, what the group fails with to all of it; the next group goes on", async (t) => {
  const alone = new Error("alone");
  const all = new Error("all");
  const groups: string[] = [];
  const commit = new GroupCommit((changes) => {
    groups.push(keysOf(changes));
    if (groups.length === 2) return Promise.reject(all);
    return Promise.resolve(changes.map((_, index) => (index === 1 ? alone : index === 0)));
  }, 3);
  const outcomes = await Promise.allSettled("abcdefg".split("").map((key) => commit.commit(change(key))));
  t.deepEqual(
    outcomes.map((outcome) => (outcome.status === "fulfilled" ? outcome.value : (outcome.reason as Error))),
    [true, alone, false, all, all, all, true],
  );
  t.deepEqual(groups, ["abc", "def", "g"]);
});

test("one after the other is written at once each; where much comes, a group gathers though the disk is fast", async (t) => {
  const groups: string[] = [];
  const write: WriteGroup = (changes) => {
    groups.push(keysOf(changes));
    return Promise.resolve(changes.map(() => true));
  };
  const commit = new GroupCommit(write, 1000);
  for (const key of "abcdefgh") t.true(await commit.commit(change(key)));
  t.is(groups.length, 8);
  groups.length = 0;
  // Three in each turn of the event loop, of which there are a good many in a millisecond.
  const pending: Promise<boolean>[] = [];
  const begin = performance.now();
  let turns = 0;
  for (; performance.now() < begin + 100; turns++) {
    for (const key of "abc") pending.push(commit.commit(change(key)));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(pending);
  t.is(groups.join("").length, 3 * turns);
  t.true(groups.length <= turns / 2 || groups.length < 25, `${groups.length} groups in ${turns} turns`);
});
