import { readFileSync } from "node:fs";
import { computeHa1, DIGEST_HASHES, normalizeUsername } from "#digest/index.js";
import { type Command, misuse, parseWords } from "./command.js";
import { UsageError } from "./exit.js";

/** `dpe ha1`: what a configuration has in place of a password. */
export const ha1Command: Command = {
  name: "ha1",
  synopsis: "--realm REALM --user NAME [--hash SHA-256|SHA-512-256|MD5]",
  summary: "compute an HA1, to be kept in place of a password read from standard input",
  help: `  --realm REALM   the server's, as in its configuration: an HA1 is good in no other
  --user NAME     the subscriber
  --hash HASH     SHA-256 (default), SHA-512-256 or MD5, as digest: { algorithms } of the server has it`,
  example: "dpe ha1 --realm dpe.example --user dave < dave.secret > dave.ha1",
  run: (words) => runHa1(words),
};

function runHa1(words: readonly string[]): Promise<void> {
  const { realm, user, hash } = parseWords(ha1Command, words, {
    realm: { type: "string" },
    user: { type: "string" },
    hash: { type: "string", default: "SHA-256" },
  }).values;
  if (realm === undefined || user === undefined) throw misuse(ha1Command, "--realm and --user are needed");
  const known = DIGEST_HASHES.find((one) => one === hash);
  if (known === undefined) throw misuse(ha1Command, `--hash is one of ${DIGEST_HASHES.join(", ")}`);
  // Never an argument: those are seen by everybody on the machine.
  const password = readFileSync(0, "utf8").replace(/\r?\n$/, "");
  if (password === "") throw new UsageError("dpe ha1 reads the password from standard input, which is empty");
  process.stdout.write(`hex:${computeHa1(known, normalizeUsername(user), realm, password.normalize("NFC"))}\n`);
  return Promise.resolve();
}
