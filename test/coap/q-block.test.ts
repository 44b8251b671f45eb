import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { CoapClient, router, serve } from "#api/index.js";
import {
  CODE,
  type CoapError,
  DEFAULT_Q_BLOCK_PARAMETERS,
  decodeMissing,
  encodeBlock,
  encodeMissing,
  encodeUint,
  Endpoint,
  type EndpointOutput,
  type Exchange,
  getRequest,
  type IncomingRequest,
  OPTION,
  Options,
  type Peer,
  QBlockServer,
  type QBlockServerOptions,
  QBlockTransfer,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import { UdpRelay } from "#testing/udp-relay.js";
import { type LinkPeer, VirtualLink } from "#testing/virtual-link.js";
import test from "ava";
import fc from "fast-check";

const NONE = new Uint8Array(0);
const BODY_BYTES = 65_536;
const parameters = { ...DEFAULT_Q_BLOCK_PARAMETERS, nonMaxRetransmit: 20, nonPartialTimeoutMs: 2_470_000 };

/** One side of a link that speaks Q-Block, or where `hasQBlock` is false refuses it as a critical option. */
class Side implements LinkPeer {
  readonly endpoint: Endpoint;
  readonly peer: Peer;
  readonly handled: RequestMessage[] = [];
  handler: (request: RequestMessage) => ResponseMessage = () => answer(CODE.Changed);
  response: ResponseMessage | undefined;
  error: CoapError | undefined;
  isUnknown = false;
  sent = 0;
  readonly #server: QBlockServer<Peer, IncomingRequest>;
  readonly #datagrams: Uint8Array[] = [];
  readonly #random: SeededRandom;
  #transfer: QBlockTransfer | undefined;
  readonly #exchanges = new Set<Exchange>();

  constructor(random: SeededRandom, hasQBlock = true, options: Partial<QBlockServerOptions> = {}) {
    this.#random = random;
    this.endpoint = new Endpoint({
      random: (size) => random.bytes(size),
      parameters: { maxRetransmit: 20, roundTripEstimation: "cocoa" },
      ...(hasQBlock ? { applicationOptions: [OPTION.QBlock1, OPTION.QBlock2] } : {}),
    });
    this.peer = this.endpoint.openPeer();
    this.#server = new QBlockServer({ ...SERVER, randomFraction: () => random.next(), ...options });
  }

  get keptBytes(): number {
    return this.#server.bufferedBytes;
  }

  ask(request: RequestMessage, now: number, isKnown = false): void {
    this.#transfer = new QBlockTransfer(request, {
      parameters,
      blockBytes: 1024,
      maxBodyBytes: 1024 * 1024,
      requestTag: Uint8Array.of(1),
      isKnown,
      randomFraction: () => this.#random.next(),
    });
    this.#transfer.start(now);
  }

  handleDatagram(bytes: Uint8Array, now: number): void {
    this.endpoint.handleDatagram(this.peer, bytes, now);
    this.#drain(now);
  }

  handleTimeout(now: number): void {
    this.endpoint.handleTimeout(now);
    this.#server.handleTimeout(now);
    this.#transfer?.handleTimeout(now);
    this.#drain(now);
  }

  nextTimeout(): number | undefined {
    const all = [this.endpoint, this.#server, this.#transfer].map((part) => part?.nextTimeout() ?? Infinity);
    const next = Math.min(...all);
    return next === Infinity ? undefined : next;
  }

  pollDatagram(now: number): Uint8Array | undefined {
    this.#drain(now);
    return this.#datagrams.shift();
  }

  #drain(now: number): void {
    for (let isBusy = true; isBusy;) {
      isBusy = false;
      for (let output = this.endpoint.poll(); output !== undefined; output = this.endpoint.poll()) {
        isBusy = true;
        this.#take(output, now);
      }
      for (let out = this.#server.poll(); out !== undefined; out = this.#server.poll()) {
        isBusy = true;
        this.endpoint.respondMore(out.to, out.response, now);
      }
      for (let out = this.#transfer?.poll(); out !== undefined; out = this.#transfer?.poll()) {
        isBusy = true;
        if (out.type === "send") {
          this.sent++;
          this.#exchanges.add(this.endpoint.request(this.peer, out.message, now));
          continue;
        }
        for (const exchange of this.#exchanges) this.endpoint.cancel(exchange, now);
        if (out.type === "done") this.response = out.response;
        else if (out.type === "failed") this.error = out.error;
        else this.isUnknown = true;
      }
    }
  }

  #take(output: EndpointOutput, now: number): void {
    switch (output.type) {
      case "datagram":
        this.#datagrams.push(output.bytes);
        return;
      case "request": {
        const { incoming } = output;
        const whole = this.#server.receive(this.peer, incoming, incoming, now);
        if (whole === undefined) return;
        this.handled.push(whole);
        this.#server.send(this.peer, incoming, whole, this.handler(whole), now);
        return;
      }
      case "response":
        this.#transfer?.handleResponse(output.response, now);
        return;
      case "failed":
        this.#transfer?.handleFailure(output.error);
        return;
      case "notification":
      case "close":
      case "observation-ended":
        return;
    }
  }
}

const SERVER: QBlockServerOptions = {
  parameters,
  blockBytes: 1024,
  maxBodyBytes: 256 * 1024,
  maxTransfersPerPeer: 4,
  maxBufferedBytes: 1024 * 1024,
  randomFraction: () => 0,
};

const hash = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

function answer(code: number, payload: Uint8Array = NONE): ResponseMessage {
  return { code, options: Options.none, payload };
}

function post(payload: Uint8Array): RequestMessage {
  return { code: CODE.POST, options: Options.none.with(OPTION.UriPath, "x"), payload };
}

test("RFC 9177: bodies of 64 KiB in both directions of one request, over links that lose up to half: equal by hash, handled once", (t) => {
  const runs = process.env["DPE_LONG"] === "1" ? 1000 : 30;
  for (let seed = 1; seed <= runs; seed++) {
    const random = new SeededRandom(seed);
    const [up, down] = [random.bytes(BODY_BYTES - random.below(2000)), random.bytes(BODY_BYTES - random.below(2000))];
    const kind = seed % 3;
    const client = new Side(random);
    const server = new Side(random);
    server.handler = () => answer(CODE.Content, kind === 1 ? NONE : down);
    const link = new VirtualLink({
      seed,
      latencyMs: 1 + random.below(200),
      loss: random.next() / 2,
      reordering: random.next() / 2,
      duplication: random.next() / 4,
      mtu: 1500,
    });
    client.ask(kind === 0 ? getRequest() : post(up), 0);
    const isDone = (): boolean => client.response !== undefined || client.error !== undefined;
    const where = (): string => `seed ${seed}, ${client.error?.code}, ${JSON.stringify(link.counts)}`;
    t.true(link.run(client, server, isDone, 1e9), where());
    t.is(client.error, undefined, where());
    // A GET whose kept response expired may be answered anew; what is carried out is carried out once.
    if (kind === 0) t.true(server.handled.length >= 1, where());
    else t.is(server.handled.length, 1, where());
    if (kind !== 0) t.is(hash(server.handled[0]?.payload ?? NONE), hash(up), where());
    if (kind !== 1) t.is(hash(client.response?.payload ?? NONE), hash(down), where());
  }
});

test("RFC 9177 §4.1: a peer without Q-Block says so by 4.02, before anything is carried out", (t) => {
  const random = new SeededRandom(1);
  for (const request of [getRequest(), post(new Uint8Array(5000))]) {
    const client = new Side(random);
    const server = new Side(random, false);
    client.ask(request, 0);
    new VirtualLink({ seed: 1 }).run(client, server, () => client.isUnknown);
    t.true(client.isUnknown);
    t.is(client.sent, 1);
    t.deepEqual(server.handled, []);
  }
});

test("RFC 9177 §7.2: MAX_PAYLOADS messages go in a row; the next ones at once when they are acknowledged, else after NON_TIMEOUT", (t) => {
  const random = new SeededRandom(2);
  const client = new Side(random);
  client.ask(post(new Uint8Array(25 * 1024)), 0, true);
  const drain = (now: number): number => {
    let count = 0;
    while (client.pollDatagram(now) !== undefined) count++;
    return count;
  };
  t.is(drain(0), 10);
  client.handleTimeout(1999);
  t.is(drain(1999), 0);
  client.handleTimeout(3000);
  t.is(drain(3000), 10);
  const server = new Side(random);
  const fast = new Side(random);
  const link = new VirtualLink({ seed: 3, latencyMs: 10 });
  fast.ask(post(new Uint8Array(45 * 1024)), 0, true);
  t.true(link.run(fast, server, () => fast.response !== undefined));
  t.true(link.now < 150, `${link.now} ms for five rows over a path of 10 ms`);
  t.is(fast.sent, 45);
});

test("RFC 9177 §5: missing blocks are a CBOR sequence of numbers, and what is none ends it", (t) => {
  t.deepEqual(
    [...encodeMissing([0, 23, 24, 255, 256, 65_535, 65_536], 100)],
    [0, 23, 0x18, 24, 0x18, 255, 0x19, 1, 0, 0x19, 255, 255, 0x1a, 0, 1, 0, 0],
  );
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.array(fc.nat(0xf_ffff)), (numbers) => {
        t.deepEqual(decodeMissing(encodeMissing(numbers, 10_000)), numbers);
      }),
    ),
  );
  t.deepEqual(decodeMissing(Uint8Array.of(1, 0x61, 0x41, 2)), [1]);
  t.deepEqual(decodeMissing(Uint8Array.of(1, 0x19, 1)), [1]);
  t.true(encodeMissing([1, 300, 2], 3).length <= 3);
  fc.assert(fc.property(fc.uint8Array(), (bytes) => decodeMissing(bytes).every((number) => number >= 0)));
});

/** A server by itself; messages are numbered. */
function alone(options: Partial<QBlockServerOptions> = {}) {
  const server = new QBlockServer<object, number>({ ...SERVER, parameters: DEFAULT_Q_BLOCK_PARAMETERS, ...options });
  let count = 0;
  const send = (number: number, bytes: number, now = 0, tag = 1, hasMore = true, peer: object = PEER) => {
    const payload = new Uint8Array(bytes);
    const block = encodeBlock({ number, hasMore, sizeBytes: 1024 });
    const request = post(payload);
    const tagged = request.options.with(OPTION.RequestTag, tag).with(OPTION.QBlock1, block);
    return server.receive(peer, count++, { ...request, options: tagged, isConfirmable: false }, now);
  };
  const answers = (): [number, number[]][] => {
    const all: [number, number[]][] = [];
    for (let out = server.poll(); out !== undefined; out = server.poll())
      all.push([out.response.code, [...decodeMissing(out.response.payload)]]);
    return all;
  };
  return { server, send, answers };
}
const PEER = {};

test("RFC 9177 §4.3: what is missing is told when a later row begins, and when nothing comes for NON_RECEIVE_TIMEOUT", (t) => {
  const { server, send, answers } = alone();
  for (const number of [0, 1, 3, 4, 5, 6, 8, 9]) send(number, 1024);
  t.deepEqual(answers(), []);
  send(10, 1024, 100);
  t.deepEqual(answers(), [[CODE.RequestEntityIncomplete, [2, 7]]]);
  send(11, 1024, 200);
  t.deepEqual(answers(), [], "once for a row");
  t.is(server.nextTimeout(), 4200);
  server.handleTimeout(4200);
  t.deepEqual(answers(), [[CODE.RequestEntityIncomplete, [2, 7, 12, 13, 14, 15, 16, 17, 18, 19]]]);
  t.is(server.nextTimeout(), 12_200, "then twice as long");
  for (let now = server.nextTimeout(); now !== undefined; now = server.nextTimeout()) server.handleTimeout(now);
  t.deepEqual(answers().at(-1), [CODE.RequestEntityIncomplete, []], "NON_MAX_RETRANSMIT times, then it is given up");
  t.is(server.bufferedBytes, 0);
});

test("Q-Block bodies that are never finished take up what has come of them, within a bound, and are freed in time", (t) => {
  const { server, send, answers } = alone({ maxBufferedBytes: 20_000 });
  send(200, 1024);
  t.true(server.bufferedBytes < 2000, "a high number takes no more than its bytes");
  for (let index = 0; index < 300; index++) send(index % 50, 1024, index, index, true, { index: index % 20 });
  t.true(server.bufferedBytes <= 20_000);
  t.true(answers().some(([code]) => code === CODE.ServiceUnavailable));
  send(255, 1024, 400, 9);
  t.not(answers().at(-1)?.[0], CODE.RequestEntityTooLarge);
  send(256, 1024, 400, 9);
  t.is(answers().at(-1)?.[0], CODE.RequestEntityTooLarge);
  for (let now = server.nextTimeout(); now !== undefined; now = server.nextTimeout()) server.handleTimeout(now);
  t.is(server.bufferedBytes, 0);
});

test("Q-Block bodies of short blocks count what those take up: 250 bytes for each of 16, as a heap has it", (t) => {
  const { server } = alone({ maxBufferedBytes: 1_000_000 });
  const peers = Array.from({ length: 40 }, () => ({}));
  let refused: number | undefined;
  let held = 0;
  while (refused === undefined) {
    const number = 1 + (held % 2000);
    const options = post(NONE)
      .options.with(OPTION.RequestTag, 1 + Math.floor(held / 2000))
      .with(OPTION.QBlock1, encodeBlock({ number, hasMore: true, sizeBytes: 16 }));
    server.receive(
      peers[Math.floor(held / 2000)] ?? PEER,
      held,
      { code: CODE.POST, options, payload: new Uint8Array(16) },
      0,
    );
    for (let out = server.poll(); out !== undefined; out = server.poll())
      if (out.response.code === CODE.ServiceUnavailable) refused = held;
    held++;
  }
  t.true(held < 1_000_000 / 240, `${held} blocks`);
});

test("Q-Block messages that make no sense are refused: no tag, mixed with Block, wrong sizes, another end, options out of order", (t) => {
  const { server, send, answers } = alone();
  const receive = (options: Options): number | undefined => {
    server.receive(PEER, 0, { ...getRequest(options), isConfirmable: false }, 0);
    return answers().at(-1)?.[0];
  };
  const block = encodeBlock({ number: 0, hasMore: true, sizeBytes: 1024 });
  t.is(receive(Options.none.with(OPTION.QBlock1, block)), CODE.BadRequest);
  t.is(
    receive(Options.none.with(OPTION.QBlock1, block).withBlock1({ number: 0, hasMore: true, sizeBytes: 64 })),
    CODE.BadOption,
  );
  t.is(receive(Options.none.with(OPTION.QBlock2, 7)), CODE.BadOption, "size exponent 7");
  t.is(receive(Options.none.withAll(OPTION.QBlock2, [encodeUint(0x36), encodeUint(0x26)])), CODE.BadOption);
  send(0, 1000);
  t.is(answers().at(-1)?.[0], CODE.RequestEntityIncomplete);
  send(0, 1024, 0, 2);
  send(5, 100, 0, 2, false);
  answers();
  send(7, 1024, 0, 2);
  t.is(answers().at(-1)?.[0], CODE.RequestEntityIncomplete);
  t.is(server.bufferedBytes, 0);
});

test("RFC 9177 §4.1: who sent by Q-Block1 is answered by Q-Block2, whether it asked for that or not", (t) => {
  const { server, send } = alone();
  send(0, 1024);
  const whole = send(1, 10, 0, 1, false);
  t.is(whole?.payload.length, 1034);
  if (whole !== undefined) server.send(PEER, 1, whole, answer(CODE.Changed, new Uint8Array(3000)), 0);
  const sizes: number[] = [];
  for (let out = server.poll(); out !== undefined; out = server.poll())
    if (out.response.options.has(OPTION.QBlock2)) sizes.push(out.response.payload.length);
  t.deepEqual(sizes, [1024, 1024, 952]);
});

test("a response by Q-Block2 names its blocks, and those that are asked for again come from the same state", (t) => {
  const { server } = alone();
  const request = {
    ...getRequest(Options.none.with(OPTION.QBlock2, encodeBlock({ number: 0, hasMore: false, sizeBytes: 64 }))),
  };
  const whole = server.receive(PEER, 1, request, 0);
  t.truthy(whole);
  const body = Uint8Array.from({ length: 64 * 12 }, (_, index) => index);
  server.send(PEER, 1, request, answer(CODE.Content, body), 0);
  const polled = (): [number, number, number][] => {
    const all: [number, number, number][] = [];
    for (let out = server.poll(); out !== undefined; out = server.poll()) {
      const value = out.response.options.uint(OPTION.QBlock2) ?? 0;
      all.push([out.to, value >> 4, out.response.payload[0] ?? -1]);
    }
    return all;
  };
  t.deepEqual(
    polled().map(([, number]) => number),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  const ask = (to: number, ...values: number[]) =>
    server.receive(
      PEER,
      to,
      getRequest(
        Options.none.withAll(
          OPTION.QBlock2,
          values.map((value) => encodeUint(value)),
        ),
      ),
      10,
    );
  const asked = (number: number, hasMore = false): number => encodeBlock({ number, hasMore, sizeBytes: 64 });
  ask(2, asked(3), asked(5));
  t.deepEqual(polled(), [
    [2, 3, 192],
    [2, 5, 64],
  ]);
  ask(3, asked(10, true));
  t.deepEqual(
    polled().map(([to, number]) => [to, number]),
    [
      [3, 10],
      [3, 11],
    ],
  );
});

test("over real sockets: bodies by Q-Block where both sides have it and the path loses a fifth, by Block where the server has none", async (t) => {
  const quick = { nonTimeoutMs: 40, nonReceiveTimeoutMs: 80, nonMaxRetransmit: 12 };
  const bodies: string[] = [];
  const app = router()
    .put("/store", (incoming) => void bodies.push(hash(incoming.payload)))
    .post("/mirror", (incoming) => incoming.payload)
    .get("/large", () => "x".repeat(20_000))
    .get("/streamed", () => Readable.from([Buffer.alloc(5000, 1), Buffer.alloc(5000, 2)]));
  const body = new SeededRandom(9).bytes(50_000);
  for (const hasQBlock of [true, false]) {
    const server = await serve(app, { host: "127.0.0.1", port: 0, ...(hasQBlock ? { qBlock: quick } : {}) });
    t.teardown(() => server.close());
    const relay = await UdpRelay.start(server.address?.port ?? 0, {
      seed: 5,
      loss: hasQBlock ? 0.2 : 0,
      reordering: 0,
      holdUpMs: 0,
    });
    t.teardown(() => relay.close());
    const client = new CoapClient({ qBlock: quick, parameters: { ackTimeoutMs: 100, maxRetransmit: 8 } });
    t.teardown(() => client.close());
    const origin = `coap://127.0.0.1:${relay.port}`;
    t.is((await client.request(`${origin}/store`, { method: "PUT", payload: body, robust: true })).status, "2.04");
    const mirrored = await client.request(`${origin}/mirror`, { method: "POST", payload: body, robust: true });
    t.is(hash(mirrored.payload), hash(body));
    t.is((await client.request(`${origin}/large`, { robust: true })).text(), "x".repeat(20_000));
    t.is((await client.request(`${origin}/streamed`, { robust: true })).payload.length, 10_000);
    t.is((await client.request(`${origin}/absent`, { robust: true })).status, "4.04");
    t.is(relay.counts.lost > 0, hasQBlock);
  }
  t.deepEqual(bodies, [hash(body), hash(body)], "each request is carried out once");
});

test("Q-Block is refused where nobody asked for it, and on plain UDP demands that the address has shown that it receives", async (t) => {
  for (const [qBlock, expected] of [
    [undefined, CODE.BadOption],
    [{}, CODE.Unauthorized],
  ] as const) {
    const server = await serve(() => "x".repeat(5000), {
      host: "127.0.0.1",
      port: 0,
      ...(qBlock === undefined ? {} : { qBlock }),
    });
    t.teardown(() => server.close());
    const client = new CoapClient();
    t.teardown(() => client.close());
    const response = await client.request(`coap://127.0.0.1:${server.address?.port}/`, {
      options: [
        [OPTION.QBlock2, encodeBlock({ number: 0, hasMore: false, sizeBytes: 1024 })],
        [OPTION.Echo, Uint8Array.of(1)],
      ],
    });
    t.is(response.code, expected);
    t.is(response.payload.length > 100, false);
  }
});
