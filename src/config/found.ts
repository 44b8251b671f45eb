import { shorten } from "./key-path.js";

/** The value at a path in plain data, own keys only; undefined where there is none. */
export function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, segment) => {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, segment)) return undefined;
    return (value as Readonly<Record<PropertyKey, unknown>>)[segment];
  }, root);
}

/** A value in a few words; a concealed one only by its kind. */
export function describeFound(value: unknown, isConcealed: boolean): string {
  if (value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  if (typeof value === "string") return isConcealed ? "text" : JSON.stringify(shorten(value));
  if (typeof value === "boolean") return String(value);
  if (typeof value === "number" || typeof value === "bigint") return isConcealed ? "a number" : String(value);
  return "nothing";
}

/** What most probably has to be done, where that can be told from what was expected and found. */
export function hintFor(
  found: unknown,
  issue: { readonly kind: ExpectedKind; readonly words: readonly string[] },
  nearest: (word: string, candidates: readonly string[]) => string | undefined,
): string | undefined {
  if (typeof found === "string" && issue.words.length > 0) {
    const meant = nearest(found, issue.words);
    return meant === undefined ? undefined : `did you mean "${meant}"?`;
  }
  switch (issue.kind) {
    case "text":
      return typeof found === "number" || typeof found === "boolean" ? "put it in quotes" : undefined;
    case "number":
      return typeof found === "string" && /^-?\d+(\.\d+)?$/.test(found) ? "remove the quotes" : undefined;
    case "boolean":
      return typeof found === "string" && /^(yes|no|on|off)$/i.test(found)
        ? "YAML 1.2 has only true and false"
        : undefined;
    case "list":
      return typeof found === "string" || typeof found === "number" ? "put it in brackets: [ … ]" : undefined;
    case "other":
      return undefined;
  }
}

export type ExpectedKind = "text" | "number" | "boolean" | "list" | "other";
