import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readKeyFile } from "#files/index.js";
import type { ServerConfig } from "./server-list.js";

/**
 * The DTLS session with each server, so that the next handshake with it is an abbreviated one, also after a restart. A
 * session is no association: each handshake that resumes it makes new keys of new random values, so that an old copy of the
 * file, or one that `kill -9` left behind, can repeat no nonce.
 *
 * Invariants:
 * 1. A session is given only to the endpoint, server, policy, anchors and credential that it was made with.
 * 2. The file is sealed under a key of this folder, and both are readable by their owner only; what does not verify is not
 *    there, and the handshake is a full one. Nothing here ever stops an agent.
 * 3. A session that led to no association is forgotten.
 */
export class SessionFile {
  readonly #folder: string | undefined;
  readonly #sessions = new Map<string, Uint8Array>();
  #key: Uint8Array | undefined;

  /** @param folder - undefined: in memory only. */
  constructor(folder: string | undefined) {
    this.#folder = folder;
    if (folder === undefined) return;
    try {
      this.#key = readKey(folder);
      const sealed = readFileSync(join(folder, FILE));
      for (const [name, session] of Object.entries(JSON.parse(open(this.#key, sealed)) as Record<string, string>))
        this.#sessions.set(name, Uint8Array.from(Buffer.from(session, "base64")));
    } catch {
      // Invariant 2. What the disk does not take now is told by the readings' own file.
    }
  }

  of(config: ServerConfig): Uint8Array | undefined {
    return this.#sessions.get(nameOf(config));
  }

  keep(config: ServerConfig, session: Uint8Array): void {
    this.#sessions.set(nameOf(config), session);
    this.#write();
  }

  forget(config: ServerConfig): void {
    if (this.#sessions.delete(nameOf(config))) this.#write();
  }

  #write(): void {
    if (this.#folder === undefined) return;
    try {
      this.#key ??= readKey(this.#folder);
      const text = JSON.stringify(
        Object.fromEntries([...this.#sessions].map(([name, bytes]) => [name, Buffer.from(bytes).toString("base64")])),
      );
      const path = join(this.#folder, FILE);
      const file = openSync(`${path}.new`, "w", 0o600);
      try {
        writeFileSync(file, seal(this.#key, text));
      } finally {
        closeSync(file);
      }
      renameSync(`${path}.new`, path);
    } catch {
      // Invariant 2: the next start shakes hands in full.
    }
  }
}

/** Invariant 1: everything that the session rests on, as one name; no secret can be found from it. */
function nameOf({ endpoint, server, interfaces: { dpe1 } }: ServerConfig): string {
  const { connection, serverAuthentication, addresses, serverKeys, ca, credentials } = dpe1;
  const { username, gba, psk, certificate } = credentials;
  const files = [ca, certificate].map((path) => (path === undefined ? "" : contentsOf(path)));
  const facts = [
    endpoint,
    server.href,
    connection,
    serverAuthentication,
    addresses,
    serverKeys,
    username,
    gba?.btid,
    psk?.identity,
  ];
  return createHash("sha256")
    .update(JSON.stringify([facts, files]))
    .digest("base64");
}

function contentsOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** salt(16) ‖ AES-256-GCM under HKDF(key, salt) ‖ tag(16): a key of its own for each writing. */
function seal(key: Uint8Array, text: string): Uint8Array {
  const salt = randomBytes(SALT_BYTES);
  const cipher = createCipheriv("aes-256-gcm", fileKey(key, salt), NONCE);
  const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
  return Buffer.concat([salt, sealed, cipher.getAuthTag()]);
}

function open(key: Uint8Array, bytes: Uint8Array): string {
  const salt = bytes.subarray(0, SALT_BYTES);
  const decipher = createDecipheriv("aes-256-gcm", fileKey(key, salt), NONCE, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
  const text = decipher.update(bytes.subarray(SALT_BYTES, -TAG_BYTES));
  return Buffer.concat([text, decipher.final()]).toString("utf8");
}

function fileKey(key: Uint8Array, salt: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", key, salt, "dpe-coap agent sessions", KEY_BYTES));
}

/** @throws Error where others may use it, or the folder cannot be written. */
function readKey(folder: string): Uint8Array {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return readKeyFile(join(folder, `${FILE}.key`), (why) => new Error(why));
}

const FILE = "sessions";
const KEY_BYTES = 32;
const SALT_BYTES = 16;
const TAG_BYTES = 16;
const NONCE = new Uint8Array(12);
