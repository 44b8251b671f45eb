/** An error of the store. `code` is API; the sentence is not. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export type StoreErrorCode =
  /** Two writers kept getting in each other's way; try again. */
  | "STORE_CONFLICT"
  /** What is imported, or stands in the store, is not what a store writes. */
  | "STORE_CORRUPT"
  /** The database's own file is not whole. */
  | "STORE_DAMAGED"
  /** Another process writes to this folder. */
  | "STORE_IN_USE"
  /** The store was written by a newer version. */
  | "STORE_NEWER_SCHEMA"
  /** The database would forget what it acknowledged. */
  | "STORE_NOT_DURABLE"
  /** Import is into an empty store only. */
  | "STORE_NOT_EMPTY"
  /** The database does not answer, or its folder cannot be used. */
  | "STORE_UNAVAILABLE";
