import { AgentError } from "../agent-error.js";
import type { Reading } from "./source.js";

/**
 * Properties from what a program, a file or a web server gave: one number, word or boolean is the property `name`; a JSON
 * object is a property for each key below it, `name/key`, nested objects deeper; `{"value": 3, "unit": "V"}` has a unit.
 * Null is a sensor that has nothing to say.
 *
 * @throws AgentError AGENT_BAD_READING for what is none of these.
 */
export function readingsOf(text: string, name: string, unit?: string): readonly Reading[] {
  const trimmed = text.trim();
  if (trimmed === "") throw new AgentError("AGENT_BAD_READING", `${name}: nothing was given`);
  return flatten(parse(trimmed), name, unit, 0);
}

/** Not JSON: a text as it is, when it is one line. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    if (text.startsWith("{") || text.startsWith("[") || /[\n\r]/.test(text))
      throw new AgentError("AGENT_BAD_READING", `neither JSON nor one line of text: ${text.slice(0, 40)}…`, {
        cause: error,
      });
    return text;
  }
}

function flatten(value: unknown, name: string, unit: string | undefined, depth: number): readonly Reading[] {
  if (value === null) return [];
  if (typeof value === "number" || typeof value === "string" || typeof value === "boolean") {
    if (typeof value === "string" && value.length > MAX_TEXT_LENGTH)
      throw new AgentError("AGENT_BAD_READING", `${name}: a text longer than ${MAX_TEXT_LENGTH}`);
    return [{ name, ...(unit === undefined ? {} : { unit }), value }];
  }
  if (typeof value !== "object" || Array.isArray(value) || depth >= MAX_DEPTH)
    throw new AgentError("AGENT_BAD_READING", `${name}: a number, text, boolean or object of these is expected`);
  if (isMeasured(value)) return flatten(value.value, name, value.unit ?? unit, depth + 1);
  return Object.entries(value).flatMap(([key, inner]) => {
    if (!/^[A-Za-z0-9:._-]+$/.test(key))
      throw new AgentError(
        "AGENT_BAD_READING",
        `${name}: ${JSON.stringify(key.slice(0, 40))} cannot be part of a name, which is of letters, digits and : . _ -`,
      );
    return flatten(inner, `${name}/${key}`, unit, depth + 1);
  });
}

function isMeasured(value: object): value is { readonly value: unknown; readonly unit?: string } {
  const keys = Object.keys(value);
  if (!("value" in value) || !keys.every((key) => key === "value" || key === "unit")) return false;
  return !("unit" in value) || typeof value.unit === "string";
}

const MAX_DEPTH = 4;
const MAX_TEXT_LENGTH = 1024;
