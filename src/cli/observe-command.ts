import type { Command } from "./command.js";
import { CONTROL_SYNOPSIS, ControlError, controlWords } from "./control-client.js";
import { type PropertyView, valueText } from "./property-lines.js";
import { printable } from "./table.js";

/** `dpe observe EP [NAME]`: DPE-2, a line for each notification until it ends or is interrupted. */
export const observeCommand: Command = {
  name: "observe",
  synopsis: `EP [NAME] ${CONTROL_SYNOPSIS}`,
  summary: "follow a property of a device, or all (DPE-2)",
  // `dpe observe URI` is a CoAP client's.
  takes: (words) => !words.some((word) => word.includes("://")),
  run: async (words) => {
    const { client, names, isJson } = controlWords(observeCommand, words, { min: 1, max: 2 });
    const [endpoint = "", name] = names;
    const query = name === undefined ? "" : `?name=${encodeURIComponent(name)}`;
    for await (const { event, data } of client.follow(`/api/devices/${encodeURIComponent(endpoint)}/observe${query}`)) {
      if (event === "failure")
        throw new ControlError("DPE_NOT_REACHABLE", (data as { readonly message: string }).message);
      for (const property of (data as { readonly properties: readonly PropertyView[] }).properties)
        process.stdout.write(isJson ? `${JSON.stringify(property)}\n` : lineOf(property));
    }
  },
};

function lineOf(property: PropertyView): string {
  const { name, unit, time } = property;
  return `${time ?? ""}  ${printable(`${name}  ${valueText(property)}${unit === undefined ? "" : ` ${unit}`}`)}\n`;
}
