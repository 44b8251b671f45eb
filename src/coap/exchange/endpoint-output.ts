import type { CoapError } from "../errors.js";
import type { IncomingRequest } from "./incoming-request.js";
import type { ResponseMessage } from "./messages.js";
import type { Peer } from "./peer.js";
import type { Exchange } from "./exchange.js";

/** What an endpoint wants done or tells; poll until undefined after each call. */
export type EndpointOutput =
  /** Send these bytes to the peer; the receiver must not change them, they may be sent again. */
  | { readonly type: "datagram"; readonly peer: Peer; readonly bytes: Uint8Array }
  /** A request to answer with `respond`: no duplicate, and with no critical option unknown. */
  | { readonly type: "request"; readonly incoming: IncomingRequest }
  /** The response to a request of ours; the first one where it established an observation. */
  | { readonly type: "response"; readonly exchange: Exchange; readonly response: ResponseMessage }
  /** A later response of an observation of ours, newer than all before it (RFC 7641 §3.4). */
  | { readonly type: "notification"; readonly exchange: Exchange; readonly response: ResponseMessage }
  /** A request or observation of ours ended without a response. */
  | { readonly type: "failed"; readonly exchange: Exchange; readonly error: CoapError }
  /** The connection of this peer is to be closed, after what was sent before (RFC 8323 §5.5, §5.6). */
  | { readonly type: "close"; readonly peer: Peer; readonly cause: CloseCause }
  /** An observation that a peer held on us is over. */
  | { readonly type: "observation-ended"; readonly incoming: IncomingRequest; readonly cause: ObservationEnd };

/** Who ended it: we, for a fault of the peer's that is named; or the peer, in order or for a fault of ours. */
export type CloseCause =
  | { readonly type: "aborted"; readonly reason: string }
  | { readonly type: "released" }
  | { readonly type: "peer-aborted"; readonly diagnostic: string };

export type ObservationEnd = "cancelled" | "error-response" | "peer-closed" | "replaced" | "reset" | "timeout";
