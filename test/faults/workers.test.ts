import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createSocket } from "node:dgram";
import { join } from "node:path";
import { DPE } from "#testing/dpe-program.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { startRedis } from "#testing/redis-peer.js";
import { folderOf } from "#testing/server-process.js";
import { sharingNode } from "#testing/sharing-node.js";
import test, { type ExecutionContext } from "ava";

/** Two processes on plain CoAP alone; what they make in the folder of temporary files stands in one of its own. */
async function startWorkers(t: ExecutionContext): Promise<Workers> {
  const folder = folderOf(t);
  const temporary = folderOf(t);
  const port = await freePort();
  const file = join(folder, "server.yaml");
  const dpe1 = `{ listen: { host: 127.0.0.1, coap: ${port} }, connection: none, clientAuthentication: [none] }`;
  writeFileSync(file, `store: ${await startRedis(t)}\ncontrol: none\ninterfaces: { dpe1: ${dpe1} }\n`);
  const env = { ...process.env, TMPDIR: temporary };
  const main = PeerProcess.start(t, sharingNode(), [DPE, "server", "--config", file, "--workers", "2"], { env });
  return { main, port, temporary };
}

interface Workers {
  readonly main: PeerProcess;
  readonly port: number;
  readonly temporary: string;
}

/** The processes that listen, by their numbers in the log, the last of each place. */
function pidsOf({ main }: Workers): readonly number[] {
  const lines = main.output.matchAll(/"worker":(\d+),"pid":(\d+),"msg":"worker-listens"/g);
  return [...new Map([...lines].map(([, worker, pid]) => [worker, Number(pid)])).values()];
}

/** A process that has ended and that nobody has asked for its exit is gone too. */
function isGone(pid: number): boolean {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return true;
  }
}

async function until(isDone: () => boolean): Promise<void> {
  while (!isDone()) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Whether no process has the port. */
const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.once("error", () => resolve(false));
    socket.bind(port, "127.0.0.1", () => socket.close(() => resolve(true)));
  });

testWith(
  "node24",
  "SIGTERM ends processes on plain CoAP in order, and at once",
  async (t) => {
    t.timeout(60_000);
    const workers = await startWorkers(t);
    await workers.main.printed('"msg":"listening"', 40_000);
    const begun = performance.now();
    workers.main.signal("SIGTERM");
    t.is(await workers.main.exited, 0);
    t.true(performance.now() - begun < 8000, "none had to be killed, after 15 s");
    t.true(await isFree(workers.port));
    t.deepEqual(readdirSync(workers.temporary), []);
  },
  test.serial,
);

testWith(
  "node24",
  "SIGTERM before all of the processes listen ends them, and leaves nothing behind",
  async (t) => {
    t.timeout(60_000);
    const workers = await startWorkers(t);
    await workers.main.printed('"msg":"worker-listens"', 40_000);
    workers.main.signal("SIGTERM");
    t.is(await workers.main.exited, 0);
    t.true(pidsOf(workers).every(isGone));
    t.true(await isFree(workers.port));
    t.deepEqual(readdirSync(workers.temporary), []);
  },
  test.serial,
);

testWith(
  "node24",
  "a main process that is killed takes its processes with it, whether or not they listen already",
  async (t) => {
    t.timeout(60_000);
    for (const message of ["worker-listens", "listening"]) {
      const workers = await startWorkers(t);
      await workers.main.printed(`"msg":"${message}"`, 40_000);
      workers.main.signal("SIGKILL");
      await workers.main.exited;
      await until(() => pidsOf(workers).every(isGone));
      // The last of them removes the folder, and is not seen where it does not listen yet.
      await until(() => readdirSync(workers.temporary).length === 0);
      t.notRegex(workers.main.output, /Unhandled|ERR_IPC/);
      while (!(await isFree(workers.port)));
    }
  },
  test.serial,
);

testWith(
  "node24",
  "a process that hangs is ended, and another takes its place",
  async (t) => {
    t.timeout(90_000);
    const workers = await startWorkers(t);
    await workers.main.printed('"msg":"listening"', 40_000);
    const [, hung = 0] = pidsOf(workers);
    process.kill(hung, "SIGSTOP");
    await workers.main.printed("worker-hangs", 45_000);
    await until(() => isGone(hung));
    await until(() => pidsOf(workers)[1] !== hung);
    workers.main.signal("SIGTERM");
    t.is(await workers.main.exited, 0);
  },
  test.serial,
);
