import { loadConfig } from "#config/index.js";
import { CertificateFiles, RENEWED_FOR_MS, SERVER_SCHEMA } from "#server/index.js";
import { type Command, misuse, parseWords, usualFile } from "./command.js";

/** `dpe renew`: the certificates of a server that has its own CA, before they end. */
export const renewCommand: Command = {
  name: "renew",
  synopsis: "[--config FILE] [--ca] [--new-key] [--days N]",
  summary: "renew the server's certificate by its own CA",
  help:
    "A running server takes it at once, and no association ends. With renew: true in credentials it does so by itself.\n" +
    "  --config FILE   the server's; default: server.yaml here\n" +
    "  --ca            the CA's certificate too, for the same key\n" +
    "  --new-key       for a new key; with --ca also of the CA, whose former key is kept in a file that ends in .old.\n" +
    "                  Paired devices go on, and trust the new CA within a week\n" +
    "  --days N        how long the server's certificate is valid, 730; never longer than its CA's, 3650",
  example: "dpe renew --days 365",
  run: async (words) => {
    const options = {
      config: { type: "string" },
      ca: { type: "boolean", default: false },
      "new-key": { type: "boolean", default: false },
      days: { type: "string" },
    } as const;
    const { config, ca, "new-key": hasNewKey, days = "730" } = parseWords(renewCommand, words, options).values;
    if (!/^[1-9]\d{0,3}$/.test(days) || Number(days) > MAX_DAYS)
      throw misuse(renewCommand, `--days ${days} is no number from 1 to ${MAX_DAYS}`);
    const file = config ?? usualFile(renewCommand, "server.yaml");
    const files = new CertificateFiles(loadConfig(file, SERVER_SCHEMA));
    const now = Date.now();
    const terms = { notAfterMs: now + Number(days) * DAY_MS, hasNewKey };
    const authorityNotAfterMs = now + RENEWED_FOR_MS.authority;
    if (ca && hasNewKey) await files.succeedAuthority({ ...terms, authorityNotAfterMs }, now);
    else {
      if (ca) await files.renewAuthority(authorityNotAfterMs);
      await files.renewServer(terms, now);
    }
    const { server, authority } = files.ends();
    process.stdout.write(
      `server certificate  until ${dayOf(server)}${hasNewKey ? ", of a new key" : ""}\n` +
        `CA                  until ${dayOf(authority)}${ca && hasNewKey ? ", of a new key" : ""}\n` +
        "A server that runs takes them by itself.\n",
    );
  },
};

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

const MAX_DAYS = 3650;
const DAY_MS = 86_400_000;
