import { type RemoteInfo, Socket } from "node:dgram";
import type { DtlsSession, PeerInfo } from "#net/index.js";

/**
 * What both sides share: a `dgram.Socket` to the npm package coap, whose datagrams are DTLS records of an association each.
 * It is a real subclass, since coap asks `instanceof` before it answers a repeated request from its cache; the UDP socket
 * of the base class is never bound.
 */
export abstract class DatagramSocket extends Socket {
  #closed: Promise<void> | undefined;

  constructor() {
    // The types know no constructor of dgram.Socket; createSocket calls it with the family.
    super(...(["udp4"] as unknown as []));
  }

  /** As of dgram.Socket in the two forms that coap uses: with offset and length, and without. */
  override send(message: unknown, ...rest: unknown[]): void {
    const callback = rest.findLast((item) => typeof item === "function") as SendCallback | undefined;
    const words = rest.filter((item) => typeof item !== "function");
    const [offset, length, port, host] =
      words.length > 2 ? words : [0, message instanceof Uint8Array ? message.length : 0, ...words];
    const done = (error: Error | null): void => {
      if (callback !== undefined) process.nextTick(callback, error, Number(length));
    };
    if (!(message instanceof Uint8Array)) return done(new TypeError("a message is a Uint8Array"));
    const data = message.subarray(Number(offset), Number(offset) + Number(length));
    void this.#attempt(data, { port: Number(port), host: typeof host === "string" ? host : undefined }, done);
  }

  /** Closes every association in order; once more changes nothing. */
  override close(callback?: () => void): this {
    this.#closed ??= this.#closeAll();
    if (callback !== undefined) void this.#closed.then(() => process.nextTick(callback));
    return this;
  }

  /** For the sides: hands one message to the association of a target. */
  protected abstract transmit(data: Uint8Array, target: SendTarget): Promise<void>;
  protected abstract closeAssociations(): Promise<void>;

  /** For the sides: a message of a peer, under the address that answers are to be sent to. */
  protected deliver(data: Uint8Array, session: DtlsSession, address: string, port: number): void {
    const family = session.remoteAddress.address.includes(":") ? "IPv6" : "IPv4";
    const remote: RemoteInfo & CoapsPeer = {
      address,
      port,
      family,
      size: data.length,
      remoteAddress: session.remoteAddress.address,
      peer: session.peer,
    };
    this.emit("message", Buffer.from(data.buffer, data.byteOffset, data.byteLength), remote);
  }

  async #attempt(data: Uint8Array, target: SendTarget, done: (error: Error | null) => void): Promise<void> {
    let failure: Error | null = null;
    try {
      if (this.#closed !== undefined) throw new CoapsSocketError("NODE_COAP_CLOSED", "the socket is closed");
      await this.transmit(data, target);
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
    }
    done(failure);
  }

  async #closeAll(): Promise<void> {
    await this.closeAssociations();
    await new Promise<void>((resolve) => super.close(resolve));
  }
}

/** What a `rsinfo` of coap holds beside node's own fields. */
export interface CoapsPeer {
  /** The peer's address without the association's number. */
  readonly remoteAddress: string;
  /** What DTLS established: the PSK identity, or the verified certificates. */
  readonly peer: PeerInfo | undefined;
}

export interface SendTarget {
  readonly port: number;
  readonly host: string | undefined;
}

/** Root of this layer's errors, beside those of DTLS and of sockets that pass through it. `code` is API. */
export class CoapsSocketError extends Error {
  override readonly name = "CoapsSocketError";
  readonly code: "NODE_COAP_CLOSED" | "NODE_COAP_NO_ASSOCIATION" | "NODE_COAP_NO_HOST" | "NODE_COAP_TOO_MANY_PEERS";

  constructor(code: CoapsSocketError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

type SendCallback = (error: Error | null, bytes: number) => void;
