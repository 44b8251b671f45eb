import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import test from "ava";
import { writtenRow } from "#store/codec.js";
import { bytesOfLatest, keepTogether, recordOfLatest, writeLatest } from "#store/latest-state.js";
import { LmdbBackend } from "#store/lmdb-backend.js";

const folder = mkdtempSync(join(tmpdir(), "dpe-lmdb-memory-"));
const backend = new LmdbBackend(folder, { hasFsync: false });

test.after.always(async () => {
  await backend.close();
  rmSync(folder, { recursive: true });
});

test.serial("what was written stays where it is: short values do not move out of V8's heap for LMDB", async (t) => {
  const values = Array.from({ length: 5000 }, (_, index) =>
    Uint8Array.from({ length: VALUE_BYTES }, (__, at) => index >> at),
  );
  const before = arrayBytes();
  for (let from = 0; from < values.length; from += 500)
    await Promise.all(
      values
        .slice(from, from + 500)
        .map((value, index) =>
          backend.commit({ sets: [{ space: "meta", partition: "values", key: String(from + index), value }] }),
        ),
    );
  const grown = arrayBytes() - before;
  const all = values.length * VALUE_BYTES;
  // LMDB takes 64 kB for its instructions, and then 64 more.
  t.true(grown < all / 2, `${grown} bytes outside of the heap, while values of ${all} bytes are kept in it`);
  const places = values.map((_, index) => ({ space: "meta", partition: "values", key: String(index) }) as const);
  t.deepEqual(await backend.get(places), values);
});

test.serial(
  "groups larger than the room for their values are written as they are, and so are those after them",
  async (t) => {
    const sizes = [10, 70_000, 0, 65_536, 1, 200_000, 64];
    for (const round of [1, 2]) {
      const sets = sizes.map((size, index) => ({
        space: "meta" as const,
        partition: `round ${round}`,
        key: String(index),
        value: Uint8Array.from({ length: size }, (_, at) => at * 7 + index + round),
      }));
      await Promise.all(sets.map((set) => backend.commit({ sets: [set] })));
      t.deepEqual(
        await backend.get(sets),
        sets.map(({ value }) => value),
      );
      const [first] = sets;
      t.true(await backend.commit({ deletes: first === undefined ? [] : [first], sets: sets.slice(1, 2) }));
      t.deepEqual(await backend.get(sets.slice(0, 2)), [undefined, sets[1]?.value]);
    }
  },
);

test("rows that are kept together have their bytes, and no more than those", (t) => {
  const rows = ["a", "bb", "ccc"].map((name) => ({
    record: { name, value: 1.5, timeSeconds: 1e9 },
    count: name.length,
  }));
  const states = rows.map((row) => [row.record.name, writeLatest(row)] as const);
  const written = writtenRow({ at: 1, server: "one", missed: 0 });
  const expected = new Map(states.map(([name, state]) => [name, Uint8Array.from(bytesOfLatest(state))]));
  const heardBytes = Uint8Array.from(written.bytes);
  const { heard, latest } = keepTogether(written, new Map(states));
  for (let count = 0; count < 2000; count++) writtenRow({ text: "what is written later" });
  t.deepEqual(Uint8Array.from(heard.bytes), heardBytes);
  t.deepEqual(new Map([...latest].map(([name, state]) => [name, Uint8Array.from(bytesOfLatest(state))])), expected);
  for (const { record, count } of rows) {
    const state = latest.get(record.name);
    t.is(state?.count, count);
    t.is(state?.timeSeconds, record.timeSeconds);
    t.deepEqual(state && recordOfLatest(state), record);
    t.is(state?.array.buffer, heard.bytes.buffer);
  }
  const bytes = [heardBytes, ...expected.values()].reduce((sum, { length }) => sum + length, 0);
  t.is(heard.bytes.buffer.byteLength, bytes);
});

/** V8 has arrays of up to 64 bytes in its heap. */
const VALUE_BYTES = 60;

/** Of live arrays outside of V8's heap. */
function arrayBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let pass = 0; pass < 3; pass++) collect();
  return process.memoryUsage().arrayBuffers;
}
