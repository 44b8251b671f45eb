import { CIPHER_SUITES, type CipherSuiteName } from "#dtls/index.js";

/** One combination: our role, the path between, the suite, and the foreign implementation in the other role. */
export interface Cell {
  readonly role: Role;
  readonly path: Path;
  readonly suite: CipherSuiteName;
  readonly peer: string;
}

export const ROLES = ["server", "client"] as const;
export type Role = (typeof ROLES)[number];

export const PATHS = ["clean", "rough"] as const;
export type Path = (typeof PATHS)[number];

export const SUITES: readonly CipherSuiteName[] = Object.keys(CIPHER_SUITES) as CipherSuiteName[];

/** `absent`: the peer has no such suite or role, or gives up where datagrams are lost. */
export type Outcome = "works" | "fails" | "absent";

const WORDS: Readonly<Record<Outcome, string>> = { works: "yes", fails: "**no**", absent: "–" };
const HEADINGS: Readonly<Record<Role, Readonly<Record<Path, string>>>> = {
  server: { clean: "Our server, no loss", rough: "Our server, 20 % loss and reordering" },
  client: { clean: "Our client, no loss", rough: "Our client, 20 % loss and reordering" },
};

export const MATRIX_HEADING = "# Interoperation of the DTLS layer\n";

const INTRODUCTION = `
Written by \`scripts/interop-matrix\` from what it ran; a test fails where this is not what it finds.

A cell is a handshake by that suite alone, and then data both ways. In the certificate suites both sides show a certificate
and demand the other's. The rough path is a relay that loses each datagram with a probability of 0.2, in either direction,
and holds each of the others up for 30 ms with a probability of 0.3.

On the rough path a handshake that a peer gives up is begun again, as a device would: libcoap's client allows one five
seconds, and wolfSSL 5.5's server does not send its last flight a second time.

Each of the cells that can be had said yes in the last whole run, beside other work. On the rough path another run may say no: gnutls-serv
and the wolfSSL program may have finished, their last flight be lost, and they send it no more and serve one client at a time.

A dash is what a peer does not have: OpenSSL, GnuTLS and mbedTLS 2.28 have none of our ECDHE_PSK suites, Debian's wolfSSL is
built without plain PSK, node-dtls-client has PSK only, is no server, and sends no flight twice, so that no rough path is
for it. No peer here has TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256. mbedTLS and wolfSSL are the programs in \`test/peers\`.
`;

/** The document: a table for each role and path, suites down, peers across. */
export function writeMatrix(cells: readonly Cell[], outcomeOf: (cell: Cell) => Outcome): string {
  const peers = [...new Set(cells.map(({ peer }) => peer))];
  const tables = ROLES.flatMap((role) =>
    PATHS.map((path) => {
      const rows = SUITES.map((suite) => [
        suite,
        ...peers.map((peer) => WORDS[outcomeOf({ role, path, suite, peer })]),
      ]);
      const lines = [["suite", ...peers], ["---", ...peers.map(() => "---")], ...rows];
      return `\n## ${HEADINGS[role][path]}\n\n${lines.map((line) => `| ${line.join(" | ")} |`).join("\n")}\n`;
    }),
  );
  return MATRIX_HEADING + INTRODUCTION + tables.join("");
}

/** What the document tells, by "role path peer suite". */
export function readMatrix(document: string): ReadonlyMap<string, Outcome> {
  const told = new Map<string, Outcome>();
  for (const role of ROLES) {
    for (const path of PATHS) {
      const [, section = ""] = document.split(`## ${HEADINGS[role][path]}\n`);
      const lines = section.split("\n## ")[0]?.split("\n") ?? [];
      const rows = lines.filter((line) => line.startsWith("| ")).map((line) => line.slice(2, -2).split(" | "));
      const [, ...peers] = rows[0] ?? [];
      for (const [suite = "", ...words] of rows.slice(2)) {
        for (const [index, peer] of peers.entries()) {
          const outcome = (Object.keys(WORDS) as Outcome[]).find((name) => WORDS[name] === words[index]);
          if (outcome !== undefined) told.set([role, path, peer, suite].join(" "), outcome);
        }
      }
    }
  }
  return told;
}

/** A document with its part from `heading` on, to the next heading of the first level, replaced; at the end if there is none. */
export function withSection(document: string, heading: string, section: string): string {
  const start = document.indexOf(heading);
  if (start < 0) return `${document.trimEnd()}\n\n${section}`;
  const next = document.indexOf("\n# ", start + heading.length);
  return document.slice(0, start) + section + (next < 0 ? "" : document.slice(next));
}
