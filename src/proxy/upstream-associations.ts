import type { CoapConnection, CoapEndpointOptions } from "#net/index.js";
import type { Target } from "./target.js";

/**
 * The associations with targets: one for each client and target, so that nothing which a server binds to an association
 * (Digest, block-wise bodies, DPE-2) is ever of two clients. Opened by a client's first request; closed with the client's
 * connection, after `idleTimeoutMs` without use, or to make room.
 */
export class UpstreamAssociations {
  readonly #options: UpstreamOptions;
  /** In order of use. */
  readonly #open = new Set<Upstream>();
  readonly #ofClient = new WeakMap<CoapConnection, Map<Target, Upstream>>();
  readonly #sweeper: NodeJS.Timeout;
  #isClosed = false;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#sweeper = setInterval(() => this.#sweep(), Math.min(options.idleTimeoutMs / 2, MAX_SWEEP_INTERVAL_MS));
  }

  get size(): number {
    return this.#open.size;
  }

  /**
   * The client's association with the target. Undefined where there is no room for one more: all are in use.
   *
   * @throws what {@link Target.open} throws.
   */
  async to(target: Target, client: CoapConnection): Promise<CoapConnection | undefined> {
    const known = this.#ofClient.get(client)?.get(target);
    if (known !== undefined) {
      this.#use(known);
      const { connection } = await known.opening;
      if (!connection.isClosed) return connection;
      this.#forget(known);
    }
    if (this.#isClosed || !this.#hasRoom()) return undefined;
    const giveUp = new AbortController();
    const options: CoapEndpointOptions = {
      ...this.#options.endpoint(client, () => this.#use(upstream)),
      onDisconnect: () => void this.#close(upstream),
    };
    const opening = target.open(options, giveUp.signal);
    const upstream: Upstream = { target, client, usedAt: performance.now(), opening, giveUp };
    this.#open.add(upstream);
    let ofClient = this.#ofClient.get(client);
    if (ofClient === undefined) this.#ofClient.set(client, (ofClient = new Map()));
    ofClient.set(target, upstream);
    try {
      const { connection } = await upstream.opening;
      return connection;
    } catch (error) {
      this.#forget(upstream);
      throw error;
    }
  }

  /** Closes what a client that is gone had. */
  closeClient(client: CoapConnection): void {
    for (const upstream of this.#ofClient.get(client)?.values() ?? []) void this.#close(upstream);
  }

  /** Closes what goes to targets other than these. */
  keepOnly(targets: readonly Target[]): void {
    for (const upstream of this.#open) if (!targets.includes(upstream.target)) void this.#close(upstream);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#sweeper);
    await Promise.all([...this.#open].map((upstream) => this.#close(upstream)));
  }

  #use(upstream: Upstream): void {
    upstream.usedAt = performance.now();
    if (this.#open.delete(upstream)) this.#open.add(upstream);
  }

  #hasRoom(): boolean {
    if (this.#open.size < this.#options.maxAssociations) return true;
    for (const oldest of this.#open) {
      if (performance.now() - oldest.usedAt < MIN_USE_MS) return false;
      void this.#close(oldest);
      return true;
    }
    return false;
  }

  #sweep(): void {
    for (const upstream of this.#open) {
      if (performance.now() - upstream.usedAt < this.#options.idleTimeoutMs) return;
      void this.#close(upstream);
    }
  }

  async #close(upstream: Upstream): Promise<void> {
    this.#forget(upstream);
    upstream.giveUp.abort();
    const opened = await upstream.opening.catch(() => undefined);
    await opened?.close();
  }

  #forget(upstream: Upstream): void {
    this.#open.delete(upstream);
    const ofClient = this.#ofClient.get(upstream.client);
    if (ofClient?.get(upstream.target) === upstream) ofClient.delete(upstream.target);
  }
}

export interface UpstreamOptions {
  readonly maxAssociations: number;
  readonly idleTimeoutMs: number;
  /** How the endpoint toward a target is to treat what comes from there; `onUse` is to be called when something does. */
  readonly endpoint: (client: CoapConnection, onUse: () => void) => CoapEndpointOptions;
}

interface Upstream {
  readonly target: Target;
  readonly client: CoapConnection;
  readonly opening: ReturnType<Target["open"]>;
  /** Ends the opening. */
  readonly giveUp: AbortController;
  usedAt: number;
}

/** One that was used within this time does not make way for another. */
const MIN_USE_MS = 30_000;
const MAX_SWEEP_INTERVAL_MS = 60_000;
