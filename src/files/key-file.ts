import { randomBytes } from "node:crypto";
import { closeSync, existsSync, fstatSync, fsyncSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { linkFile } from "./link-file.js";
import { syncFolder } from "./sync-folder.js";

/**
 * The random key of 32 bytes that a file holds; made when there is none.
 *
 * @throws what `refusal` makes where others than its owner may use it, or it is no such key; errors of the file system.
 */
export function readKeyFile(path: string, refusal: (why: string) => Error): Uint8Array {
  makeKeyFile(path);
  const file = openSync(path, "r");
  try {
    if (process.platform !== "win32" && (fstatSync(file).mode & 0o077) !== 0)
      throw refusal(`${path}: others than its owner may use this key; chmod 600 it`);
    const key = readFileSync(file);
    if (key.length !== KEY_BYTES) throw refusal(`${path}: a key of ${KEY_BYTES} bytes is expected`);
    return key;
  } finally {
    closeSync(file);
  }
}

/** Whole before it has its name, so that a full disk leaves no part of one; the first of several processes makes it. */
function makeKeyFile(path: string): void {
  if (existsSync(path)) return;
  const unready = `${path}.${process.pid}`;
  try {
    const file = openSync(unready, "w", 0o600);
    try {
      writeFileSync(file, randomBytes(KEY_BYTES));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    linkFile(unready, path);
    syncFolder(dirname(path));
  } finally {
    rmSync(unready, { force: true });
  }
}

const KEY_BYTES = 32;
