import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CODE, CoapClient, OPTION, ResponseError, type Router, router, serve } from "#api/index.js";
import { decodeMessage, encodeMessage, type Message, MESSAGE_TYPE, Options } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { UdpSocket } from "#net/index.js";
import { DpeProxy, PROXY_SCHEMA } from "#proxy/index.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, type Scoped, testWith } from "#testing/peer-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";
import { withSection } from "../matrix-document.js";
import { Scope } from "../matrix-peers.js";
import { ETSI_CASES, type EtsiCase, VANISHED_SILENCE_MS } from "./cases.js";
import { type Column, ETSI_COLUMNS, ETSI_HEADING, etsiSection, type Expectation, expectationOf } from "./document.js";
import { etsiResources, OUR_SERVER } from "./ours.js";
import { Relay } from "./relay.js";
import { Seen } from "./seen.js";
import { IDENTITY, isStream, KEY, type Place, type RunningServer } from "./sides.js";

const DOCUMENT = fileURLToPath(new URL("../../../../docs/interop.md", import.meta.url));
const isWriting = process.env["DPE_WRITE_DOCS"] === "1";
/** What came of each case that was run, by column. */
const outcomes = new Map<Column, Map<string, Expectation>>();

for (const columns of Object.values(ETSI_COLUMNS)) {
  for (const column of columns) {
    const { client, server, transport } = column;
    const title = `ETSI TD_COAP over ${transport.toUpperCase()}: the client is ${client.name}, the server ${server.name}`;
    const implementation = async (t: ExecutionContext): Promise<void> => {
      t.timeout(COLUMN_TIMEOUT_MS);
      const scope = new Scope();
      t.teardown(() => scope.close());
      const running = await server.start(scope, transport);
      const found = new Map<string, Expectation>();
      outcomes.set(column, found);
      const faults: string[] = [];
      for (const one of ETSI_CASES) {
        const expected = expectationOf(one, column);
        if (expected.outcome === "cannot") continue;
        const fault = await faultOf(t, one, column, running, expected.outcome === "fails" ? 1 : ATTEMPTS);
        found.set(one.id, fault === undefined ? { outcome: "works" } : { outcome: "fails", why: fault });
        if (expected.outcome === "works" && fault !== undefined) faults.push(`${one.id} ${one.what}: ${fault}`);
        if (expected.outcome === "fails" && fault === undefined)
          faults.push(`${one.id} works, and was to fail: ${expected.why}`);
      }
      t.deepEqual(faults, []);
    };
    const needs = client.needs ?? server.needs;
    if (needs === undefined) test(title, implementation);
    else testWith(needs, title, implementation);
  }
}

/** Runs one case; gives what went wrong. Real time takes part: what fails is tried again. */
async function faultOf(
  t: ExecutionContext,
  one: EtsiCase,
  column: Column,
  running: RunningServer,
  attempts: number,
): Promise<string | undefined> {
  let fault: string | undefined;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const scope = new Scope();
    const seen = new Seen(isStream(column.transport));
    try {
      fault = await within(attempts === 1 ? FAILING_TIMEOUT_MS : CASE_TIMEOUT_MS, (abandoned) =>
        runCase(t, scope, one, column, running, seen, abandoned),
      );
    } catch (error) {
      fault = error instanceof Error ? error.message : String(error);
    } finally {
      await scope.close();
    }
    if (fault === undefined) return undefined;
    t.log(`${one.id}, attempt ${attempt}: ${fault}${attempts === 1 ? "" : `\n${seen.trace}`}`);
  }
  return fault;
}

async function runCase(
  t: ExecutionContext,
  scope: Scoped,
  one: EtsiCase,
  { client, server, transport }: Column,
  running: RunningServer,
  seen: Seen,
  abandoned: AbortSignal,
): Promise<string | undefined> {
  const { port } = running;
  let place: Place = { transport, port, directPort: port };
  let relay: Relay | undefined;
  if (one.isProxied === true) {
    place = await throughProxy(scope, place, seen, server.name === "ours");
  } else if (transport === "udp" || one.loses !== undefined || one.accident === "client vanishes") {
    relay = await Relay.start(scope, port, { ...(transport === "udp" ? { seen } : {}), ...one.loses });
    place = { ...place, port: relay.port };
  }
  if (one.isProxied !== true && transport !== "udp" && server.name === "ours") running.tapInto?.(seen);
  const unseen = new Seen(isStream(transport));
  const isTappedAtClient = server.name !== "ours" && transport !== "udp" && one.isProxied !== true;
  const performed = client.perform(scope, place, one.steps, isTappedAtClient ? seen : unseen);
  if (one.accident === undefined) {
    await performed;
  } else {
    performed.catch(() => undefined);
    await until(() => seen.notifications.length >= 3, { signal: abandoned });
    if (one.accident === "client vanishes") {
      relay?.cut(() => seen.afterVanishing.push(performance.now()));
      const silence = (): number => performance.now() - (seen.afterVanishing.at(-1) ?? Infinity);
      await until(() => seen.afterVanishing.length > 1 && silence() > VANISHED_SILENCE_MS, { signal: abandoned });
    } else {
      await running.restart();
      await performed;
    }
  }
  // The last acknowledgement may still be on its way when the client has what it asked for.
  for (let waited = 0; ; waited++) {
    const result = await t.try((inner) => one.check(inner, seen));
    result.discard();
    if (result.passed) return undefined;
    if (waited === 40) return result.errors.map(({ message }) => message).join("; ");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A reverse proxy of ours, on UDP toward the side that is ours, where `seen` is told what passes. */
async function throughProxy(scope: Scoped, place: Place, seen: Seen, isServerOurs: boolean): Promise<Place> {
  const isSecured = place.transport === "dtls";
  const psk = `{ identity: ${IDENTITY}, key: "${KEY}" }`;
  const ours = isServerOurs ? await OUR_SERVER.start(scope, "udp") : undefined;
  const target = ours === undefined ? place.port : (await Relay.start(scope, ours.port, { seen })).port;
  const config = `
listen: { host: 127.0.0.1, ${isServerOurs && isSecured ? "coaps" : "coap"}: 0, proveAddresses: false }
credentials: { psk: [${psk}] }
targets:
  - name: origin
    uri: "${!isServerOurs && isSecured ? "coaps" : "coap"}://127.0.0.1:${target}"
    serverAuthentication: ${!isServerOurs && isSecured ? "psk" : "none"}
    credentials: { psk: ${psk} }
routes: [{ target: origin }]
identities: { required: false }
`;
  const proxy = await DpeProxy.start(parseConfig(config, "proxy.yaml", PROXY_SCHEMA), () => undefined);
  scope.teardown(() => proxy.close());
  const { coap, coaps } = proxy.addresses;
  const port = (coap ?? coaps)?.port ?? 0;
  if (isServerOurs) return { ...place, port, directPort: port };
  const relay = await Relay.start(scope, port, { seen });
  return { transport: "udp", port: relay.port, directPort: port };
}

/** `abandoned` tells the work that nobody waits for it any more: what then went on would keep the process alive. */
async function within<T>(limitMs: number, work: (abandoned: AbortSignal) => Promise<T>): Promise<T> {
  const abandon = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not over after ${limitMs} ms`)), limitMs);
  });
  try {
    return await Promise.race([work(abandon.signal), timeout]);
  } finally {
    clearTimeout(timer);
    abandon.abort();
  }
}

const ATTEMPTS = 3;
const CASE_TIMEOUT_MS = 20_000;
/** For what is expected to fail. */
const FAILING_TIMEOUT_MS = 5000;
const COLUMN_TIMEOUT_MS = 10 * 60_000;

test("docs/interop.md tells of every case of the ETSI CoAP plugtests, by its id, what is found with each peer and transport", (t) => {
  const told = readFileSync(DOCUMENT, "utf8");
  if (!isWriting) t.is(withSection(told, ETSI_HEADING, etsiSection(expectationOf)), told);
  else t.pass();
});

if (isWriting) {
  test.after("the document is written", () => {
    const outcomeOf = (one: EtsiCase, column: Column): Expectation => {
      const expected = expectationOf(one, column);
      if (expected.outcome === "cannot") return expected;
      const found = outcomes.get(column)?.get(one.id);
      if (found === undefined) throw new Error(`${one.id} was not run: a peer is missing`);
      return found.outcome === expected.outcome ? expected : found;
    };
    const told = readFileSync(DOCUMENT, "utf8");
    writeFileSync(DOCUMENT, withSection(told, ETSI_HEADING, etsiSection(outcomeOf)));
  });
}

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
  const port = await freePort();
  let server = await serve(app(), { host: "127.0.0.1", port });
  t.teardown(() => server.close());
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
  const server = await serve(etsiResources(), { host: "127.0.0.1", port: 0 });
  t.teardown(() => server.close());
  const client = new CoapClient();
  t.teardown(() => client.close());
  const origin = `coap://127.0.0.1:${server.address?.port}`;
  t.is((await client.request(`${origin}/multi-format`, { accept: 60 })).status, "4.06");
  t.is((await client.request(`${origin}/large`, { method: "DELETE" })).status, "4.05");
  t.is(new ResponseError(CODE.NotFound).code, "COAP_RESPONSE_ERROR");
});
