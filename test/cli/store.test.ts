import { execFile } from "node:child_process";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ReportingDevice } from "#testing/reporting-device.js";
import { DPE } from "#testing/dpe-program.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function dpe(...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [DPE, ...args], { timeout: 60_000 }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

const yaml = (store: string): string => `
store: ${store}
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0 }, connection: none, clientAuthentication: [none] }
`;

/** A server that has been told something, and still runs. */
async function filled(t: ExecutionContext) {
  t.timeout(240_000);
  const folder = folderOf(t);
  const server = await startServerProcess(t, folder, yaml(join(folder, "store")));
  const device = await ReportingDevice.open("pi-1", [server.coap]);
  const running = device.run(20);
  await until(() => device.acknowledged.length >= 5);
  await device.stop();
  await running;
  return { folder, server, device };
}

test("a store is checked beside its server, exported, and fills an empty one, which a server then goes on with", async (t) => {
  const { folder, server, device } = await filled(t);
  const checked = await dpe("store", "check", "--config", server.file);
  t.deepEqual({ code: checked.code, stdout: checked.stdout }, { code: 0, stdout: "the store is in order\n" });
  const file = join(folder, "export.ndjson");
  t.is((await dpe("store", "export", file, "--config", server.file)).code, 0);
  t.is(statSync(file).mode & 0o777, 0o600);
  t.is((await dpe("store", "export", file, "--config", server.file)).code, 1, "never over a file");
  t.is((await dpe("store", "export", "--config", server.file)).stdout.split("\n").length, lines(file).length);

  // A second server's: of a store in use nothing is taken, nor put into it.
  const inUse = await dpe("store", "import", file, "--config", server.file);
  t.is(inUse.code, 1);
  t.regex(inUse.stderr, /STORE_IN_USE/);
  server.process.signal("SIGTERM");
  t.is(await server.process.exited, 0);
  t.regex(server.process.output, /"msg":"stopped"/);
  t.regex((await dpe("store", "import", file, "--config", server.file)).stderr, /STORE_NOT_EMPTY/);

  const other = join(folder, "other.yaml");
  writeFileSync(other, yaml(join(folder, "other")));
  const imported = await dpe("store", "import", file, "--config", other);
  t.is(imported.stdout, `${lines(file).length - 3} entries\n`, imported.stderr);
  t.is((await dpe("store", "check", "--config", other)).code, 0);
  const again = await startServerProcess(t, folder, yaml(join(folder, "other")));
  const shown = await dpe("device", "pi-1", "--control", again.control, "--json");
  t.is(
    (JSON.parse(shown.stdout) as { readonly properties: readonly { readonly value: number }[] }).properties[0]?.value,
    device.acknowledged.at(-1),
  );
});

test("dpe store check names each fault by its invariant, and a damaged export is not taken for a store", async (t) => {
  const { folder, server } = await filled(t);
  const file = join(folder, "export.ndjson");
  await dpe("store", "export", file, "--config", server.file);
  const other = join(folder, "other.yaml");
  writeFileSync(other, yaml(join(folder, "other")));
  const kept = lines(file).filter((line) => !line.startsWith('["registration"'));
  writeFileSync(
    file,
    kept.join("\n").replace(/\{"entries":(\d+)\}/, (_, count) => `{"entries":${Number(count) - 1}}`),
  );
  t.is((await dpe("store", "import", file, "--config", other)).code, 0);
  const { code, stdout, stderr } = await dpe("store", "check", "--config", other);
  t.is(code, 1);
  t.regex(stdout, /^R1: the registration \S+ of pi-1 is not found by its id$/m);
  t.regex(stderr, /^dpe: the store has 1 fault \(STORE_CORRUPT\)\n$/);

  const third = join(folder, "third.yaml");
  writeFileSync(third, yaml(join(folder, "third")));
  writeFileSync(file, kept.slice(0, -2).join("\n"));
  const cut = await dpe("store", "import", file, "--config", third);
  t.is(cut.code, 1);
  t.regex(cut.stderr, /the export is not whole.*\(STORE_CORRUPT\)/);
  t.is((await dpe("store", "check", "--config", third)).code, 1);
});

test("dpe store says what it needs", async (t) => {
  const folder = folderOf(t);
  const memory = join(folder, "memory.yaml");
  writeFileSync(memory, yaml("x").replace("store: x", ""));
  for (const [words, said] of [
    [["check"], /needs --config FILE/],
    [["mend", "--config", memory], /^dpe store: mend is not understood\nusage: dpe store/],
    [["import", "--config", memory], /^dpe store: import needs the FILE of an export\nusage: dpe store/],
    [["check", "--config", memory], /has no store: the server keeps its state in memory/],
  ] as const) {
    const { code, stderr } = await dpe("store", ...words);
    t.is(code, 2);
    t.regex(stderr, said);
  }
});

function lines(file: string): readonly string[] {
  return readFileSync(file, "utf8").split("\n");
}
