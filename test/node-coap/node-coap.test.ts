import { CODE, emptyResponse, OPTION, Options } from "#coap/index.js";
import { CoapEndpoint, connect, type DtlsSession, listen, UdpSocket } from "#net/index.js";
import { CoapsClientSocket, type CoapsPeer, type CoapsServerSocket, listenCoaps } from "#node-coap/index.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import test, { type ExecutionContext } from "ava";
import coap from "coap";
import coapPacket from "coap-packet";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);
const KEY = "0123456789abcdef";
const PSK = { identity: bytes("alice"), key: bytes(KEY) };
const LONG = "0123456789".repeat(500);

/** A server of the package coap behind our DTLS: whom it speaks with at /who, long bodies, and a clock to observe. */
async function startCoap(t: ExecutionContext, onRequest: () => void = () => undefined) {
  const socket = await listenCoaps({
    host: "127.0.0.1",
    server: { pskEnabled: true },
    pskOf: (identity) => (text(identity) === "alice" ? bytes(KEY) : undefined),
  });
  const server = coap.createServer((request, response) => {
    onRequest();
    const { peer } = request.rsinfo as unknown as CoapsPeer;
    if (request.url === "/long") response.end(LONG);
    else if (request.method === "POST") response.end(request.payload);
    else if (request.headers["Observe"] === 0) {
      let ticks = 0;
      response.write(`tick ${ticks}`);
      const timer = setInterval(() => response.write(`tick ${++ticks}`), 50);
      t.teardown(() => clearInterval(timer));
    } else response.end(`${text(peer?.pskIdentity ?? bytes("nobody"))} by ${peer?.suite}`);
  });
  server.listen(socket);
  t.teardown(async () => {
    await new Promise<void>((resolve) => server.close(() => resolve()));
    await closed(socket);
  });
  return { socket, port: socket.address().port };
}

const closed = (socket: CoapsServerSocket | CoapsClientSocket): Promise<void> =>
  new Promise((resolve) => socket.close(() => resolve()));

function startAgent(t: ExecutionContext, maxPeers = 10) {
  const socket = new CoapsClientSocket({ connectOptions: { psk: PSK }, maxPeers });
  const agent = new coap.Agent({ socket });
  t.teardown(() => closed(socket));
  const send = (port: number, options: coap.CoapRequestParams, payload?: string): Promise<coap.IncomingMessage> =>
    new Promise((resolve, reject) => {
      const outgoing = coap.request({ hostname: "127.0.0.1", port, agent, ...options });
      outgoing.on("response", resolve).end(payload);
      // Without this its timers run on for minutes.
      outgoing.on("error", (error) => {
        agent.abort(outgoing);
        reject(error);
      });
    });
  return { socket, send };
}

/** A server of ours, for the package's client. */
async function startOurs(t: ExecutionContext) {
  const endpoint = new CoapEndpoint({
    onRequest: ({ code, options, payload }) => {
      const content = { code: CODE.Content, options: Options.none };
      if (code === CODE.POST) return { ...content, payload };
      return options.uriPath[0] === "long" ? { ...content, payload: bytes(LONG) } : emptyResponse(CODE.NotFound);
    },
  });
  const dtls = await listen((session) => endpoint.addSession(session), {
    host: "127.0.0.1",
    server: { pskEnabled: true },
    pskOf: () => bytes(KEY),
  });
  t.teardown(async () => {
    await endpoint.close();
    await dtls.close();
  });
  return dtls;
}

test("the client of the package coap speaks coaps with our server, one association for each peer", async (t) => {
  const [first, second] = [await startOurs(t), await startOurs(t)];
  const { socket, send } = startAgent(t);
  t.is((await send(first.address.port, { pathname: "/long" })).payload.toString(), LONG);
  t.is((await send(first.address.port, { pathname: "/none" })).code, "4.04");
  t.is((await send(first.address.port, { method: "POST" }, "a question")).payload.toString(), "a question");
  t.is(first.sessionCount, 1);
  t.is((await send(second.address.port, { pathname: "/none" })).code, "4.04");
  t.is(socket.peerCount, 2);
});

test("the client and the server of the package coap speak coaps with each other, and observe", async (t) => {
  const { port, socket } = await startCoap(t);
  const { send } = startAgent(t);
  t.regex((await send(port, { pathname: "/who" })).payload.toString(), /^alice by TLS_ECDHE_PSK/);
  t.is((await send(port, { pathname: "/long" })).payload.toString(), LONG);
  const observed = (await send(port, { pathname: "/ticks", observe: true })) as coap.ObserveReadStream;
  const seen = await new Promise<string>((resolve) => {
    let all = "";
    observed.on("data", (chunk: Buffer) => {
      all += chunk.toString();
      if (all.includes("tick 2")) resolve(all);
    });
  });
  t.true(seen.startsWith("tick 0"));
  observed.close();
  t.is(socket.sessionCount, 1);
});

test("our client speaks coaps with the server of the package coap", async (t) => {
  const { port } = await startCoap(t);
  const session = await connect({ host: "127.0.0.1", port }, { psk: PSK });
  await session.opened;
  const endpoint = new CoapEndpoint();
  const connection = endpoint.addSession(session);
  t.teardown(async () => {
    await connection.close();
    await endpoint.close();
  });
  const options = Options.none.with(OPTION.UriPath, "long");
  const response = await connection.request({ code: CODE.GET, options, payload: new Uint8Array(0) });
  t.is(text(response.payload), LONG);
});

test("a wrong key fails the request by code, and so does a peer above the limit", async (t) => {
  const { port } = await startCoap(t);
  const other = await startOurs(t);
  const wrong = new CoapsClientSocket({
    connectOptions: (host) => ({ psk: { identity: bytes("alice"), key: bytes(`not at ${host}`) } }),
  });
  t.teardown(() => closed(wrong));
  const agent = new coap.Agent({ socket: wrong });
  const refusal = await new Promise<Error>((resolve) => {
    const outgoing = coap.request({ hostname: "127.0.0.1", port, agent, retrySend: 0 });
    outgoing.end();
    outgoing.on("error", (error) => {
      agent.abort(outgoing);
      resolve(error);
    });
  });
  t.like(refusal, { code: "DTLS_ALERT_RECEIVED" });
  t.is(wrong.peerCount, 0);

  const { send } = startAgent(t, 1);
  await send(port, { pathname: "/who" });
  t.like(await t.throwsAsync(send(other.address.port, { pathname: "/long", retrySend: 0 })), {
    code: "NODE_COAP_TOO_MANY_PEERS",
  });
});

test("a socket that is closed opens nothing, ends its handshakes, and may be closed again", async (t) => {
  const silent = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => silent.close());
  const socket = new CoapsClientSocket({ connectOptions: { psk: { identity: bytes("alice"), key: bytes(KEY) } } });
  const sent = (): Promise<Error | null> =>
    new Promise((resolve) => socket.send(bytes("ping"), silent.address.port, "127.0.0.1", resolve));
  const underWay = sent();
  await new Promise<void>((resolve) => (silent.onDatagram = () => resolve()));
  await Promise.all([closed(socket), closed(socket)]);
  t.true((await underWay) instanceof Error);
  t.like(await sent(), { code: "NODE_COAP_CLOSED" });
  t.is(socket.peerCount, 0);
});

test("a repeated request is answered from the cache, the same messageId of another association is a new request", async (t) => {
  let requests = 0;
  const { port } = await startCoap(t, () => requests++);
  const datagram = coapPacket.generate({ code: "GET", confirmable: true, messageId: 7, token: Buffer.of(1) });
  const ask = async (session: DtlsSession): Promise<string> => {
    await session.opened;
    const answer = new Promise<Uint8Array>((resolve) => (session.onmessage = resolve));
    session.send(datagram);
    return coapPacket.parse(Buffer.from(await answer)).code;
  };
  const first = await connect({ host: "127.0.0.1", port }, { psk: PSK });
  t.is(await ask(first), "2.05");
  t.is(await ask(first), "2.05");
  t.is(requests, 1);
  await first.close();
  const second = await connect({ host: "127.0.0.1", port }, { psk: PSK });
  t.is(await ask(second), "2.05");
  t.is(requests, 2);
  await second.close();
});

for (const library of ["openssl", "gnutls"] as const) {
  testWith(`libcoap-${library}`, `coap-client-${library} asks the server of the package coap by coaps`, async (t) => {
    const { port } = await startCoap(t);
    const options = ["-u", "alice", "-k", KEY, "-B", "20", "-m", "get", `coaps://127.0.0.1:${port}/who`];
    t.regex(await PeerProcess.run(t, `coap-client-${library}`, options), /alice by TLS_/);
  });

  testWith(`libcoap-${library}`, `the client of the package coap asks coap-server-${library} by coaps`, async (t) => {
    const port = await freePort();
    const options = ["-A", "127.0.0.1", "-p", String(port), "-k", KEY, "-v", "7"];
    const peer = PeerProcess.start(t, `coap-server-${library}`, options);
    await peer.printed(`created DTLS endpoint 127.0.0.1:${port + 1}`);
    // libcoap on GnuTLS takes the first suite that it knows, without a certificate too.
    const cipherSuites = ["TLS_PSK_WITH_AES_128_CCM_8"] as const;
    const socket = new CoapsClientSocket({ connectOptions: { psk: PSK, cipherSuites } });
    t.teardown(() => closed(socket));
    const agent = new coap.Agent({ socket });
    const response = await new Promise<coap.IncomingMessage>((resolve, reject) => {
      const outgoing = coap.request({ hostname: "127.0.0.1", port: port + 1, pathname: "/time", agent });
      outgoing.on("response", resolve).on("error", reject).end();
    });
    t.is(response.code, "2.05");
    t.true(response.payload.length > 0);
  });
}
