import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { DPE } from "./dpe-program.js";
import { PeerProcess } from "./peer-process.js";

/** A folder that is gone with the test. */
export function folderOf(t: Pick<ExecutionContext, "teardown">): string {
  const folder = mkdtempSync(join(tmpdir(), "dpe-test-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** `dpe server` in a process of its own, once it listens. `more` is further YAML; the control socket is in the folder. */
export async function startServerProcess(
  t: Pick<ExecutionContext, "teardown">,
  folder: string,
  more: string,
): Promise<ServerProcess> {
  const file = join(folder, "server.yaml");
  const control = join(folder, "control.sock");
  writeFileSync(file, `control: ${control}\n${more}`);
  const process = PeerProcess.start(t, globalThis.process.execPath, [DPE, "server", "--config", file]);
  await process.printed('"msg":"listening"', 40_000);
  const line = process.output.split("\n").find((one) => one.includes('"msg":"listening"')) ?? "{}";
  const banner = JSON.parse(line) as { readonly dpe1: string; readonly http: string };
  const portOf = (scheme: string): number =>
    Number(new RegExp(`\\b${scheme}://127.0.0.1:(\\d+)`).exec(banner.dpe1)?.[1] ?? 0);
  return {
    process,
    file,
    control,
    coap: portOf("coap"),
    coaps: portOf("coaps"),
    http: banner.http.split(",")[0] ?? "",
  };
}

export interface ServerProcess {
  readonly process: PeerProcess;
  readonly file: string;
  readonly control: string;
  readonly coap: number;
  readonly coaps: number;
  /** Its URL. */
  readonly http: string;
}
