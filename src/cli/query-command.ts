import type { Command } from "./command.js";
import { CONTROL_SYNOPSIS, controlWords } from "./control-client.js";
import { propertyTable, type PropertyView } from "./property-lines.js";

/** `dpe query EP [NAME…]`: DPE-2, asks the device itself. */
export const queryCommand: Command = {
  name: "query",
  synopsis: `EP [NAME…] ${CONTROL_SYNOPSIS}`,
  summary: "ask a device itself for properties (DPE-2)",
  help: `  NAME            of a property, as dpe device EP lists them, up to 64; without one: all of them`,
  example: "dpe query pi-kitchen cpu/load1 uptime",
  run: async (words) => {
    const { client, names, isJson } = controlWords(queryCommand, words, { min: 1, max: 65 });
    const [endpoint = "", ...wanted] = names;
    const answer = await client.send<Answer>("POST", `/api/devices/${encodeURIComponent(endpoint)}/query`, {
      names: wanted,
    });
    if (isJson) process.stdout.write(`${JSON.stringify(answer)}\n`);
    else if ("properties" in answer) process.stdout.write(propertyTable(answer.properties));
    else
      process.stdout.write(
        `${endpoint} sleeps; it is asked when it is heard, until ${answer.request.expiresAt} (${answer.request.id})\n`,
      );
  },
};

type Answer =
  | { readonly properties: readonly PropertyView[] }
  | { readonly request: { readonly id: string; readonly expiresAt: string } };
