import type { PeerName, Scoped } from "#testing/peer-process.js";
import type { EtsiCase, Step } from "./cases.js";
import type { Seen } from "./seen.js";

export const TRANSPORTS = ["udp", "dtls", "tcp", "tls"] as const;
export type Transport = (typeof TRANSPORTS)[number];

export const isStream = (transport: Transport): boolean => transport === "tcp" || transport === "tls";
export const isSecure = (transport: Transport): boolean => transport === "dtls" || transport === "tls";

/** Of all peers that are secured. */
export const IDENTITY = "alice";
export const KEY = "0123456789abcdef";

/** A server on 127.0.0.1. */
export interface Place {
  readonly transport: Transport;
  /** What is asked: the server's, or that of a relay before it, which knows one client only. */
  readonly port: number;
  /** The server's own. */
  readonly directPort: number;
}

/** What a side can do with a case: all is well where both are undefined. */
interface Limits {
  /** Why the case cannot be put to it. */
  cannot(one: EtsiCase, transport: Transport): string | undefined;
  /** Why it fails, by its fault: it is run, and must fail. */
  fails(one: EtsiCase, transport: Transport): string | undefined;
}

export interface ClientSide extends Limits {
  readonly name: string;
  readonly needs?: PeerName;
  readonly transports: readonly Transport[];
  /** Carries the steps out. `seen` is told of what passes, where the side is ours and the transport not plain UDP. */
  perform(scope: Scoped, place: Place, steps: readonly Step[], seen: Seen): Promise<void>;
}

export interface ServerSide extends Limits {
  readonly name: string;
  readonly needs?: PeerName;
  readonly transports: readonly Transport[];
  start(scope: Scoped, transport: Transport): Promise<RunningServer>;
}

export interface RunningServer {
  readonly port: number;
  /** Where the side is ours and the transport not plain UDP: what passes on connections from now on. */
  tapInto?(seen: Seen): void;
  /** Ends it and starts it at the same port, with no memory of what was. */
  restart(): Promise<void>;
}
