import type { DropReason } from "../association-output.js";
import { DtlsError } from "../errors.js";
import { copyOf } from "../wire/writer.js";
import type { HandshakeFragment } from "../wire/handshake-header.js";

/** Orders handshake messages by message_seq and joins their fragments (RFC 6347 §4.2.2, §4.2.3). */
export class Reassembly {
  /** The message_seq that is taken next. */
  nextSeq = 0;
  /** Made when a message comes in pieces, or ahead of its turn: most do neither. */
  #messages: Map<number, PartialMessage> | undefined;
  readonly #maxBytes: number;

  /**
   * `maxBytes`: the longest message, and the most that is held for the next message, and once more for those after it,
   * and as much again of what came in verified records, a fixed cost for each piece included. Nothing is allocated ahead of what arrives.
   */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether the fragment is the whole message that is taken next, and nothing is held of that: it need not be kept. */
  isNext({ messageSeq, length, fragment }: HandshakeFragment): boolean {
    if (messageSeq !== this.nextSeq || fragment.length !== length || length > this.#maxBytes) return false;
    return this.#messages?.has(messageSeq) !== true;
  }

  /**
   * Takes a copy of the fragment; or says why it is dropped. What came in a verified record prevails over what did not:
   * otherwise a forged fragment could take the place of Finished.
   * @throws DtlsError DTLS_ILLEGAL_PARAMETER for fragments that disagree, DTLS_REASSEMBLY_LIMIT
   */
  add(fragment: HandshakeFragment, isVerified = false): DropReason | undefined {
    const { messageSeq, length } = fragment;
    if (messageSeq < this.nextSeq) return "duplicate-message";
    if (messageSeq >= this.nextSeq + MAX_MESSAGES_AHEAD) return "reassembly-limit";
    if (length > this.#maxBytes) {
      if (messageSeq === this.nextSeq) throw new DtlsError("DTLS_REASSEMBLY_LIMIT", `${String(length)} bytes`);
      return "reassembly-limit";
    }
    if (fragment.fragment.length === 0 && length > 0) return "malformed-fragment";
    const messages = (this.#messages ??= new Map());
    const held = messages.get(messageSeq);
    if (held !== undefined && held.isVerified && !isVerified) return "unexpected-message";
    if (held !== undefined && !held.isVerified && isVerified) messages.delete(messageSeq);
    const known = messages.get(messageSeq);
    if (known !== undefined && (known.type !== fragment.type || known.length !== length)) {
      throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "fragments of one message disagree");
    }
    const heldBytes = this.#heldBytes(messageSeq, isVerified);
    if (heldBytes + PIECE_COST_BYTES + fragment.fragment.length > this.#budget()) return "reassembly-limit";
    const message = known ?? { type: fragment.type, length, messageSeq, isVerified, pieces: [] };
    messages.set(messageSeq, message);
    insert(message.pieces, fragment.fragmentOffset, fragment.fragment);
    return undefined;
  }

  /** The next message when it is whole; stays until `advance`. */
  peek(): (HandshakeMessage & { readonly isVerified: boolean }) | undefined {
    const message = this.#messages?.get(this.nextSeq);
    if (message === undefined) return undefined;
    if (message.body === undefined) {
      let have = 0;
      for (const piece of message.pieces) have += piece.bytes.length;
      if (have < message.length) return undefined;
      message.body = bodyOf(message);
    }
    const { type, messageSeq, body, isVerified } = message;
    return { type, messageSeq, body, isVerified };
  }

  /** The next message has been dealt with. */
  advance(): void {
    this.#messages?.delete(this.nextSeq);
    this.nextSeq++;
  }

  /** The next message was forged: another may take its place. */
  discard(): void {
    this.#messages?.delete(this.nextSeq);
  }

  #budget(): number {
    return this.#maxBytes + MAX_MESSAGES_AHEAD * PIECE_COST_BYTES;
  }

  /** What is held for the next message, or for all the ones after it, verified or not. */
  #heldBytes(messageSeq: number, isVerified: boolean): number {
    let held = 0;
    for (const message of this.#messages?.values() ?? []) {
      if (message.isVerified !== isVerified) continue;
      if ((message.messageSeq === this.nextSeq) !== (messageSeq === this.nextSeq)) continue;
      for (const piece of message.pieces) held += PIECE_COST_BYTES + piece.bytes.length;
    }
    return held;
  }
}

/** A whole message. */
export interface HandshakeMessage {
  readonly type: number;
  readonly messageSeq: number;
  readonly body: Uint8Array;
}

interface PartialMessage {
  readonly type: number;
  readonly length: number;
  readonly messageSeq: number;
  readonly isVerified: boolean;
  /** In order, without overlap. */
  readonly pieces: Piece[];
  body?: Uint8Array;
}

interface Piece {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Adds what no piece covers yet; what came first stays. */
function insert(pieces: Piece[], offset: number, bytes: Uint8Array): void {
  const end = offset + bytes.length;
  let start = offset;
  let index = 0;
  while (start < end) {
    const piece = pieces[index];
    if (piece === undefined || piece.offset >= end) {
      pieces.splice(index, 0, { offset: start, bytes: copyOf(bytes, start - offset) });
      return;
    }
    if (piece.offset > start) {
      pieces.splice(index, 0, { offset: start, bytes: copyOf(bytes, start - offset, piece.offset - offset) });
      index++;
    }
    start = Math.max(start, piece.offset + piece.bytes.length);
    index++;
  }
}

function bodyOf({ pieces, length }: PartialMessage): Uint8Array {
  const [first] = pieces;
  if (first !== undefined && pieces.length === 1) return first.bytes;
  const body = new Uint8Array(length);
  for (const piece of pieces) body.set(piece.bytes, piece.offset);
  return body;
}

/** No flight has more messages. */
const MAX_MESSAGES_AHEAD = 10;
/** What a piece costs besides its bytes. */
const PIECE_COST_BYTES = 64;
