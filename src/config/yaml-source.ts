import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  visit,
  type Alias,
  type Document,
  type Node,
} from "yaml";
import { messageOf } from "#errors/index.js";
import type { ConfigFault } from "./error.js";
import { formatKeyPath, shorten } from "./key-path.js";

/**
 * A YAML text with the positions of everything in it. `faults` holds what YAML itself finds wrong (syntax, duplicate
 * keys, aliases that expand too far); with `value` undefined the text could not be read at all.
 */
export interface YamlSource {
  readonly value: unknown;
  readonly faults: readonly ConfigFault[];
  /** Where the value at a path stands; for one that is absent, the nearest key above it. */
  locate(path: readonly PropertyKey[], what: "key" | "value"): Position | undefined;
}

export interface Position {
  readonly line: number;
  readonly column: number;
}

export function readYaml(text: string, file: string): YamlSource {
  const lines = new LineCounter();
  const whole = { file, keyPath: "" } as const;
  const unreadable = (fault: ConfigFault): YamlSource => ({
    value: undefined,
    faults: [fault],
    locate: () => undefined,
  });
  let document: Document.Parsed;
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false, stringKeys: true });
  } catch (error) {
    // The recursive parser runs out of stack on thousands of nested brackets.
    return unreadable({ ...whole, code: "CONFIG_SYNTAX", problem: `YAML cannot be read: ${firstLine(error)}` });
  }
  const position = (offset: number): Position => toPosition(lines, offset);
  const syntax = [...document.errors, ...document.warnings].map((error): ConfigFault => {
    return { ...whole, ...position(error.pos[0]), code: "CONFIG_SYNTAX", ...explain(error.code, firstLine(error)) };
  });
  // One slip often yields a run of errors; the first on each line is the telling one.
  const faults = syntax.filter((fault, index) => syntax.findIndex((other) => other.line === fault.line) === index);
  if (faults.length > 0) return { value: undefined, faults, locate: () => undefined };
  if (document.contents === null) {
    return unreadable({ ...whole, code: "CONFIG_EMPTY", problem: "the file is empty" });
  }
  const root = document.contents;
  const dangling = danglingAlias(document);
  if (dangling !== undefined) {
    const problem = `the alias *${shorten(dangling.source)} has no anchor before it`;
    const hint = "put text that begins with * in quotes";
    return unreadable({ ...whole, ...position(dangling.range?.[0] ?? 0), code: "CONFIG_SYNTAX", problem, hint });
  }
  try {
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIAS_COUNT });
    if (value === null) return unreadable({ ...whole, code: "CONFIG_EMPTY", problem: "the file is empty" });
    return {
      value,
      faults: duplicateKeys(document, file, position),
      locate: (path, what) => locate(document, root, path, what, position),
    };
  } catch (error) {
    if (!(error instanceof ReferenceError)) {
      return unreadable({ ...whole, code: "CONFIG_SYNTAX", problem: `YAML cannot be read: ${firstLine(error)}` });
    }
    return unreadable({
      ...whole,
      ...position(firstAlias(document) ?? 0),
      code: "CONFIG_ALIAS_LIMIT",
      problem: "aliases expand to too much data",
      hint: "write the values out",
    });
  }
}

function explain(code: string, message: string): Pick<ConfigFault, "problem" | "expected" | "hint"> {
  const closing = /^Flow (?:sequence|map).* end with a ([\]}])/.exec(message)?.[1];
  if (closing !== undefined) return { problem: "a bracket is not closed", expected: closing };
  switch (code) {
    case "TAB_AS_INDENT":
      return { problem: "a tab is used for indentation", hint: "use spaces" };
    case "MULTIPLE_DOCS":
      return { problem: "the file holds more than one YAML document", hint: "remove the --- line" };
    case "BAD_INDENT":
      return { problem: "the indentation does not fit the lines above" };
    case "TAG_RESOLVE_FAILED":
      return {
        problem: "tags (words that begin with !) are not supported",
        hint: "put text that begins with ! in quotes",
      };
    case "BLOCK_AS_IMPLICIT_KEY":
      return {
        problem: "a second colon, or an indented line, follows the value",
        hint: "put a text with a colon in quotes",
      };
    case "NON_STRING_KEY":
      return { problem: "a key must be plain text" };
    default:
      if (message.startsWith("Maximum call stack")) return { problem: "brackets or lines are nested too deeply" };
      return { problem: `YAML syntax: ${message.replace(/\.$/, "")}` };
  }
}

function firstLine(error: unknown): string {
  return messageOf(error).split("\n", 1)[0] ?? "";
}

function toPosition(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(1, line), column: Math.max(1, col) };
}

function duplicateKeys(document: Document.Parsed, file: string, position: (offset: number) => Position): ConfigFault[] {
  const faults: ConfigFault[] = [];
  visit(document, {
    Map: (_, map, ancestors) => {
      const first = new Map<string, Position>();
      for (const { key } of map.items) {
        if (!isScalar(key) || !key.range) continue;
        const name = String(key.value);
        const here = position(key.range[0]);
        const earlier = first.get(name);
        if (earlier === undefined) first.set(name, here);
        else {
          faults.push({
            code: "CONFIG_DUPLICATE_KEY",
            file,
            ...here,
            keyPath: formatKeyPath([...pathOf([...ancestors, map]), name]),
            problem: `duplicate key; first given on line ${earlier.line}`,
          });
        }
      }
    },
  });
  return faults;
}

/** The path that leads down a chain of nodes, each the child of the one before. */
function pathOf(chain: readonly unknown[]): PropertyKey[] {
  return chain.flatMap((node, index): PropertyKey[] => {
    const child = chain[index + 1];
    if (isSeq(node)) return [node.items.indexOf(child)];
    if (isMap(node)) {
      const pair = node.items.find((item) => item === child);
      return isScalar(pair?.key) ? [String(pair.key.value)] : [];
    }
    return [];
  });
}

function danglingAlias(document: Document.Parsed): Alias | undefined {
  const anchors = new Set<string>();
  let dangling: Alias | undefined;
  visit(document, {
    Node: (_, node) => {
      if (!isAlias(node)) {
        if (node.anchor !== undefined) anchors.add(node.anchor);
        return undefined;
      }
      if (anchors.has(node.source)) return undefined;
      dangling = node;
      return visit.BREAK;
    },
  });
  return dangling;
}

function firstAlias(document: Document.Parsed): number | undefined {
  let offset: number | undefined;
  visit(document, {
    Alias: (_, alias) => {
      offset = alias.range?.[0];
      return visit.BREAK;
    },
  });
  return offset;
}

function locate(
  document: Document.Parsed,
  root: Node,
  path: readonly PropertyKey[],
  what: "key" | "value",
  position: (offset: number) => Position,
): Position | undefined {
  let node: unknown = root;
  let key: Node | undefined;
  for (const segment of path) {
    const container: unknown = isAlias(node) ? node.resolve(document) : node;
    if (isSeq(container)) {
      node = container.items[Number(segment)];
      key = undefined;
    } else if (isMap(container)) {
      const pair = container.items.find((item) => isScalar(item.key) && String(item.key.value) === String(segment));
      if (pair === undefined) return startOf(key ?? asNode(container), position);
      key = asNode(pair.key);
      node = pair.value;
    } else return startOf(key ?? asNode(container), position);
    if (node === undefined) return undefined;
  }
  const value = asNode(node);
  // A value that is not written (`key:` alone) has no place of its own.
  const isWritten = value !== undefined && !(isScalar(value) && value.range && value.range[0] === value.range[1]);
  return startOf(what === "key" || !isWritten ? (key ?? value) : value, position);
}

function asNode(node: unknown): Node | undefined {
  return isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node : undefined;
}

function startOf(node: Node | undefined, position: (offset: number) => Position): Position | undefined {
  return node?.range ? position(node.range[0]) : undefined;
}

const MAX_ALIAS_COUNT = 100;
