import fc from "fast-check";
import type { Association, DatagramSource } from "#dtls/index.js";
import { VirtualLink } from "#testing/virtual-link.js";
import { makePair, type Pair, PSK, type TestEnd } from "../dtls/pair.js";
import { type FuzzTarget, invariant } from "./target.js";

/** What happens to an association whose peer moves, or seems to. */
type PathStep =
  /** A record of the client's arrives from somewhere, perhaps once more. */
  | { readonly do: "record"; readonly bytes: number; readonly from: Place; readonly isRepeated: boolean }
  /** The server sends. */
  | { readonly do: "send"; readonly bytes: number }
  /** The client hears the challenges that were sent to one place, and its answers arrive from a place. */
  | { readonly do: "answer"; readonly at: Place; readonly from: Place }
  | { readonly do: "wait"; readonly ms: number };
/** The address of the peer, that which it may have moved to, and a third one. */
type Place = "home" | "new" | "third";

interface PathPlan {
  readonly check: "basic" | "enhanced" | "none";
  readonly steps: readonly PathStep[];
}

const place = fc.constantFrom<Place[]>("home", "new", "third");

/** Records, answers and sends in any order: nobody is flooded, and only who answered where it was asked has moved there. */
export const pathTarget: FuzzTarget<PathPlan> = {
  name: "dtls-path",
  plans: fc.record({
    check: fc.constantFrom("basic", "basic", "enhanced", "none"),
    steps: fc.array(
      fc.oneof(
        fc.record({
          do: fc.constant("record" as const),
          bytes: fc.nat(300),
          from: place,
          isRepeated: fc.boolean(),
        }),
        fc.record({ do: fc.constant("send" as const), bytes: fc.nat(1100) }),
        fc.record({ do: fc.constant("answer" as const), at: place, from: place }),
        fc.record({ do: fc.constant("wait" as const), ms: fc.nat(6000) }),
      ),
      { minLength: 1, maxLength: 30 },
    ),
  }),
  run: ({ check, steps }) => {
    const world = new PathWorld(check);
    for (const step of steps) world.take(step);
    return [check, [...new Set(world.server.paths)].toSorted().join("+"), world.home, world.reasons].join(" ");
  },
};

class PathWorld {
  readonly server: TestEnd;
  readonly #association: Association;
  readonly #client: Association;
  readonly #isChecked: boolean;
  /** Where the server takes the peer to be. */
  home: Place = "home";
  #candidate: Place | undefined;
  #source: Place = "home";
  #now = 0;
  /** Since a place is the candidate: bytes from it, and to it; and the datagrams that it was sent, for whoever hears them. */
  #from = 0;
  #to = 0;
  readonly #heard: Record<Place, Uint8Array[]> = { home: [], new: [], third: [] };
  readonly #answeredFrom = new Set<Place>();

  constructor(check: PathPlan["check"]) {
    const pair: Pair = makePair({
      client: { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] },
      server: { pskEnabled: true, returnRoutabilityCheck: check },
    });
    new VirtualLink({ seed: 1 }).run(
      pair.client,
      pair.server,
      () => pair.client.connected + pair.server.connected === 2,
    );
    const { association: server } = pair.server;
    const { association: client } = pair.client;
    if (server === undefined || client === undefined) throw new Error("not connected");
    this.server = pair.server;
    this.#association = server;
    this.#client = client;
    this.#isChecked = check !== "none";
  }

  get reasons(): string {
    return Object.keys(this.#association.counters.dropped).toSorted().join("+");
  }

  take(step: PathStep): void {
    switch (step.do) {
      case "record":
        this.#client.send(new Uint8Array(step.bytes));
        for (const datagram of this.#fromClient()) {
          this.#deliver(datagram, step.from);
          if (step.isRepeated) this.#deliver(datagram, step.from);
        }
        break;
      case "send":
        this.#association.send(new Uint8Array(step.bytes));
        break;
      case "answer":
        for (const challenge of this.#heard[step.at].splice(0)) this.#client.handleDatagram(challenge, this.#now);
        for (const datagram of this.#fromClient()) {
          this.#answeredFrom.add(step.from);
          this.#deliver(datagram, step.from);
        }
        break;
      case "wait":
        this.#now += step.ms;
        this.#association.handleTimeout(this.#now);
    }
    this.#settle();
    invariant(this.#association.state === "connected", "the association ended");
  }

  #fromClient(): Uint8Array[] {
    const datagrams: Uint8Array[] = [];
    for (let output = this.#client.poll(); output !== undefined; output = this.#client.poll()) {
      if (output.type === "datagram") datagrams.push(output.bytes);
    }
    return datagrams;
  }

  #deliver(datagram: Uint8Array, from: Place): void {
    this.#source = from;
    const source: DatagramSource = from === this.home ? "peer" : from === this.#candidate ? "candidate" : "elsewhere";
    const isNewest = this.#association.handleDatagram(datagram, this.#now, source);
    if (isNewest && source === "candidate") this.#from += datagram.length;
    this.#settle(isNewest ? datagram.length : 0);
  }

  /** Carries out what the association asks for, as a socket would. */
  #settle(bytesIn = 0): void {
    for (let output = this.#association.poll(); output !== undefined; output = this.#association.poll()) {
      switch (output.type) {
        case "datagram": {
          const to = output.to === "candidate" ? this.#candidate : output.to === "source" ? this.#source : this.home;
          invariant(to !== undefined, "a datagram for a candidate, and there is none");
          this.#heard[to].push(output.bytes);
          if (output.to === "candidate") this.#to += output.bytes.length;
          invariant(this.#to <= 3 * this.#from, `${this.#to} bytes to who sent ${this.#from}`);
          break;
        }
        case "peer-moved":
          invariant(!this.#isChecked, "moved without being asked");
          this.home = this.#source;
          break;
        case "path-candidate":
          this.#candidate = this.#source;
          [this.#from, this.#to] = [bytesIn, 0];
          this.#answeredFrom.clear();
          break;
        case "path-validated":
          invariant(this.#candidate !== undefined && this.#source === this.#candidate, "validated from elsewhere");
          invariant(this.#answeredFrom.has(this.#candidate), "validated without an answer");
          this.home = this.#candidate;
          this.#candidate = undefined;
          break;
        case "path-refused":
          invariant(this.#candidate !== undefined, "refused, and there was none");
          this.#candidate = undefined;
          break;
        case "connected":
        case "data":
        case "need-psk":
        case "need-session":
        case "need-peer-certificate-verification":
        case "need-raw-public-key-verification":
        case "session":
        case "save":
        case "closed":
      }
      this.server.paths.push(...(output.type.startsWith("path-") ? [output.type] : []));
    }
  }
}
