import { type Allocate, SHORT_MESSAGE_BYTES } from "#coap/index.js";

/**
 * Room for messages that are sent: short ones share memory outside of V8's heap. An array of up to 64 bytes of its own is in that
 * heap, and gets an ArrayBuffer, by malloc, when native code first asks for its address: that costs 1 µs, a fifth of the sending.
 */
export function messageRoom(): Allocate {
  let shared = new ArrayBuffer(SHARED_BYTES);
  let used = 0;
  return (bytes) => {
    if (bytes > SHORT_MESSAGE_BYTES) return new Uint8Array(bytes);
    if (used + bytes > SHARED_BYTES) {
      shared = new ArrayBuffer(SHARED_BYTES);
      used = 0;
    }
    const room = new Uint8Array(shared, used, bytes);
    used += bytes;
    return room;
  };
}

const SHARED_BYTES = 8192;
