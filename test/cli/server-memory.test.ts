import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DPE } from "#testing/dpe-program.js";
import test from "ava";

/** What V8 says of the next collection: from Node.js 24 on the factor stands in the line before. */
const LIMIT = /HeapController\] (?:factor (\S+) based.*\n.*HeapController\] )?Limit: .*KB(?: \((\S+)\))?\n/;

test("dpe server has V8 collect when half of what is alive has come to it, however slow its collections are", async (t) => {
  t.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), "dpe-server-memory-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "server.yaml");
  writeFileSync(
    file,
    `control: none
http: { port: 0 }
credentials: { psk: [{ identity: alice, key: "0123456789abcdef" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers:
  - { name: alice, psk: { identity: alice, key: "0123456789abcdef" } }
`,
  );
  const collects = 'data:text/javascript,process.on("SIGUSR2",()=>gc())';
  const flags = ["--expose-gc", "--trace-gc-verbose", "--import", collects];
  const child = spawn(process.execPath, [...flags, DPE, "server", "--config", file], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  t.teardown(() => child.kill("SIGKILL"));
  let text = "";
  let from = 0;
  let isAsked = false;
  const factor = await new Promise<string | undefined>((resolve) => {
    const hear = (chunk: Buffer): void => {
      text += chunk.toString();
      if (!isAsked && text.includes('"listening"')) {
        isAsked = true;
        from = text.length;
        child.kill("SIGUSR2");
      }
      const limit = isAsked ? LIMIT.exec(text.slice(from)) : null;
      if (limit !== null) resolve(limit[2] ?? limit[1]);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.once("exit", () => resolve(undefined));
  });
  t.is(factor, "1.5", text.slice(-500));
});
