import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** One test of the requirements: the ids that its title begins with, what it shows, and what came of it. */
export interface RequirementResult {
  readonly ids: readonly string[];
  readonly shows: string;
  readonly outcome: string;
}

/** The requirement tests in the TAP output of ava. */
export function resultsOf(tap: string): readonly RequirementResult[] {
  return tap.split("\n").flatMap((line) => {
    const match = /^(not ok|ok) \d+ - (?:.* › )?((?:R\d\d )+)(.*)$/.exec(line);
    const [, outcome, ids, shows] = match ?? [];
    if (outcome === undefined || ids === undefined || shows === undefined) return [];
    const isSkipped = shows.includes("# SKIP");
    return [{ ids: ids.trim().split(" "), shows, outcome: outcome === "ok" && !isSkipped ? "passes" : "fails" }];
  });
}

/** The rows of the README's table, by id. */
export function tableOf(results: readonly RequirementResult[]): string {
  const rows = results
    .flatMap(({ ids, shows, outcome }) => ids.map((id) => `| ${id} | ${shows} | ${outcome} |`))
    .toSorted();
  return ["| id | shown by the test | result |", "|---|---|---|", ...rows].join("\n");
}

/** What stands between the marks of the README. */
export function tableIn(readme: string): string | undefined {
  const [, rest] = readme.split(`${BEGIN}\n`);
  return rest?.split(`\n${END}`)[0];
}

const BEGIN = "<!-- scripts/requirements writes this table -->";
const END = "<!-- end -->";
const README = fileURLToPath(new URL("../../../README.md", import.meta.url));

/** Run with the file of a TAP report, this writes the table into the README. */
const [, script, report] = process.argv;
if (report !== undefined && script === fileURLToPath(import.meta.url)) {
  const results = resultsOf(readFileSync(report, "utf8"));
  const readme = readFileSync(README, "utf8");
  const old = tableIn(readme);
  if (results.length === 0 || old === undefined)
    throw new Error("no requirement was tested, or the README has no table");
  const table = tableOf(results);
  writeFileSync(README, readme.replace(`${BEGIN}\n${old}\n${END}`, `${BEGIN}\n${table}\n${END}`));
  process.stdout.write(`${table}\n`);
}
