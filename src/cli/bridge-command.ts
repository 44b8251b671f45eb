import {
  checkFirmware,
  checkPort,
  DEFAULT_BAUD,
  FirmwareBridge,
  openWire,
  printable,
  type FirmwareEvent,
} from "#bridge/index.js";
import { decodeMessage, formatCode, methodName } from "#coap/index.js";
import { messageOf } from "#errors/index.js";
import { type Command, misuse, parseWords } from "./command.js";
import { untilSignal } from "./signals.js";

/** `dpe bridge`: what a microcontroller says, live; and whether it says it as it should. */
export const bridgeCommand: Command = {
  name: "bridge",
  synopsis: "monitor|check PORT [--baud N] [--json-lines]",
  summary: "show what a microcontroller says on a port, or judge its firmware rule by rule",
  help: `  PORT            a serial port, by-id:PATTERN, unix:PATH or tcp:HOST:PORT
  --baud N        bits a second, 115200
  --json-lines    monitor a board that prints lines of JSON (protocol: json-lines)`,
  example: "dpe bridge monitor 'by-id:*Nucleo*'",
  run: (words) => {
    const options = { baud: { type: "string" }, "json-lines": { type: "boolean", default: false } } as const;
    const { values, positionals } = parseWords(bridgeCommand, words, options, { maxPositionals: 2 });
    const [what, port] = positionals;
    if (what !== "monitor" && what !== "check")
      throw misuse(bridgeCommand, what === undefined ? "monitor or check is missing" : `${what} is not understood`);
    if (port === undefined) throw misuse(bridgeCommand, "PORT is missing");
    try {
      checkPort(port);
    } catch (error) {
      throw misuse(bridgeCommand, messageOf(error));
    }
    const baud = values.baud === undefined ? DEFAULT_BAUD : Number(values.baud);
    if (!Number.isInteger(baud) || baud < 300)
      throw misuse(bridgeCommand, `--baud is bits a second, not ${values.baud}`);
    const isJson = values["json-lines"];
    if (what === "check" && isJson)
      throw misuse(bridgeCommand, "JSON lines have nothing to check but that they arrive: monitor them");
    return what === "monitor" ? monitor(port, baud, isJson) : check(port, baud);
  },
};

async function monitor(port: string, baud: number, isJson: boolean): Promise<void> {
  const bridge = new FirmwareBridge(
    {
      port,
      baud,
      protocol: isJson ? "json-lines" : "slipmux",
      onFrame: (direction, message) => print(direction === "sent" ? ">" : "<", printable(messageLine(message))),
      onNoise: ({ dropped, foreign, skippedBytes }) =>
        print("!", `noise so far: ${dropped} bad frames, ${foreign} foreign ones, ${skippedBytes} bytes in all`),
    },
    (event) => {
      for (const line of linesOf(event))
        print(event.type === "diagnostic" ? "#" : "=", event.type === "diagnostic" ? line : printable(line));
    },
  );
  await untilSignal();
  await bridge.close();
}

async function check(port: string, baud: number): Promise<void> {
  const wire = await openWire(port, { baud });
  try {
    const verdicts = await checkFirmware(wire, ({ result, rule, source, why }) => {
      const reason = why === undefined ? "" : `: ${why}`;
      process.stdout.write(`${result.padEnd(8)} ${rule} (${source})${reason}\n`);
    });
    const count = (result: string): number => verdicts.filter((verdict) => verdict.result === result).length;
    process.stdout.write(`${count("passed")} passed, ${count("failed")} failed, ${count("skipped")} skipped\n`);
    if (count("failed") > 0) throw new Error(`the firmware on ${port} does not conform`);
  } finally {
    await wire.close();
  }
}

function linesOf(event: FirmwareEvent): readonly string[] {
  switch (event.type) {
    case "connected":
      return [
        `connected to ${event.port}`,
        ...event.properties.map(({ name, unit, isObservable, isWritable }) =>
          [`  ${name}`, unit ?? "", isObservable ? "observable" : "", isWritable ? "writable" : ""].join(" ").trimEnd(),
        ),
      ];
    case "lost":
      return [`lost: ${event.cause}`];
    case "no-port":
      return [`no port: ${event.cause}`];
    case "gap":
      return [`gap of ${((event.toMs - event.fromMs) / 1000).toFixed(3)} s: ${event.cause}`];
    case "readings":
      return event.readings.map(({ name, unit, value }) =>
        `${name} = ${JSON.stringify(value)} ${unit ?? ""}`.trimEnd(),
      );
    case "diagnostic":
      return [...(event.suppressed > 0 ? [`${event.suppressed} lines left out`] : []), event.text];
  }
}

/** `CON 0x1234 GET /p/temperature`, or `ACK 0x1234 2.05, 18 bytes`. */
function messageLine(bytes: Uint8Array): string {
  try {
    const { type, code, messageId, options, payload } = decodeMessage(bytes);
    const method = methodName(code);
    const path = method === undefined ? "" : ` /${options.uriPath.join("/")}`;
    const observe = options.observe === undefined ? "" : `, observe ${options.observe}`;
    const block = options.block2;
    const blocks = block === undefined ? "" : `, block ${block.number}${block.hasMore ? "+" : ""}`;
    const size = payload.length === 0 ? "" : `, ${payload.length} bytes`;
    const what = code === 0 ? "empty" : (method ?? formatCode(code));
    return `${TYPES[type]} 0x${messageId.toString(16).padStart(4, "0")} ${what}${path}${observe}${blocks}${size}`;
  } catch {
    return `malformed, ${bytes.length} bytes`;
  }
}

function print(mark: string, line: string): void {
  process.stdout.write(`${new Date().toISOString().slice(11, 23)} ${mark} ${line}\n`);
}

const TYPES = ["CON", "NON", "ACK", "RST"] as const;
