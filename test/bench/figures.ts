import type { Sample, WorkloadName } from "./load.js";
import type { ServerName } from "./servers.js";

/** One line of the table: ours against one peer, by one value of the samples. */
export interface Figure {
  readonly title: string;
  readonly unit: string;
  readonly ours: Source;
  readonly peer: Source;
  /** What the ratio, or our own value, should be; stated, not enforced: the machine decides as much as the code. */
  readonly aim?: string;
}

/** Where a value comes from: samples of a workload at a server, or that server's idle memory. */
export interface Source {
  readonly server: ServerName;
  readonly workload: WorkloadName | "idle";
  readonly value: "perSecond" | "perCpuSecond" | "bytes";
}

/** The median of a source, and how far its samples lie apart. */
export interface Value {
  readonly median: number;
  readonly lowest: number;
  readonly highest: number;
}

const of = (server: ServerName, workload: Source["workload"], value: Source["value"]): Source => ({
  server,
  workload,
  value,
});

export const FIGURES: readonly Figure[] = [
  {
    title: "encrypted CON GET (PSK, AES-128-CCM-8; 8 sessions × 4)",
    unit: "answers/s",
    ours: of("ours", "encrypted-get", "perSecond"),
    peer: of("libcoap-openssl", "encrypted-get", "perSecond"),
    aim: "ratio ≥ 0.6",
  },
  {
    title: "the same",
    unit: "answers/CPU-s",
    ours: of("ours", "encrypted-get", "perCpuSecond"),
    peer: of("libcoap-openssl", "encrypted-get", "perCpuSecond"),
  },
  {
    title: "encrypted CON GET, the peer plain",
    unit: "answers/s",
    ours: of("ours", "encrypted-get", "perSecond"),
    peer: of("node-coap", "plain-get", "perSecond"),
  },
  {
    title: "plain CON GET (8 × 4)",
    unit: "answers/s",
    ours: of("ours", "plain-get", "perSecond"),
    peer: of("libcoap-notls", "plain-get", "perSecond"),
  },
  {
    title: "the same",
    unit: "answers/s",
    ours: of("ours", "plain-get", "perSecond"),
    peer: of("node-coap", "plain-get", "perSecond"),
  },
  {
    title: "full PSK handshakes (4 at a time)",
    unit: "per CPU-s",
    ours: of("ours", "psk-handshake", "perCpuSecond"),
    peer: of("libcoap-openssl", "psk-handshake", "perCpuSecond"),
  },
  {
    title: "full ECDHE-ECDSA P-256 handshakes (4 at a time)",
    unit: "per CPU-s",
    ours: of("ours", "ecdsa-handshake", "perCpuSecond"),
    peer: of("libcoap-openssl", "ecdsa-handshake", "perCpuSecond"),
  },
  {
    title: "resident memory of an idle PSK association",
    unit: "bytes",
    ours: of("ours", "idle", "bytes"),
    peer: of("libcoap-openssl", "idle", "bytes"),
    aim: "ours ≤ 8192",
  },
];

/** What has been measured, by server and workload. */
export class Samples {
  readonly #loads = new Map<string, Sample[]>();
  readonly #idle = new Map<ServerName, number[]>();

  addLoad(server: ServerName, workload: WorkloadName, sample: Sample): void {
    const key = `${server} ${workload}`;
    this.#loads.set(key, [...(this.#loads.get(key) ?? []), sample]);
  }

  addIdle(server: ServerName, bytes: number): void {
    this.#idle.set(server, [...(this.#idle.get(server) ?? []), bytes]);
  }

  valueOf({ server, workload, value }: Source): Value {
    const loads = this.#loads.get(`${server} ${workload}`) ?? [];
    const numbers = value === "bytes" ? (this.#idle.get(server) ?? []) : loads.map((sample) => sample[value]);
    const sorted = numbers.toSorted((a, b) => a - b);
    const [lowest, median, highest] = [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)];
    if (lowest === undefined || median === undefined || highest === undefined)
      throw new Error(`nothing was measured of ${server} ${workload}`);
    return { lowest, median, highest };
  }

  /** The largest share of the server's processor time that the loader took: near 1, it was measured, not the server. */
  get largestLoaderShare(): number {
    return Math.max(...[...this.#loads.values()].flat().map(({ loaderShare }) => loaderShare));
  }

  get retransmissions(): number {
    return [...this.#loads.values()].flat().reduce((sum, sample) => sum + sample.retransmissions, 0);
  }
}
