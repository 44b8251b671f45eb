import type { Socket } from "node:net";
import type { PeerInfo } from "#dtls/index.js";
import type { StreamBudget } from "./stream-budget.js";
import type { SocketAddress } from "./udp-socket.js";

/** A connected TCP or TLS stream that CoAP is spoken on (RFC 8323). */
export class CoapStream {
  readonly remoteAddress: SocketAddress;
  /** What TLS established about the peer; undefined on plain TCP. */
  readonly peer: PeerIdentity | undefined;
  /** Fulfilled when the stream is closed, whoever did it. */
  readonly closed: Promise<void>;
  onData: ((bytes: Uint8Array) => void) | undefined;
  readonly #socket: Socket;
  #budget: StreamBudget | undefined;
  /** Of a message that is not whole yet. */
  #incompleteBytes = 0;

  constructor(socket: Socket, peer: PeerIdentity | undefined) {
    this.#socket = socket;
    this.peer = peer;
    this.remoteAddress = { address: socket.remoteAddress ?? "", port: socket.remotePort ?? 0 };
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    // A reset is a close like any other here.
    socket.on("error", () => socket.destroy());
    socket.on("data", (bytes: Buffer) => this.onData?.(bytes));
    socket.on("end", () => socket.end());
    socket.on("close", () => this.#budget?.hold(this, 0));
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
  }

  /** What the stream makes us keep counts there from now on. */
  countIn(budget: StreamBudget): void {
    this.#budget = budget;
  }

  /** How many bytes of a message that is not whole are kept. */
  keeps(incompleteBytes: number): void {
    this.#incompleteBytes = incompleteBytes;
    this.#account();
  }

  get isSecure(): boolean {
    return this.peer !== undefined;
  }

  /** A peer that does not read what it asked for is cut off, rather than kept in memory. */
  send(bytes: Uint8Array): void {
    if (this.#socket.destroyed || !this.#socket.writable) return;
    this.#socket.write(bytes, this.#account);
    if (this.#socket.writableLength > MAX_UNSENT_BYTES) this.#socket.destroy();
    else this.#account();
  }

  /** Ends it at once. */
  cutOff(): void {
    this.#socket.destroy();
  }

  /** Whether to read from the peer; what it sends meanwhile waits in the network. */
  setReading(isReading: boolean): void {
    if (isReading) this.#socket.resume();
    else this.#socket.pause();
  }

  /** Sends what is left and closes; cuts off a peer that does not take it within two seconds. */
  async close(): Promise<void> {
    this.#socket.end();
    this.#socket.resume();
    const timer = setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS);
    await this.closed;
    clearTimeout(timer);
  }

  readonly #account = (): void => {
    if (!this.#socket.destroyed) this.#budget?.hold(this, this.#socket.writableLength + this.#incompleteBytes);
  };
}

/** What is known of a secure peer, over DTLS or TLS. */
export type PeerIdentity = Pick<PeerInfo, "pskIdentity" | "certificates" | "rawPublicKey" | "serverName">;

const CLOSE_TIMEOUT_MS = 2000;
/** A peer that went without a word, as when its power or a NAT failed, would hold its place for ever. Seldom enough for a battery. */
const KEEP_ALIVE_MS = 900_000;
/** Of responses and notifications that the peer has not taken. */
const MAX_UNSENT_BYTES = 1024 * 1024;
