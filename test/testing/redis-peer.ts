import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { freePort } from "./free-port.js";
import { PeerProcess } from "./peer-process.js";

/** A Redis of its own for a test, which writes to disk before it answers. Returns its URL. */
export async function startRedis(t: Pick<ExecutionContext, "teardown">, ...options: string[]): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "dpe-redis-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const port = await freePort();
  const given = options.length > 0 ? options : ["--appendonly", "yes", "--appendfsync", "always"];
  const place = ["--bind", "127.0.0.1", "--port", String(port), "--dir", folder, "--save", ""];
  const redis = PeerProcess.start(t, "redis-server", [...place, ...given]);
  await redis.printed("Ready to accept connections", 30_000);
  return `redis://127.0.0.1:${port}`;
}
