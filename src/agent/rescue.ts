import { pause } from "#waiting/index.js";
import { AgentError } from "./agent-error.js";
import type { AgentEvent } from "./agent-event.js";
import { Backoff, MAX_WAIT_MS } from "./backoff.js";
import type { Connector, ServerSearch } from "./connector.js";
import { isUnproven, refusalOf } from "./refusal.js";
import type { ServerAssociation } from "./server-association.js";

/**
 * What an agent does about a server that leaves a request open and shows no sign of life. CoAP alone would find out after a
 * minute, and could not tell a server that has forgotten the association from a path that lost five datagrams; so the
 * association is held, and somebody is looked for beside it: the same server first, then the others.
 *
 * | state | on | to |
 * |---|---|---|
 * | well | nothing heard for `suspectAfter` | asked |
 * | asked, at once and once more | heard | well, and more patient with this request |
 * | asked | nothing heard | searching |
 * | searching | heard on the association | well: the server was stopped, or the path lossy |
 * | searching | anybody shook hands and answers | asked for the last time |
 * | searching | nobody answers | searching, after a pause, twice as long each time |
 * | asked for the last time | heard | well; the other association ends |
 * | asked for the last time | nothing heard | moved: the server does not know the association any more, or cannot be reached |
 *
 * Whatever is unauthenticated, such as an ICMP error or a handshake that is refused, hastens a search and ends nothing. What was not acknowledged on one
 * association is reported on the next; the server knows what it has already.
 */
export class Rescue {
  readonly #parts: RescueParts;
  /** Associations in a row that were left for the next one before anything was answered on them. */
  #unanswered = 0;

  constructor(parts: RescueParts) {
    this.#parts = parts;
  }

  /** A server answered on the association that is watched. */
  answered(): void {
    this.#unanswered = 0;
  }

  /**
   * Watches over an association until `signal` aborts; gives the one to go on with in its place.
   *
   * @throws what only a person can mend.
   */
  async watch(association: ServerAssociation, signal: AbortSignal): Promise<ServerAssociation | undefined> {
    const { silence } = association;
    // A server that shakes hands and then says nothing is not helped by ever more handshakes.
    const suspectAfterMs = Math.min(this.#parts.suspectAfterMs * 2 ** this.#unanswered, MAX_WAIT_MS);
    let patienceMs = suspectAfterMs;
    let request = 0;
    while (!signal.aborted) {
      if (silence.requests !== request) patienceMs = suspectAfterMs;
      request = silence.requests;
      await silence.lasts(patienceMs, signal);
      if (signal.aborted) return undefined;
      if (await association.answers(ANSWER_MS, signal)) {
        patienceMs = Math.min(patienceMs * 2, MAX_WAIT_MS);
        continue;
      }
      const successor = await this.#searchBeside(association, signal);
      if (successor !== undefined) return successor;
    }
    return undefined;
  }

  async #searchBeside(association: ServerAssociation, signal: AbortSignal): Promise<ServerAssociation | undefined> {
    if (signal.aborted) return undefined;
    const { connector, onEvent } = this.#parts;
    const { href } = connector.server.server;
    onEvent({ type: "silent", server: href });
    const heard = new AbortController();
    const over = new AbortController();
    const isOver = AbortSignal.any([signal, heard.signal]);
    void association.silence
      .ends(Infinity, AbortSignal.any([signal, over.signal]))
      .then((isHeard) => isHeard && heard.abort());
    try {
      const search = connector.search();
      if (this.#unanswered > 0) search.advance();
      const successor = await this.#search(search, association, isOver);
      if (successor !== undefined) return successor;
      if (!signal.aborted) onEvent({ type: "heard", server: href });
      return undefined;
    } finally {
      over.abort();
    }
  }

  /** Undefined as soon as the association is heard. */
  async #search(
    search: ServerSearch,
    association: ServerAssociation,
    isOver: AbortSignal,
  ): Promise<ServerAssociation | undefined> {
    const backoff = new Backoff();
    while (!isOver.aborted) {
      const { href } = search.server().server;
      try {
        const found = await this.#open(search, association, isOver);
        if (!isOver.aborted && !(await association.answers(LAST_ANSWER_MS, isOver)) && !isOver.aborted) {
          this.#unanswered += 1;
          search.take();
          this.#parts.onEvent({ type: "moved", server: href });
          return found;
        }
        await found.close();
        return undefined;
      } catch (error) {
        const refusal = refusalOf(error);
        if (isOver.aborted || (refusal !== undefined && (await association.answers(ANSWER_MS, isOver)))) break;
        if (refusal !== undefined && !isUnproven(error)) throw error;
        // Who refuses us is never stepped over.
        const retryInMs = backoff.next(error, refusal !== undefined || search.advance());
        this.#parts.onEvent({ type: "lost", error: refusal ?? error, retryInMs, next: search.server().server.href });
        await pause(retryInMs, isOver);
      }
    }
    return undefined;
  }

  /**
   * Opens another association, and waits for a word on it. The one that is held is asked before it, so that a server that is
   * busy, as when a whole fleet is back at once, has the time that it needs to answer both. On plain UDP nothing but that word
   * shows that anybody is there; after a handshake a server may do without it, as pings are answered by few.
   */
  async #open(search: ServerSearch, held: ServerAssociation, signal: AbortSignal): Promise<ServerAssociation> {
    const { server, failover } = search.server();
    const found = await search.open(signal);
    const isAsked = new AbortController();
    void held.answers(failover.giveUpAfter, AbortSignal.any([signal, isAsked.signal]));
    const isHeard = await found.answers(failover.giveUpAfter, signal);
    isAsked.abort();
    if (isHeard || found.isProven) return found;
    await found.close();
    throw new AgentError("AGENT_SERVER_UNREACHABLE", `${server.href} does not answer`);
  }
}

export interface RescueParts {
  readonly connector: Connector;
  /** Nothing came for so long though something was asked. */
  readonly suspectAfterMs: number;
  readonly onEvent: (event: AgentEvent) => void;
}

/** For a sign of life of a server that is asked for one. */
const ANSWER_MS = 1500;
/** Asked three times: where a whole fleet is back at once, two datagrams in a row may be lost. */
const LAST_ANSWER_MS = 3000;
