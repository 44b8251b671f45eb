import { execFileSync } from "node:child_process";
import { canSharePorts } from "#net/index.js";

/** A Node.js that lets several processes listen on one UDP port: this one, or the one that npx has. */
export function sharingNode(): string {
  if (canSharePorts()) return process.execPath;
  return execFileSync("npx", ["-y", "node@24", "-e", "console.log(process.execPath)"], { encoding: "utf8" }).trim();
}
