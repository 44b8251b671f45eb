import type { DtlsSession } from "./dtls-session.js";

/** How many handshakes and sessions each IP address has, by where their handshakes came from. */
export class AddressCounts {
  readonly #counts: Readonly<Record<Counted, Map<string, number>>> = { handshakes: new Map(), sessions: new Map() };

  of(what: Counted, address: string): number {
    return this.#counts[what].get(address) ?? 0;
  }

  add(what: Counted, { handshakeAddress: { address } }: DtlsSession): void {
    this.#counts[what].set(address, this.of(what, address) + 1);
  }

  remove(what: Counted, { handshakeAddress: { address } }: DtlsSession): void {
    const left = this.of(what, address) - 1;
    if (left > 0) this.#counts[what].set(address, left);
    else this.#counts[what].delete(address);
  }
}

type Counted = "handshakes" | "sessions";
