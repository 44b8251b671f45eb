import { type CoapConnection, formatAddress } from "#net/index.js";
import type { ServerEvent } from "./server-event.js";

/**
 * Tells when two devices go by one endpoint name and take its registration from each other: each finds itself unregistered
 * and registers again, on the association that it had all the time. A device that has moved to another association does not
 * come back to the one that it left. What is kept goes with the associations.
 */
export class ContestedNames {
  /** The endpoints that were heard on a connection and then on another one, and whether that was told. */
  readonly #left = new WeakMap<CoapConnection, Map<string, boolean>>();

  readonly #onEvent: (event: ServerEvent) => void;

  constructor(onEvent: (event: ServerEvent) => void) {
    this.#onEvent = onEvent;
  }

  /** An endpoint is heard on another connection than before. Where it is contested that is told, once for two associations. */
  moved(endpoint: string, from: CoapConnection | undefined, to: CoapConnection): void {
    // Without an association a connection is but an address, and a device may go to and fro between two of them.
    if (from?.transport === undefined || to.transport === undefined) return;
    const comeBack = this.#left.get(to);
    const isTold = comeBack?.get(endpoint);
    const left = this.#left.get(from) ?? new Map<string, boolean>();
    this.#left.set(from, left.set(endpoint, isTold !== undefined || left.get(endpoint) === true));
    if (isTold !== false) return;
    comeBack?.set(endpoint, true);
    const peers = [from, to].map(({ remoteAddress }) => formatAddress(remoteAddress));
    this.#onEvent({ type: "name-contested", endpoint, peers });
  }
}
