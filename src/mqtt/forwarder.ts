import { connect, type IClientOptions, type MqttClient } from "mqtt";
import { isoTime, type SenmlRecord } from "#senml/index.js";
import type { OutboxEntry, Store } from "#store/index.js";
import { within } from "#waiting/index.js";
import { drain } from "./drain.js";
import { discoveryOf, type DiscoveryMessage } from "./discovery.js";
import { topicOf } from "./topic.js";

/**
 * Forwards what devices report to an MQTT broker, at least once: an entry of the outbox is removed only when the broker has
 * acknowledged every message of it (QoS 1). Of several servers on one store, one forwards at a time.
 *
 * `TOPIC/ENDPOINT/PROPERTY` ({@link topicOf}) has the value as JSON, retained; `TOPIC/ENDPOINT/status` is `online` or `offline`;
 * `TOPIC/status` tells the same of this forwarder, by its last will too.
 */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #client: MqttClient;
  readonly #announced = new Set<string>();
  readonly #online = new Set<string>();
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  /** The lease is ours until then. */
  #leaderUntil = 0;

  private constructor(client: MqttClient, options: ForwarderOptions) {
    this.#client = client;
    this.#options = options;
    client.on("connect", () => {
      // The broker may have forgotten what was retained.
      this.#announced.clear();
      options.onState("connected");
      this.#online.clear();
      this.#publish(`${options.topic}/status`, "online").catch(() => undefined);
    });
    client.on("offline", () => options.onState("disconnected"));
    client.on("error", (error) => options.onState("failed", error));
    this.#schedule(0);
  }

  /** Connects in the background and goes on trying: a server does not depend on its broker. */
  static start(options: ForwarderOptions): Forwarder {
    const given: IClientOptions = {
      clientId: `dpe-${options.store.server}`,
      manualConnect: true,
      reconnectPeriod: 2000,
      connectTimeout: 10_000,
      // A broker that refuses may take another password, or be starting still.
      reconnectOnConnackError: true,
      // Nothing waits here: the outbox is what remembers.
      queueQoSZero: false,
      clean: true,
      will: { topic: `${options.topic}/status`, payload: Buffer.from("offline"), qos: 1, retain: true },
      ...(options.username === undefined ? {} : { username: options.username }),
      ...(options.password === undefined ? {} : { password: Buffer.from(options.password) }),
      ...(options.ca === undefined ? {} : { ca: Buffer.from(options.ca) }),
    };
    const client = connect(options.url, given);
    const forwarder = new Forwarder(client, options);
    client.connect();
    return forwarder;
  }

  get isConnected(): boolean {
    return this.#client.connected;
  }

  /** The registration of an endpoint has ended. */
  gone(endpoint: string): void {
    this.#online.delete(endpoint);
    if (this.#client.connected && this.#isLeader(Date.now()))
      this.#publish(`${this.#options.topic}/${endpoint}/status`, "offline").catch(() => undefined);
  }

  /** Sends what is waiting, when the broker is there, then says goodbye. */
  async close(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    // What waits for a broker that is gone would wait for its return.
    const isIdle = await isSettled(this.#running);
    if (this.#client.connected) {
      await isSettled(
        (isIdle ? this.#forward() : Promise.resolve()).then(() =>
          this.#publish(`${this.#options.topic}/status`, "offline"),
        ),
      );
      // One that does not answer would keep the process.
      if (!(await isSettled(this.#client.endAsync()))) this.#client.stream.destroy();
    } else await this.#client.endAsync(true);
  }

  #schedule(afterMs: number): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#work().then((sent) => this.#schedule(sent > 0 ? 0 : IDLE_MS));
    }, afterMs);
  }

  /** Returns how many entries were forwarded. */
  async #work(): Promise<number> {
    const { store } = this.#options;
    try {
      const now = Date.now();
      if (!this.#isLeader(now + LEASE_MS / 2) && (await store.outbox.lease(store.server, now, LEASE_MS)))
        this.#leaderUntil = now + LEASE_MS;
      const dropped = await store.outbox.trim();
      if (dropped > 0) this.#options.onDropped(dropped);
      if (!this.#isLeader(now) || !this.#client.connected) return 0;
      return await this.#forward();
    } catch (error) {
      this.#options.onState("failed", error);
      return 0;
    }
  }

  #isLeader(at: number): boolean {
    // It is no more where the clock was set back since.
    return this.#leaderUntil > at && this.#leaderUntil - at <= LEASE_MS;
  }

  #forward(): Promise<number> {
    const { store } = this.#options;
    return drain(store.outbox, (entry) => this.#send(entry), {
      ...DRAIN,
      onRemoved: (entries) => this.#options.onForwarded(entries),
    });
  }

  async #send({ endpoint, records }: OutboxEntry): Promise<void> {
    const { topic, discovery } = this.#options;
    const sent: Promise<void>[] = [];
    for (const record of records) {
      if (discovery === "homeassistant") sent.push(this.#announce(endpoint, record));
      sent.push(this.#publish(topicOf(topic, endpoint, record.name), JSON.stringify(stateOf(record))));
    }
    if (!this.#online.has(endpoint)) {
      this.#online.add(endpoint);
      sent.push(this.#publish(`${topic}/${endpoint}/status`, "online"));
    }
    await Promise.all(sent);
  }

  async #announce(endpoint: string, record: SenmlRecord): Promise<void> {
    const name = `${endpoint}\0${record.name}`;
    if (this.#announced.has(name)) return;
    const message: DiscoveryMessage = discoveryOf(endpoint, record, this.#options.topic);
    await this.#publish(message.topic, message.payload);
    if (this.#announced.size >= MAX_ANNOUNCED) this.#announced.clear();
    this.#announced.add(name);
  }

  async #publish(topic: string, payload: string): Promise<void> {
    await this.#client.publishAsync(topic, payload, { qos: 1, retain: true });
  }
}

export interface ForwarderOptions {
  readonly store: Store;
  readonly url: string;
  readonly username?: string;
  readonly password?: Uint8Array;
  /** PEM. */
  readonly ca?: string;
  readonly topic: string;
  readonly discovery: "homeassistant" | "none";
  onState(state: "connected" | "disconnected" | "failed", error?: unknown): void;
  onForwarded(reports: number): void;
  /** Reports that were dropped, since too many waited. */
  onDropped(reports: number): void;
}

function stateOf({ value, sum, unit, timeSeconds }: SenmlRecord): object {
  return {
    value: value instanceof Uint8Array ? Buffer.from(value).toString("base64") : (value ?? sum),
    ...(unit === undefined ? {} : { unit }),
    ...(timeSeconds === undefined ? {} : { time: isoTime(timeSeconds * 1000) }),
  };
}

/** Whether it was settled in time. */
function isSettled(promise: Promise<unknown>): Promise<boolean> {
  return within(CLOSE_TIMEOUT_MS, promise.then(isTrue, isTrue), () => false);
}

const isTrue = (): true => true;

const DRAIN = { page: 250, maxEntries: 5000, maxMessages: 1000 };
const IDLE_MS = 250;
const LEASE_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2000;
const MAX_ANNOUNCED = 100_000;
