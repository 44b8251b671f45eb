import { createHash } from "node:crypto";
import type { PeerInfo } from "./association-output.js";
import { KEY_BLOCK_BYTES } from "./crypto/key-schedule.js";
import { schemeById, SIGNATURE_SCHEMES } from "./crypto/signatures.js";
import { suiteById, suiteByName } from "./crypto/suites.js";
import { DtlsError } from "./errors.js";
import type { RecordLimits } from "./handshake/record-limits.js";
import { MAX_SEQUENCE_NUMBER } from "./wire/record.js";
import { ByteReader } from "./wire/reader.js";
import { concat, copyOf, uint16, uint8, vector8 } from "./wire/writer.js";

/**
 * A living association as bytes, from which it goes on after a restart without a handshake. They hold its keys: whoever
 * keeps them keeps them secret and unchanged.
 *
 * Invariants of saved state:
 * - S1 Every record of epoch 1 that left had a sequence number below the `sendBound` that was saved before it left.
 * - S2 Every record of epoch 1 that was taken had a sequence number below the `receiveFloor` that was saved before it had
 *   an effect.
 * - S3 A restored association sends from `sendBound` on: so no nonce is used twice (S1).
 * - S4 A restored association takes nothing below `receiveFloor`: so nothing is taken twice (S2). What the peer sent below
 *   it and we never saw is lost, as by the network.
 * - S5 State is used once: when it is restored, older state of the same association is gone.
 */
export interface SavedAssociation {
  readonly role: "client" | "server";
  readonly keyBlock: Uint8Array;
  readonly ownConnectionId: Uint8Array;
  readonly peerConnectionId: Uint8Array;
  readonly limits: RecordLimits;
  readonly sendBound: number;
  readonly receiveFloor: number;
  /** Without `certificates`, of which the leaf's hash remains. */
  readonly peer: PeerInfo;
}

export function encodeSavedAssociation(saved: SavedAssociation): Uint8Array {
  const { role, peer, limits } = saved;
  const flags =
    (role === "client" ? FLAGS.isClient : 0) |
    (peer.extendedMasterSecret ? FLAGS.extendedMasterSecret : 0) |
    (peer.isResumed ? FLAGS.isResumed : 0) |
    (peer.returnRoutabilityCheck ? FLAGS.returnRoutabilityCheck : 0);
  const hash = peer.certificateHash ?? hashOfLeaf(peer.certificates);
  return concat(
    uint8(VERSION),
    uint8(flags),
    uint16(suiteByName(peer.suite).id),
    saved.keyBlock,
    vector8(saved.ownConnectionId),
    vector8(saved.peerConnectionId),
    uint16(limits.sendProtectedBytes),
    uint16(limits.receiveProtectedBytes),
    uint48(saved.sendBound),
    uint48(saved.receiveFloor),
    uint16(peer.signatureScheme === undefined ? 0 : SIGNATURE_SCHEMES[peer.signatureScheme].id),
    optional(peer.pskIdentity),
    optional(peer.rawPublicKey),
    optional(hash),
    optional(peer.serverName === undefined ? undefined : Buffer.from(peer.serverName, "latin1")),
    optional(peer.applicationProtocol === undefined ? undefined : Buffer.from(peer.applicationProtocol, "latin1")),
  );
}

/** @throws DtlsError DTLS_BAD_SAVED_STATE for what is no state, or is of another version */
export function decodeSavedAssociation(bytes: Uint8Array): SavedAssociation {
  try {
    return read(new ByteReader(bytes));
  } catch (cause) {
    throw new DtlsError("DTLS_BAD_SAVED_STATE", undefined, { cause });
  }
}

function read(reader: ByteReader): SavedAssociation {
  if (reader.uint8() !== VERSION) throw new DtlsError("DTLS_DECODE_ERROR", "version");
  const flags = reader.uint8();
  const suite = suiteById(reader.uint16());
  if (suite === undefined || (flags & ~ALL_FLAGS) !== 0) throw new DtlsError("DTLS_DECODE_ERROR", "suite or flags");
  const keyBlock = copyOf(reader.bytes(KEY_BLOCK_BYTES));
  const ownConnectionId = copyOf(reader.vector8());
  const peerConnectionId = copyOf(reader.vector8());
  const [send, receive] = [reader.uint16(), reader.uint16()];
  const [sendBound, receiveFloor] = [readUint48(reader), readUint48(reader)];
  const signatureScheme = schemeById(reader.uint16());
  const pskIdentity = readOptional(reader);
  const rawPublicKey = readOptional(reader);
  const certificateHash = readOptional(reader);
  const serverName = readOptional(reader);
  const applicationProtocol = readOptional(reader);
  reader.end();
  return {
    role: (flags & FLAGS.isClient) === 0 ? "server" : "client",
    keyBlock,
    ownConnectionId,
    peerConnectionId,
    limits: { sendPlaintextBytes: send, sendProtectedBytes: send, receiveProtectedBytes: receive },
    sendBound,
    receiveFloor,
    peer: {
      suite: suite.name,
      extendedMasterSecret: (flags & FLAGS.extendedMasterSecret) !== 0,
      isResumed: (flags & FLAGS.isResumed) !== 0,
      hasConnectionId: ownConnectionId.length > 0,
      returnRoutabilityCheck: (flags & FLAGS.returnRoutabilityCheck) !== 0,
      ...(signatureScheme === undefined ? {} : { signatureScheme }),
      ...(pskIdentity === undefined ? {} : { pskIdentity }),
      ...(rawPublicKey === undefined ? {} : { rawPublicKey }),
      ...(certificateHash === undefined ? {} : { certificateHash }),
      ...(serverName === undefined ? {} : { serverName: Buffer.from(serverName).toString("latin1") }),
      ...(applicationProtocol === undefined
        ? {}
        : { applicationProtocol: Buffer.from(applicationProtocol).toString("latin1") }),
    },
  };
}

function hashOfLeaf(certificates: readonly Uint8Array[] | undefined): Uint8Array | undefined {
  const leaf = certificates?.[0];
  return leaf && createHash("sha256").update(leaf).digest();
}

function optional(bytes: Uint8Array | undefined): Uint8Array {
  return bytes === undefined ? uint8(0) : concat(uint8(1), uint16(bytes.length), bytes);
}

function readOptional(reader: ByteReader): Uint8Array | undefined {
  return reader.uint8() === 0 ? undefined : copyOf(reader.vector16());
}

function uint48(value: number): Uint8Array {
  const high = Math.floor(value / 0x1_0000_0000);
  return concat(uint16(high), uint16(Math.floor(value / 0x1_0000) & 0xffff), uint16(value & 0xffff));
}

function readUint48(reader: ByteReader): number {
  const value = (reader.uint16() * 0x1_0000 + reader.uint16()) * 0x1_0000 + reader.uint16();
  return Math.min(value, MAX_SEQUENCE_NUMBER);
}

const VERSION = 1;
const FLAGS = { isClient: 1, extendedMasterSecret: 2, isResumed: 4, returnRoutabilityCheck: 8 } as const;
const ALL_FLAGS = 15;
