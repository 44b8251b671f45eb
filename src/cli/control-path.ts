import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where the control socket of a server is, unless its configuration says: what runs a service as that user gives it. */
export function defaultControlPath(environment: NodeJS.ProcessEnv = process.env): string {
  const { RUNTIME_DIRECTORY, XDG_RUNTIME_DIR } = environment;
  const uid = process.getuid?.() ?? 0;
  if (RUNTIME_DIRECTORY !== undefined && RUNTIME_DIRECTORY !== "")
    return join(RUNTIME_DIRECTORY.split(":")[0] ?? "", "server.sock");
  if (uid === 0) return "/run/dpe/server.sock";
  return join(XDG_RUNTIME_DIR ?? join(tmpdir(), `dpe-${uid}`), "dpe-server.sock");
}
