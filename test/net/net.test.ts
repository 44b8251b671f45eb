import {
  CODE,
  CoapError,
  emptyResponse,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { CIPHER_SUITES, DtlsError, type ServerOptions } from "#dtls/index.js";
import {
  type CoapConnection,
  CoapEndpoint,
  type CoapEndpointOptions,
  connect,
  type DtlsEndpoint,
  listen,
  NetError,
  UdpSocket,
} from "#net/index.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);
const path = (...segments: string[]): Options => Options.none.withAll(OPTION.UriPath, segments);
const get = (...segments: string[]): RequestMessage => ({
  code: CODE.GET,
  options: path(...segments),
  payload: bytes(""),
});
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const KEY = bytes("0123456789abcdef");
const PSK_SERVER: ServerOptions = { pskEnabled: true };
const pskOf = (identity: Uint8Array): Uint8Array | undefined => (text(identity) === "alice" ? KEY : undefined);

async function pskPair(
  t: ExecutionContext,
  serverOptions: CoapEndpointOptions,
  clientOptions: CoapEndpointOptions = {},
): Promise<{ readonly client: CoapConnection; readonly server: CoapEndpoint; readonly endpoint: DtlsEndpoint }> {
  const server = new CoapEndpoint(serverOptions);
  const endpoint = await listen((session) => server.addSession(session), { ...LOOPBACK, server: PSK_SERVER, pskOf });
  const session = await connect(
    { host: "127.0.0.1", port: endpoint.address.port },
    { psk: { identity: bytes("alice"), key: KEY } },
  );
  await session.opened;
  const clientEndpoint = new CoapEndpoint(clientOptions);
  const client = clientEndpoint.addSession(session);
  t.teardown(async () => {
    await client.close();
    await clientEndpoint.close();
    await server.close();
    await endpoint.close();
  });
  return { client, server, endpoint };
}

const failureOf = async (promise: Promise<unknown>): Promise<string> => {
  try {
    await promise;
    return "no failure";
  } catch (error) {
    return error instanceof CoapError || error instanceof DtlsError || error instanceof NetError
      ? error.code
      : String(error);
  }
};

test("each PSK suite carries data both ways between sockets, over IPv4 and IPv6", async (t) => {
  for (const host of ["127.0.0.1", "::1"]) {
    const endpoint = await listen((session) => (session.onmessage = (data) => session.send(data)), {
      host,
      server: PSK_SERVER,
      pskOf,
    });
    for (const suite of Object.keys(CIPHER_SUITES) as (keyof typeof CIPHER_SUITES)[]) {
      if (!suite.includes("PSK")) continue;
      const session = await connect(
        { host, port: endpoint.address.port },
        { psk: { identity: bytes("alice"), key: KEY }, cipherSuites: [suite] },
      );
      t.is((await session.opened).suite, suite);
      const echoed = new Promise<Uint8Array>((resolve) => (session.onmessage = resolve));
      session.send(bytes(suite));
      t.is(text(await echoed), suite);
      await session.close();
      t.is(await session.closed, undefined);
    }
    await endpoint.close();
    t.is(endpoint.sessionCount + endpoint.handshakeCount, 0);
  }
});

test("records of one turn share a datagram up to the path MTU, in order and before a close, unless they are not to", async (t) => {
  const received: string[] = [];
  const endpoint = await listen((session) => (session.onmessage = (data) => received.push(text(data).slice(0, 1))), {
    ...LOOPBACK,
    server: PSK_SERVER,
    pskOf,
  });
  const relay = await UdpSocket.bind(LOOPBACK);
  let client = relay.address;
  let datagrams = 0;
  relay.onDatagram = (datagram, from) => {
    const isOurs = from.port === endpoint.address.port;
    if (!isOurs) {
      client = { ...from };
      datagrams++;
    }
    relay.send(datagram, isOurs ? client : endpoint.address);
  };
  for (const { joinsRecords, sizes, expected } of [
    { joinsRecords: true, sizes: [5, 5, 5, 5], expected: 1 },
    { joinsRecords: false, sizes: [5, 5, 5, 5], expected: 4 },
    { joinsRecords: true, sizes: [500, 500, 500, 5], expected: 2 },
  ]) {
    received.length = 0;
    const session = await connect(
      { host: "127.0.0.1", port: relay.address.port },
      { psk: { identity: bytes("alice"), key: KEY }, mtuBytes: 1280, joinsRecords },
    );
    await session.opened;
    datagrams = 0;
    for (const [index, size] of sizes.entries()) session.send(bytes(String(index).repeat(size)));
    await session.close();
    await until(() => endpoint.sessionCount === 0);
    // The close_notify comes in one of its own.
    t.deepEqual([received.join(""), datagrams], ["0123", expected + 1]);
  }
  await relay.close();
  await endpoint.close();
});

test("a wrong key and an unknown identity fail alike, at once and on both sides", async (t) => {
  const failures: (string | undefined)[] = [];
  const endpoint = await listen(() => t.fail("no session is to open"), {
    ...LOOPBACK,
    server: PSK_SERVER,
    pskOf,
    onHandshakeFailed: (_remote, error) => failures.push(error?.code),
  });
  const codes: (string | undefined)[] = [];
  for (const psk of [
    { identity: bytes("alice"), key: bytes("another key") },
    { identity: bytes("nobody"), key: KEY },
  ]) {
    const session = await connect({ host: "127.0.0.1", port: endpoint.address.port }, { psk });
    await failureOf(session.opened);
    const error = await session.closed;
    codes.push(error?.receivedAlert);
  }
  t.deepEqual(codes, ["decrypt_error", "decrypt_error"]);
  t.is(failures.length, 2);
  t.true(failures.every((code) => code !== undefined));
  await endpoint.close();
});

test("without a verifier a server's certificate is refused: nothing is trusted by default", async (t) => {
  const { generateKeyPairSync } = await import("node:crypto");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const endpoint = await listen(() => undefined, {
    ...LOOPBACK,
    server: { certificate: { chain: [SELF_SIGNED], privateKey } },
  });
  const session = await connect({ host: "127.0.0.1", port: endpoint.address.port }, {});
  t.not(await failureOf(session.opened), "no failure");
  await endpoint.close();
});

test("requests over DTLS are answered, in blocks where bodies are long, by either side of the association", async (t) => {
  const long = bytes("0123456789".repeat(500));
  const server = new CoapEndpoint();
  const seen: string[] = [];
  const pair = await pskPair(
    t,
    {
      onRequest: (request) => {
        seen.push(`${request.options.uriPath.join("/")} ${request.payload.length}`);
        return { code: CODE.Changed, options: Options.none, payload: request.payload };
      },
    },
    { onRequest: () => ({ code: CODE.Content, options: Options.none, payload: bytes("from the client") }) },
  );
  const response = await pair.client.request({ code: CODE.POST, options: path("echo"), payload: long });
  t.is(response.code, CODE.Changed);
  t.is(text(response.payload), text(long));
  t.deepEqual(seen, ["echo 5000"]);
  const [back] = [...pair.server.connections];
  t.is(text((await back!.request(get("dpe2"))).payload), "from the client");
  t.is(text(back!.peerInfo!.pskIdentity!), "alice");
  await server.close();
});

test("an observation over DTLS delivers the newest state until the client stops it", async (t) => {
  let notify: ((value: string) => void) | undefined;
  let stopped = 0;
  const content = (value: string) => ({ code: CODE.Content, options: Options.none, payload: bytes(value) });
  const { client } = await pskPair(t, {
    onRequest: () => ({
      ...content("first"),
      observe: (send) => {
        notify = (value) => send(content(value));
        return () => stopped++;
      },
    }),
  });
  const observation = await client.observe(get("t"));
  t.is(text(observation.first.payload), "first");
  const values: string[] = [];
  const long = "long ".repeat(1000);
  notify?.("second");
  for await (const notification of observation) {
    values.push(text(notification.payload));
    if (values.length === 1) notify?.(long);
    else break;
  }
  t.deepEqual(values, ["second", long]);
  while (stopped === 0) await client.request(get("x"));
  t.is(stopped, 1);
});

test("an observation that its first notification ends is stopped, whether its handler took its time or not", async (t) => {
  for (const takesTime of [false, true]) {
    let stopped = 0;
    const answer = {
      ...emptyResponse(CODE.Content),
      observe: (notify: (response: ResponseMessage) => void) => {
        notify(emptyResponse(CODE.NotFound));
        return () => stopped++;
      },
    };
    const { client, server } = await pskPair(t, { onRequest: () => (takesTime ? Promise.resolve(answer) : answer) });
    const observation = await client.observe(get("t"));
    for await (const { code } of observation) t.is(code, CODE.NotFound);
    t.is(stopped, 1, takesTime ? "later" : "at once");
    t.is(server.usage.observations, 0);
  }
});

test("messages can be refused before they are put together, and ours changed before they are sent", async (t) => {
  const { client } = await pskPair(
    t,
    {
      onMessage: (message, _connection, serve) =>
        message.options.uriQuery.includes("pass") ? serve(message, "the context") : emptyResponse(CODE.Unauthorized),
      onRequest: (_request, _connection, context) => ({
        code: CODE.Content,
        options: Options.none,
        payload: bytes(String(context)),
      }),
    },
    {
      onSend: async (message, _connection, send) => {
        const first = await send(message);
        if (first.code !== CODE.Unauthorized) return first;
        return send({ ...message, options: message.options.with(OPTION.UriQuery, "pass") });
      },
    },
  );
  t.is(text((await client.request(get("x"))).payload), "the context");
});

test("a handler that throws is answered 5.00 without detail, and is told of", async (t) => {
  const faults: unknown[] = [];
  const { client } = await pskPair(t, {
    onRequest: (request) => {
      if (request.options.uriPath[0] === "throws") throw new Error("secret");
      return Promise.reject(new Error("secret"));
    },
    onFault: (error) => faults.push(error),
  });
  for (const name of ["throws", "rejects"]) {
    const response = await client.request(get(name));
    t.is(response.code, CODE.InternalServerError);
    t.is(response.payload.length, 0);
  }
  t.is(faults.length, 2);
});

test("a request ends by its signal, and all of them when the session closes", async (t) => {
  const { client, endpoint } = await pskPair(t, { onRequest: () => new Promise(() => undefined) });
  const controller = new AbortController();
  const aborted = failureOf(client.request(get("x"), { signal: controller.signal }));
  controller.abort();
  t.is(await aborted, "COAP_CANCELLED");
  const closed = failureOf(client.request(get("x")));
  await endpoint.close();
  t.is(await closed, "COAP_PEER_CLOSED");
  t.is(await failureOf(client.request(get("x"))), "COAP_PEER_CLOSED");
});

test("a second handshake from the same address replaces the session only when it is complete", async (t) => {
  const opened: number[] = [];
  const server = { ...PSK_SERVER, connectionId: false } as const;
  const endpoint = await listen(() => opened.push(opened.length), { ...LOOPBACK, server, pskOf });
  const socket = await UdpSocket.bind(LOOPBACK);
  const { DtlsEndpoint: Client } = await import("#net/index.js");
  const remote = { address: "127.0.0.1", port: endpoint.address.port };
  const first = new Client(socket, {}).connect(remote, { psk: { identity: bytes("alice"), key: KEY } });
  await first.opened;
  // The device restarts: its new endpoint knows nothing of the old session, on the same port.
  const wrong = new Client(socket, {}).connect(remote, { psk: { identity: bytes("alice"), key: bytes("wrong") } });
  await failureOf(wrong.opened);
  t.is(endpoint.sessionCount, 1);
  const again = new Client(socket, {}).connect(remote, { psk: { identity: bytes("alice"), key: KEY } });
  await again.opened;
  t.is(opened.length, 2);
  t.is(endpoint.sessionCount, 1);
  await endpoint.close();
  await socket.close();
});

test("RFC 9175 §3: bodies sent at once to one resource never mix", async (t) => {
  const taken: string[] = [];
  const { client } = await pskPair(t, {
    onRequest: (request) => {
      taken.push(text(request.payload));
      return emptyResponse(CODE.Changed);
    },
  });
  const bodies = ["a", "b", "c", "d"].map((letter) => letter.repeat(5000));
  await Promise.all(
    bodies.map((body) => client.request({ code: CODE.PUT, options: Options.none, payload: bytes(body) })),
  );
  t.deepEqual(taken.toSorted(), bodies);
});

test("RFC 7959 §2.4: a block in the middle is read by itself", async (t) => {
  const body = Array.from({ length: 300 }, (_, index) => String(index % 10)).join("");
  const { client } = await pskPair(t, {
    onRequest: () => ({ code: CODE.Content, options: Options.none, payload: bytes(body) }),
  });
  const ask = async (number: number): Promise<[number, string]> => {
    const options = Options.none.withBlock2({ number, hasMore: false, sizeBytes: 64 });
    const response = await client.request({ code: CODE.GET, options, payload: bytes("") });
    return [response.code, text(response.payload)];
  };
  t.deepEqual(await ask(2), [CODE.Content, body.slice(128, 192)]);
  t.deepEqual(await ask(4), [CODE.Content, body.slice(256)]);
  t.is((await ask(5))[0], CODE.BadOption);
});

test("RFC 7959 §2.6: a FETCH that comes in blocks is observed when it is whole; ours comes in one, or not at all", async (t) => {
  let tell: ((value: string) => void) | undefined;
  const bodies: string[] = [];
  const answer = (value: string) => ({ code: CODE.Content, options: Options.none, payload: bytes(value) });
  const { client } = await pskPair(t, {
    onRequest: (request) => {
      bodies.push(text(request.payload));
      return {
        ...answer("first"),
        observe: (notify) => {
          tell = (value) => notify(answer(value));
          return () => (tell = undefined);
        },
      };
    },
  });
  const block = (number: number, hasMore: boolean, body: string): RequestMessage => ({
    code: CODE.FETCH,
    options: path("x").with(OPTION.Observe, 0).withBlock1({ number, hasMore, sizeBytes: 16 }),
    payload: bytes(body),
  });
  t.is((await client.request(block(0, true, "a".repeat(16)), { isBlockwise: false })).code, CODE.Continue);
  t.is(tell, undefined);
  const observation = await client.observe(block(1, false, "b"), { isBlockwise: false });
  t.is(text(observation.first.payload), "first");
  t.deepEqual(bodies, [`${"a".repeat(16)}b`]);
  tell?.("second");
  for await (const { payload, options } of observation) {
    t.is(text(payload), "second");
    t.false(options.has(OPTION.Block1));
    break;
  }
  const long = { code: CODE.FETCH, options: path("x"), payload: new Uint8Array(1025) };
  const error = await t.throwsAsync(client.observe(long), { instanceOf: CoapError });
  t.is(error?.code, "COAP_BODY_TOO_LARGE");
});

test("plain CoAP serves many addresses, within a bound, and both are clients and servers", async (t) => {
  const server = new CoapEndpoint({
    maxPlainPeers: 2,
    onRequest: (request) => ({
      code: CODE.Content,
      options: Options.none,
      payload: bytes(`re ${request.options.uriPath[0]}`),
    }),
  });
  const serverSocket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(serverSocket);
  t.teardown(() => server.close());
  for (const name of ["a", "b", "c", "d"]) {
    const client = new CoapEndpoint();
    t.teardown(() => client.close());
    const transport = client.addSocket(await UdpSocket.bind(LOOPBACK));
    t.is(text((await transport.connectTo(serverSocket.address).request(get(name))).payload), `re ${name}`);
    t.true(server.usage.connections <= 2);
  }
});

test("of plain peers the one that was not heard again makes room for a new one", async (t) => {
  const server = new CoapEndpoint({ maxPlainPeers: 2, limits: { maxRecentMessages: 1 } });
  const serverSocket = await UdpSocket.bind(LOOPBACK);
  server.addSocket(serverSocket);
  t.teardown(() => server.close());
  const [a, b, c] = await Promise.all(
    ["a", "b", "c"].map(async () => {
      const client = new CoapEndpoint();
      t.teardown(() => client.close());
      const socket = await UdpSocket.bind(LOOPBACK);
      const transport = client.addSocket(socket);
      const ask = async () => (await transport.connectTo(serverSocket.address).request(get("x"))).code;
      return { port: socket.address.port, ask };
    }),
  );
  for (const who of [a, b, a, c]) t.is(await who?.ask(), CODE.NotFound);
  const ports = Array.from(server.connections, ({ remoteAddress }) => remoteAddress.port);
  t.deepEqual(
    [a, b, c].map((who) => ports.includes(who?.port ?? 0)),
    [true, false, true],
  );
});

test("a port in use, an unknown name and a foreign address fail by code", async (t) => {
  const taken = await UdpSocket.bind(LOOPBACK);
  t.is(await failureOf(UdpSocket.bind({ host: "127.0.0.1", port: taken.address.port })), "NET_PORT_IN_USE");
  t.is(await failureOf(UdpSocket.bind({ host: "203.0.113.7" })), "NET_ADDRESS_NOT_AVAILABLE");
  t.is(await failureOf(connect({ host: "no-such-host.invalid", port: 5684 }, {})), "NET_NAME_NOT_FOUND");
  await taken.close();
});

const SELF_SIGNED = Uint8Array.of(0x30, 0x00);

test("blocks of one user's body are never put together with another's on the same connection", async (t) => {
  const bodies: string[] = [];
  const server = new CoapEndpoint({
    onMessage: (message, _connection, serve) => serve(message, message.options.uint(OPTION.Size2)),
    principalOf: (context) => String(context),
    blockwise: { optionsOutsideOperation: [OPTION.Size2] },
    onRequest: (request) => {
      bodies.push(text(request.payload));
      return emptyResponse(CODE.Changed);
    },
  });
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  server.addSocket(socket);
  const client = new CoapEndpoint();
  t.teardown(async () => {
    await Promise.all([client.close(), server.close()]);
  });
  const connection = client.addSocket(await UdpSocket.bind({ host: "127.0.0.1" })).connectTo(socket.address);
  const send = async (user: number, number: number, hasMore: boolean, letter: string): Promise<number> => {
    const options = Options.none.with(OPTION.Size2, user).withBlock1({ number, hasMore, sizeBytes: 16 });
    const payload = new TextEncoder().encode(letter.repeat(16));
    return (await connection.request({ code: CODE.PUT, options, payload }, { isBlockwise: false })).code;
  };
  t.is(await send(1, 0, true, "a"), CODE.Continue);
  t.is(await send(2, 1, false, "b"), CODE.RequestEntityIncomplete);
  t.is(await send(2, 0, true, "b"), CODE.Continue);
  t.is(await send(1, 1, false, "a"), CODE.Changed);
  t.is(await send(2, 1, false, "b"), CODE.Changed);
  t.deepEqual(bodies, ["a".repeat(32), "b".repeat(32)]);
});
