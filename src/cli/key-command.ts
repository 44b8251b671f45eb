import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { pemKeyFingerprint } from "#x509/index.js";
import { type Command, misuse, parseWords, textOf } from "./command.js";

/** `dpe key`: what one side's configuration says of the other's raw public key (RFC 7250). */
export const keyCommand: Command = {
  name: "key",
  synopsis: "[--new] FILE",
  summary: "print the fingerprint of a key or certificate (PEM); --new makes a private key first",
  help:
    "  FILE            a private key, a public key or a certificate; - is standard input\n" +
    "  --new           make a private key first, in a new FILE",
  example: "dpe key --new device.key",
  run: (words) => runKey(words),
};

function runKey(words: readonly string[]): Promise<void> {
  const { values, positionals } = parseWords(keyCommand, words, { new: { type: "boolean" } }, { maxPositionals: 1 });
  const [file] = positionals;
  if (file === undefined) throw misuse(keyCommand, "FILE is missing");
  if (values.new === true && file === "-") throw misuse(keyCommand, "--new needs a file to write to");
  if (values.new === true) {
    // The curve that every device has (RFC 7925 §4.4).
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    writeFileSync(file, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600, flag: "wx" });
  }
  process.stdout.write(`${pemKeyFingerprint(textOf(keyCommand, file))}\n`);
  return Promise.resolve();
}
