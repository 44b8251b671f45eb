/** Fulfilled by the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    process.once("SIGINT", () => resolve());
    process.once("SIGTERM", () => resolve());
  });
}

/** Calls on each SIGHUP, which asks a service to read its configuration again. */
export function onHangup(call: () => void): void {
  process.on("SIGHUP", call);
}
