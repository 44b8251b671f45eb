import { MAX_TIMER_MS } from "#waiting/index.js";
import type { LinkChange, LinkConditions } from "./link-conditions.js";

/** `loss=0.2,delay=50,jitter=20,mtu=1280` or `cut`, `restored`. @throws Error that says which word is wrong and which there are. */
export function parseLinkConditions(text: string): Partial<LinkConditions> {
  const conditions: { -readonly [Key in keyof LinkConditions]?: LinkConditions[Key] } = {};
  for (const word of text.split(",").filter((part) => part !== "" && part !== "rebind")) {
    if (word === "cut" || word === "restored") {
      conditions.isCut = word === "cut";
      continue;
    }
    const [name = "", number = ""] = word.split("=", 2);
    const bound = BOUNDS.get(name as NumberName);
    const value = Number(number);
    if (bound === undefined || number === "" || !(value >= 0 && value <= bound)) {
      const names = [...BOUNDS].map(([known, most]) => `${known}=0…${most}`).join(", ");
      throw new Error(`${word} is no condition of a link: they are ${names}, cut, restored, rebind`);
    }
    conditions[name as NumberName] = value;
  }
  return conditions;
}

/** `10s:loss=0.5` or `1m:rebind`: what changes that long after the start. @throws Error. */
export function parseLinkChange(text: string): LinkChange {
  const [, number = "", unit = "s", rest = ""] = /^(\d+(?:\.\d+)?)(ms|s|m|h)?:(.+)$/.exec(text) ?? [];
  if (rest === "")
    throw new Error(`${text} is no change of a link: it is a time, a colon and conditions, as in 10s:loss=0.5`);
  const atMs = Number(number) * (UNITS_MS[unit] ?? 1000);
  if (atMs > MAX_TIMER_MS) throw new Error(`${text} is later than the 24 days that a timer takes`);
  return {
    atMs,
    conditions: parseLinkConditions(rest),
    rebind: rest.split(",").includes("rebind"),
  };
}

type NumberName = Exclude<keyof LinkConditions, "isCut">;

const BOUNDS: ReadonlyMap<NumberName, number> = new Map<NumberName, number>([
  ["loss", 1],
  ["duplication", 1],
  ["corruption", 1],
  ["reordering", 1],
  ["delay", 60_000],
  ["jitter", 60_000],
  ["mtu", 65_535],
]);
const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
