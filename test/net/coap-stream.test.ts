import {
  CODE,
  CoapError,
  encodeStreamMessage,
  getRequest,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
  SIGNAL,
  SIGNAL_OPTION,
  StreamDecoder,
  type StreamMessage,
} from "#coap/index.js";
import {
  type CoapConnection,
  CoapEndpoint,
  type CoapEndpointOptions,
  connectStream,
  listenStream,
  type StreamClientTls,
  type StreamServerTls,
} from "#net/index.js";
import { codeOf } from "#testing/code-of.js";
import { until } from "#testing/until.js";
import { issueThrowawayCredentials, loadCredentials, loadTrustAnchors, verifyPeerCertificates } from "#x509/index.js";
import { readFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import test, { type ExecutionContext } from "ava";

const text = (value: Uint8Array): string => new TextDecoder().decode(value);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);
const NONE = new Uint8Array(0);
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const LONG = Uint8Array.from({ length: 200_000 }, (_, index) => (index * 31) & 0xff);

interface Serving {
  readonly port: number;
  readonly endpoint: CoapEndpoint;
  readonly connections: CoapConnection[];
}

async function serve(t: ExecutionContext, options: CoapEndpointOptions = {}, tls?: StreamServerTls): Promise<Serving> {
  const endpoint = new CoapEndpoint({
    onRequest: (request) => ({ code: CODE.Content, options: Options.none, payload: request.payload }),
    ...options,
  });
  const connections: CoapConnection[] = [];
  const listener = await listenStream(
    (stream) => void endpoint.addStream(stream).then((connection) => connections.push(connection)),
    { ...LOOPBACK, ...(tls === undefined ? {} : { tls }) },
  );
  t.teardown(async () => {
    await listener.close();
    await endpoint.close();
  });
  return { port: listener.address.port, endpoint, connections };
}

async function dial(
  t: ExecutionContext,
  port: number,
  options: CoapEndpointOptions = {},
  tls?: StreamClientTls,
): Promise<CoapConnection> {
  const endpoint = new CoapEndpoint(options);
  t.teardown(() => endpoint.close());
  const stream = await connectStream({ host: "127.0.0.1", port }, tls === undefined ? {} : { tls });
  const connection = await endpoint.addStream(stream);
  t.teardown(() => connection.close());
  return connection;
}

/** A peer without CoAP of its own: it writes what it is told, and reads messages. */
async function bare(t: ExecutionContext, port: number) {
  const socket = connectTcp({ host: "127.0.0.1", port });
  await new Promise((resolve) => socket.once("connect", resolve));
  t.teardown(() => socket.destroy());
  const decoder = new StreamDecoder(100_000);
  const received: StreamMessage[] = [];
  let isClosed = false;
  socket.on("data", (chunk: Buffer) => {
    received.push(...decoder.push(chunk));
  });
  socket.on("error", () => undefined);
  socket.on("close", () => {
    isClosed = true;
  });
  return {
    received,
    write: (message: Partial<StreamMessage>) =>
      socket.write(
        encodeStreamMessage({ code: CODE.GET, token: NONE, options: Options.none, payload: NONE, ...message }),
      ),
    writeBytes: (value: Uint8Array) => socket.write(value),
    got: (code: number) => until(() => received.some((message) => message.code === code), { what: `code ${code}` }),
    closed: () => until(() => isClosed),
  };
}

const post = (payload: Uint8Array): RequestMessage => ({ code: CODE.POST, options: Options.none, payload });

test("RFC 8323 §3.2: messages of every length are cut out of a stream, however it is split", (t) => {
  const lengths = [0, 1, 11, 12, 13, 14, 267, 268, 269, 270, 65_803, 65_804, 65_805, 66_000];
  const messages = lengths.map((length) => ({
    code: CODE.POST,
    token: Uint8Array.of(length & 0xff, 2),
    options: Options.none.with(OPTION.UriPath, "x"),
    payload: new Uint8Array(length).fill(7),
  }));
  const stream = Buffer.concat(messages.map((message) => encodeStreamMessage(message)));
  for (const size of [1, 7, 4096, stream.length]) {
    const decoder = new StreamDecoder(70_000);
    const decoded: StreamMessage[] = [];
    for (let at = 0; at < stream.length; at += size) decoded.push(...decoder.push(stream.subarray(at, at + size)));
    t.deepEqual(
      decoded.map(({ payload, token, options }) => [payload.length, token[0], options.uriPath[0]]),
      messages.map(({ payload, token }) => [payload.length, token[0], "x"]),
    );
  }
  const small = new StreamDecoder(1152);
  t.throws(() => small.push(encodeStreamMessage({ ...post(new Uint8Array(1200)), token: NONE })), {
    instanceOf: CoapError,
  });
  t.throws(() => new StreamDecoder(1152).push(Uint8Array.of(0x09, 0x01)), { instanceOf: CoapError }, "token length 9");
});

test("RFC 8323: requests, long bodies both ways by BERT, pings and observations over TCP", async (t) => {
  let tell: (() => void) | undefined;
  const { port } = await serve(t, {
    blockwise: { maxBodyBytes: 300_000 },
    onRequest: (request) => ({
      code: CODE.Content,
      options: Options.none,
      payload: request.code === CODE.POST ? request.payload : bytes("state"),
      observe: (notify) => {
        tell = () => notify({ code: CODE.Content, options: Options.none, payload: LONG });
        return () => (tell = undefined);
      },
    }),
  });
  const client = await dial(t, port);
  await client.ping();
  t.is(text((await client.request(post(bytes("short")))).payload), "short");
  const { payload } = await client.request(post(LONG));
  t.is(Buffer.compare(payload, LONG), 0);
  const many = await Promise.all(Array.from({ length: 200 }, (_, index) => client.request(post(bytes(`${index}`)))));
  t.deepEqual(
    many.map((response) => Number(text(response.payload))),
    Array.from({ length: 200 }, (_, index) => index),
  );
  const observation = await client.observe(getRequest());
  t.is(text(observation.first.payload), "state");
  tell?.();
  for await (const notification of observation) {
    t.is(Buffer.compare(notification.payload, LONG), 0);
    break;
  }
  await client.ping();
  t.is(tell, undefined, "cancelled");
});

test("a server asks its client over the connection that the client opened", async (t) => {
  const serving = await serve(t);
  await dial(t, serving.port, {
    onRequest: () => ({ code: CODE.Content, options: Options.none, payload: bytes("from the client") }),
  });
  await until(() => serving.connections.length > 0);
  t.is(text((await serving.connections[0]!.request(getRequest())).payload), "from the client");
});

test("RFC 8323 §5.3: CSM comes first and says what we take; what comes before it, or is critical in it, aborts", async (t) => {
  const { port } = await serve(t);
  const early = await bare(t, port);
  early.write({ code: CODE.GET });
  await early.closed();
  t.is(early.received[0]?.code, SIGNAL.CSM);
  t.is(early.received[0]?.options.uint(SIGNAL_OPTION.MaxMessageSize), 66_560);
  t.true(early.received[0]?.options.has(SIGNAL_OPTION.BlockWiseTransfer));
  t.is(early.received[1]?.code, SIGNAL.Abort);

  const critical = await bare(t, port);
  critical.write({ code: SIGNAL.CSM, options: Options.none.with(9, NONE) });
  await critical.closed();
  t.is(critical.received[1]?.options.uint(SIGNAL_OPTION.BadCsmOption), 9);
});

test("RFC 8323 §5.4 to §5.6: Ping is answered with its token, Release after what was asked before, garbage aborts", async (t) => {
  const answers: (() => void)[] = [];
  const { port } = await serve(t, {
    onRequest: (request) =>
      new Promise((resolve) =>
        answers.push(() => resolve({ code: CODE.Content, options: Options.none, payload: request.payload })),
      ),
  });
  const peer = await bare(t, port);
  peer.write({ code: SIGNAL.CSM });
  peer.write({
    code: SIGNAL.Ping,
    token: Uint8Array.of(4, 2),
    options: Options.none.with(SIGNAL_OPTION.Custody, NONE),
  });
  await peer.got(SIGNAL.Pong);
  const pong = peer.received.find(({ code }) => code === SIGNAL.Pong);
  t.deepEqual([...(pong?.token ?? [])], [4, 2]);
  t.true(pong?.options.has(SIGNAL_OPTION.Custody));
  peer.write({ code: CODE.POST, token: Uint8Array.of(1), payload: bytes("late") });
  peer.write({ code: SIGNAL.Release });
  await until(() => answers.length > 0);
  answers[0]?.();
  await peer.closed();
  t.is(text(peer.received.at(-1)?.payload ?? NONE), "late");

  const hostile = await bare(t, port);
  hostile.write({ code: SIGNAL.CSM });
  hostile.writeBytes(Uint8Array.of(0xf0, 0xff, 0xff, 0xff, 0xff, 0x01));
  await hostile.closed();
  t.is(hostile.received.at(-1)?.code, SIGNAL.Abort);
});

test("RFC 8323 §3.4, RFC 7252 §5.4.1: a critical option that is not understood is answered 4.02 over TCP, not met by silence", async (t) => {
  const { port } = await serve(t);
  const peer = await bare(t, port);
  peer.write({ code: SIGNAL.CSM });
  peer.write({ token: Uint8Array.of(1), options: Options.none.with(65_001, NONE) });
  await peer.got(CODE.BadOption);
  peer.write({ token: Uint8Array.of(2), options: Options.none.with(OPTION.ProxyUri, "coap://h/") });
  await peer.got(CODE.ProxyingNotSupported);
  peer.write({ code: 0x1f, token: Uint8Array.of(3) });
  await peer.got(CODE.MethodNotAllowed);
  t.deepEqual(
    peer.received.slice(1).map(({ token }) => token[0]),
    [1, 2, 3],
  );
});

test("RFC 8323 §5.4.1: a Ping with Custody is answered when all requests before it are, one without at once", async (t) => {
  const answers: (() => void)[] = [];
  const { port } = await serve(t, {
    onRequest: () =>
      new Promise((resolve) =>
        answers.push(() => resolve({ code: CODE.Content, options: Options.none, payload: NONE })),
      ),
  });
  const peer = await bare(t, port);
  const ping = (token: number, hasCustody: boolean): void => {
    const options = hasCustody ? Options.none.with(SIGNAL_OPTION.Custody, NONE) : Options.none;
    peer.write({ code: SIGNAL.Ping, token: Uint8Array.of(token), options });
  };
  peer.write({ code: SIGNAL.CSM });
  for (const token of [1, 2]) peer.write({ token: Uint8Array.of(token) });
  ping(11, true);
  peer.write({ token: Uint8Array.of(3) });
  ping(12, true);
  ping(13, false);
  await peer.got(SIGNAL.Pong);
  await until(() => answers.length >= 3);
  const seen = (): number[] => peer.received.flatMap(({ code, token }) => (code === SIGNAL.CSM ? [] : [token[0] ?? 0]));
  t.deepEqual(seen(), [13]);
  const answer = async (index: number, count: number): Promise<void> => {
    answers[index]?.();
    await until(() => seen().length >= count);
  };
  await answer(1, 2);
  await answer(0, 4);
  t.deepEqual(seen(), [13, 2, 1, 11], "both that came before it are done");
  await answer(2, 6);
  t.deepEqual(seen(), [13, 2, 1, 11, 3, 12]);
  t.deepEqual(
    peer.received.filter(({ code }) => code === SIGNAL.Pong).map(({ options }) => options.has(SIGNAL_OPTION.Custody)),
    [false, true, true],
  );
});

test("RFC 8323 §5.4.1: a request that is refused for want of room is answered, and nothing of it is kept", async (t) => {
  const { port, endpoint } = await serve(t, { maxUnanswered: 1, onRequest: () => new Promise(() => undefined) });
  const first = await bare(t, port);
  first.write({ code: SIGNAL.CSM });
  first.write({ code: CODE.GET });
  await until(() => endpoint.usage.unanswered > 0);
  const second = await bare(t, port);
  second.write({ code: SIGNAL.CSM });
  second.write({ code: CODE.GET });
  await second.got(CODE.ServiceUnavailable);
  second.write({ code: SIGNAL.Ping, options: Options.none.with(SIGNAL_OPTION.Custody, NONE) });
  await second.got(SIGNAL.Pong);
  t.true(second.received.at(-1)?.options.has(SIGNAL_OPTION.Custody), "all that came before is answered");
});

test("RFC 8323 §5.3: a further CSM changes what it names, and leaves the rest", async (t) => {
  const { port } = await serve(t, {
    onRequest: () => ({ code: CODE.Content, options: Options.none, payload: LONG.subarray(0, 1500) }),
  });
  const peer = await bare(t, port);
  const sizeOf = async (token: number): Promise<number> => {
    peer.write({ token: Uint8Array.of(token) });
    for (;;) {
      const found = peer.received.find((message) => message.token[0] === token);
      if (found !== undefined) return found.payload.length;
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  peer.write({ code: SIGNAL.CSM, options: Options.none.with(SIGNAL_OPTION.BlockWiseTransfer, NONE) });
  t.is(await sizeOf(1), 1024, "1152 bytes, the base value, leave room for one block");
  peer.write({ code: SIGNAL.CSM, options: Options.none.with(SIGNAL_OPTION.MaxMessageSize, 100) });
  t.is(await sizeOf(2), 32);
  peer.write({ code: SIGNAL.CSM, options: Options.none.with(SIGNAL_OPTION.MaxMessageSize, 8000).with(100, NONE) });
  t.is(await sizeOf(3), 1500, "an elective option that is not known is ignored");
});

test("a TCP connection is asked now and then whether its peer is there: one that went without a word holds no place for ever", async (t) => {
  const { port } = await serve(t);
  const socket = connectTcp(port, "127.0.0.1");
  t.teardown(() => socket.destroy());
  await new Promise((resolve) => socket.once("data", resolve));
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  // Linux: local and remote address, state 01, queues, then which timer runs: 02 is the one that keeps alive.
  const timer = new RegExp(`0100007F:${hex} 0100007F:\\w+ 01 \\w+:\\w+ 02:`);
  await until(() => timer.test(readFileSync("/proc/net/tcp", "latin1")), { what: "the timer of keep-alive" });
  t.pass();
});

test("RFC 8323 §8.2: on a port that is not CoAP's a server has to say that it speaks it", async (t) => {
  const { certificatePem: cert, privateKeyPem: key } = await issueThrowawayCredentials({
    commonName: "no CoAP",
    purpose: "serverAuth",
    ip: ["127.0.0.1"],
    atMs: Date.now(),
  });
  const server = createTlsServer({ cert, key }, (socket) => socket.on("error", () => undefined).end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  t.teardown(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const bound = server.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : 0;
  const dialled = connectStream({ host: "127.0.0.1", port }, { tls: { verify: () => ({ ok: true }) } });
  t.is(await codeOf(dialled), "NET_NOT_ACCEPTED");
  const tolerant = { tls: { verify: () => ({ ok: true }) as const }, dangerSkipAlpn: true };
  await (await connectStream({ host: "127.0.0.1", port }, tolerant)).close();
  t.pass();
});

test("a peer that takes no blocks gets no message that is too long for it", async (t) => {
  const { port } = await serve(t, {
    onRequest: () => ({ code: CODE.Content, options: Options.none, payload: LONG.subarray(0, 5000) }),
  });
  const peer = await bare(t, port);
  peer.write({ code: SIGNAL.CSM });
  peer.write({ code: CODE.GET, token: Uint8Array.of(1) });
  await peer.got(CODE.InternalServerError);
  t.is(peer.received.length, 2);
});

test("a state that is too long for an observer without blocks ends its observation, and harms nobody who tells of it", async (t) => {
  let notify = (_state: ResponseMessage): void => undefined;
  let ended = 0;
  const content = (length: number) => ({
    code: CODE.Content,
    options: Options.none,
    payload: LONG.subarray(0, length),
  });
  const { port, endpoint } = await serve(t, {
    onRequest: () => ({
      ...content(20),
      observe: (tell) => {
        notify = tell;
        return () => void ended++;
      },
    }),
  });
  const peer = await bare(t, port);
  peer.write({ code: SIGNAL.CSM });
  peer.write({ code: CODE.GET, token: Uint8Array.of(1), options: Options.none.with(OPTION.Observe, 0) });
  await peer.got(CODE.Content);
  t.notThrows(() => notify(content(2000)));
  await peer.got(CODE.InternalServerError);
  t.is(ended, 1);
  t.is(endpoint.usage.observations, 0);
});

test("of what a connection asks at once 64 requests are handled, the others as those are answered; so nobody else waits", async (t) => {
  const waiting: (() => void)[] = [];
  const answer = { code: CODE.Content, options: Options.none, payload: NONE };
  const { port, endpoint } = await serve(t, {
    onRequest: ({ options }) =>
      options.uriPath.length > 0 ? answer : new Promise((resolve) => waiting.push(() => resolve(answer))),
  });
  const peer = await bare(t, port);
  peer.write({ code: SIGNAL.CSM });
  await peer.got(SIGNAL.CSM);
  const request = encodeStreamMessage({ code: CODE.GET, token: NONE, options: Options.none, payload: NONE });
  const count = 10_000;
  peer.writeBytes(Buffer.concat(Array.from({ length: count }, () => request)));
  await until(() => waiting.length >= 64);
  const other = await dial(t, port);
  const quick = { ...getRequest(), options: Options.none.withAll(OPTION.UriPath, ["quick"]) };
  t.is((await other.request(quick)).code, CODE.Content);
  t.is(endpoint.usage.unanswered, 64);
  t.is(waiting.length, 64);
  t.true(endpoint.usage.streamBytes >= 16_384, "what waits is counted");
  for (let answered = 0; answered < count; answered++) {
    await until(() => waiting.length > 0);
    waiting.shift()?.();
    if (endpoint.usage.unanswered > 64) return t.fail(`${endpoint.usage.unanswered} at once`);
  }
  await until(() => peer.received.length === count + 1);
  t.is(endpoint.usage.unanswered, 0);
});

test("a request that is under way fails when the connection ends, and a refused connection is refused by code", async (t) => {
  const serving = await serve(t, { onRequest: () => new Promise(() => undefined) });
  const client = await dial(t, serving.port);
  const pending = codeOf(client.request(getRequest()));
  await until(() => serving.connections.length > 0);
  await serving.connections[0]?.close();
  t.is(await pending, "COAP_PEER_CLOSED");
  const { port } = await serve(t);
  const gone = await listenStream(() => undefined, LOOPBACK);
  await gone.close();
  t.not(gone.address.port, port);
  t.is(await codeOf(connectStream({ host: "127.0.0.1", port: gone.address.port })), "NET_CONNECTION_REFUSED");
});

test("R18 over TLS: certificates of both sides, a PSK, and what is not trusted is refused by code", async (t) => {
  const server = await issueThrowawayCredentials({
    commonName: "server",
    purpose: "serverAuth",
    ip: ["127.0.0.1"],
    atMs: Date.now(),
  });
  const device = await issueThrowawayCredentials({
    commonName: "device",
    purpose: "clientAuth",
    atMs: Date.now(),
    authority: server.authority,
  });
  const anchors = loadTrustAnchors(server.authority.certificatePem);
  const key = bytes("0123456789abcdef");
  const failures: string[] = [];
  const { port } = await serve(
    t,
    {
      onRequest: (_, { isSecure, peerInfo }) => ({
        code: CODE.Content,
        options: Options.none,
        payload: bytes(`${isSecure} ${peerInfo?.certificates?.length ?? 0} ${text(peerInfo?.pskIdentity ?? NONE)}`),
      }),
    },
    {
      certificate: loadCredentials(server.certificatePem, server.privateKeyPem),
      clientCertificate: "request",
      pskOf: (identity) =>
        text(identity) === "alice" ? key : text(identity) === "verbose" ? new Uint8Array(600).fill(107) : undefined,
      verify: (certificates) =>
        verifyPeerCertificates(certificates, { anchors, purpose: "clientAuth", atMs: Date.now() }),
      onHandshakeFailed: (_, error) => failures.push(String(error)),
    },
  );
  const verify: StreamClientTls["verify"] = (certificates) =>
    verifyPeerCertificates(certificates, {
      anchors,
      purpose: "serverAuth",
      atMs: Date.now(),
      name: { type: "ip", address: "127.0.0.1" },
    });
  const ask = async (tls: StreamClientTls): Promise<string> =>
    text((await (await dial(t, port, {}, tls)).request(getRequest())).payload);
  t.is(await ask({ verify }), "true 0 ");
  t.is(await ask({ verify, certificate: loadCredentials(device.certificatePem, device.privateKeyPem) }), "true 1 ");
  t.is(await ask({ verify, psk: { identity: bytes("alice"), key } }), "true 0 alice");
  const stranger = { ok: false, alert: "unknown_ca", reason: "not ours" } as const;
  t.is(await codeOf(ask({ verify: () => stranger })), "NET_NOT_ACCEPTED");
  t.is(await codeOf(ask({ verify, psk: { identity: bytes("alice"), key: bytes("wrong") } })), "NET_ALERT_RECEIVED");
  t.is(await codeOf(ask({ verify, psk: { identity: bytes("mallory"), key } })), "NET_ALERT_RECEIVED");
  // What is too long for OpenSSL is refused without being shown.
  const long = { identity: bytes("alice"), key: new Uint8Array(600).fill(107) };
  const { message } = await t.throwsAsync(ask({ verify, psk: long }));
  await t.throwsAsync(ask({ verify, psk: { identity: bytes("verbose"), key } }));
  t.regex(message, /512 bytes at most/);
  t.notRegex([message, ...failures].join(), /107/);
  const foreign = await issueThrowawayCredentials({ commonName: "x", purpose: "clientAuth", atMs: Date.now() });
  t.is(
    await codeOf(ask({ verify, certificate: loadCredentials(foreign.certificatePem, foreign.privateKeyPem) })),
    "COAP_PEER_CLOSED",
  );
  t.true(
    failures.some((failure) => failure.includes("unknown_ca")),
    failures.join("\n"),
  );
});
