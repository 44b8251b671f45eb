import { createHash } from "node:crypto";
import {
  BlockwiseServer,
  BlockwiseTransfer,
  CODE,
  CoapError,
  Endpoint,
  type EndpointOptions,
  type EndpointOutput,
  type Exchange,
  getRequest,
  type IncomingRequest,
  OPTION,
  Options,
  type Peer,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import { type LinkConditions, type LinkPeer, VirtualLink } from "#testing/virtual-link.js";
import test from "ava";

/** The whole run takes half a minute: `DPE_LONG=1`. */
const TRANSFERS = process.env["DPE_LONG"] === "1" ? 1000 : 24;
const BODY_BYTES = 65_536;

/** One side of the link, client and server: whole requests and whole responses over an endpoint and blocks. */
class Side implements LinkPeer {
  readonly endpoint: Endpoint;
  readonly peer: Peer;
  readonly handled: RequestMessage[] = [];
  readonly seen: string[] = [];
  readonly failures: string[] = [];
  readonly ended: string[] = [];
  handler: (request: RequestMessage) => ResponseMessage = () => answer(CODE.NotFound);
  observed: IncomingRequest | undefined;
  response: ResponseMessage | undefined;
  readonly #blocks = new BlockwiseServer<Peer>({ lifetimeMs: 24 * 3600 * 1000 });
  readonly #datagrams: Uint8Array[] = [];
  #transfer: BlockwiseTransfer | undefined;

  constructor(random: SeededRandom, options: Partial<EndpointOptions> = {}) {
    this.endpoint = new Endpoint({
      random: (size) => random.bytes(size),
      // Half of all datagrams lost: an exchange needs four transmissions in the mean, and now and then very many.
      parameters: { roundTripEstimation: "cocoa", maxRetransmit: 60 },
      ...options,
    });
    this.peer = this.endpoint.openPeer();
  }

  ask(request: RequestMessage, now: number): void {
    this.response = undefined;
    this.#transfer = new BlockwiseTransfer(request);
    this.endpoint.request(this.peer, this.#transfer.next(), now);
  }

  handleDatagram(bytes: Uint8Array, now: number): void {
    this.endpoint.handleDatagram(this.peer, bytes, now);
    this.#drain(now);
  }

  handleTimeout(now: number): void {
    this.endpoint.handleTimeout(now);
    this.#drain(now);
  }

  nextTimeout(): number | undefined {
    return this.endpoint.nextTimeout();
  }

  pollDatagram(now: number): Uint8Array | undefined {
    this.#drain(now);
    return this.#datagrams.shift();
  }

  #drain(now: number): void {
    for (let output = this.endpoint.poll(); output !== undefined; output = this.endpoint.poll())
      this.#take(output, now);
  }

  #take(output: EndpointOutput, now: number): void {
    switch (output.type) {
      case "datagram":
        this.#datagrams.push(output.bytes);
        return;
      case "request":
        return this.#serve(output.incoming, now);
      case "response":
        return this.#proceed(output.exchange, output.response, now);
      case "notification":
        this.seen.push(textOf(output.response.payload));
        return;
      case "failed":
        this.failures.push(output.error.code);
        return;
      case "observation-ended":
        this.ended.push(output.cause);
        this.observed = undefined;
        return;
      case "close":
        return;
    }
  }

  #serve(incoming: IncomingRequest, now: number): void {
    const input = this.#blocks.receive(incoming.peer, incoming, now);
    if (input.type === "answer") return this.endpoint.respond(incoming, input.response, now);
    this.handled.push(input.request);
    const response = this.#blocks.send(incoming.peer, incoming, this.handler(input.request), now);
    if (!incoming.isObserve) return this.endpoint.respond(incoming, response, now);
    if (this.endpoint.respondObserved(incoming, response, now)) this.observed = incoming;
  }

  #proceed(exchange: Exchange, response: ResponseMessage, now: number): void {
    if (exchange.request.options.observe === 0) {
      this.seen.push(textOf(response.payload));
      return;
    }
    try {
      this.response = this.#transfer?.handleResponse(response);
      if (this.response === undefined && this.#transfer !== undefined)
        this.endpoint.request(this.peer, this.#transfer.next(), now);
    } catch (error) {
      this.failures.push(error instanceof CoapError ? error.code : String(error));
    }
  }
}

const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const hash = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function answer(code: number, payload: Uint8Array = new Uint8Array(0)): ResponseMessage {
  return { code, options: Options.none, payload };
}

function conditions(seed: number, random: SeededRandom): LinkConditions & { readonly seed: number } {
  return {
    seed,
    latencyMs: 1 + random.below(200),
    loss: random.next() / 2,
    reordering: random.next() / 2,
    duplication: random.next() / 4,
    corruption: 0,
    mtu: 1500,
  };
}

for (const direction of ["to the server", "to the client"] as const) {
  test(`${TRANSFERS} bodies of 64 KiB ${direction} over links that lose up to half: equal by hash, handled exactly once`, (t) => {
    for (let seed = 1; seed <= TRANSFERS; seed++) {
      const random = new SeededRandom(seed);
      const body = random.bytes(BODY_BYTES);
      const client = new Side(random);
      const server = new Side(random);
      server.handler = (request) =>
        direction === "to the client"
          ? answer(CODE.Content, body)
          : answer(CODE.Changed, request.payload.subarray(0, 8));
      const link = new VirtualLink(conditions(seed, random));
      const up = direction === "to the server";
      client.ask(up ? { code: CODE.PUT, options: Options.none, payload: body } : getRequest(), 0);
      const isDone = link.run(client, server, () => client.response !== undefined || client.failures.length > 0, 1e12);
      const where = `seed ${seed}, ${JSON.stringify(link.counts)}`;
      t.true(isDone, where);
      t.deepEqual(client.failures, [], where);
      t.is(server.handled.length, 1, where);
      const received = up ? server.handled[0]?.payload : client.response?.payload;
      t.is(hash(received ?? new Uint8Array(0)), hash(body), where);
    }
  });
}

for (const isConfirmable of [true, false]) {
  test(`observations by ${isConfirmable ? "Confirmable" : "Non-confirmable"} requests converge to the last value over the same links`, (t) => {
    for (let seed = 1; seed <= Math.ceil(TRANSFERS / 4); seed++) {
      const random = new SeededRandom(seed);
      let state = 0;
      const client = new Side(random);
      const server = new Side(random);
      server.handler = () => ({
        ...answer(CODE.Content, new TextEncoder().encode(String(state))),
        options: Options.none.with(OPTION.MaxAge, 30),
      });
      const link = new VirtualLink(conditions(seed, random));
      const observe = (): void => {
        const options = Options.none.with(OPTION.Observe, 0);
        client.endpoint.request(client.peer, { ...getRequest(options), isConfirmable }, link.now);
      };
      observe();
      for (; state < 100;) {
        link.run(client, server, () => false, random.below(2000));
        // A Non-confirmable registration may be lost: the application asks again.
        if (client.seen.length === 0 && client.failures.length > 0) {
          client.failures.length = 0;
          observe();
        }
        state++;
        if (server.observed !== undefined)
          server.endpoint.notify(server.observed, server.handler(getRequest()), link.now);
      }
      const where = (): string => `seed ${seed}: ${client.seen.at(-1)}, ${JSON.stringify(link.counts)}`;
      let isConverged = false;
      for (let attempt = 0; attempt < 20 && !isConverged; attempt++) {
        isConverged = link.run(client, server, () => client.seen.at(-1) === "100", 3_600_000);
        if (!isConverged && client.failures.length > 0) {
          client.failures.length = 0;
          observe();
        }
      }
      t.true(isConverged, where());
      const values = client.seen.map(Number);
      t.deepEqual(
        values,
        values.toSorted((a, b) => a - b),
        `never backward, ${where()}`,
      );
    }
  });
}
