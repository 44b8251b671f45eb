/** Frames as deployed implementations of slipmux agree on them; the third has the shortest message there is. */
export const VECTORS: readonly { readonly what: string; readonly message: string; readonly frame: string }[] = [
  {
    what: "a request for /.well-known/core",
    message: "40011234bb2e77656c6c2d6b6e6f776e04636f7265",
    frame: "c0a940011234bb2e77656c6c2d6b6e6f776e04636f72659eb2c0",
  },
  { what: "a message with END and ESC in it", message: "5001c0db", frame: "c0a95001dbdcdbdde959c0" },
  { what: "a request of a header alone", message: "40010000", frame: "c0a940010000bc38c0" },
];

export function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

/** Numbers from 0 to below `limit`, the same for the same seed (mulberry32). */
export function randomOf(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) % limit;
  };
}
