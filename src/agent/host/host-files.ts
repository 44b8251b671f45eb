import { constants } from "node:fs";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { codeOf, messageOf } from "#errors/index.js";
import type { HostFailure } from "./read-host.js";
import type { HostSystem } from "./host-system.js";

/**
 * The files of a host under one root. Nothing here throws for a file that is absent, hangs or cannot be read: it is
 * undefined, and named in `failures` unless the kernel merely says "no such sensor".
 */
export interface HostFiles {
  readonly system: HostSystem;
  /** The path on this machine of a path on the host. */
  path(hostPath: string): string;
  /** Up to 256 KiB of a file as text, without NUL bytes and outer white space; undefined where that leaves nothing. */
  text(hostPath: string): Promise<string | undefined>;
  /** The decimal number that is all that a file holds. */
  number(hostPath: string): Promise<number | undefined>;
  /** The names in a folder, sorted as people sort (`zone2` before `zone10`), at most 256 of them. */
  list(hostPath: string): Promise<readonly string[]>;
  isFolder(hostPath: string): Promise<boolean>;
  /** What `read` gives, or undefined and a failure where it fails or takes too long. */
  attempt<T>(name: string, read: () => Promise<T>): Promise<T | undefined>;
  failures(): readonly HostFailure[];
}

export function hostFiles(root: string, system: HostSystem, timeoutMs: number): HostFiles {
  const failures: HostFailure[] = [];
  const path = (hostPath: string): string => join(root, hostPath);

  const attempt = async <T>(name: string, read: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await within(timeoutMs, read());
    } catch (error) {
      const code = codeOf(error);
      if (code === undefined || !ABSENT.has(code)) {
        failures.push({ sensor: name, reason: code ?? messageOf(error) });
      }
      return undefined;
    }
  };
  const text = async (hostPath: string): Promise<string | undefined> => {
    const content = await attempt(hostPath, () => readStart(path(hostPath)));
    const trimmed = content?.replaceAll("\0", "").trim();
    return trimmed === "" ? undefined : trimmed;
  };
  return {
    system,
    path,
    text,
    attempt,
    number: async (hostPath) => decimal(await text(hostPath)),
    list: async (hostPath) => {
      const names = (await attempt(hostPath, () => readdir(path(hostPath)))) ?? [];
      return names.toSorted(NUMERIC.compare).slice(0, MAX_NAMES);
    },
    isFolder: async (hostPath) =>
      (await attempt(hostPath, async () => (await stat(path(hostPath))).isDirectory())) ?? false,
    failures: () => failures,
  };
}

/** A decimal number with nothing around it, or undefined. */
export function decimal(text: string | undefined): number | undefined {
  return text !== undefined && /^[+-]?\d+(\.\d+)?$/.test(text) ? Number(text) : undefined;
}

async function readStart(path: string): Promise<string> {
  // Without O_NONBLOCK a FIFO in the place of a file would hold a thread for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    // Nearly all are of a few bytes, and as many are read at a time as there are sensors.
    let bytes = new Uint8Array(FIRST_BYTES);
    let size = 0;
    // Files of /proc give a piece at each read.
    while (size < MAX_TEXT_BYTES) {
      if (size === bytes.length) bytes = enlarged(bytes);
      const { bytesRead } = await file.read(bytes, size, bytes.length - size, null);
      if (bytesRead === 0) break;
      size += bytesRead;
    }
    return new TextDecoder().decode(bytes.subarray(0, size));
  } finally {
    await file.close();
  }
}

function enlarged(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(bytes.length * 4);
  larger.set(bytes);
  return larger;
}

/**
 * Rejects where `work` takes too long. The time is counted in parts, so that a stretch in which this very process was
 * too busy to take the answer counts as one part and not as the sensor's silence.
 */
async function within<T>(timeoutMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    let left = TIMEOUT_PARTS;
    timer = setInterval(() => {
      left -= 1;
      if (left === 0) reject(new Error(`no answer within ${timeoutMs} ms`));
    }, timeoutMs / TIMEOUT_PARTS);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearInterval(timer);
  }
}

/** What the kernel answers for sensors that are not there, not connected or switched off. */
const ABSENT: ReadonlySet<string> = new Set([
  "ENOENT",
  "ENOTDIR",
  "ENODEV",
  "ENXIO",
  "ENODATA",
  "EINVAL",
  "EAGAIN",
  "EOPNOTSUPP",
  "ENOTSUP",
]);
const NUMERIC: Intl.Collator = new Intl.Collator("en", { numeric: true });
const TIMEOUT_PARTS = 4;
/** Enlarged fourfold each time, up to the other. */
const FIRST_BYTES = 1024;
const MAX_TEXT_BYTES = 262_144;
const MAX_NAMES = 256;
