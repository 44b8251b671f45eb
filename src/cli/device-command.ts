import type { Command } from "./command.js";
import { CONTROL_SYNOPSIS, controlWords } from "./control-client.js";
import { type DeviceView, securityText } from "./devices-command.js";
import { propertyTable, type PropertyView } from "./property-lines.js";
import { ago, printable } from "./table.js";

/** `dpe device EP`: one device with its latest properties; `--forget` forgets it. */
export const deviceCommand: Command = {
  name: "device",
  synopsis: `EP [--forget] ${CONTROL_SYNOPSIS}`,
  summary: "show a device with its latest properties, or forget it",
  help: `  --forget        what the server knows of it is removed; a device that is there registers again`,
  example: "dpe device pi-kitchen",
  run: async (words) => {
    const { client, names, isJson, values } = controlWords(
      deviceCommand,
      words,
      { min: 1, max: 1 },
      { forget: { type: "boolean" } },
    );
    const url = `/api/devices/${encodeURIComponent(names[0] ?? "")}`;
    if (values["forget"] === true) {
      await client.send("DELETE", url);
      const [endpoint = ""] = names;
      process.stdout.write(isJson ? `${JSON.stringify({ endpoint, done: "forgotten" })}\n` : `${endpoint} forgotten\n`);
      return;
    }
    const device = await client.send<DeviceView & { readonly properties: readonly PropertyView[] }>("GET", url);
    process.stdout.write(
      isJson ? `${JSON.stringify(device)}\n` : `${factsOf(device)}\n${propertyTable(device.properties)}`,
    );
  },
};

function factsOf(device: DeviceView): string {
  const { security, intervalSeconds } = device;
  const facts: readonly (readonly [string, string | undefined])[] = [
    ["endpoint", device.endpoint],
    ["subscriber", device.subscriber ?? "(none)"],
    ["state", device.state],
    ["last heard", `${ago(device.lastHeardAt)}${security === undefined ? "" : ` from ${security.address}`}`],
    [
      "interval",
      intervalSeconds === undefined
        ? "not declared"
        : `${intervalSeconds} s; ${device.overdue} overdue, ${device.missed ?? 0} missed`,
    ],
    ["expires", device.expiresAt],
    [
      "DPE-1",
      `${securityText(security?.dpe1)}${security?.dpe1.cipherSuite === undefined ? "" : ` (${security.dpe1.cipherSuite})`}`,
    ],
    ["DPE-2", securityText(security?.dpe2)],
  ];
  return facts
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name.padEnd(12)}${printable(value)}\n`]))
    .join("");
}
