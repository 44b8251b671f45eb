import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { SeededRandom } from "#sim/seeded-random.js";

/**
 * A rough path between real sockets: what is sent to `port` reaches `target`, and its answers come back, less what is lost
 * and later where it is held up. A seed decides; real time makes the rest.
 */
export class UdpRelay {
  readonly port: number;
  readonly counts = { relayed: 0, lost: 0, delayed: 0 };
  readonly #front: Socket;
  #target: number;
  readonly #conditions: RelayConditions;
  readonly #random: SeededRandom;
  /** A socket toward the target for each client, so that the target tells them apart. */
  readonly #backs = new Map<number, Socket>();
  /** When each client sent last. */
  readonly #sentAt = new Map<number, number>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #isClosed = false;

  private constructor(front: Socket, target: number, conditions: RelayConditions) {
    this.#front = front;
    this.port = front.address().port;
    this.#target = target;
    this.#conditions = conditions;
    this.#random = new SeededRandom(conditions.seed);
    front.on("message", (datagram: Buffer, from: RemoteInfo) => {
      const back = this.#backTo(from.port);
      this.#sentAt.set(from.port, performance.now());
      this.#relay(datagram, () => back.send(datagram, this.#target, "127.0.0.1"));
    });
  }

  static async start(target: number, conditions: RelayConditions): Promise<UdpRelay> {
    const front = createSocket("udp4");
    await new Promise<void>((resolve) => front.bind(0, "127.0.0.1", resolve));
    return new UdpRelay(front, target, conditions);
  }

  /** From now on what is sent to `port` reaches this target. */
  leadTo(target: number): void {
    this.#target = target;
  }

  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const socket of [this.#front, ...this.#backs.values()]) socket.close();
  }

  #backTo(clientPort: number): Socket {
    let back = this.#backs.get(clientPort);
    if (back === undefined) {
      back = createSocket("udp4");
      // A peer that has ended answers by ICMP: to the relay that is a lost datagram.
      back.on("error", () => this.counts.lost++);
      back.on("message", (datagram: Buffer) => {
        const quietMs = performance.now() - (this.#sentAt.get(clientPort) ?? -Infinity);
        if (quietMs > (this.#conditions.forgetsAfterMs ?? Infinity)) this.counts.lost++;
        else this.#relay(datagram, () => this.#front.send(datagram, clientPort, "127.0.0.1"));
      });
      this.#backs.set(clientPort, back);
    }
    return back;
  }

  #relay(datagram: Uint8Array, send: () => void): void {
    const { loss, reordering, holdUpMs, holdsUp } = this.#conditions;
    if (this.#random.chance(loss)) {
      this.counts.lost++;
      return;
    }
    this.counts.relayed++;
    if (!this.#random.chance(reordering) && holdsUp?.(datagram) !== true) return send();
    this.counts.delayed++;
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (!this.#isClosed) send();
    }, holdUpMs);
    this.#timers.add(timer);
  }
}

export interface RelayConditions {
  readonly seed: number;
  /** Probabilities, 0 to 1, for each datagram of either direction. */
  readonly loss: number;
  readonly reordering: number;
  /** How long a datagram that is reordered is held up. */
  readonly holdUpMs: number;
  /** As a NAT does: what comes for a client that has sent nothing for so long is lost. */
  readonly forgetsAfterMs?: number;
  /** Which datagrams are held up in any case. */
  readonly holdsUp?: (datagram: Uint8Array) => boolean;
}
