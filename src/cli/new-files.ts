import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { syncFolder } from "#files/index.js";
import { describeFile, UsageError } from "./exit.js";

/** @throws UsageError where one of the names is taken. */
export function refuseExisting(folder: string, names: readonly string[]): void {
  const taken = names.map((name) => join(folder, name)).filter((path) => existsSync(path));
  if (taken.length > 0)
    throw new UsageError(
      `${taken.join(", ")} ${taken.length === 1 ? "is" : "are"} there already, and stay as they are`,
    );
}

/** Makes the folder, and writes and removes a file in it. @throws UsageError where that cannot be done. */
export function checkWritable(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    remove(unready(folder, { name: "probe", text: "" }));
  } catch (error) {
    throw unwritable(folder, error);
  }
}

function unwritable(folder: string, error: unknown): UsageError {
  return new UsageError(`the files cannot be written: ${describeFile(error, folder)}`);
}

/**
 * Writes files, mode 0600, each whole or not at all, in their order. Where one is there already it stays, unless `force`.
 *
 * @throws UsageError where one is there, or the folder cannot be written.
 */
export function writeFiles(
  folder: string,
  files: readonly NewFile[],
  { force = false }: { readonly force?: boolean } = {},
): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const written = files.map((file) => ({ path: join(folder, file.name), unready: unready(folder, file) }));
    for (const [index, { path, unready: from }] of written.entries()) {
      try {
        if (force) renameSync(from, path);
        else linkSync(from, path);
      } catch (error) {
        for (const rest of written.slice(index)) remove(rest.unready);
        throw error;
      }
      remove(from);
    }
    syncFolder(folder);
  } catch (error) {
    throw unwritable(folder, error);
  }
}

export interface NewFile {
  readonly name: string;
  readonly text: string;
}

function unready(folder: string, { name, text }: NewFile): string {
  const path = join(folder, `.${name}.${process.pid}.new`);
  remove(path);
  const descriptor = openSync(path, "wx", 0o600);
  try {
    writeFileSync(descriptor, text);
    fsyncSync(descriptor);
  } catch (error) {
    remove(path);
    throw error;
  } finally {
    closeSync(descriptor);
  }
  return path;
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It is not there.
  }
}
