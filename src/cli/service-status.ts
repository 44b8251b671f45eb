import { execFile } from "node:child_process";

/**
 * Tells systemd how the service is (sd_notify(3)): that it is ready, what it does, and at half of the watchdog's time that it
 * is alive. Does nothing outside of a unit of `Type=notify`. Node.js has no datagram sockets of Unix, so systemd's own
 * program speaks; the unit needs `NotifyAccess=all`.
 */
export function serviceStatus(environment: NodeJS.ProcessEnv = process.env): ServiceStatus {
  if (environment["NOTIFY_SOCKET"] === undefined) return SILENT;
  const notify = (...words: string[]): void => {
    execFile("systemd-notify", words, { timeout: NOTIFY_TIMEOUT_MS }, () => undefined);
  };
  const watchdogMs = Number(environment["WATCHDOG_USEC"] ?? 0) / 1000;
  if (watchdogMs > 0) setInterval(() => notify("WATCHDOG=1"), watchdogMs / 2).unref();
  return {
    ready: () => notify("--ready", `--pid=${process.pid}`),
    tell: (text) => notify(`--status=${text.slice(0, MAX_STATUS_LENGTH)}`),
    stopping: () => notify("STOPPING=1"),
  };
}

export interface ServiceStatus {
  /** The service has started. */
  ready(): void;
  /** What `systemctl status` shows. */
  tell(text: string): void;
  stopping(): void;
}

const SILENT: ServiceStatus = { ready: () => undefined, tell: () => undefined, stopping: () => undefined };
const NOTIFY_TIMEOUT_MS = 5000;
const MAX_STATUS_LENGTH = 200;
