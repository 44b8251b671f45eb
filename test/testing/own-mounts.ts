import { execFileSync } from "node:child_process";
import test, { type Implementation } from "ava";

/**
 * A test that gives a program a small disk of its own, in a mount namespace of an unprivileged user. It is skipped where the
 * kernel allows none, unless DPE_REQUIRE_PEERS asks for all.
 */
export const testWithMounts: (title: string, implementation: Implementation<[]>) => void =
  mayMount() || process.env["DPE_REQUIRE_PEERS"] === "1" ? test.serial : test.serial.skip;

function mayMount(): boolean {
  try {
    execFileSync("unshare", ["-Urm", "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
