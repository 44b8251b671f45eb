import { mkdirSync, readFileSync } from "node:fs";
import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { codeOf } from "#errors/index.js";

/**
 * Numbered values and notes in one file, which is only ever appended to: a line for each change, with its checksum. Made
 * for devices whose power is cut and whose card is full or worn.
 *
 * Invariants:
 * 1. A change whose promise is fulfilled is there after a loss of power, whole.
 * 2. A damaged line costs that change only: opening never fails for what the file holds.
 * 3. After a write that failed the file is written anew before anything is appended, since a part of a line may stand at
 *    its end; what was not written is in memory, and goes with it.
 * 4. The file is replaced only by a complete one, unless nothing is kept in it; it is readable by its owner only.
 */
export class Journal<T> {
  readonly #path: string;
  readonly #values = new Map<number, T>();
  readonly #notes = new Map<string, unknown>();
  #file: FileHandle | undefined;
  #fileBytes = 0;
  #liveBytes = 0;
  /** Changes that wait for the disk, and those who wait for them. */
  #pending: string[] = [];
  #waiting: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  #isWriting = false;
  #written: Promise<void> = Promise.resolve();
  #needsRewrite: boolean;
  readonly damagedLines: number;

  /** Reads the file, where there is one. @throws Error with the system's `code` where the folder or the file cannot be read. */
  constructor(path: string) {
    this.#path = path;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const text = contentsOf(path);
    const lines = text === undefined ? [] : text.split("\n");
    // What follows the last line break was never finished.
    const rest = lines.pop() ?? "";
    const changes = lines.map((line) => decodeLine(line));
    for (const change of changes) if (change !== undefined) this.#apply(change as Change<T>);
    this.damagedLines = changes.filter((change) => change === undefined).length + (rest === "" ? 0 : 1);
    this.#needsRewrite = text === undefined || this.damagedLines > 0;
    this.#fileBytes = text?.length ?? 0;
  }

  /** In the order in which they were put. */
  entries(): IterableIterator<[number, T]> {
    return this.#values.entries();
  }

  note(name: string): unknown {
    return this.#notes.get(name);
  }

  /** Puts and removes at once. Values are plain data, as JSON has it. Rejected with the system's error; see invariant 3. */
  change(added: readonly (readonly [number, T])[], removed: readonly number[]): Promise<void> {
    return this.#append({ ...(added.length > 0 ? { a: added } : {}), ...(removed.length > 0 ? { r: removed } : {}) });
  }

  setNote(name: string, value: unknown): Promise<void> {
    return this.#append({ n: { [name]: value } });
  }

  /** Waits for the disk. */
  async close(): Promise<void> {
    await this.#written;
    await this.#file?.close();
    this.#file = undefined;
  }

  #append(change: Change<T>): Promise<void> {
    this.#apply(change);
    this.#pending.push(encodeLine(change));
    const done = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (!this.#isWriting) this.#written = this.#write();
    return done;
  }

  /** All changes that came while the disk was busy go with one write. */
  async #write(): Promise<void> {
    this.#isWriting = true;
    while (this.#waiting.length > 0) {
      const lines = this.#pending.join("");
      const waiting = this.#waiting;
      this.#pending = [];
      this.#waiting = [];
      try {
        if (this.#needsRewrite || this.#isBloated(lines.length)) await this.#rewrite();
        else await this.#appendToFile(lines);
        for (const { resolve } of waiting) resolve();
      } catch (error) {
        this.#needsRewrite = true;
        for (const { reject } of waiting) reject(error);
      }
    }
    this.#isWriting = false;
  }

  async #appendToFile(lines: string): Promise<void> {
    this.#file ??= await open(this.#path, "a", 0o600);
    // Somebody has removed it: what goes there is gone with the process.
    if ((await this.#file.stat()).nlink === 0) {
      await this.#rewrite();
      return;
    }
    // All of it, where `write` takes a part on a disk that fills up.
    await this.#file.appendFile(lines);
    await this.#file.datasync();
    this.#fileBytes += lines.length;
  }

  /** A new file with what is there now, in place of the old one. */
  async #rewrite(): Promise<void> {
    // Before anything is awaited: what comes from here on is appended afterwards.
    const lines = [...this.#values].map((entry) => encodeLine({ a: [entry] }));
    const text = encodeLine({ n: Object.fromEntries(this.#notes) }) + lines.join("");
    await this.#file?.close();
    this.#file = undefined;
    try {
      await this.#replace(text);
    } catch (error) {
      // Two files need not fit on a full disk; but where nothing is kept, the old one has nothing to lose.
      if (lines.length > 0) throw error;
      await writeAndSync(this.#path, text);
    }
    this.#needsRewrite = false;
    this.#fileBytes = text.length;
    this.#liveBytes = text.length;
  }

  async #replace(text: string): Promise<void> {
    const temporary = `${this.#path}.new`;
    mkdirSync(dirname(temporary), { recursive: true, mode: 0o700 });
    try {
      await writeAndSync(temporary, text);
    } catch (error) {
      // A part of it would take the room that the next try needs.
      await unlink(temporary).catch(() => undefined);
      throw error;
    }
    await rename(temporary, this.#path);
    await syncFolder(dirname(this.#path));
  }

  #isBloated(moreBytes: number): boolean {
    return this.#fileBytes + moreBytes > Math.max(MIN_REWRITE_BYTES, 4 * this.#liveBytes);
  }

  #apply({ a = [], r = [], n = {} }: Change<T>): void {
    for (const [number, value] of a) this.#values.set(number, value);
    for (const number of r) this.#values.delete(number);
    for (const [name, value] of Object.entries(n)) this.#notes.set(name, value);
  }
}

/** Added, removed, notes. */
interface Change<T> {
  readonly a?: readonly (readonly [number, T])[];
  readonly r?: readonly number[];
  readonly n?: Readonly<Record<string, unknown>>;
}

function encodeLine(change: Change<unknown>): string {
  const json = JSON.stringify(change);
  return `${checksum(json)} ${json}\n`;
}

function decodeLine(line: string): Change<unknown> | undefined {
  const json = line.slice(CHECKSUM_LENGTH + 1);
  if (line.slice(0, CHECKSUM_LENGTH) !== checksum(json)) return undefined;
  const change = JSON.parse(json) as unknown;
  return isChange(change) ? change : undefined;
}

/** What another program, or a later version, has written may be whole, and of another form. */
function isChange(change: unknown): change is Change<unknown> {
  if (typeof change !== "object" || change === null) return false;
  const { a = [], r = [], n = {} } = change as Change<unknown>;
  const areEntries = Array.isArray(a) && a.every((entry) => Array.isArray(entry) && Number.isSafeInteger(entry[0]));
  return areEntries && Array.isArray(r) && typeof n === "object" && n !== null;
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(CHECKSUM_LENGTH, "0");
}

function contentsOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function writeAndSync(path: string, text: string): Promise<void> {
  const file = await open(path, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** The rename itself is on the disk only then. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

const CHECKSUM_LENGTH = 8;
const MIN_REWRITE_BYTES = 262_144;
