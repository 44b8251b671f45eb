import type { z } from "zod";
import type { ConfigErrorCode } from "./error.js";
import { valueAt, type ExpectedKind } from "./found.js";
import { refusalOf } from "./refusal.js";

/** An issue of zod with its whole path, unions and keys resolved, in the words of an operator. */
export type PlainIssue =
  | { readonly type: "unknown-key"; readonly path: readonly PropertyKey[]; readonly known: readonly string[] }
  | {
      readonly type: "value";
      readonly path: readonly PropertyKey[];
      readonly code: ConfigErrorCode;
      readonly problem: string | undefined;
      readonly expected: string | undefined;
      readonly hint: string | undefined;
      readonly isConcealed: boolean;
      /** True where the key is at fault and not its value. */
      readonly isAboutKey: boolean;
      /** What kind of thing was expected, and which words, to choose a hint by. */
      readonly kind: ExpectedKind;
      readonly words: readonly string[];
    };

type Issue = z.core.$ZodIssue;
type UnionIssue = Extract<Issue, { readonly code: "invalid_union" }>;
type KnownKeys = (keys: string[]) => readonly string[];

/** One issue of zod as one or more plain ones. `knownKeys` maps the `keys` array of an issue to its schema's keys. */
export function flattenIssue(
  issue: Issue,
  root: unknown,
  knownKeys: KnownKeys,
  above: readonly PropertyKey[] = [],
): PlainIssue[] {
  const path = [...above, ...issue.path];
  const value = (rest: Partial<PlainIssue & { readonly type: "value" }>): PlainIssue[] => [{ ...EMPTY, path, ...rest }];
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => ({ type: "unknown-key", path: [...path, key], known: knownKeys(issue.keys) }));
    case "invalid_type":
      return value({ code: "CONFIG_WRONG_TYPE", ...(TYPES[issue.expected] ?? { expected: issue.expected }) });
    case "invalid_value": {
      const words = issue.values.map(String);
      return value({ expected: `${words.length > 1 ? "one of " : ""}${words.join(", ")}`, words });
    }
    case "too_small":
      return value(sizeExpectation(issue.origin, issue.exact ? "exactly" : "at least", issue.minimum, issue.inclusive));
    case "too_big":
      return value(sizeExpectation(issue.origin, issue.exact ? "exactly" : "at most", issue.maximum, issue.inclusive));
    case "not_multiple_of":
      return value({ expected: `a multiple of ${issue.divisor}` });
    case "invalid_format":
      return value({
        expected:
          issue.pattern === undefined ? `text of the form ${issue.format}` : `text that matches ${issue.pattern}`,
      });
    case "invalid_key":
      return value({
        problem: "the key is not allowed",
        expected: issue.issues
          .flatMap((inner) => flattenIssue(inner, root, knownKeys))
          .flatMap((plain) => (plain.type === "value" ? (plain.expected ?? plain.problem ?? []) : []))
          .join(" and "),
        isAboutKey: true,
      });
    case "invalid_element":
      return issue.issues.flatMap((inner) => flattenIssue(inner, root, knownKeys, path));
    case "invalid_union":
      return flattenUnion(issue, root, knownKeys, path);
    case "custom": {
      const refusal = refusalOf(issue.params);
      if (refusal === undefined) return value({ problem: issue.message });
      const kind = /^text\b/.test(refusal.expected ?? "") ? "text" : "other";
      return value({
        code: refusal.code ?? "CONFIG_BAD_VALUE",
        problem: refusal.problem,
        expected: refusal.expected,
        hint: refusal.hint,
        isConcealed: refusal.isConcealed ?? false,
        kind,
      });
    }
  }
}

/**
 * Of a union, the faults of the alternative that was most likely meant: one whose faults lie inside the value, and the
 * fewest of them; failing that, all that would have been accepted.
 */
function flattenUnion(
  issue: UnionIssue,
  root: unknown,
  knownKeys: KnownKeys,
  path: readonly PropertyKey[],
): PlainIssue[] {
  if (issue.errors.length === 0) {
    const options = "options" in issue && issue.options !== undefined ? issue.options.map(String) : [];
    const problem = options.length === 0 ? "more than one of the alternatives fits" : undefined;
    return [
      {
        ...EMPTY,
        path,
        problem,
        expected: problem === undefined ? `one of ${options.join(", ")}` : undefined,
        words: options,
      },
    ];
  }
  const branches = issue.errors.map((errors) => errors.flatMap((inner) => flattenIssue(inner, root, knownKeys, path)));
  const isAtRoot = (plain: PlainIssue): boolean => plain.type === "value" && plain.path.length === path.length;
  const meant = branches
    .filter((branch) =>
      branch.every((plain) => !isAtRoot(plain) || (plain.type === "value" && plain.problem !== undefined)),
    )
    .toSorted((a, b) => a.length - b.length)[0];
  if (meant !== undefined && valueAt(root, path) !== undefined) return meant;
  const values = branches.flat().filter((plain) => plain.type === "value" && isAtRoot(plain)) as Extract<
    PlainIssue,
    { readonly type: "value" }
  >[];
  const expected = [...new Set(values.flatMap((plain) => plain.expected ?? []))].join(" or ");
  return [
    {
      ...EMPTY,
      path,
      code: values.every((plain) => plain.code === "CONFIG_WRONG_TYPE") ? "CONFIG_WRONG_TYPE" : "CONFIG_BAD_VALUE",
      expected: expected === "" ? "another value" : expected,
      isConcealed: values.some((plain) => plain.isConcealed),
      words: values.flatMap((plain) => plain.words),
    },
  ];
}

function sizeExpectation(
  origin: string,
  relation: "exactly" | "at least" | "at most",
  limit: number | bigint,
  isInclusive: boolean | undefined,
): { readonly expected: string } {
  switch (origin) {
    case "array":
    case "set":
      return { expected: `a list of ${relation} ${limit} ${limit === 1 ? "item" : "items"}` };
    case "string":
      return { expected: `text of ${relation} ${limit} ${limit === 1 ? "character" : "characters"}` };
    default: {
      const strict = relation === "at least" ? "more than" : "less than";
      return { expected: `a number of ${isInclusive === false ? strict : relation} ${limit}` };
    }
  }
}

const EMPTY = {
  type: "value",
  code: "CONFIG_BAD_VALUE",
  problem: undefined,
  expected: undefined,
  hint: undefined,
  isConcealed: false,
  isAboutKey: false,
  kind: "other",
  words: [],
} as const;

/** The types of zod in an operator's words. */
const TYPES: Readonly<Record<string, { readonly expected: string; readonly kind?: ExpectedKind }>> = {
  string: { expected: "text", kind: "text" },
  number: { expected: "a number", kind: "number" },
  int: { expected: "a whole number", kind: "number" },
  boolean: { expected: "true or false", kind: "boolean" },
  object: { expected: "a mapping" },
  record: { expected: "a mapping" },
  array: { expected: "a list", kind: "list" },
  tuple: { expected: "a list", kind: "list" },
  null: { expected: "nothing" },
  nonoptional: { expected: "a value" },
};
