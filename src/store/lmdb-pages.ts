import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/**
 * What is wrong with the pages of an LMDB file, in a few words; undefined where they lead to each other as they should. LMDB
 * believes what it finds, so that a file which was cut off or overwritten ends the process by a signal, and every process after it.
 * The values themselves are not looked at: `checkStore` does that.
 *
 * Little-endian machines of 64 bits, as all are that Node.js runs on but for s390x, which finds nothing wrong.
 *
 * ```text
 * page:  number 8, transaction 8, pad 2, flags 2, lower 2, upper 2, then offsets of 2 bytes: of (lower / 2) nodes
 * node:  low 2, high 2 (size of the data, or page below), flags 2 (further bits of the page), key size 2, key, data
 * meta:  page header, magic 4, version 4, address 8, map size 8, tree of free pages, tree of trees, last page 8, transaction 8
 * tree:  pad 4 (of the first: page size), flags 2, depth 2, branch, leaf, overflow pages 8 each, entries 8, root 8
 * ```
 *
 * @param isThorough - every page; else only the first ones, and how long the file must be.
 * @throws system errors of the file.
 */
export function faultOfPages(path: string, isThorough: boolean): string | undefined {
  if (IS_BIG_ENDIAN) return undefined;
  const descriptor = openSync(path, "r");
  try {
    const { size } = fstatSync(descriptor);
    return size === 0 ? undefined : new Pages(descriptor, size).fault(isThorough);
  } catch (error) {
    if (error instanceof PageFault) return error.message;
    throw error;
  } finally {
    closeSync(descriptor);
  }
}

class Pages {
  readonly #descriptor: number;
  readonly #size: number;
  readonly #seen = new Set<number>();
  #pageSize = LEAST_PAGE_SIZE;

  constructor(descriptor: number, size: number) {
    this.#descriptor = descriptor;
    this.#size = size;
  }

  fault(isThorough: boolean): string | undefined {
    const first = this.#read(0);
    if (first.readUInt32LE(HEADER_SIZE) !== MAGIC) return "its first page is none of LMDB";
    this.#pageSize = first.readUInt32LE(META_TREES);
    if (!PAGE_SIZES.has(this.#pageSize)) return `a page cannot have ${this.#pageSize} bytes`;
    const metas = [this.#read(0), this.#read(1)].filter((page) => page.readUInt32LE(HEADER_SIZE) === MAGIC);
    const [newest = first] = metas.toSorted((one, other) =>
      Number(other.readBigUInt64LE(META_TRANSACTION) - one.readBigUInt64LE(META_TRANSACTION)),
    );
    const needed = (Number(newest.readBigUInt64LE(META_LAST_PAGE)) + 1) * this.#pageSize;
    // The last pages may be free ones that were never written: then all of them tell.
    if (!isThorough && this.#size >= needed) return undefined;
    for (const at of [META_TREES, META_TREES + TREE_SIZE]) this.#walkTree(newest, at);
    return undefined;
  }

  #walkTree(page: Buffer, at: number): void {
    const root = page.readBigUInt64LE(at + TREE_ROOT);
    if (root !== NO_PAGE) this.#walk(Number(root), page.readUInt16LE(at + TREE_DEPTH));
  }

  #walk(number: number, depth: number): void {
    const page = this.#read(number);
    if (this.#seen.has(number)) throw new PageFault(`page ${number} is used twice`);
    this.#seen.add(number);
    const flags = page.readUInt16LE(18) & KINDS;
    if (page.readBigUInt64LE(0) !== BigInt(number) || flags !== (depth > 1 ? BRANCH : LEAF) || depth < 1)
      throw new PageFault(`page ${number} is not what the one above it says`);
    const lower = page.readUInt16LE(20);
    const upper = page.readUInt16LE(22);
    if (lower > upper || upper > this.#pageSize - HEADER_SIZE || lower % 2 !== 0)
      throw new PageFault(`page ${number} has no bounds`);
    for (let index = 0; index < lower / 2; index++) {
      const offset = page.readUInt16LE(HEADER_SIZE + index * 2);
      const at = offset + HEADER_SIZE;
      const keySize = at + NODE_SIZE <= this.#pageSize ? page.readUInt16LE(at + 6) : Number.NaN;
      const end = at + NODE_SIZE + keySize;
      if (offset < upper || !(end <= this.#pageSize)) throw new PageFault(`page ${number} has a node outside of it`);
      if (depth > 1) this.#walk(page.readUInt32LE(at) + page.readUInt16LE(at + 4) * 2 ** 32, depth - 1);
      else this.#leafNode(page, number, at, end);
    }
  }

  #leafNode(page: Buffer, number: number, at: number, dataAt: number): void {
    const size = page.readUInt32LE(at);
    const flags = page.readUInt16LE(at + 4);
    const isElsewhere = (flags & NODE_BIG_DATA) !== 0;
    if (dataAt + (isElsewhere ? 8 : size) > this.#pageSize)
      throw new PageFault(`page ${number} has a value outside of it`);
    if (isElsewhere) {
      const first = Number(page.readBigUInt64LE(dataAt));
      if (first * this.#pageSize + HEADER_SIZE + size > this.#size)
        throw new PageFault(`it is cut off at ${this.#size} bytes`);
      if ((this.#read(first).readUInt16LE(18) & KINDS) !== OVERFLOW)
        throw new PageFault(`page ${first} is not what page ${number} says`);
    } else if ((flags & NODE_TREE) !== 0 && size >= TREE_SIZE) this.#walkTree(page, dataAt);
  }

  #read(number: number): Buffer {
    const page = Buffer.alloc(this.#pageSize);
    if (!Number.isSafeInteger(number) || (number + 1) * this.#pageSize > this.#size)
      throw new PageFault(`it is cut off at ${this.#size} bytes, or page ${number} was never in it`);
    readSync(this.#descriptor, page, 0, this.#pageSize, number * this.#pageSize);
    return page;
  }
}

class PageFault extends Error {}

const IS_BIG_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 0;
const MAGIC = 0xbeefc0de;
const LEAST_PAGE_SIZE = 4096;
const PAGE_SIZES: ReadonlySet<number> = new Set([4096, 8192, 16_384, 32_768, 65_536]);
const HEADER_SIZE = 24;
const META_TREES = HEADER_SIZE + 24;
const TREE_SIZE = 48;
const TREE_DEPTH = 6;
const TREE_ROOT = 40;
const META_LAST_PAGE = META_TREES + 2 * TREE_SIZE;
const META_TRANSACTION = META_LAST_PAGE + 8;
const NO_PAGE = 2n ** 64n - 1n;
const BRANCH = 1;
const LEAF = 2;
const OVERFLOW = 4;
const KINDS = 0x0f;
const NODE_SIZE = 8;
const NODE_BIG_DATA = 1;
const NODE_TREE = 2;
