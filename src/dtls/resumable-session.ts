import { timingSafeEqual } from "node:crypto";
import { HmacSha256 } from "./crypto/sha256.js";
import type { PeerInfo } from "./association-output.js";
import { schemeById, SIGNATURE_SCHEMES } from "./crypto/signatures.js";
import { suiteById, suiteByName } from "./crypto/suites.js";
import { DtlsError } from "./errors.js";
import { ByteReader } from "./wire/reader.js";
import { concat, copyOf, uint16, uint8, vector16, vector24, vector8 } from "./wire/writer.js";

/**
 * What resumption takes over of a full handshake, on either side. Only sessions with the extended master secret are made:
 * without it a session is not bound to its handshake (RFC 7627 §1).
 */
export interface ResumableSession {
  /** 48 bytes. */
  readonly masterSecret: Uint8Array;
  /** Unix time in seconds of the full handshake; a client's is 0. */
  readonly establishedAt: number;
  /** The same of when the ticket was issued: with the full handshake, or renewed since. */
  readonly issuedAt: number;
  /** The host name that the client asked for; resumption is for the same one only (RFC 6066 §3). */
  readonly serverName: string | undefined;
  readonly peer: Pick<PeerInfo, "suite" | "pskIdentity" | "certificates" | "rawPublicKey" | "signatureScheme">;
  /** Binds the session to the very pre-shared key: `pskTag` of it. */
  readonly pskTag: Uint8Array | undefined;
  /** Client: how to name the session to the server. */
  readonly sessionId: Uint8Array;
  readonly ticket: Uint8Array;
}

export function encodeSession(session: ResumableSession): Uint8Array {
  const { peer, serverName, pskTag, sessionId, ticket, establishedAt, issuedAt } = session;
  const { suite, pskIdentity, certificates, rawPublicKey, signatureScheme } = peer;
  const optional = (bytes: Uint8Array | undefined): Uint8Array =>
    bytes === undefined ? uint8(0) : concat(uint8(1), vector16(bytes));
  return concat(
    uint8(VERSION),
    uint16(suiteByName(suite).id),
    vector8(session.masterSecret),
    uint32(establishedAt),
    uint32(issuedAt),
    optional(serverName === undefined ? undefined : Buffer.from(serverName, "latin1")),
    optional(pskIdentity),
    optional(pskTag),
    optional(rawPublicKey),
    uint16(signatureScheme === undefined ? 0 : SIGNATURE_SCHEMES[signatureScheme].id),
    vector8(sessionId),
    vector16(ticket),
    certificates === undefined ? EMPTY : vector24(...certificates.map((certificate) => vector24(certificate))),
  );
}

/** Undefined for bytes of another version, or that are none of ours. */
export function decodeSession(bytes: Uint8Array): ResumableSession | undefined {
  try {
    return read(new ByteReader(bytes));
  } catch (error) {
    if (error instanceof DtlsError) return undefined;
    throw error;
  }
}

function read(reader: ByteReader): ResumableSession | undefined {
  if (reader.uint8() !== VERSION) return undefined;
  const suite = suiteById(reader.uint16());
  const masterSecret = copyOf(reader.vector8());
  const [establishedAt, issuedAt] = [readUint32(reader), readUint32(reader)];
  const optional = (): Uint8Array | undefined => (reader.uint8() === 0 ? undefined : copyOf(reader.vector16()));
  const serverName = optional();
  const pskIdentity = optional();
  const pskTagged = optional();
  const rawPublicKey = optional();
  const signatureScheme = schemeById(reader.uint16());
  const sessionId = copyOf(reader.vector8(0, 32));
  const ticket = copyOf(reader.vector16());
  const list = reader.remaining === 0 ? undefined : new ByteReader(reader.vector24());
  reader.end();
  const certificates: Uint8Array[] = [];
  while (list !== undefined && list.remaining > 0) certificates.push(copyOf(list.vector24()));
  if (suite === undefined) return undefined;
  return {
    masterSecret,
    establishedAt,
    issuedAt,
    serverName: serverName === undefined ? undefined : Buffer.from(serverName).toString("latin1"),
    peer: {
      suite: suite.name,
      ...(pskIdentity === undefined ? {} : { pskIdentity }),
      ...(list === undefined ? {} : { certificates }),
      ...(rawPublicKey === undefined ? {} : { rawPublicKey }),
      ...(signatureScheme === undefined ? {} : { signatureScheme }),
    },
    pskTag: pskTagged,
    sessionId,
    ticket,
  };
}

/** A short one-way tag of a pre-shared key under the session's secret: equal only while the key is the same. */
export function pskTag(key: Uint8Array, masterSecret: Uint8Array): Uint8Array {
  const hmac = new HmacSha256(masterSecret);
  const tag = hmac.mac(PSK_TAG_LABEL, key);
  hmac.clear();
  return tag.subarray(0, PSK_TAG_BYTES);
}

export function isPskOf({ masterSecret, pskTag: expected }: ResumableSession, key: Uint8Array | undefined): boolean {
  if (key === undefined || expected?.length !== PSK_TAG_BYTES) return false;
  return timingSafeEqual(expected, pskTag(key, masterSecret));
}

function uint32(value: number): Uint8Array {
  return concat(uint16(Math.floor(value / 0x10000)), uint16(value & 0xffff));
}

function readUint32(reader: ByteReader): number {
  return reader.uint16() * 0x10000 + reader.uint16();
}

const VERSION = 2;
const PSK_TAG_BYTES = 16;
const EMPTY = new Uint8Array(0);
const PSK_TAG_LABEL = new TextEncoder().encode("dpe-coap psk tag");
