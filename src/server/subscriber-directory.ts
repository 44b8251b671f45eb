import { Secret } from "#config/index.js";
import { createStoredCredential, type DigestHash } from "#digest/index.js";
import { DpeError } from "#dpe/index.js";
import type { Store, SubscriberRow } from "#store/index.js";
import type { SubscriberConfig } from "./subscriber-config.js";

/**
 * The subscribers of the configuration and those added since, which the store keeps. What changes holds at once, at every
 * server of the store.
 */
export class SubscriberDirectory {
  readonly #surroundings: DirectorySurroundings;
  #configured: readonly SubscriberConfig[];
  #stop: () => void = () => undefined;

  constructor(surroundings: DirectorySurroundings) {
    this.#surroundings = surroundings;
    this.#configured = surroundings.configured;
  }

  /** Takes what the store has, and from now on what other servers change. */
  async start(): Promise<void> {
    const { store, onFault } = this.#surroundings;
    this.#stop = await store.backend.subscribe(CHANNEL, () => void this.#apply().catch(onFault));
    if ((await store.subscribers.list()).length > 0) await this.#apply();
  }

  /** Takes subscribers of a configuration that was read anew. */
  async configure(configured: readonly SubscriberConfig[]): Promise<void> {
    this.#configured = configured;
    await this.#apply();
  }

  close(): void {
    this.#stop();
  }

  /** Those of the configuration first; of secrets only that there are any. */
  async list(): Promise<readonly SubscriberRow[]> {
    const rows = await this.#surroundings.store.subscribers.list();
    const banned = new Set(rows.filter(({ isBanned }) => isBanned).map(({ name }) => name));
    const configured = this.#configured.map((config): SubscriberRow => ({
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
  async add(subscriber: NewSubscriber): Promise<void> {
    const { store } = this.#surroundings;
    const { name, psk } = subscriber;
    const known = await this.list();
    const identities = [...this.#surroundings.connectionIdentities, ...known.flatMap((row) => row.psk?.identity ?? [])];
    const isTaken = known.some((row) => row.name === name) || (psk !== undefined && identities.includes(psk.identity));
    if (isTaken || !(await store.subscribers.add(this.#rowOf(subscriber))))
      throw new DpeError("DPE_SUBSCRIBER_EXISTS", `a subscriber ${name}, or one with its PSK identity, exists already`);
    await this.#changed({ type: "subscriber-added", name });
  }

  /**
   * Adds one, or gives one that was added before these credentials in place of all that it had.
   *
   * @throws as {@link add}; DpeError DPE_SUBSCRIBER_CONFIGURED, DPE_SUBSCRIBER_BANNED.
   */
  async replace(subscriber: NewSubscriber): Promise<void> {
    const { store } = this.#surroundings;
    const { name } = subscriber;
    if (this.#isConfigured(name)) throw configured(name);
    let isBanned = false;
    const row = this.#rowOf(subscriber);
    const isReplaced = await store.subscribers.change(name, (before) => {
      isBanned = before.isBanned === true;
      return isBanned ? before : row;
    });
    if (isBanned) throw new DpeError("DPE_SUBSCRIBER_BANNED", `${name} is banned: lift the ban first`);
    if (isReplaced) await this.#changed({ type: "subscriber-replaced", name });
    else await this.add(subscriber);
  }

  /** @throws DpeError DPE_UNKNOWN_SUBSCRIBER; DPE_SUBSCRIBER_CONFIGURED for one of the configuration. */
  async remove(name: string): Promise<void> {
    const { store } = this.#surroundings;
    if (this.#isConfigured(name)) throw configured(name);
    if (!(await store.subscribers.remove(name))) throw unknown(name);
    await this.#changed({ type: "subscriber-removed", name });
  }

  /** @throws DpeError DPE_UNKNOWN_SUBSCRIBER; DPE_SUBSCRIBER_CONFIGURED to let in one that the configuration bans. */
  async ban(name: string, isBanned: boolean): Promise<void> {
    const { subscribers } = this.#surroundings.store;
    if (!isBanned && this.#configured.some((config) => config.name === name && config.banned === true))
      throw new DpeError("DPE_SUBSCRIBER_CONFIGURED", `${name} is banned in the configuration: let it in there`);
    const isChanged = await subscribers.change(name, (row) => ({ ...row, isBanned }));
    if (!isChanged) {
      if (!this.#isConfigured(name)) throw unknown(name);
      await subscribers.add({ name, isConfigured: true, isBanned });
    }
    await this.#changed({ type: isBanned ? "subscriber-banned" : "subscriber-unbanned", name });
  }

  #rowOf({ name, password, psk, ...rest }: NewSubscriber): SubscriberRow {
    const digest = password === undefined ? {} : { digest: digestOf(name, this.#surroundings.realm, password) };
    return { name, ...rest, ...digest, ...(psk === undefined ? {} : { psk }) };
  }

  #isConfigured(name: string): boolean {
    return this.#configured.some((config) => config.name === name);
  }

  async #changed(event: { readonly type: string; readonly name: string }): Promise<void> {
    const { store } = this.#surroundings;
    await this.#apply();
    await store.audit.append(event, Date.now());
    store.backend.publish(CHANNEL, new Uint8Array(0));
  }

  async #apply(): Promise<void> {
    const { store, replace } = this.#surroundings;
    const rows = await store.subscribers.list();
    const banned = new Set(rows.filter(({ isBanned }) => isBanned).map(({ name }) => name));
    const added = rows.filter((row) => row.isConfigured !== true && !this.#isConfigured(row.name));
    const all = [...this.#configured, ...added.map((row) => configOf(row))];
    await replace(all.filter((one) => one.banned !== true && !banned.has(one.name)));
  }
}

export interface DirectorySurroundings {
  readonly store: Store;
  readonly realm: string;
  readonly configured: readonly SubscriberConfig[];
  /** PSK identities that secure connections and are no subscriber's. */
  readonly connectionIdentities: readonly string[];
  readonly replace: (subscribers: readonly SubscriberConfig[]) => Promise<void>;
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

function configured(name: string): DpeError {
  return new DpeError("DPE_SUBSCRIBER_CONFIGURED", `${name} stands in the configuration: ban it, or remove it there`);
}

function unknown(name: string): DpeError {
  return new DpeError("DPE_UNKNOWN_SUBSCRIBER", `there is no subscriber ${name}`);
}

const CHANNEL = "subscribers";
