import { readFileSync } from "node:fs";
import { computeHa1, DIGEST_HASHES, normalizeUsername } from "#digest/index.js";
import { type Command, parseWords } from "./command.js";
import { UsageError } from "./exit.js";

/** `dpe ha1`: what a configuration has in place of a password. */
export const ha1Command: Command = {
  name: "ha1",
  synopsis: "--realm REALM --user NAME [--hash SHA-256|SHA-512-256|MD5]",
  summary: "compute an HA1, to be kept in place of a password read from standard input",
  run: (words) => runHa1(words),
};

function runHa1(words: readonly string[]): Promise<void> {
  const { realm, user, hash } = parseWords(ha1Command, words, {
    realm: { type: "string" },
    user: { type: "string" },
    hash: { type: "string", default: "SHA-256" },
  }).values;
  if (realm === undefined || user === undefined) throw new UsageError("dpe ha1 needs --realm and --user");
  const known = DIGEST_HASHES.find((one) => one === hash);
  if (known === undefined) throw new UsageError(`dpe ha1: --hash is one of ${DIGEST_HASHES.join(", ")}`);
  // Never an argument: those are seen by everybody on the machine.
  const password = readFileSync(0, "utf8").replace(/\r?\n$/, "");
  if (password === "") throw new UsageError("dpe ha1 reads the password from standard input, which is empty");
  process.stdout.write(`hex:${computeHa1(known, normalizeUsername(user), realm, password.normalize("NFC"))}\n`);
  return Promise.resolve();
}
