import type { AssociationStore } from "./association-store.js";
import type { DtlsSession } from "./dtls-session.js";

/** Keeps the sessions of an endpoint in its association store, if it has one. */
export class SessionKeeper {
  readonly #store: AssociationStore | undefined;
  readonly #onFault: (what: string, error: unknown) => void;
  #nextId = 1;
  #isClosed = false;

  constructor(store: AssociationStore | undefined, onFault: (what: string, error: unknown) => void) {
    this.#store = store;
    this.#onFault = onFault;
  }

  /**
   * Goes through what was kept; `revive` makes a session of a state, or gives undefined when it is of no use. It adopts the
   * session before it lets it do anything: what that saves takes the place of the state that it was made of.
   */
  restore(
    revive: (state: Uint8Array, adopt: (session: DtlsSession) => void) => DtlsSession | undefined,
  ): RestoredCounts {
    const counts = { restored: 0, refused: 0 };
    for (const { id, state } of this.#store?.load() ?? []) {
      this.#nextId = Math.max(this.#nextId, id + 1);
      const session = revive(state, (adopted) => {
        adopted.keptAs = id;
      });
      if (session === undefined) {
        counts.refused++;
        this.#store?.delete(id);
      } else {
        counts.restored++;
      }
    }
    return counts;
  }

  /**
   * Keeps the state of a session as it is now; one that is over goes out of the store, before its last datagram leaves.
   * False when that failed.
   */
  save(session: DtlsSession): boolean {
    if (this.#store === undefined || this.#isClosed) return true;
    const store = this.#store;
    return this.#attempt(() => {
      if (session.state === "connected") store.put((session.keptAs ??= this.#nextId++), session.keep());
      else if (session.keptAs !== undefined) store.delete(session.keptAs);
    });
  }

  forget(session: DtlsSession): void {
    const id = session.keptAs;
    if (id === undefined || this.#isClosed) return;
    session.keptAs = undefined;
    this.#attempt(() => this.#store?.delete(id));
  }

  /** An orderly stop: ends the sessions, and keeps their last states. */
  close(sessions: Iterable<DtlsSession>): void {
    const store = this.#store;
    if (store === undefined || this.#isClosed) return;
    for (const session of sessions) {
      const id = session.keptAs;
      if (id === undefined || session.state !== "connected") continue;
      // Its end is not to take it out of the store.
      session.keptAs = undefined;
      this.#attempt(() => store.put(id, session.suspend()));
    }
    this.#attempt(() => store.close());
    this.#isClosed = true;
  }

  #attempt(step: () => void): boolean {
    try {
      step();
      return true;
    } catch (error) {
      this.#onFault("association store", error);
      return false;
    }
  }
}

export interface RestoredCounts {
  readonly restored: number;
  /** Not usable any more: changed options, or not wanted by `onSession`. */
  readonly refused: number;
}
