import {
  CODE,
  decodeMessage,
  encodeMessage,
  getRequest,
  type Message,
  MESSAGE_TYPE,
  OPTION,
  Options,
  type ResponseMessage,
} from "#coap/index.js";
import { CoapEndpoint, type CoapEndpointOptions, type SocketAddress, UdpSocket } from "#net/index.js";
import test, { type ExecutionContext } from "ava";

const LOOPBACK = { host: "127.0.0.1", port: 0 };
const BODY = new Uint8Array(500).fill(0x61);

async function serve(t: ExecutionContext, options: CoapEndpointOptions = {}) {
  const handled: number[] = [];
  const server = new CoapEndpoint({
    onRequest: (request) => {
      handled.push(request.code);
      const code = request.code === CODE.GET ? CODE.Content : CODE.Changed;
      return { code, options: Options.none, payload: BODY };
    },
    ...options,
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(socket);
  t.teardown(() => server.close());
  return { address: socket.address, handled };
}

/** A peer without CoAP of its own: one datagram there, one back. */
async function bare(t: ExecutionContext) {
  const socket = await UdpSocket.bind(LOOPBACK);
  t.teardown(() => socket.close());
  let messageId = 1;
  const next = (): Promise<Message> =>
    new Promise((resolve) => (socket.onDatagram = (bytes) => resolve(decodeMessage(bytes))));
  const send = async (
    to: SocketAddress,
    code: number,
    options: Options,
    payload: Uint8Array = new Uint8Array(0),
  ): Promise<Message> => {
    const answer = next();
    const type = MESSAGE_TYPE.Confirmable;
    socket.send(encodeMessage({ type, code, messageId: messageId++, token: Uint8Array.of(1), options, payload }), to);
    return answer;
  };
  return Object.assign(send, { next });
}

test("RFC 9175 §2.4: an address that has shown nothing is sent no more than three times what it sent", async (t) => {
  const { address } = await serve(t);
  const send = await bare(t);
  const refused = await send(address, CODE.GET, Options.none);
  t.is(refused.code, CODE.Unauthorized);
  t.is(refused.payload.length, 0);
  const echo = refused.options.get(OPTION.Echo) ?? new Uint8Array(0);
  t.is(echo.length, 16);

  const other = await bare(t);
  t.is(
    (await other(address, CODE.GET, Options.none.with(OPTION.Echo, echo))).code,
    CODE.Unauthorized,
    "of another address",
  );
  const changed = echo.with(15, (echo[15] ?? 0) ^ 1);
  t.is((await send(address, CODE.GET, Options.none.with(OPTION.Echo, changed))).code, CODE.Unauthorized, "not ours");

  t.is((await send(address, CODE.GET, Options.none.with(OPTION.Echo, echo))).payload.length, 500);
  t.is((await send(address, CODE.GET, Options.none)).payload.length, 500, "shown once, it holds");
});

test("RFC 9175 §2.4: what has been carried out is not asked for again: its answer comes in small blocks", async (t) => {
  const { address, handled } = await serve(t);
  const send = await bare(t);
  const first = await send(address, CODE.POST, Options.none);
  t.is(first.code, CODE.Changed);
  t.deepEqual(first.options.block2, { number: 0, hasMore: true, sizeBytes: 64 });
  t.deepEqual(handled, [CODE.POST]);
});

test("RFC 9175 §2.4: a notification to an address that has shown nothing is a small block, and all of it to others", async (t) => {
  let notify = (_state: ResponseMessage): void => undefined;
  const small = { code: CODE.Content, options: Options.none, payload: BODY.subarray(0, 20) };
  const { address } = await serve(t, {
    onRequest: (request) => ({
      ...(request.options.observe === 0 ? small : { ...small, payload: BODY }),
      observe: (tell) => {
        notify = tell;
        return () => undefined;
      },
    }),
  });
  const send = await bare(t);
  const observe = Options.none.with(OPTION.Observe, 0);
  t.is((await send(address, CODE.GET, observe)).payload.length, 20);
  const notified = send.next();
  notify({ ...small, payload: BODY });
  const { type, options, payload } = await notified;
  t.deepEqual([type, payload.length], [MESSAGE_TYPE.Confirmable, 64]);
  t.deepEqual(options.block2, { number: 0, hasMore: true, sizeBytes: 64 });

  const client = new CoapEndpoint();
  t.teardown(() => client.close());
  const connection = client.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(address);
  const observation = await connection.observe(getRequest());
  const states = observation[Symbol.asyncIterator]();
  for (let round = 0; round < 2; round++) {
    notify({ ...small, payload: BODY });
    t.deepEqual(Uint8Array.from((await states.next()).value?.payload ?? []), BODY, "who asks for the rest gets it");
  }
  observation.cancel();
});

test("our client echoes by itself, and runs into nothing; without a limit nobody is asked", async (t) => {
  const guarded = await serve(t);
  const free = await serve(t, { maxAmplification: Infinity });
  const client = new CoapEndpoint();
  t.teardown(() => client.close());
  const transport = client.addSocket(await UdpSocket.bind(LOOPBACK));
  t.deepEqual(Uint8Array.from((await transport.connectTo(guarded.address).request(getRequest())).payload), BODY);
  t.deepEqual(guarded.handled, [CODE.GET, CODE.GET]);
  const post = { code: CODE.POST, options: Options.none, payload: BODY };
  t.deepEqual(Uint8Array.from((await transport.connectTo(guarded.address).request(post)).payload), BODY);
  t.is(guarded.handled.length, 3);
  const send = await bare(t);
  t.is((await send(free.address, CODE.GET, Options.none)).payload.length, 500);
});

test("RFC 9175 §2.4: what demands an Echo is never sent twice, also where the answer took its time", async (t) => {
  const { address } = await serve(t, {
    onRequest: () =>
      new Promise((resolve) =>
        setTimeout(() => resolve({ code: CODE.Content, options: Options.none, payload: BODY }), 700),
      ),
  });
  const socket = await UdpSocket.bind(LOOPBACK);
  t.teardown(() => socket.close());
  const received: Message[] = [];
  const demanded = new Promise<void>((resolve) => {
    socket.onDatagram = (bytes) => {
      received.push(decodeMessage(bytes));
      if (received.length === 2) resolve();
    };
  });
  const request = { type: MESSAGE_TYPE.Confirmable, code: CODE.GET, messageId: 1, token: Uint8Array.of(1) };
  socket.send(encodeMessage({ ...request, options: Options.none, payload: new Uint8Array(0) }), address);
  await demanded;
  t.deepEqual(
    received.map(({ type, code }) => [type, code]),
    [
      [MESSAGE_TYPE.Acknowledgement, CODE.Empty],
      [MESSAGE_TYPE.NonConfirmable, CODE.Unauthorized],
    ],
  );
});

test("RFC 9175 §2.4: an answer that took its time is sent again within the same allowance to an address that has shown nothing", async (t) => {
  const { address } = await serve(t, {
    parameters: { ackTimeoutMs: 20, separateResponseDelayMs: 10 },
    onRequest: ({ options }) => {
      const content = { code: CODE.Content, options: Options.none, observe: () => () => undefined };
      if (options.uriPath.length > 0) return { ...content, payload: BODY };
      const slow = { ...content, payload: BODY.subarray(0, options.contentFormat ?? 110) };
      return new Promise((resolve) => setTimeout(() => resolve(slow), 50));
    },
  });
  const long = Options.none.withAll(OPTION.UriPath, ["long"]);
  const socket = await UdpSocket.bind(LOOPBACK);
  t.teardown(() => socket.close());
  let received: Message[] = [];
  socket.onDatagram = (bytes) => received.push(decodeMessage(bytes));
  const ask = async (messageId: number, options: Options): Promise<string[]> => {
    received = [];
    const request = { type: MESSAGE_TYPE.Confirmable, code: CODE.GET, messageId, token: Uint8Array.of(messageId) };
    socket.send(encodeMessage({ ...request, options, payload: new Uint8Array(0) }), address);
    await new Promise((resolve) => setTimeout(resolve, 800));
    return received.map(({ type, code }) => `${type} ${code}`);
  };
  const acknowledged = `${MESSAGE_TYPE.Acknowledgement} ${CODE.Empty}`;
  const confirmable = `${MESSAGE_TYPE.Confirmable} ${CODE.Content}`;
  const times = (count: number): string[] => [acknowledged, ...Array.from({ length: count }, () => confirmable)];
  t.deepEqual(await ask(1, Options.none), times(1));
  t.deepEqual(await ask(2, Options.none.with(OPTION.Observe, 0)), times(1));
  t.deepEqual(await ask(6, Options.none.with(OPTION.ContentFormat, 40)), times(2), "136 bytes in all");
  t.deepEqual(await ask(7, Options.none.with(OPTION.ContentFormat, 10)), times(5), "as often as anybody");
  await ask(3, long);
  const echo = received[0]?.options.get(OPTION.Echo) ?? new Uint8Array(0);
  t.deepEqual(await ask(4, long.with(OPTION.Echo, echo)), [`${MESSAGE_TYPE.Acknowledgement} ${CODE.Content}`]);
  t.deepEqual(await ask(5, Options.none), times(5));
});

test("bodies that addresses begin which have shown nothing make way for those of who has", async (t) => {
  const { address } = await serve(t, { blockwise: { maxBufferedBytes: 20_000 } });
  const block = { number: 0, hasMore: true, sizeBytes: 1024 };
  for (let code = 0; code !== CODE.ServiceUnavailable;) {
    const stranger = await bare(t);
    ({ code } = await stranger(address, CODE.POST, Options.none.withBlock1(block), new Uint8Array(1024)));
  }
  const client = new CoapEndpoint();
  t.teardown(() => client.close());
  const connection = client.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(address);
  const upload = { code: CODE.POST, options: Options.none, payload: new Uint8Array(5000) };
  t.is((await connection.request(upload)).code, CODE.ServiceUnavailable);
  t.is((await connection.request(getRequest())).payload.length, BODY.length, "which takes an Echo");
  t.is((await connection.request(upload)).code, CODE.Changed);
});

/** A server by hand: each request that it gets, answered by what `answer` makes of it. */
async function byHand(
  t: ExecutionContext,
  answer: (request: Message, count: number) => Pick<Message, "code" | "options">,
) {
  const socket = await UdpSocket.bind(LOOPBACK);
  t.teardown(() => socket.close());
  const requests: Message[] = [];
  socket.onDatagram = (bytes, from) => {
    const request = decodeMessage(bytes);
    requests.push(request);
    const { messageId, token } = request;
    const reply = { type: MESSAGE_TYPE.Acknowledgement, messageId, token, payload: new Uint8Array(0) };
    socket.send(encodeMessage({ ...reply, ...answer(request, requests.length) }), from);
  };
  const client = new CoapEndpoint();
  t.teardown(() => client.close());
  const connection = client.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(socket.address);
  return { requests, connection };
}

test("RFC 9175 §2.3, §4: our client echoes once, with another token, and gives up where that does not do", async (t) => {
  const { requests, connection } = await byHand(t, (_, count) => ({
    code: CODE.Unauthorized,
    options: Options.none.with(OPTION.Echo, Uint8Array.of(count)),
  }));
  t.is((await connection.request(getRequest())).code, CODE.Unauthorized);
  t.deepEqual(
    requests.map(({ options }) => [...(options.get(OPTION.Echo) ?? [])]),
    [[], [1]],
  );
  const [first, second] = requests.map(({ token }) => Buffer.from(token).toString("hex"));
  t.is(first?.length, 16);
  t.not(first, second);
});

test("RFC 8516 §4: who answers Too Many Requests is left alone until Max-Age has passed, for such requests", async (t) => {
  const { requests, connection } = await byHand(t, (request) =>
    request.options.uriPath[0] === "busy"
      ? { code: CODE.TooManyRequests, options: Options.none.with(OPTION.MaxAge, 1) }
      : { code: CODE.Content, options: Options.none },
  );
  const get = (path: string) => getRequest(Options.none.with(OPTION.UriPath, path));
  t.is((await connection.request(get("busy"))).code, CODE.TooManyRequests);
  const again = await connection.request(get("busy"));
  t.is(again.code, CODE.TooManyRequests);
  t.is(again.options.maxAge, 1, "what is left of it");
  t.is(requests.length, 1, "it was not sent");
  t.is((await connection.request(get("free"))).code, CODE.Content, "another resource");
  t.is((await connection.request({ ...get("busy"), code: CODE.POST })).code, CODE.TooManyRequests);
  t.is(requests.length, 3, "another method");
  await connection.request(get("busy"), { insists: true });
  t.is(requests.length, 4, "who insists does ask");
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await connection.request(get("busy"));
  t.is(requests.length, 5);
});
