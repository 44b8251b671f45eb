import { linkSync, readFileSync, writeFileSync } from "node:fs";
import { codeOf } from "#errors/index.js";

/** Gives a file a second name; false where there is one of that name. */
export function linkFile(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    const code = codeOf(error);
    if (code === "EEXIST") return false;
    if (code === undefined || !WITHOUT_LINKS.has(code)) throw error;
  }
  try {
    writeFileSync(to, readFileSync(from), { mode: 0o600, flag: "wx" });
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

/** Of file systems that give a file one name, as those of memory cards do. */
const WITHOUT_LINKS: ReadonlySet<string> = new Set(["EPERM", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"]);
