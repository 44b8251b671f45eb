import { type Logger, pino } from "pino";

/** The log of a process that runs on: for people on a terminal, JSON lines elsewhere, as under systemd. */
export async function processLog(
  level = "info",
  base: Readonly<Record<string, unknown>> | null = null,
): Promise<Logger> {
  const options = { level, base };
  if (!process.stdout.isTTY) return pino(options);
  // Not loaded where a small machine runs it as a service.
  const { default: pretty } = await import("pino-pretty");
  return pino(options, pretty({ colorize: true, translateTime: "SYS:HH:MM:ss", singleLine: true, sync: true }));
}
