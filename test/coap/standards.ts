/** A section of a standard, and what became of it. */
export interface Standard {
  readonly rfc: string;
  readonly section: string;
  readonly what: string;
  /** Parts of the titles of the tests that show it. */
  readonly shownBy?: readonly string[];
  /** Why it is left out. */
  readonly omitted?: string;
}

const row = (rfc: string, section: string, what: string, ...shownBy: string[]): Standard => ({
  rfc,
  section,
  what,
  shownBy,
});
const omitted = (rfc: string, section: string, what: string, why: string): Standard => ({
  rfc,
  section,
  what,
  omitted: why,
});

/** In the order of the table in docs/coap-standards.md. */
export const STANDARDS: readonly Standard[] = [
  row(
    "7252",
    "3",
    "message format",
    "the messages of RFC 7252 Appendix A decode",
    "what RFC 7252 §3 calls a message format error is one",
  ),
  row("7252", "4.2", "reliable transmission, back-off", "a request is retransmitted with doubling time-outs"),
  row(
    "7252",
    "4.3",
    "Non-confirmable, ping, Reset",
    "a ping and a malformed Confirmable message are answered by Reset",
    "a Non-confirmable request is answered",
  ),
  row(
    "7252",
    "4.5",
    "deduplication, EXCHANGE_LIFETIME, NON_LIFETIME",
    "its duplicate by the same bytes",
    "memory of received messages is bounded",
  ),
  row("7252", "4.7", "NSTART per peer, with a queue", "NSTART keeps further requests waiting"),
  row("7252", "4.7", "PROBING_RATE", "is sent no more than PROBING_RATE"),
  row(
    "7252",
    "4.8",
    "transmission parameters, derived times",
    "an acknowledged request whose response never comes fails by time-out",
    "a request is retransmitted with doubling",
  ),
  row(
    "7252",
    "5.2",
    "piggybacked, separate and Non-confirmable responses",
    "a slow application gets an empty Acknowledgement",
    "TD_COAP CORE_15",
  ),
  row(
    "7252",
    "5.3, 9",
    "tokens: 8 random bytes; responses by endpoint, token and messageId",
    "a response counts only from its peer",
  ),
  row(
    "7252",
    "5.4",
    "critical, elective, unsafe; formats, repeats",
    "an unknown critical option is refused",
    "option bombs and noise",
    "a response with an unknown critical option fails",
  ),
  row("7252", "5.5, 5.10.4", "Content-Format, Accept, diagnostic payload", "Accept 4.06"),
  omitted("7252", "5.7", "proxying", "5.05 to Proxy-Uri and Proxy-Scheme; the DPE proxy is a program of its own"),
  row("7252", "5.10.6, 5.10.8", "ETag, If-Match, If-None-Match", "ETag gives 2.03, preconditions 4.12"),
  row("7252", "6", "coap and coaps URIs", "a URI is decomposed into options"),
  row(
    "7252",
    "7, RFC 6690",
    "discovery, link format, filters",
    "link format is read as RFC 6690 §5",
    "links are selected by target and attributes",
    "TD_COAP ${area} between our client and our server",
  ),
  omitted(
    "7252",
    "8",
    "multicast",
    "requests to a group are not answered at all: no group is joined, which is the policy §8 leaves to a server",
  ),
  row("7252", "9", "DTLS", "requests over DTLS are answered"),
  row("7252", "11.3", "amplification", "an address that has shown nothing is sent no more"),
  row(
    "7641",
    "3.1, 4.1",
    "registration, also by FETCH; observers bounded",
    "an observation delivers notifications in order until it is cancelled",
    "a FETCH is observed",
    "observers by the ten thousand",
  ),
  row(
    "7641",
    "3.4",
    "freshness",
    "a reordered notification is dropped",
    "converge to the last value over the same links",
  ),
  row("7641", "3.3.1", "asking anew after Max-Age", "converge to the last value over the same links"),
  row(
    "7641",
    "3.6",
    "cancellation by GET, by Reset",
    "an observer that answers Reset, or nothing at all, is forgotten",
  ),
  row(
    "7641",
    "4.5",
    "Confirmable notifications at intervals, newest state only",
    "a newer notification takes the place of one in transit",
  ),
  row(
    "7959",
    "2.2 to 2.5",
    "Block1, Block2, both in one exchange; SZX negotiation",
    "bodies of every size go both ways unchanged",
    "the server's smaller blocks are taken up",
  ),
  row("7959", "2.4", "a block in the middle, by itself", "a block in the middle is read by itself"),
  row("7959", "2.4", "ETag: states are never mixed", "a representation that changes between blocks is read anew"),
  row(
    "7959",
    "2.9",
    "4.08, 4.13 with the limit",
    "a missing, foreign or out-of-order block is answered 4.08",
    "memory for bodies is bounded per peer and in all",
  ),
  row("7959", "whole", "over links that lose up to half", "bodies of 64 KiB"),
  row(
    "7959",
    "2.5",
    "non-atomic processing by a server, bodies as streams",
    "RFC 7959 §2.5: blocks of a streamed body",
    "MiB stream both ways",
    "a stream ends where its reader stops",
  ),
  omitted(
    "9177",
    "whole",
    "Q-Block1, Q-Block2",
    "for networks that lose much one way; CoAP over TCP and plain blocks serve the devices met so far",
  ),
  row("8132", "2, 3", "FETCH, PATCH, iPATCH", "FETCH with SenML-ETCH answers", "a router answers by path and method"),
  row(
    "7967",
    "2",
    "No-Response",
    "a response of a class that is not wanted is left out",
    "a request that wants no response is over",
  ),
  row("8768", "3", "Hop-Limit", "Hop-Limit is set, lessened, and reached"),
  row("9175", "2", "Echo", "an address that has shown nothing is sent no more", "our client echoes by itself"),
  row("9175", "3", "Request-Tag", "bodies sent at once to one resource never mix"),
  row("9175", "4", "tokens are not used again", "a response counts only from its peer"),
  row("9290", "2, appendix A", "concise problem details", "problem details are read as they were written"),
  row("8428", "4 to 6", "SenML in JSON and CBOR", "RFC 8428 §5.1.3 resolves", "all value types, sums, update times"),
  row("8790", "3.1", "SenML-ETCH: Fetch Packs", "a Fetch Pack selects by name"),
  omitted("8790", "3.2", "SenML-ETCH: Patch Packs", "no resource of DPE is changed so"),
  row("8323", "3", "framing on TCP and TLS", "messages of every length are cut out of a stream"),
  row(
    "8323",
    "5",
    "CSM, Ping, Pong, Release, Abort",
    "CSM comes first and says what we take",
    "Ping is answered with its token",
  ),
  row("8323", "6", "BERT", "long bodies both ways by BERT"),
  row("8323", "7", "Observe over reliable transports", "pings and observations over TCP"),
  row("8323", "8.2, 9", "TLS with certificates and PSK", "R18 over TLS", "DPE-1 and DPE-2 run over TLS as over DTLS"),
  omitted("8323", "4, 8.3, 8.4", "WebSockets", "agents are no browsers"),
  row(
    "draft-ietf-core-conditional-attributes",
    "3",
    "c.pmin, c.pmax, c.gt, c.lt, c.st",
    "conditional attributes: pmin holds a change back",
    "conditional attributes: limits are told",
  ),
  omitted(
    "draft-ietf-core-conditional-attributes",
    "3",
    "c.edge, c.con, c.epmin, c.epmax, c.band",
    "refused with 4.00",
  ),
  row(
    "draft-ietf-core-cocoa-03",
    "4",
    "CoCoA, behind an option",
    "the first time-out follows the peer's round-trip times",
  ),
  omitted("8613", "whole", "OSCORE", "DPE's security is of the transport and Digest"),
];
