import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { replaceFile } from "#config/index.js";
import { withRoomFor } from "#testing/full-disk.js";
import test from "ava";

test("a file is exchanged whole, with its mode; a disk that fills up leaves it as it was", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-replace-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "device.pem");
  writeFileSync(path, "old", { mode: 0o640 });
  replaceFile(path, "a key");
  t.is(statSync(path).mode & 0o777, 0o640);
  const said = withRoomFor(
    8,
    `import { replaceFile } from "#config/index.js";
    try { replaceFile(${JSON.stringify(path)}, "x".repeat(20000)); console.log("done"); }
    catch (error) { console.log(error.code); }`,
  );
  t.is(said, "EFBIG\n");
  t.is(readFileSync(path, "utf8"), "a key");
  t.deepEqual(readdirSync(folder), ["device.pem"]);
});
