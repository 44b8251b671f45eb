import { Buffer } from "node:buffer";
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { lookup } from "node:dns";
import { isIP } from "node:net";
import { performance } from "node:perf_hooks";
import { NetError, netError } from "./net-error.js";

/** A bound UDP socket, IPv4 or IPv6 by its address. */
export class UdpSocket {
  readonly address: SocketAddress;
  onDatagram: ((datagram: Uint8Array, from: SocketAddress) => void) | undefined;
  /** While it is connected: the peer's host says by ICMP that nobody listens there. Whoever sees our ports can forge that. */
  onRefused: (() => void) | undefined;
  readonly counters = { sent: 0, received: 0, errors: 0 };
  readonly #socket: Socket;
  readonly #isLost: UdpSocketOptions["isLost"];
  #isConnected = false;
  #isClosed = false;

  private constructor(socket: Socket, isLost: UdpSocketOptions["isLost"]) {
    this.#socket = socket;
    this.#isLost = isLost;
    const { address, port } = socket.address();
    this.address = { address, port };
    socket.on("message", (datagram: Buffer, from: RemoteInfo) => {
      this.counters.received++;
      this.onDatagram?.(datagram, from);
    });
    // After binding, an error is a datagram's own (an ICMP answer, say): it is counted only.
    socket.on("error", (error: Error & { readonly code?: string }) => {
      this.counters.errors++;
      if (error.code === "ECONNREFUSED") this.onRefused?.();
    });
  }

  /** @throws NetError NET_PORT_IN_USE, NET_ADDRESS_NOT_AVAILABLE, NET_PERMISSION_DENIED, NET_SOCKET_FAILED. */
  static async bind(options: UdpSocketOptions = {}): Promise<UdpSocket> {
    const { host = "0.0.0.0", port = 0, receiveBufferBytes, sharesPort = false } = options;
    const family = isIP(host) === 6 ? 6 : 4;
    let isBound = false;
    const socket = createSocket({
      type: family === 6 ? "udp6" : "udp4",
      // Destinations are literals; node's default would take each of them through the resolver, and even looking costs.
      lookup: (name, lookupOptions, callback) => {
        if (isBound) callback(null, name, family);
        else lookup(name, lookupOptions, callback);
      },
      ...(receiveBufferBytes === undefined ? {} : { recvBufferSize: receiveBufferBytes }),
      ...(sharesPort ? { reusePort: true } : {}),
    });
    await new Promise<void>((resolve, reject) => {
      const fail = (error: Error): void => {
        socket.close();
        reject(netError(error, `listening on UDP ${host}:${port}`));
      };
      socket.once("error", fail);
      socket.bind({ address: host, port, exclusive: true }, () => {
        socket.off("error", fail);
        isBound = true;
        resolve();
      });
    });
    return new UdpSocket(socket, options.isLost);
  }

  send(datagram: Uint8Array, to: SocketAddress): void {
    if (this.#isClosed) return;
    // What may stand in any datagram that comes in; Node.js throws for it, and so whoever forges it would end the process.
    if (to.port === 0) {
      this.counters.errors++;
      return;
    }
    this.counters.sent++;
    if (this.#isLost?.(this.counters.sent) === true) return;
    // Without a callback: it would cost a tick for each datagram, to tell what UDP promises nothing about.
    if (this.#isConnected) this.#socket.send(datagram);
    else this.#socket.send(datagram, to.port, to.address);
  }

  /** Sends the parts as one datagram. */
  sendJoined(parts: readonly Uint8Array[], to: SocketAddress): void {
    const [first] = parts;
    if (first === undefined) return;
    this.send(parts.length === 1 ? first : Buffer.concat(parts), to);
  }

  /**
   * Speaks with that address alone until {@link disconnect}, so that its host's ICMP errors are told. Our own address stays
   * the one of now for as long: not for an association, whose device may come into another network.
   */
  connect(to: SocketAddress): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.connect(to.port, to.address, (error?: Error) => {
        this.#isConnected = error === undefined || error === null;
        if (this.#isConnected) resolve();
        else reject(netError(error, `UDP to ${formatAddress(to)}`));
      });
    });
  }

  disconnect(): void {
    if (!this.#isConnected || this.#isClosed) return;
    this.#isConnected = false;
    this.#socket.disconnect();
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }
}

export interface UdpSocketOptions {
  /** An address literal. Default 0.0.0.0: every IPv4 address of this machine. */
  readonly host?: string;
  /** Default 0: any free port. */
  readonly port?: number;
  /** Default: the system's. Higher takes larger bursts. */
  readonly receiveBufferBytes?: number;
  /**
   * Default false. true: several processes of this user may listen on the port, and the kernel spreads the peers over them by
   * their addresses (SO_REUSEPORT); see {@link canSharePorts}.
   */
  readonly sharesPort?: boolean;
  /** Default: none. Which of the datagrams that are sent, counted from 1, go nowhere: to see what loss does. */
  readonly isLost?: (count: number) => boolean;
}

/** Where a client's own sockets are bound; all fields as of {@link UdpSocketOptions}. */
export type LocalSocket = Pick<UdpSocketOptions, "host" | "port" | "isLost">;

/** Whether this Node.js can let several processes listen on one UDP port: from 22.12 on, and from 23.1 on; on Linux. */
export function canSharePorts(version: string = process.versions.node, platform: string = process.platform): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const isNewEnough = major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12);
  return isNewEnough && platform === "linux";
}

export interface SocketAddress {
  /** A literal, without brackets. */
  readonly address: string;
  readonly port: number;
}

/** Resolves a name to an address literal; a literal is its own. @throws NetError NET_NAME_NOT_FOUND. */
export async function resolveHost(host: string): Promise<string> {
  const [first = host] = await resolveHosts(host);
  return first;
}

/** All addresses of a name, in the order of the system's preference. @throws NetError NET_NAME_NOT_FOUND. */
export async function resolveHosts(host: string): Promise<readonly string[]> {
  if (isIP(host) !== 0) return [host];
  return new Promise((resolve, reject) => {
    lookup(host, { all: true }, (error, addresses) => {
      if (error === null && addresses.length > 0) resolve([...new Set(addresses.map(({ address }) => address))]);
      else reject(new NetError("NET_NAME_NOT_FOUND", `${host}: the host name has no address`, { cause: error }));
    });
  });
}

/** "192.0.2.1:5684", "[2001:db8::1]:5684". */
export function formatAddress({ address, port }: SocketAddress): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** What a socket toward this address is bound to. @throws NetError NET_ADDRESS_NOT_AVAILABLE: `local` is of the other family. */
export function boundToward(address: string, local: LocalSocket = {}): LocalSocket {
  const any = isIP(address) === 6 ? "::" : "0.0.0.0";
  const { host = any } = local;
  if (isIP(host) !== isIP(any))
    throw new NetError(
      "NET_ADDRESS_NOT_AVAILABLE",
      `${address} cannot be reached from ${host}: one is IPv6, one is not`,
    );
  return { ...local, host };
}

/** Milliseconds of the monotonic clock that all protocol layers are given. */
export function monotonicNow(): number {
  return performance.now();
}
