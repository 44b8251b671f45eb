import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "#testing/free-port.js";
import { IDENTITY, KEY, PATH, PAYLOAD } from "./workload.js";

/** A server under measurement, pinned on a core of its own; the port of a protocol that it does not speak is 0. */
export interface Server {
  readonly pid: number;
  readonly coap: number;
  readonly coaps: number;
  /** Ours: what it answers to a line; `live`: bytes in its heap and outside of it, after a collection. */
  ask(line: string): Promise<number>;
  end(): Promise<void>;
}

/**
 * All serve GET of the same tiny resource; those with DTLS take the same PSK, and show the same P-256 certificate. Those
 * called mutual ask for the client's, and verify it to the same anchor.
 */
export const START_SERVER: Readonly<Record<StartedName, () => Promise<Server>>> = {
  ours: () => ownServer("our-server.js", IDENTITY, KEY, CERTIFICATE, CERTIFICATE_KEY),
  "ours-by-serve": () => ownServer("our-serve-server.js"),
  "ours-observed": () => ownServer("observed-server.js"),
  "ours-mutual": () => ownServer("our-server.js", IDENTITY, KEY, CERTIFICATE, CERTIFICATE_KEY, ANCHOR),
  "node-coap": async () => ownServer("node-coap-server.js", String(await freePort())),
  "node-dgram": () => ownServer("node-dgram-server.js"),
  "libcoap-openssl": () => libcoap("coap-server-openssl", "-k", KEY, "-c", CERTIFICATE, "-j", CERTIFICATE_KEY, "-n"),
  "libcoap-mutual": () => libcoap("coap-server-openssl", "-c", CERTIFICATE, "-j", CERTIFICATE_KEY, "-C", ANCHOR),
  "libcoap-notls": () => libcoap("coap-server-notls"),
};

export type StartedName =
  | "ours"
  | "ours-by-serve"
  | "ours-observed"
  | "ours-mutual"
  | "node-coap"
  | "node-dgram"
  | "libcoap-openssl"
  | "libcoap-mutual"
  | "libcoap-notls";

/** Also what is measured without being a server: the codecs. */
export type ServerName = StartedName | "our-codec" | "coap-packet";

/** Starts a program on one core, where the machine lets us choose. It ends with this process at the latest. */
export function spawnPinned(core: "0" | "1", program: string, options: readonly string[]): ChildProcess {
  const [command, rest] = HAS_TASKSET ? ["taskset", ["-c", core, program, ...options]] : [program, options];
  const child = spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** The next line that a child prints. */
export function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    const listen = (set: "once" | "off"): void => {
      child.stdout?.[set]("data", onData);
      child[set]("error", onError);
      child[set]("exit", onExit);
    };
    const onData = (data: Buffer): void => {
      listen("off");
      resolve(data.toString().trim());
    };
    const onError = (error: Error): void => {
      listen("off");
      reject(error);
    };
    const onExit = (code: number | null): void =>
      onError(new Error(`${child.spawnfile} ended with ${code} before it printed anything`));
    listen("once");
  });
}

/** All that a child prints, when it has ended well. */
export async function allLines(child: ChildProcess): Promise<string> {
  let text = "";
  child.stdout?.on("data", (data: Buffer) => (text += data.toString()));
  const code = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Error(`${child.spawnargs.join(" ")} ended with ${String(code)}`);
  return text.trim();
}

async function ownServer(script: string, ...options: string[]): Promise<Server> {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const child = spawnPinned("0", process.execPath, ["--expose-gc", file, ...options]);
  const [coaps = 0, coap = 0] = (await firstLine(child)).split(" ").map(Number);
  const ask = async (line: string): Promise<number> => {
    const answer = firstLine(child);
    child.stdin?.write(`${line}\n`);
    return Number(await answer);
  };
  return { pid: child.pid ?? 0, coap, coaps, ask, end: () => end(child) };
}

/** libcoap's example server makes a resource of what is PUT to it when told to (-d). DTLS is on the next port. */
async function libcoap(program: string, ...options: string[]): Promise<Server> {
  const coap = await freePort();
  const child = spawnPinned("0", program, ["-v", "0", "-A", "127.0.0.1", "-p", String(coap), "-d", "10", ...options]);
  child.stdout?.resume();
  const uri = `coap://127.0.0.1:${coap}/${PATH}`;
  for (let attempt = 0; attempt < 50; attempt++) {
    await sleep(50);
    const said = await coapClient("-m", "put", "-e", PAYLOAD, "-B", "1", uri).then(() => coapClient("-B", "1", uri));
    if (said.includes(PAYLOAD)) {
      const ask = (): Promise<number> => Promise.reject(new Error("only ours tells"));
      return { pid: child.pid ?? 0, coap, coaps: coap + 1, ask, end: () => end(child) };
    }
  }
  throw new Error(`${program} does not serve /${PATH}`);
}

/** What libcoap's client prints; nothing where it fails, as while the server is starting. */
function coapClient(...options: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile("coap-client-notls", options, (_error, stdout) => resolve(stdout));
  });
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exited;
}

const HAS_TASKSET = existsSync("/usr/bin/taskset");
const fixture = (name: string): string =>
  fileURLToPath(new URL(`../../../test/fixtures/dtls/${name}`, import.meta.url));
const CERTIFICATE = fixture("p256.pem");
const CERTIFICATE_KEY = fixture("p256-key.pem");
const ANCHOR = fixture("ca.pem");
export const CLIENT_CERTIFICATE: readonly [string, string] = [fixture("client.pem"), fixture("client-key.pem")];

const children = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of children) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
