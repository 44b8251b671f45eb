import { type ChildProcess, execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "#testing/free-port.js";
import { testWith } from "#testing/peer-process.js";
import { folderOf } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");

const isWithoutCompiler = (process.env["DPE_MISSING_PEERS"] ?? "").split(" ").includes("cortex-m3");

/** The package as npm makes it, unpacked where nothing else of the repository is; its dependencies are those that are here. */
function installed(t: ExecutionContext): string {
  const folder = folderOf(t);
  const words = ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder];
  execFileSync("npm", words, { cwd: ROOT, stdio: "ignore" });
  const [file = ""] = readdirSync(folder);
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  execFileSync("tar", ["-xzf", join(folder, file), "-C", folder]);
  for (const name of readdirSync(join(ROOT, "node_modules")))
    if (!name.startsWith(".")) symlinkSync(join(ROOT, "node_modules", name), join(modules, name));
  return join(folder, "package");
}

function dpe(root: string, ...words: string[]): Promise<{ readonly code: number | null; readonly output: string }> {
  return new Promise((resolve) => {
    const program = join(root, "dist", "bundle", "cli", "dpe.js");
    const child = execFile(process.execPath, [program, ...words], { timeout: 100_000 }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, output: stdout + stderr }),
    );
  });
}

test("an installed package runs the demo, and has what its documents name", async (t) => {
  t.timeout(180_000);
  const root = installed(t);
  const { code, output } = await dpe(root, "demo");
  t.is(code, 0, output);
  t.regex(output, /4 devices paired and reporting/);
  for (const name of [
    "scripts/systemd/dpe-agent.service",
    "docs/operation.md",
    "web/index.html",
    "firmware-bridge/Makefile",
  ])
    t.true(existsSync(join(root, name)), name);
  for (const name of ["test", "src", "dist/test", "firmware-bridge/build"]) t.false(existsSync(join(root, name)), name);
});

testWith(
  isWithoutCompiler ? "cortex-m3" : "qemu-arm",
  "an installed package builds the firmware and runs the demo with it",
  async (t) => {
    t.timeout(240_000);
    const { code, output } = await dpe(installed(t), "demo", "--firmware");
    t.is(code, 0, output);
    t.regex(output, /firmware/);
  },
);

/** What stands in a document, each from a file of its own beside the installed package, at ports that are free. */
function examplesOf(document: string, port: number): readonly string[] {
  const blocks = readFileSync(join(ROOT, document), "utf8").matchAll(/^```js\n([^]*?)^```$/gm);
  return [...blocks]
    .map(([, text = ""]) => text)
    .filter((text) => text.includes(' from "dpe-coap/'))
    .map((text) =>
      text
        .replaceAll(/\bport: 568[34]\b/g, `port: ${port}`)
        .replaceAll(/(coaps?:\/\/[a-z0-9.]+)(:568[34])?\//g, `$1:${port}/`),
    );
}

test("the examples of the documents print what they say, as they stand, against an installed package", async (t) => {
  t.timeout(180_000);
  const root = installed(t);
  const folder = dirname(root);
  symlinkSync(root, join(folder, "node_modules", "dpe-coap"));
  t.is((await dpe(root, "init", "server", "--dir", join(folder, "pki"))).code, 0);
  let count = 0;
  const start = (text: string): readonly [ChildProcess, Promise<string>] => {
    const file = join(folder, `example-${(count += 1)}.mjs`);
    writeFileSync(file, text);
    let child: ChildProcess | undefined;
    const output = new Promise<string>((resolve) => {
      const options = { cwd: folder, timeout: 30_000 };
      child = execFile(process.execPath, [file], options, (_error, stdout, stderr) => resolve(stdout + stderr));
    });
    if (child === undefined) throw new Error("nothing was started");
    t.teardown(() => child?.kill());
    return [child, output];
  };
  for (const [document, printed] of [
    ["README.md", ["2.05 22\n"]],
    ["docs/coap.md", ["hello alice\n", "hello\n"]],
    ["docs/dtls.md", ["hello\n"]],
  ] as const) {
    const outputs: string[] = [];
    for (const text of examplesOf(document, await freePort())) outputs.push(await start(text)[1]);
    t.deepEqual(outputs, [...printed], document);
  }
  const [client = "", server = ""] = examplesOf("docs/node-coap.md", await freePort());
  const [serving] = start(server);
  // It says nothing when it listens.
  const greeting = await until(async () => /^hello.*\n$/.exec(await start(client)[1])?.[0]);
  t.is(greeting, "hello alice\n");
  t.is(serving.exitCode, null);
});
