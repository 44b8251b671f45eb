import { type Command, misuse } from "./command.js";
import { CONTROL_SYNOPSIS, controlWords } from "./control-client.js";
import { ago, table } from "./table.js";

/** `dpe devices`: the fleet of a running server. */
export const devicesCommand: Command = {
  name: "devices",
  synopsis: `[PREFIX] [--state registered|overdue|ended] ${CONTROL_SYNOPSIS}`,
  summary: "list the devices of a running server",
  help: `  PREFIX          only those whose name begins so
  --state STATE   only those that are registered, overdue or ended`,
  example: "dpe devices pi- --state overdue",
  run: async (words) => {
    const { client, names, isJson, values } = controlWords(
      devicesCommand,
      words,
      { max: 1 },
      { state: { type: "string" } },
    );
    const query = new URLSearchParams({ limit: "1000" });
    if (names[0] !== undefined) query.set("prefix", names[0]);
    const { state } = values;
    if (typeof state === "string") {
      if (!STATES.includes(state)) throw misuse(devicesCommand, `--state: ${state} is none of ${STATES.join(", ")}`);
      query.set("state", state);
    }
    for (let isFirst = true; ; isFirst = false) {
      const { devices, next } = await client.send<Page>("GET", `/api/devices?${query.toString()}`);
      if (isJson) for (const device of devices) process.stdout.write(`${JSON.stringify(device)}\n`);
      else if (isFirst || devices.length > 0)
        process.stdout.write(
          table(
            HEADINGS,
            devices.map((device) => rowOf(device)),
          ),
        );
      if (next === undefined || devices.length === 0) return;
      query.set("after", next);
    }
  },
};

/** A device as the API gives it. */
export interface DeviceView {
  readonly endpoint: string;
  readonly subscriber?: string;
  readonly state: string;
  readonly lastHeardAt?: string;
  readonly overdue: number;
  readonly missed?: number;
  readonly intervalSeconds?: number;
  readonly expiresAt?: string;
  readonly security?: { readonly dpe1: SecurityView; readonly dpe2: SecurityView; readonly address: string };
}

interface SecurityView {
  readonly connection: string;
  readonly authentication: string;
  readonly cipherSuite?: string;
}

interface Page {
  readonly devices: readonly DeviceView[];
  readonly next?: string;
}

export function securityText(security: SecurityView | undefined): string {
  return security === undefined ? "" : `${security.connection}, ${security.authentication}`;
}

function rowOf(device: DeviceView): readonly string[] {
  const { security } = device;
  return [
    device.endpoint,
    device.subscriber ?? "(none)",
    device.state,
    ago(device.lastHeardAt),
    String(device.overdue),
    securityText(security?.dpe1),
    securityText(security?.dpe2),
  ];
}

const STATES: readonly string[] = ["registered", "overdue", "ended"];
const HEADINGS = ["ENDPOINT", "SUBSCRIBER", "STATE", "HEARD", "OVERDUE", "DPE-1", "DPE-2"];
