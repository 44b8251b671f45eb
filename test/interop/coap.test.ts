import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CODE, emptyResponse, OPTION, Options, type RequestMessage } from "#coap/index.js";
import {
  type Answer,
  type CoapConnection,
  CoapEndpoint,
  connect,
  listen,
  type SocketAddress,
  UdpSocket,
} from "#net/index.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, type PeerName, testWith } from "#testing/peer-process.js";
import test, { type ExecutionContext } from "ava";
import coap from "coap";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const KEY = "0123456789abcdef";
const LONG = Array.from({ length: 500 }, (_, line) => `line ${line}`.padEnd(9) + "\n").join("");

const request = (code: RequestMessage["code"], path: string, payload = ""): RequestMessage => ({
  code,
  options: Options.none.withAll(
    OPTION.UriPath,
    path.split("/").filter((segment) => segment !== ""),
  ),
  payload: bytes(payload),
});

/** Our server of the tests: /long is read in blocks, /store keeps what is put there, /ticks counts while observed. */
interface TestServer {
  readonly stored: string | undefined;
  readonly observers: number;
  /** Messages that held a Block1 option. */
  readonly block1Messages: number;
  readonly endpoint: CoapEndpoint;
}

function startServer(t: ExecutionContext, maxAmplification?: number): TestServer {
  const state = { stored: undefined as string | undefined, observers: 0, block1Messages: 0 };
  const content = (body: string) => ({ code: CODE.Content, options: Options.none, payload: bytes(body) });
  const serve = (incoming: RequestMessage): Answer => {
    const path = incoming.options.uriPath.join("/");
    if (path === "store" && incoming.code === CODE.PUT) {
      state.stored = text(incoming.payload);
      return emptyResponse(CODE.Changed);
    }
    if (path === "echo" && incoming.code === CODE.POST) {
      return { code: CODE.Changed, options: Options.none, payload: incoming.payload };
    }
    if (incoming.code !== CODE.GET) return emptyResponse(CODE.MethodNotAllowed);
    if (path === "short") return content("a short answer");
    if (path === "long") return content(LONG);
    if (path !== "ticks") return emptyResponse(CODE.NotFound);
    return {
      ...content("tick 0;"),
      observe: (notify) => {
        let ticks = 0;
        state.observers++;
        const timer = setInterval(() => notify(content(`tick ${++ticks};`)), 100);
        return () => {
          state.observers--;
          clearInterval(timer);
        };
      },
    };
  };
  const endpoint = new CoapEndpoint({
    onRequest: serve,
    ...(maxAmplification === undefined ? {} : { maxAmplification }),
    onMessage: (message, _connection, handOn) => {
      if (message.options.has(OPTION.Block1)) state.block1Messages++;
      return handOn(message);
    },
  });
  t.teardown(() => endpoint.close());
  return {
    endpoint,
    get stored() {
      return state.stored;
    },
    get observers() {
      return state.observers;
    },
    get block1Messages() {
      return state.block1Messages;
    },
  };
}

async function listenSecure(t: ExecutionContext, server: TestServer): Promise<number> {
  const endpoint = await listen((session) => server.endpoint.addSession(session), {
    ...LOOPBACK,
    server: { pskEnabled: true },
    pskOf: (identity) => (text(identity) === "alice" ? bytes(KEY) : undefined),
  });
  t.teardown(() => endpoint.close());
  return endpoint.address.port;
}

async function listenPlain(server: TestServer): Promise<number> {
  const socket = await UdpSocket.bind(LOOPBACK);
  server.endpoint.addSocket(socket);
  return socket.address.port;
}

const inFolder = async (run: (folder: string) => Promise<void>): Promise<void> => {
  const folder = await mkdtemp(join(tmpdir(), "interop-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
};

for (const flavour of ["openssl", "gnutls", "notls"] as const) {
  const peer: PeerName = `libcoap-${flavour}`;
  const isSecure = flavour !== "notls";

  testWith(peer, `coap-client-${flavour} gets, puts, posts, reads in blocks and observes at our server`, async (t) => {
    const server = startServer(t);
    const port = isSecure ? await listenSecure(t, server) : await listenPlain(server);
    const origin = `${isSecure ? "coaps" : "coap"}://127.0.0.1:${port}`;
    const client = (...options: string[]): Promise<string> =>
      PeerProcess.run(t, `coap-client-${flavour}`, [
        ...(isSecure ? ["-u", "alice", "-k", KEY] : []),
        "-B",
        "10",
        ...options,
      ]);
    await inFolder(async (folder) => {
      const input = join(folder, "input");
      const output = join(folder, "output");
      await writeFile(input, LONG);

      t.true((await client(`${origin}/short`)).includes("a short answer"));
      t.true((await client(`${origin}/nowhere`)).includes("4.04"));
      await client("-m", "put", "-f", input, `${origin}/store`);
      t.is(server.stored, LONG);
      t.true(server.block1Messages >= 5);
      t.true((await client("-m", "post", "-e", "a short question", `${origin}/echo`)).includes("a short question"));
      await client("-m", "post", "-f", input, "-o", output, `${origin}/echo`);
      t.is(await readFile(output, "utf8"), LONG);
      await client("-o", output, `${origin}/long`);
      t.is(await readFile(output, "utf8"), LONG);
      await client("-b", "64", "-o", output, `${origin}/long`);
      t.is(await readFile(output, "utf8"), LONG);
      const ticks = await client("-s", "2", `${origin}/ticks`);
      t.true(ticks.includes("tick 0;") && ticks.includes("tick 1;") && ticks.includes("tick 2;"), ticks);
      t.is(server.observers, 0);
    });
  });

  testWith(peer, `our client gets, puts, posts, reads in blocks and observes at coap-server-${flavour}`, async (t) => {
    const port = await freePort();
    const options = ["-A", "127.0.0.1", "-p", String(port), "-d", "10", "-v", "7"];
    const server = PeerProcess.start(t, `coap-server-${flavour}`, isSecure ? [...options, "-k", KEY] : options);
    await server.printed(isSecure ? `created DTLS endpoint 127.0.0.1:${port + 1}` : "created UDP  endpoint");
    const remote = { address: "127.0.0.1", port: isSecure ? port + 1 : port };
    const connection = isSecure ? await connectSecure(t, remote) : await connectPlain(t, remote);

    const root = await connection.request(request(CODE.GET, "/"));
    t.is(root.code, CODE.Content);
    t.true(text(root.payload).includes("libcoap"));
    const created = await connection.request(request(CODE.PUT, "/stored", LONG));
    t.is(created.code, CODE.Created);
    const stored = await connection.request(request(CODE.GET, "/stored"));
    t.is(text(stored.payload), LONG);
    // A server that is told to make resources makes one of what is posted as well.
    const posted = await connection.request(request(CODE.POST, "/posted", LONG));
    t.is(posted.code, CODE.Created);
    t.is(text((await connection.request(request(CODE.GET, "/posted"))).payload), LONG);
    const observation = await connection.observe(request(CODE.GET, "/time"));
    t.is(observation.first.code, CODE.Content);
    const times = new Set([text(observation.first.payload)]);
    for await (const notification of observation) {
      times.add(text(notification.payload));
      if (times.size === 3) break;
    }
    t.is(times.size, 3);
  });
}

test("the npm package coap, as a client, gets, puts, reads in blocks and observes at our server", async (t) => {
  // It does not know Echo.
  const server = startServer(t, Infinity);
  const port = await listenPlain(server);
  const send = (options: coap.CoapRequestParams, payload?: string): Promise<coap.IncomingMessage> =>
    new Promise((resolve, reject) => {
      const outgoing = coap.request({ hostname: "127.0.0.1", port, ...options });
      outgoing.on("response", resolve).on("error", reject);
      if (payload !== undefined) outgoing.setOption("Block1", Buffer.of(0x06));
      outgoing.end(payload === undefined ? undefined : Buffer.from(payload));
    });

  t.is((await send({ pathname: "/short" })).payload.toString(), "a short answer");
  t.is((await send({ pathname: "/nowhere" })).code, "4.04");
  t.is((await send({ pathname: "/store", method: "PUT" }, LONG)).code, "2.04");
  t.is(server.stored, LONG);
  t.true(server.block1Messages >= 5);
  t.is((await send({ pathname: "/long" })).payload.toString(), LONG);

  const observed = await send({ pathname: "/ticks", observe: true });
  t.true(observed instanceof coap.ObserveReadStream);
  const ticks = await new Promise<string>((resolve) => {
    let seen = "";
    observed.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
      if (seen.includes("tick 2;")) resolve(seen);
    });
  });
  t.is(ticks, "tick 0;tick 1;tick 2;");
  (observed as coap.ObserveReadStream).close();
});

test("our client gets, puts a short body, reads in blocks and observes at a server of the npm package coap", async (t) => {
  let stored = "";
  const peer = coap.createServer((incoming, outgoing) => {
    if (incoming.method === "PUT") {
      stored = incoming.payload.toString();
      outgoing.code = "2.04";
      outgoing.end();
    } else if (incoming.headers["Observe"] === 0) {
      let ticks = 0;
      const timer = setInterval(() => {
        outgoing.write(`tick ${++ticks};`);
        if (ticks === 2) clearInterval(timer);
      }, 100);
      outgoing.write("tick 0;");
    } else {
      outgoing.end(LONG);
    }
  });
  const port = await freePort();
  await new Promise<void>((resolve) => peer.listen(port, "127.0.0.1", () => resolve()));
  t.teardown(() => new Promise<void>((resolve) => peer.close(() => resolve())));
  const connection = await connectPlain(t, { address: "127.0.0.1", port });

  t.is(text((await connection.request(request(CODE.GET, "/long"))).payload), LONG);
  // Its server looks for the blocks of one request under one token, which RFC 7959 does not ask for: no Block1 here.
  t.is((await connection.request(request(CODE.PUT, "/store", "a short body"))).code, CODE.Changed);
  t.is(stored, "a short body");
  const observation = await connection.observe(request(CODE.GET, "/ticks"));
  t.is(text(observation.first.payload), "tick 0;");
  const ticks: string[] = [];
  for await (const notification of observation) {
    ticks.push(text(notification.payload));
    if (ticks.length === 2) break;
  }
  t.deepEqual(ticks, ["tick 1;", "tick 2;"]);
});

async function connectSecure(t: ExecutionContext, remote: SocketAddress): Promise<CoapConnection> {
  const session = await connect(
    { host: remote.address, port: remote.port },
    // libcoap on GnuTLS takes the first suite that it knows, without a certificate too, and then has nothing to show.
    { psk: { identity: bytes("alice"), key: bytes(KEY) }, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] },
  );
  await session.opened;
  const endpoint = new CoapEndpoint();
  const connection = endpoint.addSession(session);
  t.teardown(async () => {
    await connection.close();
    await endpoint.close();
  });
  return connection;
}

async function connectPlain(t: ExecutionContext, remote: SocketAddress): Promise<CoapConnection> {
  const endpoint = new CoapEndpoint();
  t.teardown(() => endpoint.close());
  return endpoint.addSocket(await UdpSocket.bind(LOOPBACK)).connectTo(remote);
}
