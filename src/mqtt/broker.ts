import { connect, type IClientOptions, type MqttClient } from "mqtt";

/**
 * The broker, over all interruptions of its connection. A message is fulfilled when the broker has acknowledged it (QoS 1), and
 * fails when the connection ends before; who asked sends it again.
 *
 * A broker that will not take a message, for its size, its topic or a quota, ends the connection without a word. So after an
 * end amid messages they are to go one by one ({@link isCareful}); that one at which the connection ended {@link MAX_ENDS} times in
 * a row, each time right after another was acknowledged, is refused for a while, with those of its topic that are no shorter.
 */
export class Broker {
  readonly #client: MqttClient;
  readonly #events: BrokerEvents;
  readonly #greeting: string;
  readonly #unacknowledged = new Set<Message>();
  /** At which the connection has ended last, and how often in a row. */
  #suspect: (Message & { readonly ends: number }) | undefined;
  readonly #refused = new Map<string, { readonly bytes: number; readonly until: number }>();
  #isReady = false;
  #isCareful = false;
  #isEnding = false;

  private constructor(client: MqttClient, greeting: string, events: BrokerEvents) {
    this.#client = client;
    this.#greeting = greeting;
    this.#events = events;
    client.on("connect", () => {
      events.onConnected();
      void this.#greet();
    });
    client.on("offline", () => events.onDisconnected());
    client.on("error", (error) => events.onFailed(error));
    client.on("close", () => this.#closed());
  }

  /** Connects in the background and goes on trying. `greeting`: the topic that says `online` first on each connection. */
  static connect(url: string, options: IClientOptions, greeting: string, events: BrokerEvents): Broker {
    const client = connect(url, {
      ...options,
      manualConnect: true,
      reconnectPeriod: RECONNECT_MS,
      connectTimeout: 10_000,
      // A broker that refuses may take another password, or be starting still.
      reconnectOnConnackError: true,
      // Nothing waits here: the outbox is what remembers.
      queueQoSZero: false,
      clean: true,
    });
    const broker = new Broker(client, greeting, events);
    client.connect();
    return broker;
  }

  /** Whether messages may go. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Whether they are to go one by one. */
  get isCareful(): boolean {
    return this.#isCareful;
  }

  /** Messages have gone one by one, and the connection has held. */
  trust(): void {
    this.#isCareful = false;
  }

  /** Retained. @throws ConnectionEnded, also where there is none. */
  async publish(topic: string, payload: string): Promise<void> {
    const message = { topic, bytes: Buffer.byteLength(payload) };
    const refused = this.#refused.get(topic);
    if (refused !== undefined && message.bytes >= refused.bytes) {
      if (Date.now() < refused.until) return this.#events.onRefused(1);
      this.#refused.delete(topic);
    }
    if (!this.#client.connected) throw new ConnectionEnded();
    this.#unacknowledged.add(message);
    try {
      await this.#client.publishAsync(topic, payload, { qos: 1, retain: true });
      if (isSame(this.#suspect, message)) this.#suspect = undefined;
    } catch (error) {
      throw this.#client.connected ? error : new ConnectionEnded({ cause: error });
    } finally {
      this.#unacknowledged.delete(message);
    }
  }

  /** Says goodbye; `isForced`: without waiting for what was sent. */
  end(isForced: boolean): Promise<void> {
    this.#isEnding = true;
    return this.#client.endAsync(isForced);
  }

  /** Without a goodbye. */
  cut(): void {
    this.#client.stream.destroy();
  }

  /** Alone, so that who takes nothing at all is not taken for one who refuses what comes next. */
  async #greet(): Promise<void> {
    try {
      await this.publish(this.#greeting, "online");
      this.#isReady = this.#client.connected;
    } catch {
      // The connection has ended.
    }
  }

  #closed(): void {
    this.#isReady = false;
    const [message, ...others] = this.#unacknowledged;
    const isAmidMessages = message !== undefined && !this.#isEnding;
    if (isAmidMessages) this.#isCareful = true;
    if (isAmidMessages && others.length === 0) this.#suspected(message);
    // From the next one on: this one's waiting has begun.
    this.#client.options.reconnectPeriod = isAmidMessages ? RECONNECT_SOON_MS : RECONNECT_MS;
    // The library would send them again by itself, whatever became of the connection by them.
    for (const id of Object.keys(this.#client.outgoing)) this.#client.removeOutgoingMessage(Number(id));
  }

  #suspected(message: Message): void {
    const ends = isSame(this.#suspect, message) ? (this.#suspect?.ends ?? 0) + 1 : 1;
    this.#suspect = { ...message, ends };
    if (ends < MAX_ENDS) return;
    this.#suspect = undefined;
    this.#refused.delete(message.topic);
    this.#refused.set(message.topic, { bytes: message.bytes, until: Date.now() + REFUSED_FOR_MS });
    for (const oldest of this.#refused.keys()) {
      if (this.#refused.size <= MAX_REFUSED) break;
      this.#refused.delete(oldest);
    }
    this.#events.onIsolated(message.topic, message.bytes);
  }
}

/** Which is told by {@link BrokerEvents}, too. */
export class ConnectionEnded extends Error {
  override readonly name = "ConnectionEnded";

  constructor(options?: ErrorOptions) {
    super("there is no connection to the MQTT broker", options);
  }
}

export interface BrokerEvents {
  onConnected(this: void): void;
  onDisconnected(this: void): void;
  onFailed(this: void, error: unknown): void;
  /** The broker takes no message of this topic with so many bytes or more. */
  onIsolated(this: void, topic: string, bytes: number): void;
  /** Messages that were not sent for that. */
  onRefused(this: void, messages: number): void;
}

interface Message {
  readonly topic: string;
  readonly bytes: number;
}

function isSame(a: Message | undefined, b: Message): boolean {
  return a?.topic === b.topic && a.bytes === b.bytes;
}

/** A broker that restarts, or a path that breaks, does so by chance; not three times within the milliseconds of one message. */
export const MAX_ENDS = 3;
const REFUSED_FOR_MS = 3_600_000;
/** Of some 150 bytes each. */
const MAX_REFUSED = 10_000;
const RECONNECT_MS = 2000;
const RECONNECT_SOON_MS = 250;
