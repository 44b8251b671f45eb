import {
  checkPreconditions,
  CODE,
  CoapClient,
  type HandlerResult,
  type CoapServer,
  negotiate,
  OPTION,
  ResponseError,
  type Router,
  router,
  serve,
} from "#api/index.js";
import { decodeMessage, encodeMessage, type Message, MESSAGE_TYPE, Options } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { type SocketAddress, UdpSocket } from "#net/index.js";
import { DpeProxy, PROXY_SCHEMA } from "#proxy/index.js";
import { freePort, PeerProcess, testWith } from "#testing/peer-process.js";
import test, { type ExecutionContext } from "ava";
import coap from "coap";
import { ETSI_CASES, type EtsiCase, Seen, type Step } from "./etsi-cases.js";

/** The resources of the ETSI CoAP plugtests. */
function etsiResources(): Router {
  const etag = Uint8Array.of(1, 2);
  const created = { code: CODE.Created, location: "/location1/location2/location3" };
  const later = (result: HandlerResult): Promise<HandlerResult> =>
    new Promise((resolve) => setTimeout(() => resolve(result), 200));
  const every = (intervalMs: number, state: (count: number) => HandlerResult) => ({
    payload: "state 0",
    observe: (notify: (state: HandlerResult) => void) => {
      let count = 0;
      const timer = setInterval(() => notify(state(++count)), intervalMs);
      return () => clearInterval(timer);
    },
  });
  return router()
    .get("/test", () => "test", { title: "Default test resource" })
    .put("/test", () => undefined)
    .post("/test", () => created)
    .delete("/test", () => undefined)
    .get("/seg1/seg2/seg3", () => "nested")
    .get("/query", (incoming) => incoming.options.uriQuery.join(" "))
    .get("/separate", () => later("late"))
    .post("/location", () => created)
    .post("/location-query", () => ({
      code: CODE.Created,
      options: [
        [OPTION.LocationQuery, "first=1"],
        [OPTION.LocationQuery, "second=2"],
      ],
    }))
    .get("/multi-format", (incoming) => negotiate(incoming, { 0: () => "text", 41: () => "<text/>" }))
    .get("/validate", () => ({ payload: "valid", etag }))
    .put("/validate", (incoming) => {
      checkPreconditions(incoming, etag);
      return undefined;
    })
    .get("/link1", () => "1", { rt: "Type1 Link", if: "If1" })
    .get("/link2", () => "2", { rt: "Type2 Link", if: "If2" })
    .get("/link3", () => "3", { rt: "Type2 Link" })
    .get("/large", () => "x".repeat(1280), { sz: "1280" })
    .put("/large-update", () => undefined)
    .post("/large-create", () => ({ code: CODE.Created, location: "/large-create/1" }))
    .post("/large-post", (incoming) => incoming.text().toUpperCase())
    .get("/obs", () => every(100, (count) => `state ${count}`), { rt: "observe", obs: true })
    .get("/obs-deleted", () => every(100, (count) => (count < 3 ? `state ${count}` : { code: CODE.NotFound })))
    .get("/obs-format", () =>
      every(100, (count) => (count < 3 ? `state ${count}` : { payload: "{}", contentFormat: 50 })),
    )
    .get("/path", () => ({ payload: "</path/sub1>,</path/sub2>", contentFormat: 40 }), { ct: "40" })
    .get("/path/sub1", () => "leaf")
    .get("/path/sub2", () => "leaf")
    .get("/obs-changed", () => every(100, () => "changed"));
}

async function start(t: ExecutionContext): Promise<CoapServer> {
  const server = await serve(etsiResources(), {
    host: "127.0.0.1",
    port: 0,
    tcp: { port: 0 },
    maxAmplification: Infinity,
    understands: [OPTION.IfMatch, OPTION.IfNoneMatch],
    parameters: { separateResponseDelayMs: 50 },
    onFault: (error) => t.log(String(error)),
  });
  t.teardown(() => server.close());
  return server;
}

/** Stands between a client and a server, and keeps what passes; it may lose datagrams. */
class Relay {
  readonly #messages: Message[] = [];
  readonly #fromClient = new Set<Message>();
  readonly #outside: UdpSocket;
  readonly #inside: UdpSocket;

  private constructor(
    outside: UdpSocket,
    inside: UdpSocket,
    server: SocketAddress,
    isLost: (index: number) => boolean,
  ) {
    this.#outside = outside;
    this.#inside = inside;
    let client: SocketAddress | undefined;
    let index = 0;
    outside.onDatagram = (datagram, from) => {
      client = { address: from.address, port: from.port };
      const message = this.#keep(datagram);
      this.#fromClient.add(message);
      if (!isLost(index++)) inside.send(datagram, server);
    };
    inside.onDatagram = (datagram) => {
      this.#keep(datagram);
      if (client !== undefined && !isLost(index++)) outside.send(datagram, client);
    };
  }

  static async start(
    t: ExecutionContext,
    server: SocketAddress,
    isLost: (index: number) => boolean = () => false,
  ): Promise<Relay> {
    const outside = await UdpSocket.bind({ host: "127.0.0.1" });
    const inside = await UdpSocket.bind({ host: "127.0.0.1" });
    const relay = new Relay(outside, inside, server, isLost);
    t.teardown(() => relay.close());
    return relay;
  }

  get port(): number {
    return this.#outside.address.port;
  }

  get seen(): Seen {
    return new Seen(this.#messages, this.#fromClient);
  }

  async close(): Promise<void> {
    await Promise.all([this.#outside.close(), this.#inside.close()]);
  }

  #keep(datagram: Uint8Array): Message {
    const message = decodeMessage(Uint8Array.from(datagram));
    this.#messages.push(message);
    return message;
  }
}

/** Our own client. */
async function byOurs(t: ExecutionContext, origin: string, steps: readonly Step[]): Promise<void> {
  const client = new CoapClient();
  t.teardown(() => client.close());
  for (const step of steps) {
    const { method, path, query, payload, isNon, options = [], blockBytes, observeSeconds } = step;
    const uri = `${origin}${path}${query === undefined ? "" : `?${query}`}`;
    const init = {
      method,
      confirmable: isNon !== true,
      options: options.map(([number, hex]) => [number, Buffer.from(hex, "hex")] as const),
      ...(payload === undefined ? {} : { payload }),
      ...(blockBytes === undefined ? {} : { blockBytes, responseBlockBytes: blockBytes }),
    };
    if (observeSeconds === undefined) {
      await client.request(uri, init);
      continue;
    }
    let states = 0;
    for await (const response of client.observe(uri, init)) if (!response.ok || ++states === 4) break;
    await client.ping(origin);
  }
}

/** libcoap's client, plain. */
async function byLibcoap(t: ExecutionContext, origin: string, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    const { method, path, query, payload, isNon, token, options = [], blockBytes, observeSeconds } = step;
    const words = ["-m", method.toLowerCase(), "-B", "10"];
    if (payload !== undefined) words.push("-e", payload);
    if (isNon === true) words.push("-N");
    if (token !== undefined) words.push("-T", token);
    if (blockBytes !== undefined) words.push("-b", String(blockBytes));
    if (observeSeconds !== undefined) words.push("-s", String(observeSeconds));
    for (const [number, hex] of options) words.push("-O", `${number},0x${hex}`);
    await PeerProcess.run(t, "coap-client-notls", [
      ...words,
      `${origin}${path}${query === undefined ? "" : `?${query}`}`,
    ]);
  }
}

/** The npm package coap. */
async function byNodeCoap(_: ExecutionContext, origin: string, steps: readonly Step[]): Promise<void> {
  const { hostname, port } = new URL(origin);
  for (const { method, path, query, payload, isNon, options = [], observeSeconds } of steps) {
    await new Promise<void>((resolve, reject) => {
      const request = coap.request({
        hostname,
        port: Number(port),
        method,
        pathname: path,
        confirmable: isNon !== true,
        observe: observeSeconds !== undefined,
        ...(query === undefined ? {} : { query }),
      });
      for (const [number, hex] of options) request.setOption(String(number), Buffer.from(hex, "hex"));
      request.on("error", reject).on("response", (response: coap.IncomingMessage) => {
        if (!(response instanceof coap.ObserveReadStream)) return resolve();
        let states = 0;
        response.on("data", () => {
          if (++states < 4) return;
          response.close();
          resolve();
        });
      });
      request.end(payload);
    });
  }
}

async function run(
  t: ExecutionContext,
  server: { readonly address: SocketAddress | undefined },
  client: typeof byOurs,
  { id, what, steps, check }: EtsiCase,
): Promise<void> {
  const relay = await Relay.start(t, server.address ?? { address: "", port: 0 });
  await client(t, `coap://127.0.0.1:${relay.port}`, steps);
  // The last acknowledgement may still be on its way when the client has what it asked for.
  for (let attempt = 1; ; attempt++) {
    const result = await t.try(`${id} ${what} ${attempt}`, (inner) => check(inner, relay.seen));
    if (result.passed) return result.commit();
    result.discard();
    if (attempt === 100) {
      t.fail(`TD_COAP_${id} ${what}: ${result.errors.map((error) => error.message).join("; ")}`);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

for (const area of ["CORE", "LINK", "BLOCK", "OBS"]) {
  const cases = ETSI_CASES.filter(({ id }) => id.startsWith(area));
  const ids = cases.map(({ id }) => id).join(", ");

  test(`ETSI TD_COAP ${area} between our client and our server: ${ids}`, async (t) => {
    const server = await start(t);
    for (const one of cases) await run(t, server, byOurs, one);
  });

  testWith("libcoap-notls", `ETSI TD_COAP ${area} between libcoap's client and our server: ${ids}`, async (t) => {
    const server = await start(t);
    for (const one of cases) await run(t, server, byLibcoap, one);
  });
}

/** node-coap sends no Block1 by itself, and nothing when an observation is closed. */
const NODE_COAP_CASES = ETSI_CASES.filter(({ id }) => /^(CORE|LINK)/.test(id) || id === "BLOCK_02");

test(`ETSI TD_COAP between the npm package coap and our server: ${NODE_COAP_CASES.map(({ id }) => id).join(", ")}`, async (t) => {
  const server = await start(t);
  for (const one of NODE_COAP_CASES) await run(t, server, byNodeCoap, one);
});

test("ETSI TD_COAP CORE_15 and CORE_16: piggybacked and separate responses where datagrams are lost both ways", async (t) => {
  const server = await start(t);
  for (const path of ["/test", "/separate"]) {
    const relay = await Relay.start(t, server.address ?? { address: "", port: 0 }, (index) =>
      [0, 2, 5, 7].includes(index),
    );
    const client = new CoapClient({ parameters: { ackTimeoutMs: 100 } });
    t.teardown(() => client.close());
    const response = await client.request(`coap://127.0.0.1:${relay.port}${path}`);
    t.is(response.status, "2.05");
    t.is(relay.seen.requests.length, 1, "one request, however often it was sent");
  }
});

/** A reverse proxy in between; it keeps no cache, so that CORE_29 ends at its target each time. */
const PROXIED = { CORE_18: "CORE_24", CORE_19: "CORE_25", CORE_20: "CORE_26", CORE_21: "CORE_27", CORE_22: "CORE_28" };
const PROXIED_TOO = { CORE_01: "CORE_29", CORE_23: "CORE_30" };

test("ETSI TD_COAP CORE_24 to CORE_31: locations, formats, validation and preconditions through a reverse proxy; ping", async (t) => {
  const server = await start(t);
  const config = `
listen: { host: 127.0.0.1, coap: 0, proveAddresses: false }
targets: [{ name: origin, uri: "coap://127.0.0.1:${server.address?.port}", serverAuthentication: none }]
routes: [{ target: origin }]
identities: { required: false }
`;
  const proxy = await DpeProxy.start(parseConfig(config, "proxy.yaml", PROXY_SCHEMA), () => undefined);
  t.teardown(() => proxy.close());
  const address = proxy.addresses.coap;
  for (const [id, proxied] of Object.entries({ ...PROXIED, ...PROXIED_TOO })) {
    const one = ETSI_CASES.find((candidate) => candidate.id === id);
    if (one === undefined) throw new Error(`no case ${id}`);
    await run(t, { address }, byOurs, { ...one, id: proxied });
  }
  const client = new CoapClient();
  t.teardown(() => client.close());
  await t.notThrowsAsync(client.ping(`coap://127.0.0.1:${address?.port}`), "CORE_31");
});

test("ETSI TD_COAP CORE_12 and OBS_06: a request with an empty Token, and an observation that is ended by Reset", async (t) => {
  let observers = 0;
  const app = etsiResources().get("/ticks", () => ({
    payload: "tick",
    observe: (notify) => {
      observers++;
      const timer = setInterval(() => notify("tick"), 20);
      return () => {
        observers--;
        clearInterval(timer);
      };
    },
  }));
  const server = await serve(app, { host: "127.0.0.1", port: 0 });
  t.teardown(() => server.close());
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => socket.close());
  const address = server.address ?? { address: "", port: 0 };
  const NONE = new Uint8Array(0);
  const message = (path: string, messageId: number, token: Uint8Array, options = Options.none): Uint8Array =>
    encodeMessage({
      type: MESSAGE_TYPE.Confirmable,
      code: CODE.GET,
      messageId,
      token,
      options: options.with(OPTION.UriPath, path),
      payload: NONE,
    });
  const received = (send: Uint8Array): Promise<Message> =>
    new Promise((resolve) => {
      socket.onDatagram = (bytes) => resolve(decodeMessage(Uint8Array.from(bytes)));
      socket.send(send, address);
    });
  const plain = await received(message("test", 1, NONE));
  t.like(plain, { code: CODE.Content, type: MESSAGE_TYPE.Acknowledgement, messageId: 1 });
  t.is(plain.token.length, 0);
  t.is(
    (await received(message("ticks", 2, Uint8Array.of(7), Options.none.with(OPTION.Observe, 0)))).options.has(
      OPTION.Observe,
    ),
    true,
  );
  t.is(observers, 1);
  await new Promise<void>((resolve) => {
    socket.onDatagram = (bytes) => {
      const { messageId } = decodeMessage(Uint8Array.from(bytes));
      socket.send(
        encodeMessage({
          type: MESSAGE_TYPE.Reset,
          code: 0,
          messageId,
          token: NONE,
          options: Options.none,
          payload: NONE,
        }),
        address,
      );
      setTimeout(resolve, 0);
    };
  });
  for (let waited = 0; observers > 0 && waited < 500; waited++) await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(observers, 0);
});

test("ETSI TD_COAP OBS_03, OBS_04 and OBS_10: ended by GET, taken up again by itself when the server has restarted, not ended by another GET", async (t) => {
  const observed = new Set<() => void>();
  let state = 0;
  const app = (): Router =>
    router()
      .get("/state", () => ({
        payload: String(state),
        maxAgeSeconds: 0,
        observe: (notify) => {
          const tell = (): void => notify({ payload: String(state), maxAgeSeconds: 0 });
          observed.add(tell);
          return () => observed.delete(tell);
        },
      }))
      .get("/other", () => "other");
  const change = (): void => {
    state++;
    for (const tell of observed) tell();
  };
  let server = await serve(app(), { host: "127.0.0.1", port: 0 });
  t.teardown(() => server.close());
  const port = server.address?.port ?? 0;
  const origin = `coap://127.0.0.1:${port}`;
  // Its Max-Age is over at once; a server that tells nothing is asked again so soon, and again until it answers.
  const client = new CoapClient({ parameters: { reregistrationDelayMs: 50, ackTimeoutMs: 200 } });
  t.teardown(() => client.close());
  const seen: string[] = [];
  for await (const response of client.observe(`${origin}/state`)) {
    seen.push(response.text());
    if (seen.length === 1) {
      t.is((await client.request(`${origin}/state`)).text(), "0", "another GET of the same resource");
      change();
    } else if (state === 1) {
      await server.close();
      t.is(observed.size, 0);
      state = 2;
      server = await serve(app(), { host: "127.0.0.1", port });
    } else if (response.text() === "2") {
      t.is(observed.size, 1, "the observation is at the new server");
      break;
    }
  }
  t.is(seen[0], "0");
  t.is(seen.at(-1), "2");
  for (let waited = 0; observed.size > 0 && waited < 500; waited++) {
    change();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.is(observed.size, 0, "ended by GET with Observe 1, or by the Reset of the next notification");
});

/** What a server of the npm package coap can show: it looks for the blocks of a request under one token, and cuts into 1024 bytes only. */
const NODE_COAP_SERVER_CASES =
  "CORE_01 CORE_03 CORE_04 CORE_02 CORE_05 CORE_07 CORE_08 CORE_06 CORE_10 CORE_13 CORE_14 BLOCK_02".split(" ");

test("ETSI TD_COAP between our client and a server of the npm package coap, by id", async (t) => {
  const codes: Readonly<Record<string, string>> = { PUT: "2.04", POST: "2.01", DELETE: "2.02" };
  const peer = coap.createServer((incoming, outgoing) => {
    const { pathname, search } = new URL(incoming.url, "coap://localhost");
    outgoing.code = codes[incoming.method ?? ""] ?? "2.05";
    if (pathname === "/large") outgoing.end("x".repeat(1280));
    else if (pathname === "/query") outgoing.end(search.slice(1).replaceAll("&", " "));
    else outgoing.end(incoming.method === "GET" ? "test" : undefined);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => peer.listen(port, "127.0.0.1", () => resolve()));
  t.teardown(() => new Promise<void>((resolve) => peer.close(() => resolve())));
  for (const id of NODE_COAP_SERVER_CASES) {
    const one = ETSI_CASES.find((candidate) => candidate.id === id);
    if (one === undefined) throw new Error(`no case ${id}`);
    await run(t, { address: { address: "127.0.0.1", port } }, byOurs, one);
  }
});

testWith(
  "libcoap-openssl",
  "ETSI TD_COAP CORE and BLOCK over TCP between libcoap's client and our server",
  async (t) => {
    const server = await start(t);
    const origin = `coap+tcp://127.0.0.1:${server.tcpAddress?.port}`;
    const client = (...words: string[]): Promise<string> =>
      PeerProcess.run(t, "coap-client-openssl", ["-B", "10", ...words]);
    t.is((await client(`${origin}/test`)).trim(), "test");
    t.is((await client(`${origin}/separate`)).trim(), "late");
    t.true((await client("-v", "7", "-m", "post", "-e", "x", `${origin}/location`)).includes("location3"));
    t.is((await client(`${origin}/large`)).trim(), "x".repeat(1280));
    t.is((await client("-m", "post", "-e", "y".repeat(3000), `${origin}/large-post`)).trim(), "Y".repeat(3000));
    t.true((await client("-s", "1", `${origin}/obs`)).includes("state 3"));
    t.true((await client(`${origin}/nothing`)).includes("4.04"));
  },
);

/** Where coap-server has what a case needs; with -d it keeps what is put anywhere else. */
const LIBCOAP_PATHS: Readonly<Record<string, string>> = { "/separate": "/async", "/obs": "/time" };
const LIBCOAP_CASES = ["CORE_03", "CORE_01", "CORE_10", "CORE_05", "CORE_07", "CORE_02", "CORE_09", "CORE_17"];
const LIBCOAP_BLOCK_CASES = ["BLOCK_01", "BLOCK_02", "BLOCK_03", "BLOCK_06", "OBS_01"];

testWith(
  "libcoap-notls",
  `ETSI TD_COAP between our client and libcoap's server: ${[...LIBCOAP_CASES, ...LIBCOAP_BLOCK_CASES].join(", ")}`,
  async (t) => {
    const port = await freePort();
    const peer = PeerProcess.start(t, "coap-server-notls", [
      "-A",
      "127.0.0.1",
      "-p",
      String(port),
      "-d",
      "20",
      "-v",
      "7",
    ]);
    await peer.printed("created UDP  endpoint");
    const address = { address: "127.0.0.1", port };
    const put = (path: string, payload: string): Step => ({ method: "PUT", path, payload });
    const prepared = ["/test", "/large-update"].map((path) => put(path, "x"));
    await byOurs(t, `coap://127.0.0.1:${port}`, [...prepared, put("/large", "x".repeat(1280))]);
    for (const id of [...LIBCOAP_CASES, ...LIBCOAP_BLOCK_CASES]) {
      const one = ETSI_CASES.find((candidate) => candidate.id === id);
      if (one === undefined) throw new Error(`no case ${id}`);
      const steps = one.steps.map((step) => ({
        ...step,
        path: LIBCOAP_PATHS[step.path] ?? step.path,
        ...(step.path === "/separate" ? { query: "1" } : {}),
      }));
      await run(t, { address }, byOurs, { ...one, steps });
    }
  },
);

for (const flavour of ["openssl", "gnutls"] as const) {
  testWith(
    `libcoap-${flavour}`,
    `CoAP over TLS: libcoap's client on ${flavour} at our server, and ours at its server`,
    async (t) => {
      const key = "0123456789abcdef";
      const server = await serve(etsiResources(), {
        host: "127.0.0.1",
        tls: { port: 0, pskOf: (identity) => (identity === "alice" ? key : undefined) },
      });
      t.teardown(() => server.close());
      const origin = `coaps+tcp://127.0.0.1:${server.tlsAddress?.port}`;
      const client = (...words: string[]): Promise<string> =>
        PeerProcess.run(t, `coap-client-${flavour}`, ["-B", "10", "-u", "alice", "-k", key, ...words]);
      t.is((await client(`${origin}/test`)).trim(), "test");
      t.is((await client("-m", "post", "-e", "y".repeat(3000), `${origin}/large-post`)).trim(), "Y".repeat(3000));

      const port = await freePort();
      const peer = PeerProcess.start(t, `coap-server-${flavour}`, [
        "-A",
        "127.0.0.1",
        "-p",
        String(port),
        "-d",
        "9",
        "-k",
        key,
        "-v",
        "7",
      ]);
      await peer.printed(`created TLS  endpoint 127.0.0.1:${port + 1}`);
      // libcoap 4.3.1 names no protocol by ALPN.
      const ours = new CoapClient({ psk: { identity: "alice", key }, dangerSkipAlpn: true });
      t.teardown(() => ours.close());
      for (const base of [`coap+tcp://127.0.0.1:${port}`, `coaps+tcp://127.0.0.1:${port + 1}`]) {
        await ours.ping(base);
        t.is(
          (await ours.request(`${base}/stored-${base.length}`, { method: "PUT", payload: "z".repeat(5000) })).status,
          "2.01",
        );
        t.is((await ours.request(`${base}/stored-${base.length}`)).text(), "z".repeat(5000));
      }
    },
  );
}

test("every refusal of the ETSI resources is an error by code", async (t) => {
  const server = await start(t);
  const client = new CoapClient();
  t.teardown(() => client.close());
  const origin = `coap://127.0.0.1:${server.address?.port}`;
  t.is((await client.request(`${origin}/multi-format`, { accept: 60 })).status, "4.06");
  t.is((await client.request(`${origin}/large`, { method: "DELETE" })).status, "4.05");
  t.is(new ResponseError(CODE.NotFound).code, "COAP_RESPONSE_ERROR");
});
