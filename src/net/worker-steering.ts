import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, Socket } from "node:net";
import { join } from "node:path";
import { encodeSteeredFrame, SteeredFrameReader } from "./steered-frame.js";
import { formatAddress, monotonicNow, type SocketAddress } from "./udp-socket.js";

/**
 * Several processes on one UDP port (SO_REUSEPORT): the kernel gives each datagram to one of them by the addresses and ports
 * in it. A peer behind a NAT that moved it comes to another one then. Its connection identifier (RFC 9146) begins with the
 * number of the process that issued it, and that one is handed the datagram, over a Unix socket in a folder of this user
 * alone; it answers from its own socket, which has the same port.
 *
 * Nobody has shown anything when a datagram is handed on, so forged identifiers must not fill the sockets between processes:
 * of addresses from which nothing authentic came yet, no more than `maxStrangersPerSecond` datagrams are, and none while half
 * of `maxQueuedBytes` waits. The owner confirms an address once; what comes from there is then bound by the queue alone.
 */
export class WorkerSteering {
  readonly index: number;
  readonly counters: SteeringCounters = {
    forwarded: 0,
    received: 0,
    confirmed: 0,
    droppedStrangers: 0,
    droppedFull: 0,
  };
  /** For the endpoint: takes a datagram that another process was given; true when it moved its session to that address. */
  onDatagram: (datagram: Uint8Array, from: SocketAddress) => boolean = () => false;

  readonly #options: Required<SteeringOptions>;
  readonly #server: Server;
  readonly #accepted = new Set<Socket>();
  readonly #lines = new Map<number, Line>();
  /** Addresses that an owner confirmed, the one used longest ago first. */
  readonly #confirmed = new Map<string, number>();
  #tokens: number;
  #tokensAt = monotonicNow();
  #isClosed = false;

  private constructor(options: Required<SteeringOptions>) {
    this.#options = options;
    this.index = options.index;
    this.#tokens = options.maxStrangersPerSecond;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** Takes the place of this process in the folder, which must be of this user alone (mode 0700). */
  static async open(options: SteeringOptions): Promise<WorkerSteering> {
    const steering = new WorkerSteering({ ...STEERING_DEFAULTS, ...options });
    const path = pathOf(options.folder, options.index);
    // That of a process that was killed.
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      steering.#server.once("error", reject);
      steering.#server.listen(path, () => {
        steering.#server.off("error", reject);
        resolve();
      });
    });
    chmodSync(path, 0o600);
    return steering;
  }

  /**
   * Hands a datagram that begins with a record of an identifier to the process that issued it. False when that is this one,
   * or none; true also where it was dropped by a bound.
   */
  forward(datagram: Uint8Array, from: SocketAddress): boolean {
    const owner = datagram[CONNECTION_ID_AT];
    if (owner === undefined || owner === this.index || owner >= this.#options.count) return false;
    const key = formatAddress(from);
    const isConfirmed = this.#confirmed.get(key) === owner;
    const line = this.#lineTo(owner);
    const { maxQueuedBytes } = this.#options;
    if (line.queuedBytes > (isConfirmed ? maxQueuedBytes : maxQueuedBytes / 2)) {
      this.counters.droppedFull++;
      return true;
    }
    if (isConfirmed) {
      this.#confirmed.delete(key);
      this.#confirmed.set(key, owner);
    } else if (!this.#takeToken()) {
      this.counters.droppedStrangers++;
      return true;
    }
    const frame = encodeSteeredFrame(isConfirmed ? "known" : "stranger", from, datagram);
    if (frame === undefined) return true;
    this.counters.forwarded++;
    line.write(frame);
    return true;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const line of this.#lines.values()) line.close();
    for (const socket of this.#accepted) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #takeToken(): boolean {
    const now = monotonicNow();
    const { maxStrangersPerSecond } = this.#options;
    this.#tokens = Math.min(
      maxStrangersPerSecond,
      this.#tokens + ((now - this.#tokensAt) / 1000) * maxStrangersPerSecond,
    );
    this.#tokensAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  #lineTo(owner: number): Line {
    let line = this.#lines.get(owner);
    if (line === undefined) {
      line = new Line(pathOf(this.#options.folder, owner), (from) => this.#confirm(owner, from));
      this.#lines.set(owner, line);
    }
    return line;
  }

  #confirm(owner: number, from: SocketAddress): void {
    this.#confirmed.set(formatAddress(from), owner);
    if (this.#confirmed.size <= this.#options.maxConfirmed) return;
    for (const oldest of this.#confirmed.keys()) {
      this.#confirmed.delete(oldest);
      return;
    }
  }

  #accept(socket: Socket): void {
    this.#accepted.add(socket);
    const reader = new SteeredFrameReader(({ kind, from, datagram }) => {
      this.counters.received++;
      if (!this.onDatagram(datagram, from) || kind !== "stranger") return;
      const confirmation = encodeSteeredFrame("confirmed", from, NOTHING);
      // A process that does not read is not waited for: what it is not told of stays a stranger to it.
      if (confirmation === undefined || socket.writableLength > this.#options.maxQueuedBytes) return;
      this.counters.confirmed++;
      socket.write(confirmation);
    });
    socket.on("data", (chunk: Buffer) => reader.take(chunk));
    socket.on("error", () => undefined);
    socket.on("close", () => this.#accepted.delete(socket));
  }
}

export interface SteeringOptions {
  /** Where the sockets between the processes are; mode 0700. */
  readonly folder: string;
  /** Of this process, from 0. */
  readonly index: number;
  /** How many processes there are, at most 256. */
  readonly count: number;
  /**
   * Datagrams handed on of addresses that are not confirmed. Default 2,000: so many devices a second go on at once after a NAT
   * moved them; the others when they send again. High: a flood of forged identifiers takes more processor time.
   */
  readonly maxStrangersPerSecond?: number;
  /** Bytes that wait for one other process. Default 1 MiB; what does not fit is dropped, as a full socket would. */
  readonly maxQueuedBytes?: number;
  /** Addresses that are remembered as confirmed. Default 100,000, some 10 MB; those used longest ago make way. */
  readonly maxConfirmed?: number;
}

export const STEERING_DEFAULTS: Required<
  Pick<SteeringOptions, "maxStrangersPerSecond" | "maxQueuedBytes" | "maxConfirmed">
> = { maxStrangersPerSecond: 2000, maxQueuedBytes: 1024 * 1024, maxConfirmed: 100_000 };

export interface SteeringCounters {
  /** Datagrams handed to other processes. */
  forwarded: number;
  /** Datagrams that other processes handed over. */
  received: number;
  /** Addresses that were confirmed to other processes. */
  confirmed: number;
  droppedStrangers: number;
  droppedFull: number;
}

/** To one other process: connected when there is something to send, and again when it was restarted. */
class Line {
  readonly #path: string;
  readonly #onConfirmed: (from: SocketAddress) => void;
  #socket: Socket | undefined;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isClosed = false;

  constructor(path: string, onConfirmed: (from: SocketAddress) => void) {
    this.#path = path;
    this.#onConfirmed = onConfirmed;
  }

  get queuedBytes(): number {
    return this.#waitingBytes + (this.#socket?.writableLength ?? 0);
  }

  /** What comes in one turn of the event loop is written at once. */
  write(frame: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#waiting.length === 0) setImmediate(() => this.#flush());
    this.#waiting.push(frame);
    this.#waitingBytes += frame.length;
  }

  close(): void {
    this.#isClosed = true;
    this.#socket?.destroy();
  }

  #flush(): void {
    const bytes = Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
    if (this.#isClosed) return;
    this.#socket ??= this.#connect();
    this.#socket.write(bytes);
  }

  #connect(): Socket {
    const socket = new Socket();
    const reader = new SteeredFrameReader(({ kind, from }) => {
      if (kind === "confirmed") this.#onConfirmed(from);
    });
    socket.on("data", (chunk: Buffer) => reader.take(chunk));
    // Not there, as while it is restarted: what waited is lost, as in any queue of the network.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      if (this.#socket === socket) this.#socket = undefined;
    });
    socket.connect(this.#path);
    return socket;
  }
}

function pathOf(folder: string, index: number): string {
  return join(folder, `worker-${index}.sock`);
}

/** RFC 9146 §4. */
const CONNECTION_ID_AT = 11;
const NOTHING = new Uint8Array(0);
