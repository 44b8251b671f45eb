import {
  CODE,
  decodeMessage,
  encodeMessage,
  type Message,
  MESSAGE_TYPE,
  OPTION,
  type Option,
  Options,
} from "#coap/index.js";
import { CoapEndpoint, type SocketAddress, UdpSocket } from "#net/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const LOOPBACK = { host: "127.0.0.1", port: 0 };
const NONE = new Uint8Array(0);
const LIMITS = {
  maxRecentMessages: 2000,
  maxRecentMessagesPerPeer: 64,
  maxObservations: 100,
  maxObservationsPerPeer: 16,
};
const MAX_BODY_BYTES = 64 * 1024;
const MAX_PEERS = 40;

/** A server with small bounds, an honest client, and sockets that send whatever they are told. */
async function siege(t: ExecutionContext) {
  const handled: string[] = [];
  const server = new CoapEndpoint({
    limits: LIMITS,
    maxPlainPeers: MAX_PEERS,
    blockwise: { maxBufferedBytes: MAX_BODY_BYTES, maxTransfersPerPeer: 4 },
    onRequest: (request) => {
      handled.push(request.options.uriPath.join("/"));
      return {
        code: CODE.Content,
        options: Options.none,
        payload: request.payload.subarray(0, 8),
        observe: () => () => undefined,
      };
    },
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(socket);
  const endpoint = new CoapEndpoint();
  const honest = endpoint.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(socket.address);
  const sockets = await Promise.all(Array.from({ length: 60 }, () => UdpSocket.bind(LOOPBACK)));
  t.teardown(async () => {
    await Promise.all([...sockets.map((one) => one.close()), endpoint.close(), server.close()]);
  });
  let asked = 0;
  /** Bounds hold, and the honest client is served: a request of its own, once. */
  const check = async (what: string): Promise<void> => {
    const payload = new TextEncoder().encode(`${what}`.slice(0, 8));
    const path = `honest-${asked++}`;
    const response = await honest.request({
      code: CODE.PUT,
      options: Options.none.with(OPTION.UriPath, path),
      payload,
    });
    t.deepEqual(Buffer.from(response.payload), Buffer.from(payload), what);
    t.is(handled.filter((one) => one === path).length, 1, what);
    const { connections, recentMessages, observations, bodyBytes } = server.usage;
    t.true(connections <= MAX_PEERS, `${what}: ${connections} connections`);
    t.true(recentMessages <= LIMITS.maxRecentMessages, `${what}: ${recentMessages} messages remembered`);
    t.true(observations <= LIMITS.maxObservations, `${what}: ${observations} observations`);
    t.true(bodyBytes <= MAX_BODY_BYTES, `${what}: ${bodyBytes} bytes of bodies`);
  };
  return { server, sockets, address: socket.address, check };
}

function datagram(message: Partial<Message>): Uint8Array {
  return encodeMessage({
    type: MESSAGE_TYPE.Confirmable,
    code: CODE.GET,
    messageId: 0,
    token: NONE,
    options: Options.none,
    payload: NONE,
    ...message,
  });
}

/** Sends in handfuls, so that the server's socket takes them. */
async function flood(
  sockets: readonly UdpSocket[],
  to: SocketAddress,
  count: number,
  make: (index: number) => Uint8Array,
): Promise<void> {
  for (let index = 0; index < count; index++) {
    sockets[index % sockets.length]?.send(make(index), to);
    if (index % 50 === 49) await new Promise((resolve) => setImmediate(resolve));
  }
}

test("block transfers that are never finished fill no more than their bound, while others are served", async (t) => {
  const { sockets, address, check } = await siege(t);
  const block = { number: 0, hasMore: true, sizeBytes: 1024 };
  for (let round = 0; round < 4; round++) {
    await flood(sockets, address, 500, (index) =>
      datagram({
        code: CODE.POST,
        messageId: (round * 500 + index) & 0xffff,
        options: Options.none.with(OPTION.UriPath, `${round}-${index}`).withBlock1(block),
        payload: new Uint8Array(1024),
      }),
    );
    await check(`blocks ${round}`);
  }
});

test("observers by the ten thousand: a bounded number is kept, the rest is answered once, others are served", async (t) => {
  const { server, sockets, address, check } = await siege(t);
  for (let round = 0; round < 5; round++) {
    await flood(sockets.slice(0, 20), address, 2000, (index) =>
      datagram({
        messageId: (round * 2000 + index) & 0xffff,
        token: Uint8Array.of(round, index >> 8, index & 0xff),
        options: Options.none.with(OPTION.Observe, 0).with(OPTION.UriPath, "x"),
      }),
    );
    await check(`observers ${round}`);
  }
  t.true(server.usage.observations > 0);
});

test("messageIds, tokens of every length, option bombs and noise: counted, bounded, and nobody else suffers", async (t) => {
  const { server, sockets, address, check } = await siege(t);
  await flood(sockets.slice(0, 1), address, 3000, (index) =>
    datagram({ messageId: index & 0xffff, type: MESSAGE_TYPE.NonConfirmable }),
  );
  await check("messageIds of one peer");
  await flood(sockets, address, 500, (index) => {
    const bytes = datagram({ messageId: index });
    bytes[0] = 0x40 | (index & 15);
    return Buffer.concat([bytes, new Uint8Array(index % 17)]);
  });
  await check("tokens");
  const bomb = (number: number, length: number, count: number): Uint8Array => {
    const options: Option[] = Array.from({ length: count }, () => ({ number, value: new Uint8Array(length) }));
    return datagram({ messageId: number & 0xffff, options: Options.of(options) });
  };
  const bombs = [
    bomb(OPTION.UriPath, 0, 1400),
    bomb(OPTION.UriQuery, 255, 5),
    bomb(OPTION.IfMatch, 8, 150),
    bomb(65_000, 1, 700),
    bomb(OPTION.RequestTag, 8, 150),
    bomb(OPTION.ETag, 8, 150),
    bomb(OPTION.Block1, 3, 300),
    bomb(9, 1000, 1),
  ];
  await flood(sockets, address, 800, (index) => bombs[index % bombs.length] ?? NONE);
  await check("options");
  const random = new SeededRandom(7);
  await flood(sockets, address, 2000, () => random.bytes(random.below(60)));
  await check("noise");
  t.true(server.counters.malformed > 0);
  t.true(server.counters.rejected > 0);
});

test("a connection that is held open is kept, whatever the flood of addresses; a false one makes way", async (t) => {
  const { server, sockets, address, check } = await siege(t);
  const held = sockets.slice(0, MAX_PEERS - 5);
  await flood(held, address, held.length, (index) =>
    datagram({ messageId: index, token: Uint8Array.of(1), options: Options.none.with(OPTION.Observe, 0) }),
  );
  await check("observers settle");
  const before = server.usage.observations;
  t.true(before > 0);
  await flood(sockets.slice(MAX_PEERS), address, 500, (index) =>
    datagram({ messageId: index, type: MESSAGE_TYPE.NonConfirmable }),
  );
  await check("a flood of others");
  t.is(server.usage.observations, before);
});

test("observers that have shown nothing do not keep others out, and who has shown itself observes among them", async (t) => {
  let stopped = 0;
  const server = new CoapEndpoint({
    maxPlainPeers: 10,
    onRequest: ({ options }) => ({
      code: CODE.Content,
      options: Options.none,
      payload: new Uint8Array(options.uriPath.length > 0 ? 500 : 1),
      observe: () => () => stopped++,
    }),
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(socket);
  const client = new CoapEndpoint();
  t.teardown(() => Promise.all([client.close(), server.close()]));
  for (let index = 0; index < 30; index++) {
    const own = await UdpSocket.bind(LOOPBACK);
    t.teardown(() => own.close());
    const answer = new Promise<Uint8Array>((resolve) => (own.onDatagram = resolve));
    own.send(datagram({ options: Options.none.with(OPTION.Observe, 0) }), socket.address);
    t.is(decodeMessage(await answer).options.has(OPTION.Observe), index < 5, `address ${index}`);
  }
  t.is(server.usage.observations, 5);
  t.is(stopped, 25);
  const proven = client.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(socket.address);
  const request = { code: CODE.GET, options: Options.none.with(OPTION.UriPath, "long"), payload: NONE };
  const observation = await proven.observe(request);
  t.is(observation.first.payload.length, 500, "which takes an Echo");
  t.is(server.usage.observations, 6);
});

test("of all observations half are kept for peers that have shown that they receive", async (t) => {
  const server = new CoapEndpoint({
    limits: { maxObservations: 8, maxObservationsPerPeer: 6 },
    onRequest: ({ options }) => ({
      code: CODE.Content,
      options: Options.none,
      payload: new Uint8Array(options.uriPath.length > 0 ? 500 : 1),
      observe: () => () => undefined,
    }),
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(socket);
  const client = new CoapEndpoint();
  t.teardown(() => Promise.all([client.close(), server.close()]));
  const own = await UdpSocket.bind(LOOPBACK);
  t.teardown(() => own.close());
  let messageId = 0;
  const observed = async (token: number, observe: number): Promise<boolean> => {
    const answer = new Promise<Uint8Array>((resolve) => (own.onDatagram = resolve));
    const options = Options.none.with(OPTION.Observe, observe);
    own.send(datagram({ options, token: Uint8Array.of(token), messageId: messageId++ }), socket.address);
    return decodeMessage(await answer).options.has(OPTION.Observe);
  };
  const granted: boolean[] = [];
  for (let token = 0; token < 6; token++) granted.push(await observed(token, 0));
  t.deepEqual(granted, [true, true, true, true, false, false]);
  t.is(server.usage.observations, 4);
  t.true(await observed(1, 0), "it is there already");
  t.is(server.usage.observations, 4);
  t.false(await observed(0, 1), "one is given up");
  t.true(await observed(6, 0), "for another one");
  const proven = client.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(socket.address);
  const request = { code: CODE.GET, options: Options.none.with(OPTION.UriPath, "long"), payload: NONE };
  for (let index = 0; index < 4; index++) t.truthy((await proven.observe(request)).first.options.observe);
  t.is(server.usage.observations, 8);
});

test("requests that a handler is slow to answer are bounded: of one peer by 4.29, in all by 5.03, each with when to come again", async (t) => {
  const waiting: (() => void)[] = [];
  const server = new CoapEndpoint({
    maxUnansweredPerPeer: 5,
    maxUnanswered: 12,
    onRequest: () =>
      new Promise((resolve) =>
        waiting.push(() => resolve({ code: CODE.Content, options: Options.none, payload: NONE })),
      ),
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(socket);
  t.teardown(() => server.close());
  const ask = async (count: number) => {
    const own = await UdpSocket.bind(LOOPBACK);
    t.teardown(() => own.close());
    const answers: Message[] = [];
    own.onDatagram = (bytes) => answers.push(decodeMessage(bytes));
    for (let index = 0; index < count; index++)
      own.send(datagram({ type: MESSAGE_TYPE.NonConfirmable, messageId: index }), socket.address);
    return answers;
  };
  const refusals: Message[] = [];
  for (const [peers, waits, refused] of [
    [1, 5, 3],
    [2, 10, 6],
  ] as const) {
    const answers = await ask(8);
    await until(() => answers.length === 3);
    t.is(waiting.length, waits, `${peers} peers`);
    refusals.push(...answers);
    t.is(refusals.length, refused);
  }
  t.true(refusals.every(({ code, options }) => code === CODE.TooManyRequests && options.maxAge === 5));
  const third = await ask(8);
  await until(() => third.length === 6);
  t.is(waiting.length, 12);
  t.is(server.usage.unanswered, 12);
  t.true(third.every(({ code, options }) => code === CODE.ServiceUnavailable && options.maxAge === 5));
  for (const resolve of waiting.splice(0)) resolve();
  await until(() => third.length === 8);
  t.is(server.usage.unanswered, 0);
  const after = await ask(1);
  await until(() => waiting.length === 1);
  waiting[0]?.();
  await until(() => after.length === 1);
  t.is(after[0]?.code, CODE.Content);
});

test("a handler whose answer cannot be sent is a fault like one that throws, at once and later", async (t) => {
  const faults: unknown[] = [];
  const bad = { code: CODE.GET, options: Options.none, payload: NONE };
  const server = new CoapEndpoint({
    onRequest: ({ code }) => (code === CODE.GET ? bad : Promise.resolve(bad)),
    onFault: (error) => faults.push(error),
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(socket);
  const endpoint = new CoapEndpoint();
  t.teardown(async () => {
    await endpoint.close();
    await server.close();
  });
  const client = endpoint.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(socket.address);
  for (const code of [CODE.GET, CODE.POST])
    t.is((await client.request({ code, options: Options.none, payload: NONE })).code, CODE.InternalServerError);
  t.is(faults.length, 2);
  t.is(server.usage.unanswered, 0);
});

test("what an application throws when it is told of a fault goes on to it, and the endpoint goes on", async (t) => {
  const server = new CoapEndpoint({
    onRequest: ({ options }) => {
      if (options.uriPath.length > 0) throw new Error("cannot answer");
      return { code: CODE.Content, options: Options.none, payload: NONE };
    },
    onFault: () => {
      throw new Error("cannot be told");
    },
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(socket);
  const deliver = socket.onDatagram;
  const thrown: string[] = [];
  socket.onDatagram = (datagram, from) => {
    try {
      deliver?.(datagram, from);
    } catch (error) {
      thrown.push(String(error));
    }
  };
  const client = new CoapEndpoint();
  const connection = client.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(socket.address);
  t.teardown(() => Promise.all([client.close(), server.close()]).then(() => undefined));
  const get = { code: CODE.GET, options: Options.none, payload: NONE };
  const faulty = { ...get, options: get.options.with(OPTION.UriPath, "faulty"), isConfirmable: false };
  void connection.request(faulty, { signal: AbortSignal.timeout(100) }).catch(() => undefined);
  await until(() => thrown.length > 0);
  t.deepEqual(thrown, ["Error: cannot be told"]);
  t.is((await connection.request(get, { signal: AbortSignal.timeout(10_000) })).code, CODE.Content);
});
