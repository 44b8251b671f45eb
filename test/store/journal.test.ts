import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { crc32 } from "node:zlib";
import { Journal } from "#store/index.js";
import { withRoomFor } from "#testing/full-disk.js";
import test, { type ExecutionContext } from "ava";

function fileOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "dpe-journal-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "inner", "values.log");
}

function valuesOf(path: string): [number, string][] {
  return [...new Journal<string>(path).entries()];
}

test("invariant 1: what was acknowledged is there for whoever opens the file next, without a close", async (t) => {
  const path = fileOf(t);
  const journal = new Journal<string>(path);
  await Promise.all([journal.change([[1, "a"]], []), journal.change([[2, "b"]], []), journal.setNote("n", { x: 1 })]);
  await journal.change([[3, "c"]], [1]);
  t.deepEqual(valuesOf(path), [
    [2, "b"],
    [3, "c"],
  ]);
  t.deepEqual(new Journal(path).note("n"), { x: 1 });
  await journal.close();
});

test("invariant 2: a tail cut at any byte, or any byte changed, costs the changes that it stands in and no others", async (t) => {
  const path = fileOf(t);
  const journal = new Journal<string>(path);
  for (let number = 1; number <= 4; number++) await journal.change([[number, `value ${number}`]], []);
  await journal.close();
  const whole = readFileSync(path);
  const copy = `${path}.copy`;
  for (let length = 0; length <= whole.length; length++) {
    writeFileSync(copy, whole);
    truncateSync(copy, length);
    const found = valuesOf(copy);
    const complete = whole.subarray(0, length).toString().split("\n").slice(0, -1).length;
    t.is(found.length, Math.max(0, complete - 1), `cut at ${length}`);
  }
  for (let at = 0; at < whole.length; at++) {
    const damaged = Uint8Array.from(whole);
    damaged[at] = (damaged[at] ?? 0) ^ 0x04;
    writeFileSync(copy, damaged);
    const found = new Map(valuesOf(copy));
    for (const [number, value] of found) t.is(value, `value ${number}`);
    t.true(found.size >= 2, `changed at ${at}`);
  }
});

test("a damaged file is written anew with what is left, and what comes after is kept", async (t) => {
  const path = fileOf(t);
  const first = new Journal<string>(path);
  await first.change([[1, "a"]], []);
  await first.close();
  appendFileSync(path, "half a li");
  const second = new Journal<string>(path);
  t.is(second.damagedLines, 1);
  await second.change([[2, "b"]], []);
  await second.close();
  const third = new Journal<string>(path);
  t.is(third.damagedLines, 0);
  t.deepEqual(
    [...third.entries()],
    [
      [1, "a"],
      [2, "b"],
    ],
  );
});

test("invariant 2: a whole line of another form, as of a later version, costs that change only", async (t) => {
  const path = fileOf(t);
  const journal = new Journal<string>(path);
  await journal.change([[1, "a"]], []);
  await journal.close();
  const others: readonly unknown[] = [
    { a: 5 },
    { a: [["x", "b"]] },
    { a: [7] },
    { r: 1 },
    { n: null },
    null,
    [],
    "text",
  ];
  for (const other of others) {
    const json = JSON.stringify(other);
    appendFileSync(path, `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`);
  }
  const opened = new Journal<string>(path);
  t.deepEqual([...opened.entries()], [[1, "a"]]);
  // An empty list has nothing in it that would be wrong.
  t.is(opened.damagedLines, others.length - 1);
});

test("a file that somebody removes is there again, whole, with the next change", async (t) => {
  const path = fileOf(t);
  const journal = new Journal<string>(path);
  for (const number of [1, 2]) await journal.change([[number, `value ${number}`]], []);
  rmSync(dirname(path), { recursive: true });
  await journal.change([[3, "value 3"]], [1]);
  t.deepEqual(valuesOf(path), [
    [2, "value 2"],
    [3, "value 3"],
  ]);
  await journal.close();
});

test("invariant 3: after a failed write everything is written once the disk can be written again", async (t) => {
  const path = fileOf(t);
  const journal = new Journal<string>(path);
  await journal.change([[1, "a"]], []);
  // A folder in the way of the new file: no rewrite can succeed. The open file is closed by force first.
  await journal.close();
  rmSync(path);
  rmSync(join(path, ".."), { recursive: true });
  await t.throwsAsync(journal.change([[2, "b"]], []), { code: "ENOENT" });
  new Journal(path);
  await journal.change([[3, "c"]], []);
  t.deepEqual(valuesOf(path), [
    [1, "a"],
    [2, "b"],
    [3, "c"],
  ]);
  await journal.close();
});

test("invariant 1: what a disk that fills up takes a part of is not acknowledged", (t) => {
  const path = fileOf(t);
  const acknowledged = withRoomFor(
    8,
    `import { Journal } from "#store/index.js";
    const journal = new Journal(${JSON.stringify(path)});
    for (let number = 0; number < 12; number++)
      await journal.change([[number, "x".repeat(997)]], []).then(() => console.log(number), () => undefined);
    process.exit();`,
  );
  const numbers = acknowledged.trim().split("\n").map(Number);
  t.true(numbers.length > 4 && numbers.length < 12);
  t.deepEqual(
    valuesOf(path).map(([number]) => number),
    numbers,
  );
});

test("invariant 4: the file is its owner's alone, and does not grow with what was removed", async (t) => {
  const path = fileOf(t);
  const journal = new Journal<string>(path);
  const text = "x".repeat(8000);
  for (let number = 0; number < 250; number++) await journal.change([[number, text]], number > 4 ? [number - 5] : []);
  t.is(statSync(path).mode & 0o777, 0o600);
  t.true(statSync(path).size < 300_000);
  t.is(valuesOf(path).length, 5);
  await journal.close();
});
