import { FCS_GOOD, FCS_START, fcs } from "./fcs.js";

/**
 * Frames of slipmux (draft-bormann-t2trg-slipmux) out of a stream that may begin anywhere and hold anything:
 *
 * ```
 * END | type | bytes, END and ESC among them escaped ... | FCS low | FCS high | END
 * ```
 *
 * Type 0xa9 is a CoAP message with an FCS, 0x0a is text without one; IP packets and whatever else are passed over.
 */
export class SlipmuxDecoder {
  readonly counters: SlipmuxCounters = { frames: 0, dropped: 0, foreign: 0, skippedBytes: 0 };
  readonly #buffer: Uint8Array;
  #length = 0;
  #state: "outside" | "start" | "within" | "escaped" = "outside";

  /** `maxFrameBytes`: type, message and FCS, default 2048; a longer frame is dropped. */
  constructor(maxFrameBytes: number = DEFAULT_MAX_FRAME_BYTES) {
    this.#buffer = new Uint8Array(maxFrameBytes);
  }

  /** The frames that are whole with these bytes. Their bytes are copies. */
  push(bytes: Uint8Array): SlipmuxFrame[] {
    const frames: SlipmuxFrame[] = [];
    for (const byte of bytes) {
      if (byte === END) {
        const frame = this.#end();
        if (frame !== undefined) frames.push(frame);
      } else {
        this.#take(byte);
      }
    }
    return frames;
  }

  #take(byte: number): void {
    switch (this.#state) {
      case "outside":
        this.counters.skippedBytes++;
        return;
      case "escaped":
        if (byte !== ESC_END && byte !== ESC_ESC) return this.#drop();
        this.#state = "within";
        return this.#append(byte === ESC_END ? END : ESC);
      case "start":
      case "within":
        if (byte === ESC) this.#state = "escaped";
        else {
          this.#state = "within";
          this.#append(byte);
        }
    }
  }

  #append(byte: number): void {
    if (this.#length === this.#buffer.length) return this.#drop();
    this.#buffer[this.#length++] = byte;
  }

  #drop(): void {
    this.counters.dropped++;
    this.counters.skippedBytes += this.#length;
    this.#length = 0;
    this.#state = "outside";
  }

  #end(): SlipmuxFrame | undefined {
    const state = this.#state;
    if (state === "escaped") this.#drop();
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#state = "start";
    this.#length = 0;
    if (state !== "within") return undefined;
    const type = bytes[0] ?? 0;
    if (type === TYPE_TEXT) {
      this.counters.frames++;
      return { type: "text", bytes: bytes.slice(1) };
    }
    if (type !== TYPE_COAP) {
      this.counters.foreign++;
      this.counters.skippedBytes += bytes.length;
      return undefined;
    }
    if (bytes.length < 1 + MIN_MESSAGE_BYTES + FCS_BYTES || fcs(bytes) !== FCS_GOOD) {
      this.counters.dropped++;
      this.counters.skippedBytes += bytes.length;
      return undefined;
    }
    this.counters.frames++;
    return { type: "coap", message: bytes.slice(1, -FCS_BYTES) };
  }
}

export type SlipmuxFrame =
  | { readonly type: "coap"; readonly message: Uint8Array }
  | { readonly type: "text"; readonly bytes: Uint8Array };

export interface SlipmuxCounters {
  frames: number;
  /** Frames that were begun and are not good. */
  dropped: number;
  /** IP packets, and frames of a type that is not known. */
  foreign: number;
  /** Bytes of those, and bytes before the first frame. */
  skippedBytes: number;
}

/** The frame of a CoAP message, with an END on either side: a receiver may start in an unknown state. */
export function encodeCoapFrame(message: Uint8Array): Uint8Array {
  const check = fcs(message, fcs(Uint8Array.of(TYPE_COAP), FCS_START)) ^ 0xffff;
  return framed(Uint8Array.of(TYPE_COAP, ...message, check & 0xff, check >> 8));
}

export function encodeTextFrame(text: Uint8Array): Uint8Array {
  return framed(Uint8Array.of(TYPE_TEXT, ...text));
}

function framed(bytes: Uint8Array): Uint8Array {
  const escaped: number[] = [END];
  for (const byte of bytes) {
    if (byte === END) escaped.push(ESC, ESC_END);
    else if (byte === ESC) escaped.push(ESC, ESC_ESC);
    else escaped.push(byte);
  }
  return Uint8Array.of(...escaped, END);
}

const END = 0xc0;
const ESC = 0xdb;
const ESC_END = 0xdc;
const ESC_ESC = 0xdd;
const TYPE_COAP = 0xa9;
const TYPE_TEXT = 0x0a;
const FCS_BYTES = 2;
/** A CoAP message has a header at least. */
const MIN_MESSAGE_BYTES = 4;
const DEFAULT_MAX_FRAME_BYTES = 2048;
