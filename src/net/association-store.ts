import { isIP } from "node:net";
import type { SocketAddress } from "./udp-socket.js";

/**
 * Where the living associations of an endpoint are kept, so that it goes on with them after a restart. What is kept are
 * keys: it must stay secret and unchanged, and be used by one endpoint at a time. See `FileAssociationStore`.
 *
 * - `put` has taken effect when it returns: what it kept must outlive what the store is to be safe against. It throws when
 *   it cannot; then the association ends.
 * - `load` gives what was kept last under each number, once; nothing of it must be found by a later `load` unless it is
 *   put again, or the endpoint has ended before it sent anything.
 */
export interface AssociationStore {
  load(): Iterable<KeptAssociation>;
  put(id: number, state: Uint8Array): void;
  delete(id: number): void;
  /** After an orderly stop, with the last states: no `put` follows. */
  close(): void;
}

export interface KeptAssociation {
  /** 1 to 2^32 − 1. */
  readonly id: number;
  readonly state: Uint8Array;
}

/** What an endpoint keeps of one session. */
export interface SessionState {
  readonly remoteAddress: SocketAddress;
  /** Of the application; see `DtlsSession.attachment`. */
  readonly attachment: Uint8Array;
  readonly association: Uint8Array;
}

/** version ‖ port ‖ address<text> ‖ attachment<0..2^8-1> ‖ association. */
export function encodeSessionState({ remoteAddress, attachment, association }: SessionState): Uint8Array {
  const address = Buffer.from(remoteAddress.address, "latin1");
  return Buffer.concat([
    Buffer.of(VERSION, remoteAddress.port >> 8, remoteAddress.port & 0xff, address.length),
    address,
    Buffer.of(attachment.length),
    attachment,
    association,
  ]);
}

/** Undefined for what is none. */
export function decodeSessionState(state: Uint8Array): SessionState | undefined {
  if (state[0] !== VERSION) return undefined;
  const addressEnd = 4 + (state[3] ?? 0);
  const attachmentEnd = addressEnd + 1 + (state[addressEnd] ?? 0);
  if (attachmentEnd > state.length) return undefined;
  const address = Buffer.from(state.subarray(4, addressEnd)).toString("latin1");
  if (isIP(address) === 0) return undefined;
  return {
    remoteAddress: { address, port: ((state[1] ?? 0) << 8) | (state[2] ?? 0) },
    attachment: Uint8Array.from(state.subarray(addressEnd + 1, attachmentEnd)),
    association: Uint8Array.from(state.subarray(attachmentEnd)),
  };
}

export const MAX_ATTACHMENT_BYTES = 255;
const VERSION = 1;
