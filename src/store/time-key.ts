/** A time as a key: 16 hexadecimal digits that sort as the numbers do, and give back exactly the number. */
export function timeKey(time: number): string {
  VIEW.setFloat64(0, time === 0 ? 0 : time);
  const high = VIEW.getInt32(0);
  const low = VIEW.getInt32(4);
  return high < 0 ? hexadecimal(~high) + hexadecimal(~low) : hexadecimal(high | (1 << 31)) + hexadecimal(low);
}

/** The time that begins a key. */
export function timeOfKey(key: string): number {
  const sorted = BigInt(`0x${key.slice(0, TIME_KEY_LENGTH)}`);
  VIEW.setBigUint64(0, (sorted & SIGN) === 0n ? BigInt.asUintN(64, ~sorted) : sorted & ~SIGN);
  return VIEW.getFloat64(0);
}

function hexadecimal(word: number): string {
  return (word >>> 0).toString(16).padStart(TIME_KEY_LENGTH / 2, "0");
}

export const TIME_KEY_LENGTH = 16;
const VIEW = new DataView(new ArrayBuffer(8));
const SIGN = 1n << 63n;
