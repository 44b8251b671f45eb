/** FCS-16, which is CRC-16/X.25, over `bytes`; its complement goes onto the wire, low byte first. */
export function fcs(bytes: Uint8Array, start: number = FCS_START): number {
  let value = start;
  for (const byte of bytes) value = (value >> 8) ^ (TABLE[(value ^ byte) & 0xff] ?? 0);
  return value;
}

export const FCS_START = 0xffff;
/** The value over bytes and the FCS that belongs to them. */
export const FCS_GOOD = 0xf0b8;

const TABLE: Uint16Array = Uint16Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) === 1 ? (value >> 1) ^ 0x8408 : value >> 1;
  return value;
});
