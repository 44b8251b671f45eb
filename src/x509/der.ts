/**
 * One element of a DER encoding (X.690 §8.1): identifier octet, length, contents.
 *
 * ```
 *  0            1 .. 5
 * +------------+---------------+----------------------+
 * | identifier | length        | contents             |
 * +------------+---------------+----------------------+
 * ```
 */
export interface DerElement {
  /** The identifier octet as it is: class, constructed bit and tag number. */
  readonly tag: number;
  /** The contents, a view of the input. */
  readonly contents: Uint8Array;
  /** The whole element, a view of the input. */
  readonly bytes: Uint8Array;
}

/** Reads the one element that fills `bytes`; throws RangeError where it is not DER, or not the `tag` that was expected. */
export function decodeDer(bytes: Uint8Array, tag?: number): DerElement {
  const element = elementAt(bytes, 0);
  if (element.bytes.length !== bytes.length) throw new RangeError("bytes after the DER element");
  if (tag !== undefined && element.tag !== tag) throw new RangeError(`DER tag ${element.tag} in place of ${tag}`);
  return element;
}

/** Reads the elements that fill the contents of a constructed element; throws RangeError where they are not DER. */
export function decodeDerSequence(contents: Uint8Array): DerElement[] {
  const elements: DerElement[] = [];
  for (let offset = 0; offset < contents.length;) {
    const element = elementAt(contents, offset);
    elements.push(element);
    offset += element.bytes.length;
  }
  return elements;
}

function elementAt(bytes: Uint8Array, offset: number): DerElement {
  const tag = bytes[offset];
  const first = bytes[offset + 1];
  if (tag === undefined || first === undefined) throw new RangeError("DER ends within a header");
  if ((tag & 0x1f) === 0x1f) throw new RangeError("a DER tag number above 30 has no place in a certificate");
  let length = first;
  let start = offset + 2;
  if (first >= 0x80) {
    const octets = first - 0x80;
    if (octets < 1 || octets > 3) throw new RangeError("DER length is indefinite or too large");
    length = 0;
    for (let index = 0; index < octets; index++) length = length * 256 + (bytes[start + index] ?? Number.NaN);
    // X.690 §10.1: the definite form with the fewest octets.
    if (!(length >= (octets === 1 ? 0x80 : 256 ** (octets - 1)))) throw new RangeError("DER length is not minimal");
    start += octets;
  }
  const end = start + length;
  if (end > bytes.length) throw new RangeError("DER ends within an element");
  return { tag, contents: bytes.subarray(start, end), bytes: bytes.subarray(offset, end) };
}

/** The tags that certificates use here (X.680, RFC 5280 appendix A). */
export const DER_TAG = {
  INTEGER: 0x02,
  OBJECT_IDENTIFIER: 0x06,
  UTF8_STRING: 0x0c,
  PRINTABLE_STRING: 0x13,
  IA5_STRING: 0x16,
  SEQUENCE: 0x30,
  SET: 0x31,
  CONTEXT_0: 0xa0,
  CONTEXT_1: 0xa1,
  CONTEXT_3: 0xa3,
} as const;
