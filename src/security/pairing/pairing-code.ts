import { hkdfSync, randomInt } from "node:crypto";
import { PAIRING_IDENTITY_PREFIX } from "#dpe/index.js";
import { SecurityError } from "../errors.js";

/**
 * A one-time code of 24 characters of Crockford's base 32, in groups of four:
 *
 * ```
 * 7K3F-9Q ........................ identifier, 30 bits: travels in the clear, tells the server which code is meant
 *         XA-4T0Z-M2WD-8HJK-PR5 .. secret, 85 bits: never travels
 *                              V . check, over GF(32)
 * ```
 *
 * The check finds every wrong character and every exchange of two. O, I and L are read as 0, 1 and 1, in either case, so that
 * what is read aloud or from paper is typed right.
 */
export interface PairingCode {
  /** 6 characters. */
  readonly id: string;
  /** 17 characters. A secret. */
  readonly secret: string;
}

export function generatePairingCode(): PairingCode {
  const symbols = Array.from({ length: ID_LENGTH + SECRET_LENGTH }, () => ALPHABET[randomInt(32)] ?? "").join("");
  return { id: symbols.slice(0, ID_LENGTH), secret: symbols.slice(ID_LENGTH) };
}

/** As it is shown: six groups of four. */
export function formatPairingCode({ id, secret }: PairingCode): string {
  const symbols = `${id}${secret}`;
  return `${symbols}${ALPHABET[checkOf(symbols)] ?? ""}`.match(/.{4}/g)?.join("-") ?? "";
}

/** As it was typed: dashes and blanks are skipped. @throws SecurityError SECURITY_BAD_PAIRING_CODE, never naming the code. */
export function parsePairingCode(text: string): PairingCode {
  const symbols = text.toUpperCase().replaceAll(/[\s-]/g, "").replaceAll("O", "0").replaceAll(/[IL]/g, "1");
  if (symbols.length !== CODE_LENGTH || !/^[0-9A-HJKMNP-TV-Z]*$/.test(symbols))
    throw bad(`a code has ${CODE_LENGTH} letters and digits; this has ${symbols.length}, or one that no code has`);
  if (ALPHABET[checkOf(symbols.slice(0, -1))] !== symbols.at(-1)) throw bad("the code is mistyped: its check is wrong");
  return { id: symbols.slice(0, ID_LENGTH), secret: symbols.slice(ID_LENGTH, -1) };
}

/** The pre-shared key of the one handshake that a code is for. */
export function pairingPsk({ id, secret }: PairingCode): { readonly identity: Uint8Array; readonly key: Uint8Array } {
  const info = `dpe pairing 1 ${id}`;
  return {
    identity: new TextEncoder().encode(`${PAIRING_IDENTITY_PREFIX}${id}`),
    key: new Uint8Array(hkdfSync("sha256", secret, "", info, KEY_BYTES)),
  };
}

/** The identifier of a code in a PSK identity, "" where it is malformed; undefined for any other identity. */
export function pairingIdOf(identity: Uint8Array): string | undefined {
  const text = TEXT_DECODER.decode(identity.subarray(0, PAIRING_IDENTITY_PREFIX.length + ID_LENGTH + 1));
  if (!text.startsWith(PAIRING_IDENTITY_PREFIX)) return undefined;
  const id = text.slice(PAIRING_IDENTITY_PREFIX.length);
  return id.length === ID_LENGTH ? id : "";
}

/** Horner's rule with the generator x of GF(32), x^5 + x^2 + 1: its powers differ up to the 31st, so exchanges show. */
function checkOf(symbols: string): number {
  let check = 0;
  for (const symbol of symbols) {
    check ^= ALPHABET.indexOf(symbol);
    check <<= 1;
    if (check >= 32) check ^= 0b100101;
  }
  return check;
}

function bad(message: string): SecurityError {
  return new SecurityError("SECURITY_BAD_PAIRING_CODE", message);
}

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ID_LENGTH = 6;
const SECRET_LENGTH = 17;
const CODE_LENGTH = ID_LENGTH + SECRET_LENGTH + 1;
const KEY_BYTES = 32;
const TEXT_DECODER = new TextDecoder();
