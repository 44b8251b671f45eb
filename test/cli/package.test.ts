import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { testWith } from "#testing/peer-process.js";
import { folderOf } from "#testing/server-process.js";
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
