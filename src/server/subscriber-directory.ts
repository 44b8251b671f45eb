import { Secret } from "#config/index.js";
import { createStoredCredential, type DigestHash } from "#digest/index.js";
import { DpeError } from "#dpe/index.js";
import type { Subscribers } from "#security/index.js";
import { decodeRow, encodeRow, type Store, type SubscriberRow } from "#store/index.js";
import type { SubscriberConfig } from "./subscriber-config.js";

/**
 * The subscribers of the configuration and those added since, which the store keeps. What changes holds at once, at every
 * server of the store, and costs what the one subscriber does, however many there are.
 *
 * Invariants:
 * D1. Changes take effect one after the other, in the order of the store's count of them (S3).
 * D2. Whoever missed one, as while the store could not be reached, takes all of them anew: when the next one comes, or within
 *     {@link DirectorySurroundings.catchUpMs}.
 */
export class SubscriberDirectory {
  readonly #surroundings: DirectorySurroundings;
  #configured: ReadonlyMap<string, SubscriberConfig>;
  /** Those that may not use the service, with their PSK identities. */
  #banned = new Map<string, string | undefined>();
  /** Of the store's changes, the last one that holds here. */
  #version = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  #stop: () => void = () => undefined;

  constructor(surroundings: DirectorySurroundings) {
    this.#surroundings = surroundings;
    this.#configured = byName(surroundings.configured);
  }

  /** Takes what the store has, and from now on what other servers change. */
  async start(): Promise<void> {
    const { store, onFault, catchUpMs = CATCH_UP_MS } = this.#surroundings;
    const { kind } = store.backend;
    this.#stop = await store.backend.subscribe(
      CHANNEL,
      (message) => void this.#inTurn(() => this.#heard(message)).catch(onFault),
    );
    await this.#inTurn(() => this.#applyAll());
    // Only where there are others can anything be missed.
    if (kind === "redis" || this.#surroundings.catchUpMs !== undefined)
      this.#timer = setInterval(() => void this.#inTurn(() => this.#catchUp()).catch(onFault), catchUpMs).unref();
  }

  /** Takes subscribers of a configuration that was read anew, in place of those of the one before. */
  configure(configured: readonly SubscriberConfig[]): Promise<void> {
    return this.#inTurn(() => {
      this.#configured = byName(configured);
      return this.#applyAll();
    });
  }

  close(): void {
    clearInterval(this.#timer);
    this.#stop();
  }

  /** Whether a subscriber was added since, and is none of the configuration. */
  async isAdded(name: string): Promise<boolean> {
    return !this.#isConfigured(name) && (await this.#surroundings.store.subscribers.named(name)) !== undefined;
  }

  /** Those of the configuration first; of secrets only that there are any. */
  async list(): Promise<readonly SubscriberRow[]> {
    const rows = await this.#surroundings.store.subscribers.list();
    const banned = new Set(rows.filter(({ isBanned }) => isBanned).map(({ name }) => name));
    const configured = [...this.#configured.values()].map((config): SubscriberRow => ({
      name: config.name,
      isConfigured: true,
      isBanned: config.banned === true || banned.has(config.name),
      ...(config.password === undefined && config.ha1 === undefined ? {} : { digest: { realm: "", ha1: {} } }),
      ...(config.psk === undefined ? {} : { psk: { identity: config.psk.identity, key: new Uint8Array(0) } }),
      ...(config.certificates === undefined ? {} : { certificates: config.certificates }),
      ...(config.keys === undefined ? {} : { keys: config.keys }),
      ...(config.endpoints === undefined ? {} : { endpoints: config.endpoints }),
      ...(config.interfaces === undefined ? {} : { interfaces: config.interfaces }),
    }));
    return [
      ...configured,
      ...rows.filter(({ isConfigured }) => isConfigured !== true).map((row) => withoutSecrets(row)),
    ];
  }

  /**
   * Of the password only its hashes for this realm are kept.
   *
   * @throws DpeError DPE_SUBSCRIBER_EXISTS (also for a PSK identity); DigestError DIGEST_BAD_USERNAME.
   */
  add(subscriber: NewSubscriber): Promise<void> {
    return this.#inTurn(() => this.#add(subscriber));
  }

  async #add(subscriber: NewSubscriber): Promise<void> {
    const { name } = subscriber;
    const row = this.#rowOf(subscriber);
    const version = this.#isTaken(subscriber) ? undefined : await this.#surroundings.store.subscribers.add(row);
    if (version === undefined) throw exists(name);
    await this.#changed("subscriber-added", name, version);
  }

  /** Throws what {@link replace}, or else {@link add}, would throw as things are, before credentials are made for it. */
  async check(subscriber: NewSubscriber, mayReplace: boolean): Promise<void> {
    const { name } = subscriber;
    if (mayReplace && this.#isConfigured(name)) throw configured(name);
    const row = await this.#surroundings.store.subscribers.named(name);
    if (mayReplace && row?.isBanned === true) throw banned(name);
    const isNew = row === undefined || !mayReplace;
    if (isNew && (row !== undefined || this.#isTaken(subscriber))) throw exists(name);
  }

  #isTaken({ name, psk }: NewSubscriber): boolean {
    const { subscribers, connectionIdentities } = this.#surroundings;
    if (this.#isConfigured(name) || this.#banned.has(name) || subscribers.named(name) !== undefined) return true;
    if (psk === undefined) return false;
    const { identity } = psk;
    if (connectionIdentities.includes(identity) || [...this.#banned.values()].includes(identity)) return true;
    return subscribers.ofPskIdentity(new TextEncoder().encode(identity)) !== undefined;
  }

  /**
   * Adds one, or gives one that was added before these credentials in place of all that it had.
   *
   * @throws as {@link add}; DpeError DPE_SUBSCRIBER_CONFIGURED, DPE_SUBSCRIBER_BANNED.
   */
  replace(subscriber: NewSubscriber): Promise<void> {
    const { name } = subscriber;
    return this.#inTurn(async () => {
      if (this.#isConfigured(name)) throw configured(name);
      const row = this.#rowOf(subscriber);
      const version = await this.#surroundings.store.subscribers.change(name, (before) => {
        if (before.isBanned === true) throw banned(name);
        return row;
      });
      if (version === undefined) await this.#add(subscriber);
      else await this.#changed("subscriber-replaced", name, version);
    });
  }

  /** @throws DpeError DPE_UNKNOWN_SUBSCRIBER; DPE_SUBSCRIBER_CONFIGURED for one of the configuration. */
  remove(name: string): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#isConfigured(name)) throw configured(name);
      const version = await this.#surroundings.store.subscribers.remove(name);
      if (version === undefined) throw unknown(name);
      await this.#changed("subscriber-removed", name, version);
    });
  }

  /** @throws DpeError DPE_UNKNOWN_SUBSCRIBER; DPE_SUBSCRIBER_CONFIGURED to let in one that the configuration bans. */
  ban(name: string, isBanned: boolean): Promise<void> {
    const { subscribers } = this.#surroundings.store;
    return this.#inTurn(async () => {
      if (!isBanned && this.#configured.get(name)?.banned === true)
        throw new DpeError("DPE_SUBSCRIBER_CONFIGURED", `${name} is banned in the configuration: let it in there`);
      const changed = await subscribers.change(name, (row) => ({ ...row, isBanned }));
      if (changed === undefined && !this.#isConfigured(name)) throw unknown(name);
      // Two servers that do so at once: the other one's row says the same, or is changed by the next attempt.
      const version = changed ?? (await subscribers.add({ name, isConfigured: true, isBanned }));
      if (version === undefined)
        throw new DpeError("DPE_SUBSCRIBER_EXISTS", `${name} was changed by another server at the same moment`);
      await this.#changed(isBanned ? "subscriber-banned" : "subscriber-unbanned", name, version);
    });
  }

  #rowOf({ name, password, psk, ...rest }: NewSubscriber): SubscriberRow {
    const digest = password === undefined ? {} : { digest: digestOf(name, this.#surroundings.realm, password) };
    return { name, ...rest, ...digest, ...(psk === undefined ? {} : { psk }) };
  }

  #isConfigured(name: string): boolean {
    return this.#configured.has(name);
  }

  /** D1 */
  #inTurn<Result>(change: () => Promise<Result>): Promise<Result> {
    const turn = this.#turn.then(change);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #changed(type: string, name: string, version: number): Promise<void> {
    const { store } = this.#surroundings;
    await this.#apply(name, version);
    await store.audit.append({ type, name }, Date.now());
    store.backend.publish(CHANNEL, () => encodeRow({ name, version } satisfies ChangeMessage));
  }

  /** Of another server, or our own come back. */
  async #heard(message: Uint8Array): Promise<void> {
    const { name, version } = decodeRow<ChangeMessage>(message);
    if (version > this.#version) await this.#apply(name, version);
  }

  async #catchUp(): Promise<void> {
    if ((await this.#surroundings.store.subscribers.version()) !== this.#version) await this.#applyAll();
  }

  /** D2 */
  async #apply(name: string, version: number): Promise<void> {
    const { store, change } = this.#surroundings;
    if (version !== this.#version + 1) return this.#applyAll();
    const row = await store.subscribers.named(name);
    const config = this.#configured.get(name) ?? (row?.isConfigured === true ? undefined : row && configOf(row));
    if (!(await change(name, this.#admitted(config, row?.isBanned)))) return this.#applyAll();
    if (config === undefined) this.#banned.delete(name);
    this.#version = version;
  }

  async #applyAll(): Promise<void> {
    const { store, replace } = this.#surroundings;
    // Before the list: what changes meanwhile is taken once more.
    const version = await store.subscribers.version();
    const rows = await store.subscribers.list();
    const banned = new Set(rows.filter(({ isBanned }) => isBanned).map(({ name }) => name));
    const added = rows.filter((row) => row.isConfigured !== true && !this.#isConfigured(row.name));
    const all = [...this.#configured.values(), ...added.map((row) => configOf(row))];
    this.#banned = new Map();
    await replace(all.flatMap((one) => this.#admitted(one, banned.has(one.name)) ?? []));
    this.#version = version;
  }

  /** Undefined for one that may not use the service, which is remembered. */
  #admitted(config: SubscriberConfig | undefined, isBanned = false): SubscriberConfig | undefined {
    if (config === undefined) return undefined;
    if (!isBanned && config.banned !== true) {
      this.#banned.delete(config.name);
      return config;
    }
    this.#banned.set(config.name, config.psk?.identity);
    return undefined;
  }
}

export interface DirectorySurroundings {
  readonly store: Store;
  readonly realm: string;
  readonly configured: readonly SubscriberConfig[];
  /** PSK identities that secure connections and are no subscriber's. */
  readonly connectionIdentities: readonly string[];
  /** Those of them that may use the service now. */
  readonly subscribers: Subscribers;
  readonly replace: (subscribers: readonly SubscriberConfig[]) => Promise<void>;
  /** Takes one, or none of that name; false, changing nothing, where it takes all of them to know whose credentials are whose. */
  readonly change: (name: string, subscriber: SubscriberConfig | undefined) => Promise<boolean>;
  /** Default 30 s, on a store that others may write to: how often it is asked whether a change was missed. */
  readonly catchUpMs?: number;
  readonly onFault: (error: unknown) => void;
}

export interface NewSubscriber extends Pick<
  SubscriberRow,
  "name" | "psk" | "certificates" | "keys" | "endpoints" | "interfaces"
> {
  readonly password?: string;
}

function digestOf(username: string, realm: string, password: string): NonNullable<SubscriberRow["digest"]> {
  const { ha1 } = createStoredCredential({ username, realm, password });
  return { realm, ha1: ha1 as Readonly<Record<string, Uint8Array>> };
}

function configOf(row: SubscriberRow): SubscriberConfig {
  const { name, digest, psk, certificates, keys, endpoints, interfaces } = row;
  const hashes = Object.entries(digest?.ha1 ?? {}).map(([hash, value]) => [hash, new Secret(value)] as const);
  return {
    name,
    ...(digest === undefined ? {} : { ha1: Object.fromEntries(hashes) as Partial<Record<DigestHash, Secret>> }),
    ...(psk === undefined ? {} : { psk: { identity: psk.identity, key: new Secret(psk.key) } }),
    ...(certificates === undefined ? {} : { certificates }),
    ...(keys === undefined ? {} : { keys }),
    ...(endpoints === undefined ? {} : { endpoints }),
    ...(interfaces === undefined ? {} : { interfaces }),
  };
}

function withoutSecrets({ digest, psk, ...row }: SubscriberRow): SubscriberRow {
  return {
    ...row,
    ...(digest === undefined ? {} : { digest: { realm: digest.realm, ha1: {} } }),
    ...(psk === undefined ? {} : { psk: { identity: psk.identity, key: new Uint8Array(0) } }),
  };
}

function exists(name: string): DpeError {
  return new DpeError("DPE_SUBSCRIBER_EXISTS", `a subscriber ${name}, or one with its PSK identity, exists already`);
}

function banned(name: string): DpeError {
  return new DpeError("DPE_SUBSCRIBER_BANNED", `${name} is banned: lift the ban first`);
}

function configured(name: string): DpeError {
  return new DpeError("DPE_SUBSCRIBER_CONFIGURED", `${name} stands in the configuration: ban it, or remove it there`);
}

function unknown(name: string): DpeError {
  return new DpeError("DPE_UNKNOWN_SUBSCRIBER", `there is no subscriber ${name}`);
}

function byName(configs: readonly SubscriberConfig[]): ReadonlyMap<string, SubscriberConfig> {
  return new Map(configs.map((config) => [config.name, config]));
}

/** What servers of one store tell one another. */
interface ChangeMessage {
  readonly name: string;
  readonly version: number;
}

const CHANNEL = "subscribers";
const CATCH_UP_MS = 30_000;
