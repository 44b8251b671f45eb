import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execFile } from "node:child_process";
import { AGENT_SCHEMA, DpeAgent } from "#agent/index.js";
import { CODE, formatCode, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { ConfigError, parseConfig } from "#config/index.js";
import { BINDING_OPTION, BINDING_OPTION_FORMATS } from "#dpe/index.js";
import {
  type CoapConnection,
  CoapEndpoint,
  connect,
  DtlsError,
  type ObservableResponse,
  UdpSocket,
} from "#net/index.js";
import { DpeProxy, PROXY_SCHEMA, type ProxyEvent } from "#proxy/index.js";
import {
  authErrorOf,
  decodeSubscriberIdentity,
  encodeSubscriberIdentity,
  formatSubscriberIdentity,
  subscriberIdentity,
} from "#security/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { Events } from "#testing/events.js";
import { testWith } from "#testing/peer-process.js";
import { until } from "#testing/until.js";
import { issueThrowawayCredentials } from "#x509/index.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";
const PROXY_KEY = `ff${KEY.slice(2)}`;
const NOTHING = new Uint8Array(0);
const FORGED = encodeSubscriberIdentity(subscriberIdentity("imsi", "262010000000001"));

const text = ({ payload }: { readonly payload: Uint8Array }): string => new TextDecoder().decode(payload);
const codeOf = ({ code }: ResponseMessage): string => formatCode(code);

/** A plain origin server that keeps what reached it. */
async function origin(t: ExecutionContext, handle: (request: RequestMessage) => ObservableResponse | undefined) {
  const seen: RequestMessage[] = [];
  const endpoint = new CoapEndpoint({
    optionFormats: BINDING_OPTION_FORMATS,
    onRequest: (request) => {
      seen.push(request);
      return handle(request) ?? new Promise<ObservableResponse>(() => undefined);
    },
    maxAmplification: Infinity,
    proxy: {},
  });
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  endpoint.addSocket(socket);
  t.teardown(() => endpoint.close());
  return { seen, endpoint, port: socket.address.port };
}

async function startProxy(t: ExecutionContext, config: string) {
  const events: ProxyEvent[] = [];
  const proxy = await DpeProxy.start(parseConfig(config, "proxy.yaml", PROXY_SCHEMA), (event) => events.push(event));
  t.teardown(() => proxy.close());
  return { proxy, events };
}

async function client(t: ExecutionContext, port: number, host = "127.0.0.1"): Promise<CoapConnection> {
  const endpoint = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  t.teardown(() => endpoint.close());
  return endpoint.addSocket(await UdpSocket.bind({ host })).connectTo({ address: "127.0.0.1", port });
}

const plainProxy = (port: number, more = ""): string => `
listen: { host: 127.0.0.1, coap: 0 }
targets: [{ name: origin, uri: "coap://127.0.0.1:${port}", serverAuthentication: none }]
routes: [{ target: origin }]
forward: [origin]
identities: { required: false }
${more}
`;

const get = (options: Options): RequestMessage => ({ code: CODE.GET, options, payload: NOTHING });
const at = (...path: string[]): Options => Options.none.withAll(OPTION.UriPath, path);
const content = (payload: string, options: Options = Options.none): ResponseMessage => ({
  code: CODE.Content,
  options,
  payload: new TextEncoder().encode(payload),
});

test("a forward proxy reaches listed targets by Proxy-Uri and Proxy-Scheme, and nothing else", async (t) => {
  const { port, seen } = await origin(t, ({ options }) => content([...options.uriPath, ...options.uriQuery].join(" ")));
  const { proxy, events } = await startProxy(t, plainProxy(port));
  const ask = await client(t, proxy.addresses.coap!.port);
  const byUri = (uri: string): Promise<ResponseMessage> => ask.request(get(Options.none.with(OPTION.ProxyUri, uri)));
  t.is(text(await byUri(`coap://127.0.0.1:${port}/a%20b/c?d=e&f`)), "a b c d=e f");
  t.is(seen[0]?.options.has(OPTION.ProxyUri), false);
  const schemed = at("x").with(OPTION.ProxyScheme, "coap").with(OPTION.UriHost, "127.0.0.1").with(OPTION.UriPort, port);
  t.is(text(await ask.request(get(schemed))), "x");
  t.false(seen[1]?.options.has(OPTION.UriPort) || seen[1]?.options.has(OPTION.ProxyScheme));

  for (const [uri, code] of [
    [`coap://127.0.0.1:${port + 1}/`, "5.05"],
    ["coap://localhost/", "5.05"],
    [`coaps://127.0.0.1:${port}/`, "5.05"],
    ["http://127.0.0.1/", "5.05"],
    [`coap://127.0.0.1:${port}/%zz`, "4.00"],
    [`coap://user@127.0.0.1:${port}/`, "4.00"],
    [`coap://127.0.0.1:${port}/a/../b`, "5.05"],
    ["nonsense", "4.00"],
  ] as const) {
    t.is(codeOf(await byUri(uri)), code, uri);
  }
  t.is(codeOf(await ask.request(get(at("x").with(OPTION.ProxyScheme, "coap")))), "4.00", "a loop to the proxy itself");
  t.is(seen.length, 2);
  t.true(events.some((event) => event.type === "refused" && event.rule === "the target is not listed"));
  // A word that every object of JavaScript has is a scheme like any other.
  t.is(codeOf(await byUri("constructor://127.0.0.1/")), "5.05");
  t.like(events.at(-1), { type: "refused", rule: "only coap and coaps are proxied" });
});

test("a reverse proxy maps host and path, the longest route first, and maps locations back", async (t) => {
  const { port } = await origin(t, ({ options }) => ({
    ...content(options.uriPath.join("/")),
    code: CODE.Created,
    options: Options.none.withAll(OPTION.LocationPath, ["base", "new"]),
  }));
  const { proxy } = await startProxy(
    t,
    `
listen: { host: 127.0.0.1, coap: 0 }
targets:
  - { name: based, uri: "coap://127.0.0.1:${port}/base", serverAuthentication: none }
  - { name: bare, uri: "coap://127.0.0.1:${port}", serverAuthentication: none }
routes:
  - { path: /a, target: bare }
  - { path: /a/b, target: based }
  - { host: named.example, path: /a, target: based }
identities: { required: false }
`,
  );
  const ask = await client(t, proxy.addresses.coap!.port);
  const bare = await ask.request(get(at("a", "x")));
  t.deepEqual([text(bare), bare.options.locationPath], ["x", ["a", "base", "new"]]);
  const based = await ask.request(get(at("a", "b", "x")));
  t.deepEqual([text(based), based.options.locationPath], ["base/x", ["a", "b", "new"]]);
  t.is(text(await ask.request(get(at("a", "x").with(OPTION.UriHost, "named.example")))), "base/x");
  t.is(codeOf(await ask.request(get(at("other")))), "4.04");
  const asked = Options.none.with(OPTION.ProxyUri, `coap://127.0.0.1:${port}/a`);
  t.is(codeOf(await ask.request(get(asked))), "5.05", "no open relay by default");
});

test("bodies go through block by block in both directions", async (t) => {
  const { port, seen } = await origin(t, ({ payload }) => content(`${text({ payload }).toUpperCase()}!`));
  const { proxy } = await startProxy(t, plainProxy(port));
  const ask = await client(t, proxy.addresses.coap!.port);
  const body = "abcdefgh".repeat(700);
  const response = await ask.request({ code: CODE.POST, options: at("echo"), payload: new TextEncoder().encode(body) });
  t.is(text(response), `${body.toUpperCase()}!`);
  t.is(seen.length, 1);
  t.is(proxy.associations, 1);
});

test("clients never share an association with a target", async (t) => {
  const { port, endpoint } = await origin(t, () => content("ok"));
  const { proxy } = await startProxy(t, plainProxy(port));
  const clients = await Promise.all([1, 2, 3].map(() => client(t, proxy.addresses.coap!.port)));
  await Promise.all(clients.flatMap((ask) => [ask.request(get(at("a"))), ask.request(get(at("b")))]));
  t.is([...endpoint.connections].length, 3);
  t.is(proxy.associations, 3);
});

test("an observation is relayed, notification by notification, until it is cancelled or its target ends it", async (t) => {
  const observers = new Set<(response: ResponseMessage) => void>();
  const { port } = await origin(t, () => ({
    ...content("0"),
    observe: (notify) => {
      observers.add(notify);
      return () => observers.delete(notify);
    },
  }));
  const observed = (count: number) => until(() => observers.size === count);
  const { proxy } = await startProxy(t, plainProxy(port));
  const ask = await client(t, proxy.addresses.coap!.port);
  const observation = await ask.observe(get(at("temperature")));
  t.is(text(observation.first), "0");
  await observed(1);
  const iterator = observation[Symbol.asyncIterator]();
  for (const value of ["1", "2"]) {
    for (const notify of observers) notify(content(value));
    const next = await iterator.next();
    t.is(next.done === true ? "" : text(next.value), value);
  }
  observation.cancel();
  await observed(0);

  const other = await ask.observe(get(at("temperature")));
  await observed(1);
  for (const notify of observers) notify({ ...content("gone"), code: CODE.NotFound });
  const codes: string[] = [];
  for await (const notification of other) codes.push(codeOf(notification));
  t.deepEqual(codes, ["4.04"]);
});

test("Hop-Limit counts down, is put in where it is missing, and ends a loop with the names on the way", async (t) => {
  const { port, seen } = await origin(t, () => content("ok"));
  const { proxy } = await startProxy(t, plainProxy(port, "hopLimit: 9"));
  const ask = await client(t, proxy.addresses.coap!.port);
  const withLimit = (limit: Uint8Array | number) => ask.request(get(at("a").with(OPTION.HopLimit, limit)));
  await ask.request(get(at("a")));
  await withLimit(5);
  t.deepEqual(
    seen.map(({ options }) => options.uint(OPTION.HopLimit)),
    [9, 4],
  );
  t.is(codeOf(await withLimit(Uint8Array.of(0))), "4.00");
  const reached = await withLimit(1);
  t.deepEqual([codeOf(reached), text(reached)], ["5.08", "dpe-proxy"]);

  // Two proxies that forward to each other.
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  const { address } = socket;
  await socket.close();
  const second = await startProxy(t, plainProxy(address.port, "name: second"));
  await startProxy(
    t,
    plainProxy(second.proxy.addresses.coap!.port, "name: first\nhopLimit: 3").replace(
      "coap: 0",
      `coap: ${address.port}`,
    ),
  );
  const looping = await (await client(t, address.port)).request(get(at("loop")));
  t.deepEqual([codeOf(looping), text(looping)], ["5.08", "first second first second"]);
});

test("options unknown to the proxy go through where that is safe, and refuse the request where not", async (t) => {
  const { port, seen } = await origin(t, () => content("ok", Options.none.with(65_100, "back")));
  const { proxy } = await startProxy(t, plainProxy(port));
  const ask = await client(t, proxy.addresses.coap!.port);
  // 65101: critical and safe; 65100: elective and safe; 65103: critical and unsafe; 65102: elective and unsafe.
  await ask.request(get(at("a").with(65_101, "critical").with(65_100, "elective").with(65_102, "unsafe")));
  t.deepEqual(
    [65_100, 65_101, 65_102].map((number) => seen[0]?.options.has(number)),
    [true, true, false],
  );
  t.is(codeOf(await ask.request(get(at("a").with(65_103, "unsafe")))), "4.02");
  t.is(codeOf(await ask.request({ ...get(at("a").with(OPTION.IfMatch, "x")), code: CODE.PUT })), "2.05");
  t.true(seen[1]?.options.has(OPTION.IfMatch));
  // R17 for both legs: neither is DTLS here.
  const secured = await ask.request(get(at("a").with(BINDING_OPTION.SecurityRequest, 1)));
  t.is(authErrorOf(secured), "security-required");
});

test("a target that is silent, not there or refuses us becomes 5.04 or 5.02", async (t) => {
  const silent = await origin(t, () => undefined);
  const gone = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => gone.close());
  const events: ServerEvent[] = [];
  const secured = await DpeServer.start(
    parseConfig(
      `
credentials: { psk: [{ identity: other, key: "hex:${KEY}" }] }
interfaces: { dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [none] } }
`,
      "server.yaml",
      SERVER_SCHEMA,
    ),
    (event) => events.push(event),
  );
  t.teardown(() => secured.close());
  const { proxy, events: told } = await startProxy(
    t,
    `
listen: { host: 127.0.0.1, coap: 0 }
targets:
  - { name: silent, uri: "coap://127.0.0.1:${silent.port}", serverAuthentication: none }
  - name: secured
    uri: coaps://127.0.0.1:${secured.addresses.coaps!.port}
    serverAuthentication: psk
    credentials: { psk: { identity: unknown, key: "hex:${KEY}" } }
  - name: mute
    uri: coaps://127.0.0.1:${gone.address.port}
    serverAuthentication: psk
    credentials: { psk: { identity: proxy, key: "hex:${KEY}" } }
  - { name: unnamed, uri: "coap://nobody.invalid", serverAuthentication: none }
routes: [{ path: /mute, target: mute }, { path: /silent, target: silent }, { path: /secured, target: secured }, { path: /unnamed, target: unnamed }]
identities: { required: false }
timeout: 2s
`,
  );
  const ask = await client(t, proxy.addresses.coap!.port);
  t.is(codeOf(await ask.request(get(at("silent")))), "5.04");
  const began = performance.now();
  t.is(codeOf(await ask.request(get(at("mute")))), "5.04");
  t.true(performance.now() - began < 5000);
  t.is(codeOf(await ask.request(get(at("secured")))), "5.02");
  t.is(codeOf(await ask.request(get(at("unnamed")))), "5.02");
  t.deepEqual(
    told.flatMap((event) => (event.type === "target-failed" ? [event.target] : [])),
    ["mute", "secured", "unnamed"],
  );
});

test("a proxy that shakes hands with a silent target closes at once", async (t) => {
  const silent = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => silent.close());
  const { proxy } = await startProxy(
    t,
    `
listen: { host: 127.0.0.1, coap: 0, proveAddresses: false }
targets:
  - name: silent
    uri: coaps://127.0.0.1:${silent.address.port}
    serverAuthentication: psk
    credentials: { psk: { identity: proxy, key: "hex:${KEY}" } }
routes: [{ target: silent }]
identities: { required: false }
`,
  );
  const ask = await client(t, proxy.addresses.coap!.port);
  const asked = ask.request(get(at("x"))).catch(() => undefined);
  await new Promise<void>((resolve) => (silent.onDatagram = () => resolve()));
  const began = performance.now();
  await proxy.close();
  t.true(performance.now() - began < 5000);
  await ask.close();
  await asked;
});

test("R14 what a client inserts is taken out, and what the proxy knows put in: static, DTLS, in the order of sources", async (t) => {
  const { port, seen } = await origin(t, () => content("ok"));
  const { proxy, events } = await startProxy(
    t,
    `
listen: { host: 127.0.0.1, coap: 0, coaps: 0 }
credentials: { psk: [{ identity: "262011234567890", key: "hex:${KEY}" }, { identity: nobody, key: "hex:${KEY}" }] }
targets: [{ name: origin, uri: "coap://127.0.0.1:${port}", serverAuthentication: none }]
routes: [{ target: origin }]
identities:
  sources: [static, dtls]
  static: [{ address: 127.0.0.31, identity: "nai:alice@example.net" }]
  dtls: { psk: imsi }
`,
  );
  const identityOf = (request: RequestMessage | undefined): string | undefined => {
    const option = request?.options.get(BINDING_OPTION.SubscriberIdentity);
    return option === undefined ? undefined : formatSubscriberIdentity(decodeSubscriberIdentity(option));
  };
  const forging = get(at("a").with(BINDING_OPTION.SubscriberIdentity, FORGED));
  const { coap, coaps } = proxy.addresses;
  t.is(codeOf(await (await client(t, coap!.port, "127.0.0.31")).request(forging)), "2.05");
  t.is(identityOf(seen[0]), "nai:alice@example.net");

  const overDtls = async (identity: string): Promise<ResponseMessage> => {
    const endpoint = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
    const psk = { identity: new TextEncoder().encode(identity), key: Buffer.from(KEY, "hex") };
    const session = await connect({ host: "127.0.0.1", port: coaps!.port }, { psk });
    await session.opened;
    const connection = endpoint.addSession(session);
    const response = await connection.request(forging);
    await connection.close();
    await endpoint.close();
    return response;
  };
  t.is(codeOf(await overDtls("262011234567890")), "2.05");
  t.is(identityOf(seen[1]), "imsi:262011234567890");

  // Known by no source: refused before anything is opened toward the target.
  const refused = await (await client(t, coap!.port, "127.0.0.32")).request(forging);
  t.is(authErrorOf(refused), "not-authorized");
  t.is(authErrorOf(await overDtls("nobody")), "not-authorized", "no IMSI");
  t.is(seen.length, 2);
  t.like(events.at(-1), { type: "refused", rule: "identities.required" });
  await t.throwsAsync(
    overDtls("\ufeff262011234567890"),
    { instanceOf: DtlsError },
    "another identity, though it looks the same",
  );
});

/** As text too: what libcoap's client takes on its command line. */
const TEXT_KEY = "sixteen byte key";
const SERVER = `
realm: test
credentials: { psk: [{ identity: the-proxy, key: "hex:${PROXY_KEY}" }, { identity: fleet, key: "${TEXT_KEY}" }] }
interfaces:
  dpe1:
    listen: { host: 127.0.0.1, coaps: 0 }
    connection: dtls
    clientAuthentication: [external, digest]
    external: { proxies: [{ psk: the-proxy }] }
subscribers:
  - { name: alice, identities: ["opaque:dev-1"], endpoints: ["pi-*"] }
  - { name: bob, password: secret }
`;
const proxyTo = (port: number): string => `
listen: { host: 127.0.0.1, coap: 0, coaps: 0 }
credentials: { psk: [{ identity: dev-1, key: "${TEXT_KEY}" }, { identity: dev-2, key: "${TEXT_KEY}" }] }
targets:
  - name: dpe
    uri: coaps://127.0.0.1:${port}
    serverAuthentication: psk
    credentials: { psk: { identity: the-proxy, key: "hex:${PROXY_KEY}" } }
routes: [{ target: dpe }]
forward: [dpe]
identities: { sources: [dtls] }
`;

async function pair(t: ExecutionContext) {
  const events = new Events<ServerEvent>();
  const server = await DpeServer.start(parseConfig(SERVER, "server.yaml", SERVER_SCHEMA), events.push);
  t.teardown(() => server.close());
  const { proxy } = await startProxy(t, proxyTo(server.addresses.coaps!.port));
  return { server, proxy, events };
}

function libcoap(...words: string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile("coap-client-openssl", words, { timeout: 30_000 }, (_error, stdout, stderr) =>
      resolve(`${stdout}${stderr}`),
    );
  });
}

testWith(
  "libcoap-openssl",
  "R14 libcoap's client is served through the proxy by the identity that it inserts; the same option sent directly is refused",
  async (t) => {
    const { server, proxy, events } = await pair(t);
    const port = proxy.addresses.coaps!.port;
    const direct = server.addresses.coaps!.port;
    const register = (identity: string, words: readonly string[], uri: string): Promise<string> =>
      libcoap("-m", "post", "-B", "10", "-u", identity, "-k", TEXT_KEY, ...words, uri);
    await register("dev-1", [], `coaps://127.0.0.1:${port}/dpe1/reg?ep=pi-1`);
    await events.until("registered");
    t.is((await server.store.registrations.page({ limit: 10 }, Date.now()))[0]?.subscriber, "alice");
    const uri = `coaps://127.0.0.1:${direct}/dpe1/reg?ep=pi-2`;
    await register("dev-1", ["-P", `coaps://127.0.0.1:${port}`], uri);
    await events.until("registered", (event) => event.registration.endpoint === "pi-2");
    t.is(await server.store.registrations.count(), 2);

    const inserted = encodeSubscriberIdentity(subscriberIdentity("opaque", "dev-1"));
    const option = ["-O", `${BINDING_OPTION.SubscriberIdentity},0x${Buffer.from(inserted).toString("hex")}`];
    const refused = await register("fleet", option, uri.replace("pi-2", "pi-3"));
    t.regex(refused, /4\.03/);
    t.like(events.all.at(-1), { type: "authentication-error", error: "untrusted-identity" });
    // Through the proxy the option of the client does not count: dev-2 is nobody's identity.
    const forged = await register("dev-2", option, `coaps://127.0.0.1:${port}/dpe1/reg?ep=pi-3`);
    t.regex(forged, /4\.0[13]/);
    t.is(await server.store.registrations.count(), 2);
  },
);

test("R15 an agent registers through the proxy with its own Digest, and is asked over DPE-2 through it", async (t) => {
  const { server, proxy, events } = await pair(t);
  const agent = new DpeAgent(
    parseConfig(
      `
endpoint: pi-1
server: coaps://127.0.0.1:${proxy.addresses.coaps!.port}
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: psk
    credentials: { username: bob, password: secret, psk: { identity: dev-2, key: "${TEXT_KEY}" } }
  dpe2: { bind: association }
`,
      "agent.yaml",
      AGENT_SCHEMA,
    ),
    [{ name: "test", everyMs: 1000, read: () => Promise.resolve([{ name: "temperature", unit: "Cel", value: 20 }]) }],
  );
  t.teardown(() => agent.close());
  await events.until("report", (event) => event.records.length > 0);
  t.is((await server.store.registrations.page({ limit: 10 }, Date.now()))[0]?.subscriber, "bob");
  t.like((await server.query("pi-1", "temperature"))[0], { name: "temperature", value: 20 });
});

test("a registration through the proxy names no address for DPE-2 but its client's own, and never the proxy", async (t) => {
  const origins = await origin(t, () => ({ code: CODE.Created, options: Options.none, payload: NOTHING }));
  const { proxy, events: told } = await startProxy(t, plainProxy(origins.port));
  const port = proxy.addresses.coap!.port;
  const ask = await client(t, port);
  const register = async (dpe2: string): Promise<string> => {
    const options = at("dpe1", "reg").withAll(OPTION.UriQuery, ["ep=pi-1", `dpe2=${dpe2}`]);
    return codeOf(await ask.request({ code: CODE.POST, options, payload: NOTHING }));
  };
  t.is(await register("association"), "2.01");
  t.is(await register(`coap://127.0.0.1:${port + 1}`), "2.01", "its own address is for the server to judge");
  t.is(await register(`coap://[::ffff:127.0.0.1]:${port + 1}`), "2.01");
  for (const uri of [`coap://127.0.0.1:${port}`, "coap://192.0.2.1", `coaps://[::1]:${port}`, "coap://127.0.0.2:7"])
    t.is(await register(uri), "4.00", uri);
  t.is(origins.seen.length, 3);
  t.is(told.filter(({ type }) => type === "refused").length, 4);
});

test("to a server, the address of a listed proxy is no client's own", async (t) => {
  const { server, events } = await pair(t);
  const session = await connect(
    { host: "127.0.0.1", port: server.addresses.coaps!.port },
    { psk: { identity: Buffer.from("the-proxy"), key: Buffer.from(PROXY_KEY, "hex") } },
  );
  const coap = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  t.teardown(async () => {
    await session.close();
    await coap.close();
  });
  await session.opened;
  const asProxy = coap.addSession(session);
  const identity = encodeSubscriberIdentity(subscriberIdentity("opaque", "dev-1"));
  const register = async (dpe2: string): Promise<string> => {
    const options = at("dpe1", "reg")
      .withAll(OPTION.UriQuery, ["ep=pi-1", `dpe2=${dpe2}`])
      .with(BINDING_OPTION.SubscriberIdentity, identity);
    return codeOf(await asProxy.request({ code: CODE.POST, options, payload: NOTHING }));
  };
  t.is(await register("coap://127.0.0.1:5683"), "4.00");
  t.is(await register("association"), "2.01");
  t.is(events.all.filter(({ type }) => type === "registered").length, 1);
});

test("R16 changed keys, certificates and targets hold at once, and end what those before had opened", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-proxy-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const write = async (commonName: string): Promise<void> => {
    const made = await issueThrowawayCredentials({
      commonName,
      purpose: "serverAuth",
      atMs: Date.now(),
      ip: ["127.0.0.1"],
    });
    writeFileSync(join(folder, "own.pem"), made.certificatePem);
    writeFileSync(join(folder, "own.key"), made.privateKeyPem, { mode: 0o600 });
  };
  await write("first");
  const [one, other] = [await origin(t, () => content("one")), await origin(t, () => content("other"))];
  const config = (key: string, port: number, listen = 0): string => `
listen: { host: 127.0.0.1, coaps: ${listen} }
credentials: { certificate: own.pem, key: own.key, psk: [{ identity: a, key: "hex:${key}" }, { identity: b, key: "hex:${KEY}" }] }
targets: [{ name: origin, uri: "coap://127.0.0.1:${port}", serverAuthentication: none }]
routes: [{ target: origin }]
identities: { required: false }
`;
  const parse = (text: string) => parseConfig(text, join(folder, "proxy.yaml"), PROXY_SCHEMA);
  const events: ProxyEvent[] = [];
  const proxy = await DpeProxy.start(parse(config(KEY, one.port)), (event) => events.push(event));
  t.teardown(() => proxy.close());
  const dial = async (options: Parameters<typeof connect>[1]) => {
    const session = await connect({ host: "127.0.0.1", port: proxy.addresses.coaps!.port }, options);
    await session.opened;
    const endpoint = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
    t.teardown(() => endpoint.close());
    const closed = session.closed;
    return { session, closed, connection: endpoint.addSession(session) };
  };
  const byKey = (identity: string, key: string) =>
    dial({ psk: { identity: new TextEncoder().encode(identity), key: Buffer.from(key, "hex") } });
  const nameShown = async (): Promise<string> => {
    const { session } = await dial({ verify: () => ({ ok: true }) });
    return new X509Certificate(session.peer!.certificates![0]!.slice()).subject;
  };
  const [a, b] = [await byKey("a", KEY), await byKey("b", KEY)];
  t.is(text(await a.connection.request(get(at("x")))), "one");
  t.is(text(await b.connection.request(get(at("x")))), "one");
  t.is(proxy.associations, 2);
  t.is(await nameShown(), "CN=first");

  await write("second");
  await proxy.reload(parse(config(PROXY_KEY, other.port, 1)));
  t.is((await a.closed)?.receivedAlert, "access_denied");
  t.like(events.at(-1), { type: "reloaded", associationsEnded: 1, waiting: ["listen.coaps"] });
  t.is(text(await b.connection.request(get(at("x")))), "other");
  t.is(proxy.associations, 1);
  t.is(await nameShown(), "CN=second");
  await t.throwsAsync(byKey("a", KEY));
  await byKey("a", PROXY_KEY);

  writeFileSync(join(folder, "own.key"), "no key", { mode: 0o600 });
  await t.throwsAsync(proxy.reload(parse(config(KEY, one.port))), { code: "X509_NO_PRIVATE_KEY" });
  t.is(text(await b.connection.request(get(at("x")))), "other");
});

test("a wrong configuration of a proxy is refused with file, line and key", (t) => {
  const faultOf = (config: string): string => {
    try {
      parseConfig(config, "proxy.yaml", PROXY_SCHEMA);
      return "none";
    } catch (error) {
      return error instanceof ConfigError ? error.message : String(error);
    }
  };
  const good = plainProxy(1);
  t.is(faultOf(good), "none");
  for (const [from, to, expected] of [
    ["coap: 0", "", /proxy\.yaml:2:\d+ listen: needs a port/],
    ["target: origin", "target: orign", /proxy\.yaml:4:\d+ routes\[0\]\.target: no target has the name orign/],
    ["forward: [origin]", "forward: [x]", /forward\[0\]: no target has the name x/],
    ["required: false", "sources: []", /identities: give sources, or required: false/],
    ["required: false", "sources: [radius]", /identities: the source radius and the section radius go together/],
    ["serverAuthentication: none", "serverAuthentication: certificate", /certificate and ca go together/],
    ["serverAuthentication: none", "serverAuthentication: psk", /needs credentials\.psk/],
    ["routes: [{ target: origin }]\nforward: [origin]", "", /nothing is forwarded/],
    ["listen: {", "listen: { coaps: 0,", /credentials: coaps needs credentials/],
    ["coap://127", "http://127", /targets\[0\]\.uri: expected a coap/],
    ["identities:", "hopLimit: 256\nidentities:", /hopLimit: expected a whole number from 1 to 255/],
    ["identities:", "maxAsociations: 5\nidentities:", /unknown key; did you mean "maxAssociations"/],
  ] as const) {
    t.regex(faultOf(good.replace(from, to)), expected);
  }
});
