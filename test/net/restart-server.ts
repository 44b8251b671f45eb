import { FileAssociationStore, listen } from "#net/index.js";

/** An echo server with an association store, to be killed: `restart-server PORT STORE`. It tells of itself in JSON lines. */
const [, , port = "0", path = ""] = process.argv;
const startedAt = performance.now();
const store = FileAssociationStore.open(path);
let handshakes = 0;
const tell = (line: Record<string, unknown>): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const endpoint = await listen(
  (session) => {
    if (!session.isRestored) handshakes++;
    session.onmessage = (data) => session.send(data);
  },
  {
    host: "127.0.0.1",
    port: Number(port),
    receiveBufferBytes: 8 * 1024 * 1024,
    server: { pskEnabled: true },
    pskOf: () => new TextEncoder().encode("0123456789abcdef"),
    associations: store,
    onRestored: (counts) =>
      tell({ ...counts, refusal: store.refusal ?? null, bytes: store.size.bytes, ms: performance.now() - startedAt }),
  },
);
tell({ port: endpoint.address.port });
process.stdin.on("data", () => tell({ sessions: endpoint.sessionCount, handshakes, bytes: store.size.bytes }));
process.once("SIGTERM", () => {
  void endpoint.close().then(() => process.exit(0));
});
