import { cpSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SeededRandom } from "#sim/seeded-random.js";
import { Store } from "#store/index.js";
import { faultOfPages } from "#store/lmdb-pages.js";
import { codeOf } from "#testing/code-of.js";
import { DPE } from "#testing/dpe-program.js";
import { PeerProcess } from "#testing/peer-process.js";
import { folderOf } from "#testing/server-process.js";
import test, { type ExecutionContext } from "ava";

const PAGE = 4096;
/** Of no process of this boot: whoever wrote there has ended without a word. */
const LEFT_BEHIND = "999999 boot:1\n";

/** A store of 40 devices, with a value in pages of its own, closed in order. */
async function makeStore(t: ExecutionContext): Promise<string> {
  const folder = join(folderOf(t), "store");
  const store = await Store.open({ type: "lmdb", folder });
  for (let index = 0; index < 40; index++) {
    const value = "x".repeat(index === 0 ? 9000 : 300);
    const registration = {
      endpoint: `device-${index}`,
      subscriber: undefined,
      lifetimeSeconds: 600,
      dpe2: { type: "association" },
      isQueueMode: false,
    } as const;
    await store.registrations.register(registration, { records: [{ name: "text", value }], server: "s" }, Date.now());
  }
  await store.close();
  return folder;
}

function damaged(t: ExecutionContext, folder: string, change: (file: string) => void, isLeft = false): string {
  const copy = join(folderOf(t), "store");
  cpSync(folder, copy, { recursive: true });
  change(join(copy, "data.mdb"));
  if (isLeft) writeFileSync(join(copy, "owner"), LEFT_BEHIND);
  return copy;
}

const wipe =
  (page: number) =>
  (file: string): void => {
    const bytes = readFileSync(file);
    bytes.fill(0, page * PAGE, (page + 1) * PAGE);
    writeFileSync(file, bytes);
  };

test("a store that is cut off is refused before it ends the process, wherever it is cut", async (t) => {
  t.timeout(60_000);
  const folder = await makeStore(t);
  const { length } = readFileSync(join(folder, "data.mdb"));
  for (const size of [100, PAGE, 2 * PAGE, PAGE * Math.floor(length / PAGE / 3), length - PAGE * 10]) {
    const cut = damaged(t, folder, (file) => truncateSync(file, size));
    t.is(await codeOf(Store.open({ type: "lmdb", folder: cut })), "STORE_DAMAGED", `at ${size}`);
  }
  const whole = await Store.open({ type: "lmdb", folder: damaged(t, folder, () => undefined, true) });
  t.is(await whole.registrations.count(), 40);
  await whole.close();
});

test("after an end without warning a page that was overwritten is found, whichever of those in use it is", async (t) => {
  const folder = await makeStore(t);
  const file = join(folder, "data.mdb");
  const pages = readFileSync(file).length / PAGE;
  const copy = damaged(t, folder, () => undefined);
  let found = 0;
  for (let page = 2; page < pages; page++) {
    cpSync(file, join(copy, "data.mdb"));
    wipe(page)(join(copy, "data.mdb"));
    const fault = faultOfPages(join(copy, "data.mdb"), true);
    if (fault === undefined) continue;
    found += 1;
    t.regex(fault, /page \d+/);
    if (found > 1) continue;
    writeFileSync(join(copy, "owner"), LEFT_BEHIND);
    t.is(await codeOf(Store.open({ type: "lmdb", folder: copy })), "STORE_DAMAGED");
  }
  t.true(found >= 5, `${found} of ${pages} pages; the others are free, or hold the rest of a long value`);
});

test("whatever stands in a file, its pages are looked at to an end", async (t) => {
  t.timeout(60_000);
  const folder = await makeStore(t);
  const original = readFileSync(join(folder, "data.mdb"));
  const file = join(folder, "damaged.mdb");
  const random = new SeededRandom(1);
  let faults = 0;
  for (let round = 0; round < 150; round++) {
    const bytes = Buffer.from(original);
    // Dense enough to hit headers, and half of the time in the first pages.
    const end = round % 2 === 0 ? bytes.length : 8 * PAGE;
    for (let flip = 0; flip < 40; flip++) {
      const at = random.below(end);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    }
    writeFileSync(file, bytes);
    if (faultOfPages(file, true) !== undefined) faults += 1;
  }
  t.true(faults > 20, `${faults} of 150`);
});

test("a server that was killed says that its store is damaged, and is not started again for nothing", async (t) => {
  t.timeout(60_000);
  const folder = folderOf(t);
  const store = damaged(t, await makeStore(t), (file) => truncateSync(file, 5 * PAGE), true);
  const file = join(folder, "server.yaml");
  const dpe1 = "{ listen: { host: 127.0.0.1, coap: 0 }, connection: none, clientAuthentication: [none] }";
  writeFileSync(file, `store: ${store}\ncontrol: none\ninterfaces: { dpe1: ${dpe1} }\n`);
  for (let start = 0; start < 2; start++) {
    const server = PeerProcess.start(t, process.execPath, [DPE, "server", "--config", file]);
    t.is(await server.exited, 2);
    t.regex(server.output, /data\.mdb is damaged: it is cut off at 20480 bytes.* move its folder away/);
  }
});
