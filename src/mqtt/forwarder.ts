import { isoTime, type SenmlRecord } from "#senml/index.js";
import type { OutboxEntry, Store } from "#store/index.js";
import { within } from "#waiting/index.js";
import { Broker, ConnectionEnded } from "./broker.js";
import { drain } from "./drain.js";
import { discoveryOf, type DiscoveryMessage } from "./discovery.js";
import { topicOf } from "./topic.js";

/**
 * Forwards what devices report to an MQTT broker, at least once: an entry of the outbox is removed only when the broker has
 * acknowledged every message of it, but for those that it refuses again and again ({@link Broker}). Of several servers on one
 * store, one forwards at a time.
 *
 * `TOPIC/ENDPOINT/PROPERTY` ({@link topicOf}) has the value as JSON, retained; `TOPIC/ENDPOINT/status` is `online` or `offline`;
 * `TOPIC/status` tells the same of this forwarder, by its last will too.
 */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #broker: Broker;
  readonly #announced = new Set<string>();
  readonly #online = new Set<string>();
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  /** The lease is ours until then. */
  #leaderUntil = 0;

  private constructor(options: ForwarderOptions) {
    this.#options = options;
    const { topic, username, password, ca } = options;
    const given = {
      clientId: `dpe-${options.store.server}`,
      will: { topic: `${topic}/status`, payload: Buffer.from("offline"), qos: 1, retain: true },
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password: Buffer.from(password) }),
      ...(ca === undefined ? {} : { ca: Buffer.from(ca) }),
    } as const;
    this.#broker = Broker.connect(options.url, given, `${topic}/status`, {
      onConnected: () => {
        // The broker may have forgotten what was retained.
        this.#announced.clear();
        this.#online.clear();
        options.onState("connected");
      },
      onDisconnected: () => options.onState("disconnected"),
      onFailed: (error) => options.onState("failed", error),
      onIsolated: options.onIsolated,
      onRefused: options.onRefused,
    });
    this.#schedule(0);
  }

  /** Connects in the background and goes on trying: a server does not depend on its broker. */
  static start(options: ForwarderOptions): Forwarder {
    return new Forwarder(options);
  }

  /** The registration of an endpoint has ended. */
  gone(endpoint: string): void {
    this.#online.delete(endpoint);
    if (this.#broker.isReady && this.#isLeader(Date.now()))
      this.#broker.publish(`${this.#options.topic}/${endpoint}/status`, "offline").catch(() => undefined);
  }

  /** Sends what is waiting, when the broker is there, then says goodbye. */
  async close(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    // What waits for a broker that is gone would wait for its return.
    const isIdle = await isSettled(this.#running);
    if (this.#broker.isReady) {
      await isSettled(
        (isIdle ? this.#forward() : Promise.resolve()).then(() =>
          this.#broker.publish(`${this.#options.topic}/status`, "offline"),
        ),
      );
      // One that does not answer would keep the process.
      if (!(await isSettled(this.#broker.end(false)))) this.#broker.cut();
    } else await this.#broker.end(true);
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
      if (!this.#isLeader(now) || !this.#broker.isReady) return 0;
      return await this.#forward();
    } catch (error) {
      if (!(error instanceof ConnectionEnded)) this.#options.onState("failed", error);
      return 0;
    }
  }

  #isLeader(at: number): boolean {
    // It is no more where the clock was set back since.
    return this.#leaderUntil > at && this.#leaderUntil - at <= LEASE_MS;
  }

  async #forward(): Promise<number> {
    const { store } = this.#options;
    const { isCareful } = this.#broker;
    const removed = await drain(store.outbox, (entry) => this.#send(entry, isCareful), {
      ...(isCareful ? ONE_BY_ONE : DRAIN),
      onRemoved: (entries) => this.#options.onForwarded(entries),
    });
    if (isCareful) this.#broker.trust();
    return removed;
  }

  async #send({ endpoint, records }: OutboxEntry, isCareful: boolean): Promise<void> {
    const { topic, discovery } = this.#options;
    const messages: (() => Promise<void>)[] = [];
    for (const record of records) {
      if (discovery === "homeassistant") messages.push(() => this.#announce(endpoint, record));
      const state = JSON.stringify(stateOf(record));
      messages.push(() => this.#broker.publish(topicOf(topic, endpoint, record.name), state));
    }
    if (!this.#online.has(endpoint)) {
      this.#online.add(endpoint);
      messages.push(() => this.#broker.publish(`${topic}/${endpoint}/status`, "online"));
    }
    if (isCareful) for (const send of messages) await send();
    else await Promise.all(messages.map((send) => send()));
  }

  async #announce(endpoint: string, record: SenmlRecord): Promise<void> {
    const name = `${endpoint}\0${record.name}`;
    if (this.#announced.has(name)) return;
    const message: DiscoveryMessage = discoveryOf(endpoint, record, this.#options.topic);
    await this.#broker.publish(message.topic, message.payload);
    if (this.#announced.size >= MAX_ANNOUNCED) this.#announced.clear();
    this.#announced.add(name);
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
  /** The broker ends the connection at messages of this topic with so many bytes or more: they are left out for an hour. */
  onIsolated(this: void, topic: string, bytes: number): void;
  /** Messages that were left out. */
  onRefused(this: void, messages: number): void;
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
const ONE_BY_ONE = { page: 250, maxEntries: 1000, maxMessages: 1 };
const IDLE_MS = 250;
const LEASE_MS = 10_000;
const CLOSE_TIMEOUT_MS = 2000;
const MAX_ANNOUNCED = 100_000;
