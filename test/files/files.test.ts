import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
