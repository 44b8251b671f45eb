import { resolveHosts } from "#net/index.js";
import type { ServerConfig } from "./server-list.js";

/**
 * Which server is tried next, and at which of its addresses: the addresses of one name in turn, then the next server, and
 * after the last one the first. Names are resolved anew each time that their turn comes, so that an address which changed is
 * found.
 */
export class ServerRound {
  readonly #servers: readonly [ServerConfig, ...ServerConfig[]];
  readonly #resolve: Resolve;
  #index = 0;
  #addresses: readonly string[] = [];
  #tried = 0;

  constructor(servers: readonly [ServerConfig, ...ServerConfig[]], resolve: Resolve = resolveHosts) {
    this.#servers = servers;
    this.#resolve = resolve;
  }

  /** One of its own that goes on from here. */
  copy(): ServerRound {
    const copy = new ServerRound(this.#servers, this.#resolve);
    copy.#index = this.#index;
    return copy;
  }

  get first(): ServerConfig {
    return this.#servers[0];
  }

  get server(): ServerConfig {
    return this.#servers[this.#index] ?? this.first;
  }

  get isAtFirst(): boolean {
    return this.#index === 0;
  }

  /** Whether somebody else can be tried when one does not answer. */
  get hasChoice(): boolean {
    return this.#servers.length > 1 || this.#addresses.length > 1;
  }

  /** The address to try. @throws NetError NET_NAME_NOT_FOUND. */
  async address(): Promise<string> {
    if (this.#tried === 0) this.#addresses = await this.#resolve(this.server.server.host);
    return this.#addresses[this.#tried] ?? this.server.server.host;
  }

  /** Whoever was tried did not answer. True when everybody was tried. */
  advance(): boolean {
    this.#tried += 1;
    if (this.#tried < this.#addresses.length) return false;
    this.#restart();
    this.#index = (this.#index + 1) % this.#servers.length;
    return this.#index === 0;
  }

  /** The server answered: it is the one to come back to, wherever it is by then. */
  stay(): void {
    this.#restart();
  }

  returnToFirst(): void {
    this.#index = 0;
    this.#restart();
  }

  #restart(): void {
    this.#tried = 0;
    this.#addresses = [];
  }
}

/** All addresses of a name. @throws NetError NET_NAME_NOT_FOUND. */
export type Resolve = (host: string) => Promise<readonly string[]>;
