import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FirmwareBridge } from "#bridge/index.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

/** A Unix socket as the wire of whatever `serve` is. */
async function wired(t: ExecutionContext, serve: (socket: Socket) => void): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "bridge-"));
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(join(folder, "mcu"), resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return `unix:${join(folder, "mcu")}`;
}

test("a bridge that is closed while its wire opens closes", async (t) => {
  const port = await wired(t, () => undefined);
  for (const protocol of ["json-lines", "slipmux"] as const)
    await t.notThrowsAsync(new FirmwareBridge({ port, protocol }, () => undefined).close(), protocol);
});

test("a wire that gives back what it is sent is asked ten times a second, and not as often as it can", async (t) => {
  const port = await wired(t, (socket) => socket.pipe(socket));
  let sent = 0;
  const bridge = new FirmwareBridge(
    { port, onFrame: (direction) => (sent += Number(direction === "sent")) },
    () => undefined,
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
  await bridge.close();
  // A request, and the answer to it where it comes back.
  t.true(sent >= 2 && sent <= 20, `${sent} messages`);
});

test("wires that close one after the other leave nothing at the bridge", async (t) => {
  const warnings: string[] = [];
  const warn = (warning: Error): void => void warnings.push(warning.name);
  process.on("warning", warn);
  t.teardown(() => process.off("warning", warn));
  let wires = 0;
  const port = await wired(t, (socket) => {
    wires++;
    socket.destroy();
  });
  const bridge = new FirmwareBridge({ port, protocol: "json-lines" }, () => undefined);
  await until(() => wires >= 13);
  await bridge.close();
  t.deepEqual(warnings, []);
});
