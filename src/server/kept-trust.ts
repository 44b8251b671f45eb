import { createHash, X509Certificate } from "node:crypto";
import type { DtlsSession } from "#net/index.js";
import type { ServerCredentials } from "./server-credentials.js";

/**
 * What an association's trust rests on, attached to it so that it is still known after a restart: a mark of the very key or
 * anchors, and for a certificate its names and end. A restart is also when credentials are withdrawn, so an association
 * goes on only if all that is so still; else its peer shakes hands, and is judged anew.
 */
export interface KeptTrust {
  /** Of the pre-shared key, or of the trust anchors. */
  readonly mark: string;
  readonly names?: readonly string[];
  /** Unix time in seconds. */
  readonly until?: number;
}

/** Attaches it to a session that has just been opened; too long a list of names is left out, and not trusted then. */
export function attachTrust(session: DtlsSession, credentials: ServerCredentials): void {
  const leaf = session.peer?.certificates?.[0];
  const mark = markOf(session, credentials);
  const trust: KeptTrust =
    leaf === undefined
      ? { mark }
      : {
          mark,
          names: credentials.namesOf(leaf),
          until: Date.parse(new X509Certificate(leaf).validTo) / 1000,
        };
  const attachment = TEXT_ENCODER.encode(JSON.stringify(trust));
  if (attachment.length <= MAX_ATTACHMENT_BYTES) session.attachment = attachment;
}

/** Of a session that goes on from before a restart; undefined when it is not to be trusted any more. */
export function keptTrust(session: DtlsSession, credentials: ServerCredentials, nowMs: number): KeptTrust | undefined {
  if (session.attachment.length === 0) return undefined;
  const trust = JSON.parse(TEXT_DECODER.decode(session.attachment)) as KeptTrust;
  if (trust.mark !== markOf(session, credentials)) return undefined;
  // Without the certificate nothing can be looked up in a revocation list.
  if (session.peer?.certificateHash !== undefined && credentials.looksUpRevocation) return undefined;
  const isExpired = trust.until !== undefined && trust.until * 1000 <= nowMs;
  const lacksNames = session.peer?.certificateHash !== undefined && trust.names === undefined;
  return isExpired || lacksNames ? undefined : trust;
}

/** Empty for a peer that proved nothing. A key that is not known any more gives a mark that no session has. */
function markOf({ peer }: DtlsSession, credentials: ServerCredentials): string {
  if (peer?.pskIdentity !== undefined) {
    const key = credentials.pskOf(peer.pskIdentity);
    return key === undefined ? "withdrawn" : hash("psk", key);
  }
  if (peer?.rawPublicKey !== undefined)
    return credentials.verifyRawPublicKey(peer.rawPublicKey).ok ? hash("raw", peer.rawPublicKey) : "withdrawn";
  const hasCertificate = peer?.certificates !== undefined || peer?.certificateHash !== undefined;
  return hasCertificate ? hash("anchors", ...credentials.clientAnchorKeys) : "";
}

function hash(...parts: readonly (string | Uint8Array)[]): string {
  const digest = createHash("sha256");
  for (const part of parts) digest.update(part);
  return digest.digest("base64url").slice(0, MARK_CHARACTERS);
}

const MARK_CHARACTERS = 20;
const MAX_ATTACHMENT_BYTES = 255;
const TEXT_ENCODER = new TextEncoder();
const TEXT_DECODER = new TextDecoder();
