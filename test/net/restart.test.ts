import { createCipheriv, hkdfSync } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import {
  connect,
  type DtlsEndpoint,
  type DtlsSession,
  FileAssociationStore,
  listen,
  NetError,
  type RestoredCounts,
} from "#net/index.js";
import { freePort } from "#testing/free-port.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

/** 10,000 with DPE_SCALE=1, which needs as many files open. */
const ASSOCIATIONS = process.env["DPE_SCALE"] === "1" ? 10_000 : 200;
const AT_ONCE = 50;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const KEY = bytes("0123456789abcdef");
const PSK = {
  psk: { identity: bytes("device-0001"), key: KEY },
  cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"],
} as const;

function folder(t: ExecutionContext): string {
  const made = mkdtempSync(join(tmpdir(), "dpe-associations-"));
  t.teardown(() => rmSync(made, { recursive: true }));
  return made;
}

class EchoServer {
  readonly #child: ChildProcess;
  readonly #lines: Record<string, unknown>[] = [];

  private constructor(port: number, path: string) {
    const program = join(dirname(fileURLToPath(import.meta.url)), "restart-server.js");
    this.#child = spawn(process.execPath, [program, String(port), path], { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#child.stdout !== null) {
      createInterface({ input: this.#child.stdout }).on("line", (line) => {
        this.#lines.push(JSON.parse(line) as Record<string, unknown>);
      });
    }
  }

  static async start(t: ExecutionContext, port: number, path: string): Promise<EchoServer> {
    const server = new EchoServer(port, path);
    t.teardown(() => server.end("SIGKILL"));
    return server;
  }

  async told(key: string): Promise<Record<string, unknown>> {
    const told = await until(() => this.#lines.find((line) => key in line), { what: key });
    this.#lines.splice(this.#lines.indexOf(told), 1);
    return told;
  }

  counts(): Promise<Record<string, unknown>> {
    this.#child.stdin?.write("?\n");
    return this.told("handshakes");
  }

  async end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill(signal);
    await ended;
  }
}

/** Sends until the echo comes, as an application does over UDP; gives the number of attempts. */
async function echo(session: DtlsSession, text: string): Promise<number> {
  for (let attempt = 1; attempt <= 30; attempt++) {
    const isAnswered = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), 1000);
      session.onmessage = (data) => {
        if (new TextDecoder().decode(data) !== text) return;
        clearTimeout(timer);
        resolve(true);
      };
      session.send(bytes(text));
    });
    if (isAnswered) return attempt;
  }
  throw new Error(`no echo of ${text}`);
}

async function inTurns<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += AT_ONCE) await Promise.all(items.slice(at, at + AT_ONCE).map(work));
}

test(`${ASSOCIATIONS} associations go on without a handshake after kill -9, and after an orderly stop`, async (t) => {
  t.timeout(300_000);
  const path = join(folder(t), "associations");
  const port = await freePort();
  const first = await EchoServer.start(t, port, path);
  const sessions: DtlsSession[] = [];
  t.teardown(() => Promise.all(sessions.map((session) => session.close())));
  await inTurns(Array.from({ length: ASSOCIATIONS }), async () => {
    const session = await connect({ host: "127.0.0.1", port }, PSK);
    await session.opened;
    sessions.push(session);
    await echo(session, "before");
  });
  t.like(await first.counts(), { sessions: ASSOCIATIONS, handshakes: ASSOCIATIONS });
  await first.end("SIGKILL");

  const second = await EchoServer.start(t, port, path);
  const restored = await second.told("restored");
  t.like(restored, { restored: ASSOCIATIONS, refused: 0, refusal: null });
  t.true(Number(restored["bytes"]) / ASSOCIATIONS <= 300, "bytes for each");
  t.log(
    `${String(ASSOCIATIONS)} associations: ${String(restored["bytes"])} bytes, restored ${Number(restored["ms"]).toFixed(0)} ms after the start`,
  );
  await inTurns(sessions, async (session) => void (await echo(session, "after kill -9")));
  t.like(await second.counts(), { sessions: ASSOCIATIONS, handshakes: 0 });
  await second.end("SIGTERM");

  const third = await EchoServer.start(t, port, path);
  t.like(await third.told("restored"), { restored: ASSOCIATIONS, refused: 0, refusal: null });
  await inTurns(sessions, async (session) => void (await echo(session, "after a stop")));
  t.like(await third.counts(), { sessions: ASSOCIATIONS, handshakes: 0 });
});

async function pair(t: ExecutionContext, store: FileAssociationStore, port: number): Promise<DtlsEndpoint> {
  const endpoint = await listen(
    (session) => {
      session.onmessage = (data) => session.send(data);
      if (!session.isRestored) session.attachment = bytes("attached");
    },
    { host: "127.0.0.1", port, server: { pskEnabled: true }, pskOf: () => KEY, associations: store },
  );
  t.teardown(() => endpoint.close());
  return endpoint;
}

test("what a session has attached, its peer's facts and its identifier come back with it; a closed one does not", async (t) => {
  const path = join(folder(t), "associations");
  const port = await freePort();
  const one = await pair(t, FileAssociationStore.open(path), port);
  // Options read anew do not end the keeping.
  one.replaceServer({ pskEnabled: true });
  const [kept, closed] = [
    await connect({ host: "127.0.0.1", port }, PSK),
    await connect({ host: "127.0.0.1", port }, PSK),
  ];
  if (kept === undefined || closed === undefined) return t.fail();
  await Promise.all([kept.opened, closed.opened]);
  await echo(kept, "x");
  await closed.close();
  await until(() => one.sessionCount <= 1);
  const [before] = [...one.sessions].map(({ peer, connectionId }) => ({ peer, connectionId }));
  await one.close();
  const two = await pair(t, FileAssociationStore.open(path), port);
  const [session, ...more] = two.sessions;
  t.is(more.length, 0);
  t.deepEqual(
    { peer: session?.peer, connectionId: Buffer.from(session?.connectionId ?? []) },
    {
      peer: before?.peer,
      connectionId: Buffer.from(before?.connectionId ?? []),
    },
  );
  t.deepEqual(session?.attachment, bytes("attached"));
  t.is(await echo(kept, "y"), 1);
  await kept.close();
});

test("S1 what a session sends as soon as it is back is saved in the place of what it was made of", async (t) => {
  const path = join(folder(t), "associations");
  const port = await freePort();
  const first = await pair(t, FileAssociationStore.open(path), port);
  const clients = [1, 2].map(() => connect({ host: "127.0.0.1", port }, PSK));
  for (const session of await Promise.all(clients)) {
    t.teardown(() => session.close());
    await session.opened;
    await echo(session, "before");
  }
  await first.close();
  const counts: RestoredCounts[] = [];
  const store = FileAssociationStore.open(path);
  const second = await listen((session) => session.send(bytes("back")), {
    host: "127.0.0.1",
    port,
    server: { pskEnabled: true },
    associations: store,
    onRestored: (all) => counts.push(all),
  });
  t.deepEqual(counts, [{ restored: 2, refused: 0 }]);
  t.is(store.size.associations, 2);
  // As a kill at this moment leaves it.
  const file = readFileSync(path);
  await second.close();
  writeFileSync(path, file);
  await pair(t, FileAssociationStore.open(path), port);
  for (const session of await Promise.all(clients)) t.is(await echo(session, "after"), 1, "no number comes twice");
});

test("F4 a store is held by one user at a time; F1 its files are their owner's only", (t) => {
  const path = join(folder(t), "associations");
  const store = FileAssociationStore.open(path);
  for (const file of [path, `${path}.key`, `${path}.lock`]) t.is(statSync(file).mode & 0o777, 0o600, file);
  t.throws(() => FileAssociationStore.open(path), { instanceOf: NetError, code: "NET_STORE_LOCKED" });
  store.close();
  t.false(existsSync(`${path}.lock`));
  // The lock of a process that was killed, or of before a restart of the system.
  writeFileSync(`${path}.lock`, "999999999 another boot");
  FileAssociationStore.open(path).close();
  writeFileSync(`${path}.lock`, readFileSync(`${path}.key`));
  FileAssociationStore.open(path).close();
  chmodSync(`${path}.key`, 0o640);
  t.throws(() => FileAssociationStore.open(path), { code: "NET_STORE_KEY" });
  chmodSync(`${path}.key`, 0o600);
  writeFileSync(`${path}.key`, "short");
  t.throws(() => FileAssociationStore.open(path), { code: "NET_STORE_KEY" });
  t.false(existsSync(`${path}.lock`), "a failed opening holds nothing");
});

/** The file of a store that was used and not closed, as after a crash. */
function crashed(path: string): Buffer {
  const store = FileAssociationStore.open(path);
  for (let id = 1; id <= 3; id++) store.put(id, new Uint8Array(50).fill(id));
  store.put(2, new Uint8Array(60).fill(9));
  store.delete(3);
  const file = readFileSync(path);
  store.close();
  return file;
}

function reopened(path: string, file: Uint8Array): { readonly ids: number[]; readonly refusal: string | undefined } {
  writeFileSync(path, file);
  const store = FileAssociationStore.open(path);
  const kept = [...store.load()];
  const result = { ids: kept.map(({ id }) => id), refusal: store.refusal };
  store.close();
  return result;
}

test("D62 F1 F2 F5 a changed file, one of another version, key or boot is refused; a torn end is left out", (t) => {
  const path = join(folder(t), "associations");
  const file = crashed(path);
  t.deepEqual(reopened(path, file), { ids: [1, 2], refusal: undefined });
  const changed = (at: number): Buffer => {
    const copy = Buffer.from(file);
    copy[at] = (copy[at] ?? 0) ^ 1;
    return copy;
  };
  // Within the header's salt, and in entries: of what is said, and of its tag.
  for (const at of [25, 45, 80, 130, file.length - 1]) {
    t.deepEqual(reopened(path, changed(at)), { ids: [], refusal: "changed-or-another-key" }, `byte ${String(at)}`);
  }
  t.deepEqual(reopened(path, changed(4)), { ids: [], refusal: "another-version" });
  t.is(reopened(path, changed(6)).refusal, "changed-or-another-key", "the boot is bound in");
  t.is(reopened(path, file.subarray(0, 20)).refusal, "changed-or-another-key");
  // Without the last entry, or with a part of it: 3 lives still.
  for (const cut of [1, 10, 22])
    t.deepEqual(reopened(path, file.subarray(0, -cut)).ids, [1, 2, 3], `cut ${String(cut)}`);
  const key = readFileSync(`${path}.key`);
  writeFileSync(`${path}.key`, Buffer.alloc(32, 1));
  t.is(reopened(path, file).refusal, "changed-or-another-key");
  writeFileSync(`${path}.key`, key);
  t.is(reopened(path, file).refusal, undefined);
});

/** A file of the store as the documentation of its format has it, of another boot. */
function fileOfAnotherBoot(key: Uint8Array, operations: readonly number[]): Buffer {
  const salt = Buffer.alloc(16, 7);
  const header = Buffer.concat([bytes("DPEA"), Buffer.of(1), Buffer.alloc(16, 9), salt]);
  const fileKey = Buffer.from(hkdfSync("sha256", key, salt, "dpe-coap associations", 32));
  const entries = operations.map((operation, index) => {
    const nonce = Buffer.alloc(12);
    nonce.writeUIntBE(index, 6, 6);
    const cipher = createCipheriv("aes-256-gcm", fileKey, nonce).setAAD(header);
    const sealed = Buffer.concat([cipher.update(Buffer.of(operation, 0, 0, 0, 1, 5, 5, 5)), cipher.final()]);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(sealed.length + 16);
    return Buffer.concat([length, sealed, cipher.getAuthTag()]);
  });
  return Buffer.concat([header, ...entries]);
}

test("F2 a file of another boot is used only after an orderly close", (t) => {
  const path = join(folder(t), "associations");
  FileAssociationStore.open(path).close();
  const key = readFileSync(`${path}.key`);
  const [put, close] = [1, 3];
  t.deepEqual(reopened(path, fileOfAnotherBoot(key, [put])), { ids: [], refusal: "not-of-this-boot" });
  t.deepEqual(reopened(path, fileOfAnotherBoot(key, [put, close])), { ids: [1], refusal: undefined });
  t.is(
    reopened(path, fileOfAnotherBoot(key, [close, put])).refusal,
    "changed-or-another-key",
    "nothing follows a close",
  );
});

test("a state that is too long for an entry is refused, and harms no other", (t) => {
  const path = join(folder(t), "associations");
  const store = FileAssociationStore.open(path);
  store.put(1, new Uint8Array(50));
  t.throws(() => store.put(2, new Uint8Array(65_515)), { instanceOf: NetError, code: "NET_STORE_FAILED" });
  store.put(3, new Uint8Array(65_514));
  store.close();
  const again = FileAssociationStore.open(path);
  t.is(again.refusal, undefined);
  t.deepEqual(
    [...again.load()].map(({ id, state }) => [id, state.length]),
    [
      [1, 50],
      [3, 65_514],
    ],
  );
  again.close();
});

test("F3 what was loaded is sealed anew, and a long file is made short, with nothing lost", (t) => {
  const path = join(folder(t), "associations");
  const store = FileAssociationStore.open(path);
  for (let round = 0; round < 30_000; round++) store.put(1 + (round % 10), new Uint8Array(200).fill(round % 251));
  t.true(store.size.bytes < 2_000_000, String(store.size.bytes));
  t.is(statSync(path).size, store.size.bytes);
  const before = readFileSync(path);
  store.close();
  const again = FileAssociationStore.open(path);
  const kept = [...again.load()];
  t.is(kept.length, 10);
  t.true(kept.every(({ id, state }) => state[0] === (29_990 + id - 1) % 251));
  t.notDeepEqual(readFileSync(path).subarray(21, 37), before.subarray(21, 37), "the salt");
  again.close();
});
