import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { LockFile, readKeyFile, replaceFile } from "#files/index.js";
import { withRoomFor } from "#testing/full-disk.js";
import test, { type ExecutionContext } from "ava";

function folderOf(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), "dpe-files-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test("a file is exchanged whole, with its mode; a disk that fills up leaves it as it was", (t) => {
  const folder = folderOf(t);
  const path = join(folder, "device.pem");
  writeFileSync(path, "old", { mode: 0o640 });
  replaceFile(path, "a key");
  t.is(statSync(path).mode & 0o777, 0o640);
  const said = withRoomFor(
    8,
    `import { replaceFile } from "#files/index.js";
    try { replaceFile(${JSON.stringify(path)}, "x".repeat(20000)); console.log("done"); }
    catch (error) { console.log(error.code); }`,
  );
  t.is(said, "EFBIG\n");
  t.is(readFileSync(path, "utf8"), "a key");
  t.deepEqual(readdirSync(folder), ["device.pem"]);
});

test("a key is made whole or not at all, is its owner's alone, and stays the same", (t) => {
  const folder = folderOf(t);
  const path = join(folder, "key");
  const said = withRoomFor(
    0,
    `import { readKeyFile } from "#files/index.js";
    try { readKeyFile(${JSON.stringify(path)}, (why) => new Error(why)); console.log("made"); }
    catch (error) { console.log(error.code); }`,
  );
  t.is(said, "EFBIG\n");
  t.deepEqual(readdirSync(folder), []);
  const refusal = (why: string): Error => new Error(why);
  const key = readKeyFile(path, refusal);
  t.is(key.length, 32);
  t.deepEqual(readKeyFile(path, refusal), key);
  t.is(statSync(path).mode & 0o777, 0o600);
  t.deepEqual(readdirSync(folder), ["key"]);
});

test("a lock is held by one at a time; who inherits that of a process that is gone is told so", (t) => {
  const path = join(folderOf(t), "lock");
  const refusal = (holder: string): Error => new Error(holder);
  const first = LockFile.take(path, refusal);
  t.false(first.isInherited);
  t.throws(() => LockFile.take(path, refusal), { message: `process ${process.pid}` });
  first.release();
  t.false(LockFile.isHeld(path));
  writeFileSync(path, `${process.pid} of-another-boot:1\n`);
  t.true(LockFile.take(path, refusal).isInherited);
  t.true(LockFile.isHeld(path));
});

test("of several processes that find the mark of one that has ended, one takes its place", async (t) => {
  t.timeout(60_000);
  const folder = folderOf(t);
  for (let round = 0; round < 6; round++) {
    const path = join(folder, String(round));
    // Of no process of this boot.
    writeFileSync(path, "999999 boot:1\n");
    const program = `
      const { LockFile } = await import("#files/index.js");
      while (Date.now() < ${Date.now() + 900});
      try { LockFile.take(${JSON.stringify(path)}, () => new Error("refused")); console.log("holder"); }
      catch (error) { console.log(error.message); }
      setTimeout(() => undefined, 700);`;
    const run = (): Promise<{ stdout: string }> =>
      promisify(execFile)(process.execPath, ["--input-type=module", "--eval", program]);
    const said = (await Promise.all([run(), run(), run(), run()])).map(({ stdout }) => stdout.trim());
    t.deepEqual(said.toSorted(), ["holder", "refused", "refused", "refused"]);
    t.deepEqual(readdirSync(folder).length, round + 1, "nothing but the lock of each round");
  }
});
