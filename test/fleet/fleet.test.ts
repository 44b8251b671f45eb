import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";

/**
 * Small runs of what `scripts/fleet` does: a fleet's clients are a process of their own, so is `dpe server`, and what a run
 * expects decides, by its exit code. One at a time, as each counts on a processor.
 */
async function run(t: ExecutionContext, name: string, ...words: readonly string[]): Promise<void> {
  const program = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  const [code, stdout] = await new Promise<[number | string | undefined, string]>((resolve) => {
    execFile(process.execPath, [program, ...words], { timeout: 280_000 }, (error, text) =>
      resolve([error === null ? 0 : (error.code ?? "killed"), text]),
    );
  });
  t.is(code, 0, stdout);
  t.regex(stdout, /^holds/m);
}

test.serial("third-party devices over PSK: all 50 are registered, and all report", async (t) => {
  t.timeout(300_000);
  await run(t, "third-party", "--devices", "50", "--seconds", "5");
});

test.serial(
  "devices that lost the network for minutes come back by themselves, by association, by resumption and in full",
  async (t) => {
    t.timeout(300_000);
    await run(
      t,
      "storm",
      "--devices",
      "40",
      "--outage",
      "300",
      "--every",
      "60",
      "--pace",
      "60",
      "--recovery-pace",
      "8",
    );
  },
);
