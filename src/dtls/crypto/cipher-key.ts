import { createSecretKey, type KeyObject } from "node:crypto";

/**
 * A key as a cipher object of node:crypto takes it soonest: Node 24 throws, and catches, an error inside of itself for each
 * key that is bytes, which costs 10 to 20 µs, where to make a KeyObject costs 2; elsewhere bytes cost nothing.
 */
export const cipherKey: (key: Uint8Array) => Uint8Array | KeyObject = process.version.startsWith("v24.")
  ? createSecretKey
  : (key) => key;
