import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { type Standard, STANDARDS } from "./standards.js";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const file = join(root, "docs", "coap-standards.md");

interface Title {
  readonly text: string;
  readonly file: string;
}

function titles(folder: string): Title[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return titles(path);
    if (!path.endsWith(".test.ts")) return [];
    const source = readFileSync(path, "utf8");
    return [...source.matchAll(/\btest(?:With|\.serial)?\(\s*(?:"[^"]+",\s*|\w+,\s*)?(["`])((?:(?!\1).)+)\1/gs)].map(
      (match) => ({
        text: (match[2] ?? "").replaceAll(/\$\{[^}]*\?[^}]*\}/g, "…"),
        file: relative(root, path),
      }),
    );
  });
}

/** The table; and the parts of titles that no test has. */
function generate(
  standards: readonly Standard[],
  all: readonly Title[],
): { readonly text: string; readonly missing: string[] } {
  const missing: string[] = [];
  const rows = standards.map(({ rfc, section, what, shownBy = [], omitted }) => {
    const name = rfc.startsWith("draft") ? rfc : `RFC ${rfc}`;
    if (omitted !== undefined) return `| ${name} | ${section} | ${what} | omitted: ${omitted} |`;
    const shown = shownBy.map((part) => {
      const found = all.find(({ text }) => text.includes(part));
      if (found === undefined) missing.push(part);
      return found === undefined
        ? ""
        : `${found.text.replaceAll(/\$\{(\w+)\}/g, "<$1>").replaceAll("|", "\\|")} (\`${found.file}\`)`;
    });
    return `| ${name} | ${section} | ${what} | ${shown.join("; ")} |`;
  });
  const text = `# CoAP: what is implemented, what is omitted, and what shows it

Made from the titles of the tests by \`test/coap/standards.test.ts\`, which fails when this page is stale; \`DPE_WRITE_DOCS=1\`
writes it anew.

| standard | section | what | shown by |
|---|---|---|---|
${rows.join("\n")}
`;
  return { text, missing };
}

test("docs/coap-standards.md names for each section the tests that show it, or why it is omitted", (t) => {
  const { text, missing } = generate(STANDARDS, titles(join(root, "test")));
  t.deepEqual(missing, [], "no test has these titles");
  if (process.env["DPE_WRITE_DOCS"] === "1") writeFileSync(file, text);
  t.is(readFileSync(file, "utf8"), text);
});

test("a row that no test shows is found", (t) => {
  const row = { rfc: "1", section: "1", what: "x", shownBy: ["no such title"] };
  t.deepEqual(generate([row], [{ text: "a title", file: "a" }]).missing, ["no such title"]);
});
