import type { WorkloadName } from "./load.js";
import type { ServerName } from "./servers.js";

/** One line of the table: ours, against one peer's where there is one to compare with. */
export interface Figure {
  readonly title: string;
  readonly unit: string;
  readonly what: What;
  readonly ours?: ServerName;
  readonly peer?: ServerName;
  /** Of the peer's value, where it is not the same. */
  readonly peersWhat?: What;
  /** What the ratio, or our own value, should be; stated, not enforced: the machine decides as much as the code. */
  readonly aim?: string;
}

/** What was measured of a server. */
export type What =
  | `${WorkloadName} /s`
  | `${WorkloadName} /CPU-s`
  | `${"psk" | "certificate"} ${"live" | "resident"} bytes`
  | `observer ${"NON" | "CON"} ${"live bytes" | "resident bytes" | "round s" | "µs"}`
  | "hello bytes kept"
  | "hello bytes answered"
  | `${"encode" | "decode"} µs`;

export const FIGURES: readonly Figure[] = [
  {
    title: "encrypted CON GET (PSK, AES-128-CCM-8; 8 sessions × 4)",
    unit: "answers/s",
    what: "encrypted-get /s",
    peer: "libcoap-openssl",
    aim: "ratio ≥ 0.85",
  },
  { title: "the same", unit: "answers/CPU-s", what: "encrypted-get /CPU-s", peer: "libcoap-openssl" },
  {
    title: "the same, 32 sessions × 1",
    unit: "answers/CPU-s",
    what: "encrypted-get-single /CPU-s",
    peer: "libcoap-openssl",
  },
  {
    title: "encrypted CON GET, the peer plain",
    unit: "answers/s",
    what: "encrypted-get /s",
    peer: "node-coap",
    peersWhat: "plain-beside-encrypted /s",
    aim: "ratio ≥ 3",
  },
  {
    title: "plain CON GET (8 × 4)",
    unit: "answers/CPU-s",
    what: "plain-get /CPU-s",
    peer: "libcoap-notls",
    aim: "ratio ≥ 0.8",
  },
  { title: "the same", unit: "answers/CPU-s", what: "plain-get /CPU-s", peer: "node-coap", aim: "ratio ≥ 4" },
  {
    title: "the same by `serve`, with a route, as node-coap's by `createServer`",
    unit: "answers/CPU-s",
    what: "plain-get /CPU-s",
    ours: "ours-by-serve",
    peer: "node-coap",
  },
  {
    title: "the same: the floor, a dgram socket of Node that answers and does nothing else",
    unit: "answers/CPU-s",
    what: "plain-get /CPU-s",
    peer: "node-dgram",
  },
  {
    title: "that floor itself",
    unit: "answers/CPU-s",
    what: "plain-get /CPU-s",
    ours: "node-dgram",
    peer: "libcoap-notls",
  },
  {
    title: "full PSK handshakes (32 at a time)",
    unit: "per CPU-s",
    what: "psk-handshake /CPU-s",
    peer: "libcoap-openssl",
    aim: "ratio ≥ 1",
  },
  {
    title: "the same, 4 at a time",
    unit: "per CPU-s",
    what: "psk-handshake-few /CPU-s",
    peer: "libcoap-openssl",
    aim: "ratio ≥ 1",
  },
  {
    title: "full ECDHE-ECDSA P-256 handshakes (4 at a time), the server's certificate only",
    unit: "per CPU-s",
    what: "ecdsa-handshake /CPU-s",
    peer: "libcoap-openssl",
  },
  {
    title: "the same, certificates of both, verified",
    unit: "per CPU-s",
    what: "mutual-handshake /CPU-s",
    ours: "ours-mutual",
    peer: "libcoap-mutual",
    aim: "ratio ≥ 0.7",
  },
  {
    title: "an idle PSK association: live bytes after a collection",
    unit: "bytes",
    what: "psk live bytes",
    aim: "≤ 3000",
  },
  { title: "the same: resident bytes", unit: "bytes", what: "psk resident bytes", peer: "libcoap-openssl" },
  {
    title: "an idle association with certificates of both: live bytes",
    unit: "bytes",
    what: "certificate live bytes",
    ours: "ours-mutual",
    aim: "≤ 5000",
  },
  {
    title: "the same: resident bytes",
    unit: "bytes",
    what: "certificate resident bytes",
    ours: "ours-mutual",
    peer: "libcoap-mutual",
  },
  {
    title: "an observer, of 100,000 on one server, 8 on each address (--quick: 10,000): live bytes",
    unit: "bytes",
    what: "observer NON live bytes",
    ours: "ours-observed",
  },
  { title: "the same: resident bytes", unit: "bytes", what: "observer NON resident bytes", ours: "ours-observed" },
  {
    title: "a round of notifications to all of them, Non-confirmable, until the last has come",
    unit: "s",
    what: "observer NON round s",
    ours: "ours-observed",
  },
  { title: "the same: of the server", unit: "CPU-µs each", what: "observer NON µs", ours: "ours-observed" },
  {
    title: "a round of notifications to all of them, Confirmable and acknowledged, until the last has come",
    unit: "s",
    what: "observer CON round s",
    ours: "ours-observed",
  },
  { title: "the same: of the server", unit: "CPU-µs each", what: "observer CON µs", ours: "ours-observed" },
  {
    title: "spoofed ClientHellos: bytes kept for each, after a collection",
    unit: "bytes",
    what: "hello bytes kept",
    aim: "0",
  },
  {
    title: "the same: bytes answered for each byte",
    unit: "bytes",
    what: "hello bytes answered",
    aim: "≤ 1",
  },
  {
    title: "encoding a message of 5 options",
    unit: "µs",
    what: "encode µs",
    ours: "our-codec",
    peer: "coap-packet",
    aim: "≤ 1.5",
  },
  { title: "decoding it", unit: "µs", what: "decode µs", ours: "our-codec", peer: "coap-packet", aim: "≤ 1.5" },
];

/** The median of what was measured, and between which values the middle half of the samples lies. */
export interface Value {
  readonly median: number;
  readonly lowerQuartile: number;
  readonly upperQuartile: number;
}

/** A line of the table as measured. */
export interface Finding {
  readonly figure: Figure;
  readonly ours: Value;
  readonly peer?: Value;
  /** Of the samples pair by pair, where they were taken in turn: a drift of the machine's speed meets both of a pair. */
  readonly ratio?: Value;
}

/** What has been measured, by server. */
export class Samples {
  readonly #values = new Map<string, number[]>();
  /** The shares of its polls in which the loader found nothing, one for each sample: near 0, it was measured, not the server. */
  readonly loaderIdle: number[] = [];
  retransmissions = 0;

  add(server: ServerName, what: What, value: number): void {
    const key = `${server} ${what}`;
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }

  finding(figure: Figure): Finding {
    const ours = this.#of(figure.ours ?? "ours", figure.what);
    if (figure.peer === undefined) return { figure, ours: valueOf(ours) };
    const peer = this.#of(figure.peer, figure.peersWhat ?? figure.what);
    // Other workloads than the peer's were not taken in turn with it.
    const isPaired = figure.peersWhat === undefined && ours.length === peer.length;
    const ratio = isPaired
      ? valueOf(ours.map((value, index) => value / (peer[index] ?? NaN)))
      : ratioOf(valueOf(ours), valueOf(peer));
    return { figure, ours: valueOf(ours), peer: valueOf(peer), ratio };
  }

  /** Of all samples; the lowest of them is what others on the machine did to it. */
  usualLoaderIdle(): { readonly median: number; readonly lowestTwentieth: number } {
    const sorted = this.loaderIdle.toSorted((a, b) => a - b);
    return { median: quantile(sorted, 0.5), lowestTwentieth: quantile(sorted, 0.05) };
  }

  #of(server: ServerName, what: What): readonly number[] {
    const values = this.#values.get(`${server} ${what}`);
    if (values === undefined) throw new Error(`nothing was measured: ${server} ${what}`);
    return values;
  }
}

function valueOf(values: readonly number[]): Value {
  const sorted = values.toSorted((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    lowerQuartile: quantile(sorted, 0.25),
    upperQuartile: quantile(sorted, 0.75),
  };
}

function ratioOf(ours: Value, peer: Value): Value {
  return {
    median: ours.median / peer.median,
    lowerQuartile: ours.lowerQuartile / peer.upperQuartile,
    upperQuartile: ours.upperQuartile / peer.lowerQuartile,
  };
}

/** Between the two samples that are nearest to it, by its distance from each. */
function quantile(sorted: readonly number[], part: number): number {
  const at = (sorted.length - 1) * part;
  const [low = NaN, high = low] = sorted.slice(Math.floor(at));
  return low + (high - low) * (at % 1);
}
