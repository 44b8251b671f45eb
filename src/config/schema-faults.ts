import * as z from "zod";
import type { ConfigFault } from "./error.js";
import { formatKeyPath } from "./key-path.js";
import { nearest } from "./nearest.js";
import { flattenIssue, type PlainIssue } from "./plain-issue.js";
import { describeFound, hintFor, valueAt } from "./found.js";
import type { YamlSource } from "./yaml-source.js";

type Issue = z.core.$ZodIssue;

/** The value that the schema makes of the source, or the faults of the source, each at its place. */
export function checkAgainst(
  schema: z.ZodType,
  source: YamlSource,
  file: string,
): { readonly value: unknown; readonly faults: readonly ConfigFault[] } {
  const known = new WeakMap<object, readonly string[]>();
  const result = schema.safeParse(source.value, {
    // zod drops the schema from a finished issue, but keeps the list of keys as it is: it is the thread back.
    error: (issue) => {
      if (issue.code === "unrecognized_keys") known.set(issue.keys, keysOf(issue.inst));
      return undefined;
    },
  });
  if (result.success) return { value: result.data, faults: [] };
  const issues: readonly Issue[] = result.error.issues;
  const plain = issues.flatMap((issue) => flattenIssue(issue, source.value, (keys) => known.get(keys) ?? []));
  const faults = withoutEchoes(plain, source.value).map((issue) => toFault(issue, source, file));
  return { value: undefined, faults };
}

function keysOf(schema: unknown): readonly string[] {
  return schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
}

/** A misspelt required key is one fault, not two: its absence goes unsaid where the misspelling is reported. */
function withoutEchoes(issues: readonly PlainIssue[], root: unknown): readonly PlainIssue[] {
  const meant = new Set(
    issues.flatMap((issue) => {
      const suggestion = issue.type === "unknown-key" ? suggestionFor(issue, root) : undefined;
      return suggestion === undefined ? [] : [JSON.stringify([...issue.path.slice(0, -1), suggestion])];
    }),
  );
  return issues.filter((issue) => {
    if (issue.type !== "value" || valueAt(root, issue.path) !== undefined) return true;
    return issue.problem !== undefined || !meant.has(JSON.stringify(issue.path));
  });
}

function suggestionFor(issue: PlainIssue & { readonly type: "unknown-key" }, root: unknown): string | undefined {
  const parent = valueAt(root, issue.path.slice(0, -1));
  const present = typeof parent === "object" && parent !== null ? Object.keys(parent) : [];
  return nearest(
    String(issue.path.at(-1)),
    issue.known.filter((key) => !present.includes(key)),
  );
}

function toFault(issue: PlainIssue, source: YamlSource, file: string): ConfigFault {
  const keyPath = formatKeyPath(issue.path);
  if (issue.type === "unknown-key") {
    const meant = suggestionFor(issue, source.value);
    const all = issue.known.length === 0 ? undefined : `known keys: ${issue.known.join(", ")}`;
    const hint = meant === undefined ? all : `did you mean "${meant}"?`;
    return {
      code: "CONFIG_UNKNOWN_KEY",
      file,
      ...source.locate(issue.path, "key"),
      keyPath,
      problem: "unknown key",
      hint,
    };
  }
  const found = valueAt(source.value, issue.path);
  const place = { file, ...source.locate(issue.path, issue.isAboutKey ? "key" : "value"), keyPath };
  if (issue.problem !== undefined) {
    return { code: issue.code, ...place, problem: issue.problem, expected: issue.expected, hint: issue.hint };
  }
  if (found === undefined) {
    return { code: "CONFIG_MISSING_KEY", ...place, problem: "required key is missing", expected: issue.expected };
  }
  return {
    code: issue.code,
    ...place,
    expected: issue.expected,
    found: describeFound(found, issue.isConcealed),
    hint: issue.hint ?? hintFor(found, issue, nearest),
  };
}
