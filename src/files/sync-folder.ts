import { closeSync, fsyncSync, openSync } from "node:fs";

/** Has the disk hold the names of a folder's files, as fsync has it hold a file's contents. */
export function syncFolder(folder: string): void {
  if (process.platform === "win32") return;
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
