import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject, randomBytes } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { codeOf } from "#errors/index.js";
import { bootId, LockFile, readKeyFile, syncFolder } from "#files/index.js";
import type { AssociationStore, KeptAssociation } from "./association-store.js";
import { NetError } from "./net-error.js";

/**
 * Associations in one file, to which each change is appended, sealed under a key from another file.
 *
 * ```
 *  header:  "DPEA" version(1) boot(16) salt(16)
 *  entry:   length(2) AES-256-GCM( operation(1) id(4) state ) tag(16)
 * ```
 *
 * The key of a file is HKDF-SHA-256(key, salt), the nonce of an entry its place in the file, the additional data the header:
 * so no nonce is used twice, and no entry can be changed, left out, or put elsewhere; only the end can be cut off.
 *
 * Invariants:
 * - F1 A change is in the file, for the operating system, when `put` or `delete` returns: it outlives the process, `kill -9`
 *   included. What was not written in whole had no consequence yet, so an entry cut short at the end is left out.
 * - F2 A file is used only in the boot of the system that wrote it, or after an orderly `close`, which brings it to the
 *   disk: what was written before a loss of power need not have reached the disk, and older state would repeat nonces.
 * - F3 What was loaded is written anew, under another salt, before anything is done with it; the old file is gone then.
 * - F4 One process at a time holds the store (`path`.lock).
 * - F5 A file with an entry that does not verify, of another version or under another key is refused as a whole: its
 *   associations end, and their peers shake hands.
 *
 * What no file can tell: an old copy of it put back. Leave both files out of backups.
 */
export class FileAssociationStore implements AssociationStore {
  /** Why the file that was found was not used; undefined when it was, or there was none. */
  readonly refusal: StoreRefusal | undefined;
  readonly #path: string;
  readonly #key: Uint8Array;
  readonly #lock: LockFile;
  readonly #live: Map<number, Uint8Array>;
  #liveBytes = 0;
  #writer: SealedWriter;

  private constructor(path: string, key: Uint8Array, lock: LockFile) {
    this.#path = path;
    this.#key = key;
    this.#lock = lock;
    const found = readFile(path, key);
    this.refusal = typeof found === "string" ? found : undefined;
    this.#live = typeof found === "string" ? new Map<number, Uint8Array>() : found;
    for (const state of this.#live.values()) this.#liveBytes += state.length;
    this.#writer = this.#rewrite();
  }

  /**
   * Opens, or makes, the file and the file of its key (32 random bytes; both readable by their owner only), and the folder.
   * @throws NetError NET_STORE_LOCKED, NET_STORE_KEY; system errors of the files.
   */
  static open(path: string, keyPath = `${path}.key`): FileAssociationStore {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const lock = LockFile.take(
      `${path}.lock`,
      (holder) => new NetError("NET_STORE_LOCKED", `${path}: ${holder} uses this store`),
    );
    try {
      return new FileAssociationStore(
        path,
        readKeyFile(keyPath, (why) => new NetError("NET_STORE_KEY", why)),
        lock,
      );
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** Bytes of the file, and how many associations are in it. */
  get size(): { readonly bytes: number; readonly associations: number } {
    return { bytes: this.#writer.bytes, associations: this.#live.size };
  }

  *load(): Iterable<KeptAssociation> {
    for (const [id, state] of this.#live) yield { id, state };
  }

  put(id: number, state: Uint8Array): void {
    this.#writer.append(OPERATIONS.put, id, state);
    this.#liveBytes += state.length - (this.#live.get(id)?.length ?? 0);
    this.#live.set(id, state);
    this.#compact();
  }

  delete(id: number): void {
    const state = this.#live.get(id);
    if (state === undefined) return;
    this.#writer.append(OPERATIONS.delete, id, EMPTY);
    this.#liveBytes -= state.length;
    this.#live.delete(id);
    this.#compact();
  }

  close(): void {
    this.#writer.append(OPERATIONS.close, 0, EMPTY);
    this.#writer.close(true);
    syncFolder(dirname(this.#path));
    this.#lock.release();
  }

  #compact(): void {
    if (this.#writer.bytes < COMPACTION_FACTOR * (this.#liveBytes + COMPACTION_SLACK_BYTES)) return;
    const old = this.#writer;
    this.#writer = this.#rewrite();
    old.close(false);
  }

  #rewrite(): SealedWriter {
    const next = new SealedWriter(`${this.#path}.next`, this.#key);
    for (const [id, state] of this.#live) next.append(OPERATIONS.put, id, state);
    renameSync(`${this.#path}.next`, this.#path);
    return next;
  }
}

export type StoreRefusal = "not-of-this-boot" | "another-version" | "changed-or-another-key";

class SealedWriter {
  bytes = 0;
  readonly #file: number;
  readonly #header: Uint8Array;
  readonly #key: KeyObject;
  #entries = 0;
  #isBroken = false;

  constructor(path: string, key: Uint8Array) {
    this.#header = Buffer.concat([MAGIC, Buffer.of(VERSION), bootBytes(), randomBytes(SALT_BYTES)]);
    this.#key = fileKey(key, this.#header);
    this.#file = openSync(path, "w", 0o600);
    this.#write(this.#header);
  }

  append(operation: number, id: number, state: Uint8Array): void {
    const length = ENTRY_HEAD_BYTES + state.length + TAG_BYTES;
    if (length > 0xffff) throw new NetError("NET_STORE_FAILED", `a state of ${String(state.length)} bytes is too long`);
    const plain = Buffer.alloc(ENTRY_HEAD_BYTES + state.length);
    plain[0] = operation;
    plain.writeUInt32BE(id, 1);
    plain.set(state, ENTRY_HEAD_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonceOf(this.#entries)).setAAD(this.#header);
    const sealed = cipher.update(plain);
    cipher.final();
    this.#entries++;
    this.#write(Buffer.concat([Buffer.of(length >> 8, length & 0xff), sealed, cipher.getAuthTag()]));
  }

  close(isSynced: boolean): void {
    if (isSynced) fsyncSync(this.#file);
    closeSync(this.#file);
  }

  /** After a failure the end of the file is unknown, so nothing more is written. */
  #write(bytes: Uint8Array): void {
    if (this.#isBroken) throw new NetError("NET_STORE_FAILED", "the association store failed before");
    this.#isBroken = true;
    const written = writeSync(this.#file, bytes);
    if (written < bytes.length) throw new NetError("NET_STORE_FAILED", "the association store takes no more");
    this.bytes += written;
    this.#isBroken = false;
  }
}

function readFile(path: string, key: Uint8Array): Map<number, Uint8Array> | StoreRefusal {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return new Map();
    throw error;
  }
  const header = bytes.subarray(0, HEADER_BYTES);
  if (header.length < HEADER_BYTES) return "changed-or-another-key";
  if (!MAGIC.equals(header.subarray(0, MAGIC.length)) || header[MAGIC.length] !== VERSION) return "another-version";
  const live = new Map<number, Uint8Array>();
  const entryKey = fileKey(key, header);
  let isClosed = false;
  let offset = HEADER_BYTES;
  for (let index = 0; offset + 2 <= bytes.length; index++) {
    const end = offset + 2 + (((bytes[offset] ?? 0) << 8) | (bytes[offset + 1] ?? 0));
    // F1: the entry that was being written.
    if (end > bytes.length) break;
    const entry = openEntry(entryKey, header, index, bytes.subarray(offset + 2, end));
    if (entry === undefined || isClosed) return "changed-or-another-key";
    const id = entry.readUInt32BE(1);
    if (entry[0] === OPERATIONS.put) live.set(id, Uint8Array.from(entry.subarray(ENTRY_HEAD_BYTES)));
    else if (entry[0] === OPERATIONS.delete) live.delete(id);
    isClosed = entry[0] === OPERATIONS.close;
    offset = end;
  }
  const isOfThisBoot = bootId() !== undefined && bootBytes().equals(header.subarray(MAGIC.length + 1, BOOT_END));
  return isClosed || isOfThisBoot ? live : "not-of-this-boot";
}

function openEntry(key: KeyObject, header: Uint8Array, index: number, sealed: Uint8Array): Buffer | undefined {
  if (sealed.length < ENTRY_HEAD_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv("aes-256-gcm", key, nonceOf(index), { authTagLength: TAG_BYTES });
  decipher.setAAD(header).setAuthTag(sealed.subarray(-TAG_BYTES));
  const plain = decipher.update(sealed.subarray(0, -TAG_BYTES));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return plain;
}

function fileKey(key: Uint8Array, header: Uint8Array): KeyObject {
  const derived = hkdfSync("sha256", key, header.subarray(BOOT_END), "dpe-coap associations", KEY_BYTES);
  return createSecretKey(new Uint8Array(derived));
}

function nonceOf(index: number): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(index, 6, 6);
  return nonce;
}

function bootBytes(): Buffer {
  return Buffer.from((bootId() ?? "").replaceAll("-", "").padStart(2 * BOOT_BYTES, "0"), "hex");
}

const OPERATIONS = { put: 1, delete: 2, close: 3 } as const;
const MAGIC = Buffer.from("DPEA");
const VERSION = 1;
const BOOT_BYTES = 16;
const SALT_BYTES = 16;
const BOOT_END: number = MAGIC.length + 1 + BOOT_BYTES;
const HEADER_BYTES: number = BOOT_END + SALT_BYTES;
const KEY_BYTES = 32;
const TAG_BYTES = 16;
const ENTRY_HEAD_BYTES = 5;
const EMPTY = new Uint8Array(0);
/** The file is written anew when it is this many times as long as what lives in it. */
const COMPACTION_FACTOR = 4;
const COMPACTION_SLACK_BYTES = 262_144;
