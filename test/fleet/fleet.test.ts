import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";

/**
 * Small runs of what `scripts/fleet` does: a fleet's clients are a process of their own, so is `dpe server`, and what a run
 * expects decides, by its exit code. One at a time, as each counts on a processor.
 */
function run(t: ExecutionContext, name: string, ...words: readonly string[]): Promise<void> {
  const program = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...words], { timeout: 110_000 }, (error, stdout) => {
      t.is(error?.code, undefined, stdout);
      t.regex(stdout, /^holds/m);
      t.notRegex(stdout, /^FAILS/m);
      resolve();
    });
  });
}

test.serial("third-party devices over PSK: all 50 are registered, and all report", async (t) => {
  t.timeout(120_000);
  await run(t, "third-party", "--devices", "50", "--seconds", "5");
});

test.serial("devices that lost the network for ten minutes of their clock come back by themselves", async (t) => {
  t.timeout(120_000);
  await run(t, "storm", "--devices", "40", "--outage", "600", "--pace", "60", "--recovery-pace", "4");
});
