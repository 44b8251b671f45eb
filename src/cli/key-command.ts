import { generateKeyPairSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { pemKeyFingerprint } from "#x509/index.js";
import { type Command, parseWords } from "./command.js";
import { UsageError } from "./exit.js";

/** `dpe key`: what one side's configuration says of the other's raw public key (RFC 7250). */
export const keyCommand: Command = {
  name: "key",
  synopsis: "[--new] FILE",
  summary: "print the fingerprint of a key or certificate (PEM); --new makes a private key first",
  help: "FILE has a private key, a public key or a certificate; - is standard input. --new never writes over a file.",
  run: (words) => runKey(words),
};

function runKey(words: readonly string[]): Promise<void> {
  const { values, positionals } = parseWords(keyCommand, words, { new: { type: "boolean" } }, { maxPositionals: 1 });
  const [file] = positionals;
  if (file === undefined || (values.new === true && file === "-"))
    throw new UsageError(`usage: dpe key ${keyCommand.synopsis}`);
  if (values.new === true) {
    // The curve that every device has (RFC 7925 §4.4).
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    writeFileSync(file, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
  }
  process.stdout.write(`${pemKeyFingerprint(readFileSync(file === "-" ? 0 : file, "utf8"))}\n`);
  return Promise.resolve();
}
