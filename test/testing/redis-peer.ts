import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { freePort } from "./free-port.js";
import { PeerProcess } from "./peer-process.js";

/** A Redis of its own for a test, which writes to disk before it answers. Returns its URL. */
export async function startRedis(t: Pick<ExecutionContext, "teardown">, ...options: string[]): Promise<string> {
  return (await RedisPeer.start(t, ...options)).url;
}

/** One that is paused, ended and started again, with its data or without, on the same port. */
export class RedisPeer {
  readonly port: number;
  readonly #t: Pick<ExecutionContext, "teardown">;
  readonly #folder: string;
  #starts = 0;
  #process: PeerProcess | undefined;

  private constructor(t: Pick<ExecutionContext, "teardown">, folder: string, port: number) {
    this.#t = t;
    this.#folder = folder;
    this.port = port;
  }

  static async start(t: Pick<ExecutionContext, "teardown">, ...options: string[]): Promise<RedisPeer> {
    const folder = mkdtempSync(join(tmpdir(), "dpe-redis-"));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const peer = new RedisPeer(t, folder, await freePort());
    await peer.restart({ options });
    return peer;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    this.#process?.signal(signal);
  }

  /** One setting of many, as redis-cli gives them; the text of its answer. */
  async tell(...words: string[]): Promise<string> {
    return PeerProcess.run(this.#t, "redis-cli", ["-p", String(this.port), ...words]);
  }

  /** Ends it as a loss of power does. */
  async end(): Promise<void> {
    await this.#process?.end();
  }

  /** `isEmpty`: in a folder of its own. Without options it writes to disk before it answers. */
  async restart({ isEmpty = false, options = [] }: RestartOptions = {}): Promise<void> {
    await this.end();
    const folder = isEmpty ? join(this.#folder, String(++this.#starts)) : this.#folder;
    mkdirSync(folder, { recursive: true });
    const given = options.length > 0 ? options : ["--appendonly", "yes", "--appendfsync", "always"];
    const place = ["--bind", "127.0.0.1", "--port", String(this.port), "--dir", folder, "--save", ""];
    this.#process = PeerProcess.start(this.#t, "redis-server", [...place, ...given]);
    await this.#process.printed("Ready to accept connections", 30_000);
  }
}

export interface RestartOptions {
  readonly isEmpty?: boolean;
  readonly options?: readonly string[];
}
