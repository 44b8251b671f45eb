import { SecurityError } from "../errors.js";
import { formatPairingCode, type PairingCode, parsePairingCode } from "./pairing-code.js";

/** What a QR code holds: `coaps+dpe-pair://HOST[:PORT]/CODE`. */
export function formatPairingUri({ host, port, code }: PairingTarget): string {
  const name = host.includes(":") ? `[${host}]` : host;
  return `${SCHEME}//${name}:${port}/${formatPairingCode(code)}`;
}

/** @throws SecurityError SECURITY_BAD_PAIRING_CODE. */
export function parsePairingUri(text: string): PairingTarget {
  const match = /^coaps\+dpe-pair:\/\/(?:\[([^\]]+)\]|([^:/[\]]+))(?::(\d{1,5}))?\/([^/?#]+)$/i.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = match?.[3] === undefined ? DEFAULT_COAPS_PORT : Number(match[3]);
  if (host === undefined || port < 1 || port > 65_535)
    throw new SecurityError("SECURITY_BAD_PAIRING_CODE", `expected ${SCHEME}//HOST[:PORT]/CODE`);
  return { host, port, code: parsePairingCode(match?.[4] ?? "") };
}

/** Where a code is to be used. */
export interface PairingTarget {
  readonly host: string;
  readonly port: number;
  readonly code: PairingCode;
}

const SCHEME = "coaps+dpe-pair:";
/** RFC 7252 §6.2 */
const DEFAULT_COAPS_PORT = 5684;
