import { type ChildProcess, spawn } from "node:child_process";
import test, { type Implementation } from "ava";

/** Where a program runs. Default: where the tests do. */
interface Place {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
}

/** A foreign program that a test runs against: its whole output is kept, and it is always ended by its own pid. */
export class PeerProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | undefined>;
  readonly #watchers = new Set<() => void>();
  #output = "";
  #isExited = false;

  private constructor(program: string, options: readonly string[], place: Place = {}) {
    this.#child = spawn(program, options, { ...place, stdio: ["pipe", "pipe", "pipe"] });
    const collect = (chunk: string): void => {
      this.#output += chunk;
      this.#wake();
    };
    this.#child.stdout?.setEncoding("utf8").on("data", collect);
    this.#child.stderr?.setEncoding("utf8").on("data", collect);
    // A peer that has ended takes no more input; its exit says so.
    this.#child.stdin?.on("error", () => undefined);
    this.#exited = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.#output += String(error);
        resolve(undefined);
      });
      this.#child.once("close", (code) => resolve(code ?? undefined));
    });
    running.add(this.#child);
    void this.#exited.then(() => {
      running.delete(this.#child);
      this.#isExited = true;
      this.#wake();
    });
  }

  /** Starts a program that is ended with the test at the latest. */
  static start(t: Scoped, program: string, options: readonly string[], place: Place = {}): PeerProcess {
    const peer = new PeerProcess(program, options, place);
    t.teardown(() => peer.end());
    return peer;
  }

  /** Runs a program to its end, and gives what it printed; on failure the test shows it. */
  static async run(t: Scoped, program: string, options: readonly string[]): Promise<string> {
    const peer = PeerProcess.start(t, program, options);
    const code = await peer.#exited;
    if (code !== 0) throw new Error(`${program} ended with ${code}:\n${peer.#output}`);
    return peer.#output;
  }

  /** Standard output and error, in the order of arrival. */
  get output(): string {
    return this.#output;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Fulfilled with the exit code, undefined where a signal ended it. */
  get exited(): Promise<number | undefined> {
    return this.#exited;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Waits until the output contains a text; fails with the output when the program ends, or takes too long. */
  async printed(expected: string, withinMs = 10_000): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const settle = (): void => {
        this.#watchers.delete(look);
        clearTimeout(timer);
      };
      const fail = (why: string): void => {
        settle();
        reject(new Error(`${this.#child.spawnfile} ${why} before it printed "${expected}":\n${this.#output}`));
      };
      const look = (): void => {
        if (this.#output.includes(expected)) {
          settle();
          resolve();
        } else if (this.#isExited) fail("ended");
      };
      const timer = setTimeout(() => fail(`took ${withinMs} ms`), withinMs);
      this.#watchers.add(look);
      look();
    });
  }

  async end(): Promise<void> {
    if (!this.#isExited) this.#child.kill("SIGKILL");
    await this.#exited;
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher();
  }
}

/** Whatever a peer ends with: a test, or a part of one. */
export interface Scoped {
  teardown(end: () => void | Promise<void>): void;
}

/** A test worker that ends by a fault runs no teardown, so what still runs is ended at its exit. */
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** The foreign programs, by the words of `scripts/peers --missing`. */
export type PeerName =
  | "openssl"
  | "gnutls"
  | "libcoap-openssl"
  | "libcoap-gnutls"
  | "libcoap-notls"
  | "libcoap-dev"
  | "mbedtls"
  | "wolfssl"
  | "radclient"
  | "firmware-cc"
  | "cortex-m3"
  | "qemu-arm"
  | "libfuzzer"
  | "redis"
  | "mosquitto"
  | "chromium"
  | "arm64-node"
  | "systemd"
  | "node24";

/** A test that is skipped where its peer is not installed, unless DPE_REQUIRE_PEERS asks for every peer. */
export function testWith(
  peer: PeerName,
  title: string,
  implementation: Implementation<[]>,
  run: (title: string, implementation: Implementation<[]>) => void = test,
): void {
  const missing = (process.env["DPE_MISSING_PEERS"] ?? "").split(" ");
  const isRequired = process.env["DPE_REQUIRE_PEERS"] === "1";
  if (missing.includes(peer) && !isRequired) test.skip(title, implementation);
  else run(title, implementation);
}
