import { messageOf } from "#errors/index.js";
import { pause } from "#waiting/index.js";
import { type Command, misuse } from "./command.js";
import { CONTROL_SYNOPSIS, type ControlEvent, controlWords } from "./control-client.js";
import { type PropertyView, valueText } from "./property-lines.js";
import { printable } from "./table.js";

/**
 * `dpe observe EP [NAME]`: DPE-2, a line for each notification until a signal. What fails at first ends it; later it goes on
 * through absences of the device and restarts of the server.
 */
export const observeCommand: Command = {
  name: "observe",
  synopsis: `EP [NAME] [--pmin SECONDS] [--pmax SECONDS] [--gt VALUE] [--lt VALUE] [--st STEP] ${CONTROL_SYNOPSIS}`,
  summary: "follow a property of a device, or all (DPE-2)",
  help: `  --pmin SECONDS  at most one notification in so long
  --pmax SECONDS  at least one notification in so long
  --gt VALUE, --lt VALUE  when the value crosses this
  --st STEP       when it differs by so much`,
  example: "dpe observe pi-kitchen cpu/temperature --gt 70",
  form: "EP",
  // `dpe observe URI` is a CoAP client's.
  takes: (words) => !words.some((word) => word.includes("://")),
  run: async (words) => {
    const { client, names, isJson, values } = controlWords(observeCommand, words, { min: 1, max: 2 }, CONDITIONS);
    const [endpoint = "", name] = names;
    const query = new URLSearchParams(name === undefined ? {} : { name });
    for (const condition of Object.keys(CONDITIONS)) {
      const value = values[condition];
      if (value === undefined) continue;
      if (!Number.isFinite(Number(value))) throw misuse(observeCommand, `--${condition} ${String(value)} is no number`);
      query.set(condition, String(value));
    }
    const url = `/api/devices/${encodeURIComponent(endpoint)}/observe?${query.toString()}`;
    let lastId: string | undefined;
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(2 * waitMs, MAX_WAIT_MS)) {
      let why = "the server ended the stream";
      try {
        for await (const event of client.follow(url, lastId)) {
          show(event, endpoint, isJson);
          lastId = event.id;
          waitMs = FIRST_WAIT_MS;
        }
      } catch (error) {
        if (lastId === undefined) throw error;
        why = messageOf(error);
      }
      process.stderr.write(`dpe: ${printable(why)}; comes back\n`);
      await pause(waitMs);
    }
  },
};

function show({ event, data }: ControlEvent, endpoint: string, isJson: boolean): void {
  if (event === "waiting") {
    const { message } = data as { readonly message: string };
    process.stderr.write(`dpe: waits for ${endpoint}: ${printable(message)}\n`);
    return;
  }
  for (const property of (data as { readonly properties: readonly PropertyView[] }).properties)
    process.stdout.write(isJson ? `${JSON.stringify(property)}\n` : lineOf(property));
}

function lineOf(property: PropertyView): string {
  const { name, unit, time } = property;
  return `${time ?? ""}  ${printable(`${name}  ${valueText(property)}${unit === undefined ? "" : ` ${unit}`}`)}\n`;
}

const CONDITIONS = {
  pmin: { type: "string" },
  pmax: { type: "string" },
  gt: { type: "string" },
  lt: { type: "string" },
  st: { type: "string" },
} as const;
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 30_000;
