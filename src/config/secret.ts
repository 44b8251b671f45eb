/**
 * A secret value. It never prints itself: string conversion, JSON, `console.log` and template literals give
 * `[secret]`. Only `reveal` and `text` hand it out.
 */
export class Secret {
  /** The file that it is the whole of, absolute; undefined: it came from elsewhere. */
  readonly path: string | undefined;
  readonly #bytes: Uint8Array;

  /** Copies `bytes`; text is taken as UTF-8. */
  constructor(value: Uint8Array | string, path?: string) {
    this.#bytes = typeof value === "string" ? new TextEncoder().encode(value) : value.slice();
    this.path = path;
  }

  /** A fresh copy of the bytes, owned by the caller. */
  reveal(): Uint8Array {
    return this.#bytes.slice();
  }

  /** The bytes as UTF-8 text. Bytes that are not UTF-8 (a binary key) become U+FFFD: use `reveal` for those. */
  text(): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.#bytes);
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [Symbol.toPrimitive](): string {
    return MASK;
  }

  static {
    // A computed member could not be declared under isolatedDeclarations.
    Object.defineProperty(this.prototype, Symbol.for("nodejs.util.inspect.custom"), { value: () => MASK });
  }
}

const MASK = "[secret]";
