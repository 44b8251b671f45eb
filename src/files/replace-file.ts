import { closeSync, fchmodSync, fsyncSync, openSync, renameSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { syncFolder } from "./sync-folder.js";

/**
 * Exchanges the contents of a file at once or not at all, also where power is lost. Its mode stays; a new file is its owner's
 * alone.
 *
 * @throws errors of the file system, the file as it was.
 */
export function replaceFile(path: string, text: string): void {
  const unready = `${path}.new`;
  const mode = statSync(path, { throwIfNoEntry: false })?.mode;
  const descriptor = openSync(unready, "w", 0o600);
  try {
    // All of it: a write to a disk that fills up takes a part, and calls that a success.
    writeFileSync(descriptor, text);
    if (mode !== undefined) fchmodSync(descriptor, mode & 0o777);
    fsyncSync(descriptor);
  } catch (error) {
    unlinkSync(unready);
    throw error;
  } finally {
    closeSync(descriptor);
  }
  renameSync(unready, path);
  syncFolder(dirname(path));
}
