import {
  CODE,
  decodeMessage,
  encodeMessage,
  getRequest,
  type Message,
  MESSAGE_TYPE,
  OPTION,
  Options,
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
  return async (to: SocketAddress, code: number, options: Options): Promise<Message> => {
    const answer = new Promise<Message>((resolve) => (socket.onDatagram = (bytes) => resolve(decodeMessage(bytes))));
    const type = MESSAGE_TYPE.Confirmable;
    const payload = new Uint8Array(0);
    socket.send(encodeMessage({ type, code, messageId: messageId++, token: Uint8Array.of(1), options, payload }), to);
    return answer;
  };
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
