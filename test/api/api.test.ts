import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import {
  checkPreconditions,
  CoapClient,
  CoapError,
  type CoapServer,
  CODE,
  CONTENT_FORMAT,
  decodeLinks,
  negotiate,
  observe,
  OPTION,
  request,
  ResponseError,
  router,
  serve,
  type ServeOptions,
  type Handler,
  type Router,
} from "#api/index.js";
import { decodeMessage, decomposeUri, encodeMessage, type Message, MESSAGE_TYPE, Options } from "#coap/index.js";
import { UdpSocket } from "#net/index.js";
import { codeOf } from "#testing/code-of.js";
import { freePort } from "#testing/free-port.js";
import { issueThrowawayCredentials } from "#x509/index.js";
import test, { type ExecutionContext } from "ava";

async function start(t: ExecutionContext, handler: Handler | Router, options: ServeOptions = {}) {
  const server = await serve(handler, { host: "127.0.0.1", port: 0, ...options });
  t.teardown(() => server.close());
  return server;
}

const originOf = (server: CoapServer): string => `coap://127.0.0.1:${server.address?.port}`;

test("a URI is decomposed into options (RFC 7252 §6.4), or refused by code", (t) => {
  const of = (uri: string) => {
    const { scheme, host, port, options } = decomposeUri(uri);
    return [scheme, host, port, options.uriHost, options.uriPath, options.uriQuery];
  };
  t.deepEqual(of("coap://[2001:db8::2:1]/"), ["coap", "2001:db8::2:1", 5683, undefined, [], []]);
  t.deepEqual(of("coap://example.net"), ["coap", "example.net", 5683, "example.net", [], []]);
  t.deepEqual(of("coap://198.51.100.1:61616//%2F//?%2F%2F&?%26"), [
    "coap",
    "198.51.100.1",
    61_616,
    undefined,
    ["", "/", "", ""],
    ["//", "?&"],
  ]);
  t.deepEqual(of("COAPS://Ex%41mple.net:5684/~sensors/temp.xml"), [
    "coaps",
    "example.net",
    5684,
    "example.net",
    ["~sensors", "temp.xml"],
    [],
  ]);
  t.deepEqual(of("coap://xn--18j4d.example/%E3%81%93%E3%82%93"), [
    "coap",
    "xn--18j4d.example",
    5683,
    "xn--18j4d.example",
    ["こん"],
    [],
  ]);
  // RFC 3986 §5.2.4: the resolution that RFC 7252 §6.4 begins with takes dots away, percent-encoded ones too.
  for (const [path, segments] of [
    ["/a/./b", ["a", "b"]],
    ["/a/../b", ["b"]],
    ["/a/%2E%2e/b/.", ["b", ""]],
    ["/..", []],
    ["/a/b/..", ["a", ""]],
    ["/...", ["..."]],
    ["//", ["", ""]],
  ] as const)
    t.deepEqual(decomposeUri(`coap://h${path}`).options.uriPath, segments, path);
  for (const uri of [
    "temperature",
    "http://example.net/",
    "coap:///path",
    "coap://user@example.net/",
    "coap://example.net/#fragment",
    "coap://example.net:70000/",
    "coap://example.net/%zz",
    `coap://example.net/${"a".repeat(256)}`,
  ])
    t.is(t.throws(() => decomposeUri(uri), { instanceOf: CoapError })?.code, "COAP_BAD_URI", uri);
});

test("a router answers by path and method, with parameters, and lists itself", async (t) => {
  const stored = new Map<string, string>();
  const server = await start(
    t,
    router()
      .get("/temperature", () => "21.5", { rt: "temperature", obs: true })
      .get("/files/*", (_, { "*": rest }) => `file ${rest}`)
      .put("/led/:color", (incoming, { color = "" }) => {
        stored.set(color, incoming.text());
        return { code: CODE.Created, location: `/led/${color}` };
      })
      .delete("/led/:color", (_, { color = "" }) => {
        if (!stored.delete(color)) throw new ResponseError(CODE.NotFound, { title: "no such light", detail: color });
        return undefined;
      }),
  );
  const client = new CoapClient();
  t.teardown(() => client.close());
  const origin = originOf(server);
  const read = await client.request(`${origin}/temperature`);
  t.like(read, { ok: true, status: "2.05", contentFormat: CONTENT_FORMAT["text/plain"] });
  t.is(read.text(), "21.5");
  t.is((await client.request(`${origin}/files/a/b%2Fc`)).text(), "file a/b/c");
  const created = await client.request(`${origin}/led/red`, { method: "PUT", payload: "on" });
  t.like(created, { status: "2.01", location: "/led/red" });
  t.is(stored.get("red"), "on");
  t.is((await client.request(`${origin}/led/red`, { method: "DELETE" })).status, "2.02");
  const missing = await client.request(`${origin}/led/red`, { method: "DELETE" });
  t.like(missing, { ok: false, status: "4.04" });
  t.like(missing.problem(), { title: "no such light", detail: "red" });
  t.is((await client.request(`${origin}/nothing`)).status, "4.04");
  t.is((await client.request(`${origin}/temperature`, { method: "POST" })).status, "4.05");
  const links = decodeLinks((await client.request(`${origin}/.well-known/core?rt=temp*`)).text());
  t.deepEqual(links, [{ target: "/temperature", attributes: { rt: "temperature", obs: true } }]);
});

test("what a method or a code does not have is neither sent nor told: payloads of GET and 2.03, a false response-code", async (t) => {
  const etag = Uint8Array.of(1);
  const server = await start(
    t,
    router()
      .get("/valid", () => ({ code: CODE.Valid, etag, payload: "no payload (RFC 7252 §5.9.1.3)" }))
      .post("/tagged", () => ({ code: CODE.Content, etag, payload: "an ETag asks nothing of POST (§5.10.6.2)" }))
      .get("/problem", () => {
        throw new ResponseError(CODE.Conflict, { title: "no", responseCode: CODE.NotFound });
      }),
  );
  const client = new CoapClient();
  t.teardown(() => client.close());
  const origin = originOf(server);
  t.is(await codeOf(client.request(`${origin}/valid`, { payload: "x" })), "COAP_INVALID_MESSAGE");
  t.is(await codeOf(client.request(`${origin}/valid`, { method: "DELETE", payload: "x" })), "COAP_INVALID_MESSAGE");
  const valid = await client.request(`${origin}/valid`);
  t.like(valid, { status: "2.03", contentFormat: undefined });
  t.is(valid.payload.length, 0);
  const tagged = await client.request(`${origin}/tagged`, { method: "POST", etags: [etag] });
  t.is(tagged.status, "2.05");
  // RFC 9290 §2: the response-code of problem details is that of the response.
  t.is((await client.request(`${origin}/problem`)).problem()?.responseCode, CODE.Conflict);
});

test("a request goes by a proxy, from an address and port, without Uri-Host, with tokens that count: as it was asked to", async (t) => {
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => socket.close());
  const seen: { readonly message: Message; readonly port: number }[] = [];
  socket.onDatagram = (bytes, from) => {
    const message = decodeMessage(bytes);
    seen.push({ message, port: from.port });
    const reply = { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, options: Options.none };
    socket.send(encodeMessage({ ...message, ...reply, payload: new Uint8Array(0) }), from);
  };
  const free = await UdpSocket.bind({ host: "127.0.0.1" });
  const { port } = free.address;
  await free.close();
  const proxy = `coap://127.0.0.1:${socket.address.port}`;
  const client = new CoapClient({
    proxy,
    local: { host: "127.0.0.1", port },
    dangerFirstToken: Uint8Array.of(0, 255),
  });
  t.teardown(() => client.close());
  await client.request("coap://far.example/a?b=c");
  await client.request("coaps://far.example/d");
  t.deepEqual(
    seen.map(({ message }) => message.options.strings(OPTION.ProxyUri)),
    [["coap://far.example/a?b=c"], ["coaps://far.example/d"]],
  );
  t.deepEqual(
    seen.map((one) => [one.message.options.length, one.port, [...one.message.token]]),
    [
      [1, port, [0, 255]],
      [1, port, [1, 0]],
    ],
  );
  t.is(await codeOf(client.request(`coap://far.example/${"long/".repeat(250)}`)), "COAP_BAD_URI");
  const plain = new CoapClient();
  t.teardown(() => plain.close());
  await plain.request(`coap://localhost:${socket.address.port}/x`, { omitsUriHost: true });
  t.deepEqual([seen.at(-1)?.message.options.uriHost, seen.at(-1)?.message.options.uriPath], [undefined, ["x"]]);
  const other = new CoapClient({ local: { host: "::1" } });
  t.teardown(() => other.close());
  t.is(await codeOf(other.request(`${proxy}/x`)), "NET_ADDRESS_NOT_AVAILABLE");
});

test("a handler's fault is 5.00 without a word of it, and is told to the server's owner", async (t) => {
  const faults: unknown[] = [];
  const server = await start(
    t,
    () => {
      throw new Error("a secret");
    },
    { onFault: (error) => faults.push(error) },
  );
  const response = await request(originOf(server));
  t.is(response.status, "5.00");
  t.is(response.payload.length, 0);
  t.regex(String(faults[0]), /a secret/);
});

test("an observation is iterated from its first state on, and cancelled when the loop is left", async (t) => {
  let state = 0;
  const observers = new Set<() => void>();
  let stopped = 0;
  const server = await start(
    t,
    router().get("/counter", () => ({
      payload: String(state),
      observe: (notify) => {
        const tell = (): void => notify(String(state));
        observers.add(tell);
        return () => {
          stopped++;
          observers.delete(tell);
        };
      },
    })),
  );
  const seen: string[] = [];
  for await (const response of observe(`${originOf(server)}/counter`)) {
    seen.push(response.text());
    if (state === 3) break;
    state++;
    for (const tell of observers) tell();
  }
  t.deepEqual(seen, ["0", "1", "2", "3"]);
  // Cancelled by GET with Observe 1, or by the Reset of the next notification.
  for (const tell of observers) tell();
  await request(`${originOf(server)}/counter`);
  const aborted = new AbortController();
  const states: string[] = [];
  for await (const response of observe(`${originOf(server)}/counter`, { signal: aborted.signal })) {
    states.push(response.text());
    aborted.abort();
  }
  t.deepEqual(states, ["3"]);
  const errors: string[] = [];
  for await (const response of observe(`${originOf(server)}/absent`)) errors.push(response.status);
  t.deepEqual(errors, ["4.04"]);
  t.true(stopped <= 2);
});

test("ETag gives 2.03, preconditions 4.12 where they are obeyed and 4.02 where not, Accept 4.06", async (t) => {
  const etag = Uint8Array.of(1, 2);
  const server = await start(
    t,
    router()
      .get("/state", () => ({ payload: "state", etag, maxAgeSeconds: 5 }))
      .get("/data", (incoming) => negotiate(incoming, { 0: () => "text", 60: () => Uint8Array.of(0x01) }))
      .put("/state", (incoming) => {
        checkPreconditions(incoming, etag);
        return undefined;
      }),
    { understands: [OPTION.IfMatch, OPTION.IfNoneMatch] },
  );
  const origin = originOf(server);
  const client = new CoapClient();
  t.teardown(() => client.close());
  t.is((await client.request(`${origin}/state`)).etag?.length, 2);
  const valid = await client.request(`${origin}/state`, { etags: [Uint8Array.of(9), etag] });
  t.like(valid, { status: "2.03", ok: true });
  t.is(valid.payload.length, 0);
  t.is(valid.options.maxAge, 5);
  const put = async (init: object): Promise<string> =>
    (await client.request(`${origin}/state`, { method: "PUT", payload: "x", ...init })).status;
  t.is(await put({ ifMatch: [etag] }), "2.04");
  t.is(await put({ ifMatch: [new Uint8Array(0)] }), "2.04");
  t.is(await put({ ifMatch: [Uint8Array.of(7)] }), "4.12");
  t.is(await put({ ifNoneMatch: true }), "4.12");
  t.is((await client.request(`${origin}/data`, { accept: 60 })).contentFormat, 60);
  t.is((await client.request(`${origin}/data`)).text(), "text");
  t.is((await client.request(`${origin}/data`, { accept: 50 })).status, "4.06");
  const strict = await start(t, () => "x");
  t.is((await request(originOf(strict), { ifMatch: [etag] })).status, "4.02");
});

test("requests end by time-out, by signal, by close and by an unknown name, each by its code", async (t) => {
  const server = await start(t, () => new Promise(() => undefined));
  const client = new CoapClient();
  const uri = originOf(server);
  t.is(await codeOf(client.request(uri, { timeoutMs: 50 })), "COAP_TIMEOUT");
  const controller = new AbortController();
  const pending = codeOf(client.request(uri, { signal: controller.signal, timeoutMs: 60_000 }));
  setImmediate(() => controller.abort());
  t.is(await pending, "COAP_CANCELLED");
  t.is(await codeOf(client.request(uri, { signal: AbortSignal.abort() })), "COAP_CANCELLED");
  t.is(await codeOf(client.request("coap://no-such-host.invalid/")), "NET_NAME_NOT_FOUND");
  t.is(await codeOf(client.request("coap:")), "COAP_BAD_URI");
  // Nobody answers a handshake there; the time-out holds for it as well.
  t.is(await codeOf(client.request(uri.replace("coap", "coaps"), { timeoutMs: 50 })), "COAP_TIMEOUT");
  await client.ping(uri);
  const late = codeOf(client.request(uri));
  setImmediate(() => void client.close());
  t.is(await late, "COAP_PEER_CLOSED");
});

test("DTLS: with a PSK, and with certificates of both sides; what is not trusted is refused", async (t) => {
  const credentials = await issueThrowawayCredentials({
    commonName: "server",
    purpose: "serverAuth",
    ip: ["127.0.0.1"],
    atMs: Date.now(),
  });
  const device = await issueThrowawayCredentials({
    commonName: "device",
    purpose: "clientAuth",
    atMs: Date.now(),
    authority: credentials.authority,
  });
  const server = await start(t, ({ connection }) => `certificates: ${connection.peerInfo?.certificates?.length ?? 0}`, {
    dtls: {
      port: 0,
      pskOf: (identity) => (identity === "alice" ? "0123456789abcdef" : undefined),
      certificate: credentials.certificatePem,
      privateKey: credentials.privateKeyPem,
      ca: credentials.authority.certificatePem,
      clientCertificate: "request",
    },
  });
  const uri = `coaps://127.0.0.1:${server.secureAddress?.port}/`;
  const psk = { identity: "alice", key: "0123456789abcdef" };
  t.is((await request(uri, { psk })).text(), "certificates: 0");
  const ca = credentials.authority.certificatePem;
  const own = { certificate: device.certificatePem, privateKey: device.privateKeyPem };
  t.is((await request(uri, { ca })).text(), "certificates: 0");
  t.is((await request(uri, { ca, ...own })).text(), "certificates: 1");
  t.is(
    await codeOf(request(uri, { psk: { identity: "alice", key: "wrong" }, timeoutMs: 20_000 })),
    "DTLS_ALERT_RECEIVED",
  );
  t.is(await codeOf(request(uri, { timeoutMs: 20_000 })), "DTLS_CERTIFICATE_REFUSED");
  t.is((await request(uri, { dangerSkipVerification: true })).text(), "certificates: 0");
});

test("the README's example runs and prints what it says", async (t) => {
  const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const example = /## CoAP in ten lines\n\n```js\n(.*?)```/s.exec(readme)?.[1] ?? "";
  const free = await UdpSocket.bind({ host: "127.0.0.1" });
  const { port } = free.address;
  await free.close();
  const code = example.replaceAll("127.0.0.1/", `127.0.0.1:${port}/`).replace("port: 5683", `port: ${port}`);
  t.true(code.includes(String(port)));
  const output = await new Promise<string>((resolve) =>
    execFile(
      process.execPath,
      ["--input-type=module", "-e", code],
      { cwd: root, timeout: 30_000 },
      (error, stdout, stderr) => resolve(error === null ? stdout : stderr),
    ),
  );
  t.is(output, "2.05 22\n");
});

test("the same requests and observations run over TCP and TLS", async (t) => {
  const credentials = await issueThrowawayCredentials({
    commonName: "server",
    purpose: "serverAuth",
    ip: ["127.0.0.1"],
    atMs: Date.now(),
  });
  const server = await start(
    t,
    router()
      .put("/echo", (incoming) => incoming.payload)
      .get("/state", () => ({
        payload: "first",
        observe: (notify) => {
          const timer = setTimeout(() => notify("second"), 10);
          return () => clearTimeout(timer);
        },
      })),
    {
      tcp: { port: 0 },
      tls: {
        port: 0,
        certificate: credentials.certificatePem,
        privateKey: credentials.privateKeyPem,
        pskOf: (identity) => (identity === "alice" ? "0123456789abcdef" : undefined),
      },
    },
  );
  const body = "x".repeat(50_000);
  const psk = { identity: "alice", key: "0123456789abcdef" };
  const ca = credentials.authority.certificatePem;
  for (const [origin, options] of [
    [`coap+tcp://127.0.0.1:${server.tcpAddress?.port}`, {}],
    [`coaps+tcp://127.0.0.1:${server.tlsAddress?.port}`, { ca }],
    [`coaps+tcp://127.0.0.1:${server.tlsAddress?.port}`, { psk }],
  ] as const) {
    const client = new CoapClient(options);
    t.teardown(() => client.close());
    await client.ping(origin);
    t.is((await client.request(`${origin}/echo`, { method: "PUT", payload: body })).text(), body);
    const states: string[] = [];
    for await (const response of client.observe(`${origin}/state`)) {
      states.push(response.text());
      if (states.length === 2) break;
    }
    t.deepEqual(states, ["first", "second"]);
  }
  t.is(await codeOf(request(`coaps+tcp://127.0.0.1:${server.tlsAddress?.port}/`)), "NET_NOT_ACCEPTED");
  t.is(
    await codeOf(request(`coap+tcp://127.0.0.1:${server.tlsAddress?.port}/`, { timeoutMs: 20_000 })),
    "COAP_PEER_CLOSED",
  );
});

test("a time-out that is longer than a timer's is none that has passed", async (t) => {
  const server = await start(t, () => new Promise<string>((resolve) => setTimeout(resolve, 20, "late")));
  for (const timeoutMs of [2 ** 31, Infinity]) t.is((await request(originOf(server), { timeoutMs })).text(), "late");
});

test("requests that find a connection closed share the next one, and a client that is closed opens none", async (t) => {
  const server = await start(t, () => "here", { tcp: { port: 0 } });
  const client = new CoapClient();
  const uri = `coap+tcp://127.0.0.1:${server.tcpAddress?.port}`;
  const streams = () => [...server.endpoint.connections].filter(({ transport }) => transport !== undefined);
  await client.request(uri);
  await Promise.all(streams().map((connection) => connection.close()));
  // The client is to have heard of it.
  await new Promise((resolve) => setTimeout(resolve, 50));
  const answers = await Promise.all([client.request(uri), client.request(uri), client.request(uri)]);
  t.deepEqual(
    answers.map((answer) => answer.text()),
    ["here", "here", "here"],
  );
  t.is(streams().length, 1);
  await client.request(originOf(server));
  await client.close();
  t.is(await codeOf(client.request(uri)), "COAP_PEER_CLOSED");
  t.is(await codeOf(client.request(originOf(server))), "COAP_PEER_CLOSED");
});

test("an observation is left at once, also while it waits for the next state", async (t) => {
  const server = await start(
    t,
    router().get("/still", () => ({ payload: "first", observe: () => () => undefined })),
  );
  const client = new CoapClient();
  t.teardown(() => client.close());
  const uri = `${originOf(server)}/still`;
  for (const responses of [client.observe(uri)[Symbol.asyncIterator](), observe(uri)]) {
    t.is((await responses.next()).value?.text(), "first");
    const waiting = responses.next();
    await responses.return();
    t.true((await waiting).done);
  }
  const states = Readable.from(observe(uri));
  states.once("data", () => states.destroy());
  await once(states, "close");
  t.true(states.destroyed);
});

test("an observation whose first state is not to be had whole is none, and is cancelled", async (t) => {
  const server = await start(
    t,
    router().get("/long", () => ({ payload: "x".repeat(3000), observe: () => () => undefined })),
  );
  const client = new CoapClient();
  t.teardown(() => client.close());
  const observation = client.observe(`${originOf(server)}/long`, { maxBodyBytes: 2000 });
  t.is(await codeOf(observation[Symbol.asyncIterator]().next()), "COAP_BODY_TOO_LARGE");
  // The server hears of it by a message.
  for (let waited = 0; server.endpoint.usage.observations > 0 && waited < 500; waited++)
    await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(server.endpoint.usage.observations, 0);
});

test("a PSK identity is looked up as it was sent, with all that it begins with", async (t) => {
  const identities: string[] = [];
  const pskOf = (identity: string): string | undefined => {
    identities.push(identity);
    return identity === "alice" ? "0123456789abcdef" : undefined;
  };
  const server = await start(t, () => "in", { dtls: { port: 0, pskOf }, tls: { port: 0, pskOf } });
  const psk = { identity: "\ufeffalice", key: "0123456789abcdef" };
  for (const uri of [
    `coaps://127.0.0.1:${server.secureAddress?.port}`,
    `coaps+tcp://127.0.0.1:${server.tlsAddress?.port}`,
  ])
    await t.throwsAsync(request(uri, { psk }));
  t.deepEqual([...new Set(identities)], ["\ufeffalice"]);
});

test("a handler whose end of an observation throws is told of, and the server goes on", async (t) => {
  const faults: unknown[] = [];
  const server = await start(
    t,
    router()
      .get("/faulty", () => ({
        payload: "first",
        observe: () => () => {
          throw new Error("cannot stop");
        },
      }))
      .get("/other", () => "here"),
    { onFault: (error) => faults.push(error), maxAmplification: Infinity },
  );
  for await (const response of observe(`${originOf(server)}/faulty`)) {
    t.is(response.text(), "first");
    break;
  }
  t.is((await request(`${originOf(server)}/other`)).text(), "here");
  t.is(faults.length, 1);
});

test("an observation that its handler cannot begin is none: answered without Observe, told of, and nothing is kept", async (t) => {
  const faults: unknown[] = [];
  let stopped = 0;
  const server = await start(
    t,
    router()
      .get("/faulty", () => ({
        payload: "first",
        observe: () => {
          throw new Error("cannot begin");
        },
      }))
      .get("/early", () => ({
        payload: "first",
        observe: (notify) => {
          notify("second");
          notify("third");
          return () => stopped++;
        },
      }))
      .get("/over", () => ({
        payload: "first",
        observe: (notify) => {
          notify({ code: CODE.NotFound });
          notify("never");
          return () => stopped++;
        },
      })),
    { onFault: (error) => faults.push(error), maxAmplification: Infinity, limits: { maxObservationsPerPeer: 1 } },
  );
  const client = new CoapClient();
  t.teardown(() => client.close());
  const states = async (path: string): Promise<string[]> => {
    const found: string[] = [];
    const signal = AbortSignal.timeout(20_000);
    for await (const response of client.observe(`${originOf(server)}${path}`, { signal })) {
      found.push(`${response.status} ${response.text()}`);
      if (found.length === 2) break;
    }
    return found;
  };
  for (let round = 1; round <= 2; round++) {
    t.deepEqual(await states("/faulty"), ["2.05 first"]);
    t.is(faults.length, round);
    t.regex(String(faults[round - 1]), /cannot begin/);
  }
  t.deepEqual(await states("/early"), ["2.05 first", "2.05 third"], "the newest of what was told before the answer");
  t.deepEqual(await states("/over"), ["2.05 first", "4.04 "]);
  t.is(stopped, 2);
});

test("what an option is to be is said where it is something else", async (t) => {
  const uri = "coaps://127.0.0.1:1/";
  const wrong = async (init: object): Promise<Error & { readonly code?: string }> =>
    (await t.throwsAsync(request(uri, init))) as Error;
  t.like(await wrong({ method: "FROB" }), { code: "COAP_INVALID_MESSAGE", message: "FROB is no method" });
  t.regex(
    (await wrong({ psk: { identity: "alice" } })).message,
    /psk\.key is to be text or a Uint8Array, not undefined/,
  );
  t.like(await wrong({ ca: "ca.pem" }), { code: "X509_NO_CERTIFICATE" });
});

test("a port where nobody listens is told by its host: `endsOnRefusal` ends the request with a retransmission, not one that is answered to that", async (t) => {
  t.timeout(30_000);
  const port = await freePort();
  const client = new CoapClient({ endsOnRefusal: true, parameters: { ackTimeoutMs: 600 } });
  t.teardown(() => client.close());
  const began = performance.now();
  const error = await t.throwsAsync(client.request(`coap://127.0.0.1:${port}/`), { instanceOf: CoapError });
  t.is(error?.code, "COAP_PEER_CLOSED");
  t.is(error?.message, `127.0.0.1:${port}: nobody listens there`);
  t.like(error?.cause, { code: "NET_CONNECTION_REFUSED" });
  t.true(performance.now() - began < 5000, "long before MAX_TRANSMIT_WAIT, 28 s of these");

  const asked = client.request(`coap://127.0.0.1:${port}/`);
  // The first transmission is refused meanwhile.
  await new Promise((resolve) => setTimeout(resolve, 100));
  const server = await start(t, () => "here again", { port });
  t.is((await asked).text(), "here again");
  // It was heard: a server that starts anew is waited for.
  await server.close();
  const waiting = client.request(`coap://127.0.0.1:${port}/`);
  await new Promise((resolve) => setTimeout(resolve, 2000));
  await start(t, () => "anew", { port });
  t.is((await waiting).text(), "anew");
});
