import { getEventListeners } from "node:events";
import { createHash } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  CoapClient,
  CoapError,
  CODE,
  OPTION,
  request,
  ResponseError,
  router,
  type Router,
  serve,
  type ServeOptions,
  streamed,
} from "#api/index.js";
import { encodeBlock } from "#coap/index.js";
import { codeOf } from "#testing/code-of.js";
import test, { type ExecutionContext } from "ava";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const MIB = 1024 * 1024;
const CHUNK_BYTES = 50_000;

/** A body that exists nowhere as a whole; its chunks fit no block. */
class Source {
  readonly #bytes: number;
  produced = 0;
  isEnded = false;
  readonly hash = createHash("sha256");

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      while (this.produced < this.#bytes) {
        const chunk = new Uint8Array(Math.min(CHUNK_BYTES, this.#bytes - this.produced));
        for (let index = 0; index < chunk.length; index += 64) chunk[index] = (this.produced + index) >> 8;
        this.hash.update(chunk);
        this.produced += chunk.length;
        yield await Promise.resolve(chunk);
      }
    } finally {
      this.isEnded = true;
    }
  }
}

function live(): number {
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Takes a body and gives one of the same length; what is live meanwhile is measured now and then. */
function mirror(bytes: number) {
  const seen = { uploads: 0, received: "", ahead: 0, peak: 0, source: new Source(bytes), sent: new Source(0) };
  const app = router()
    .put(
      "/store",
      streamed(async (incoming) => {
        seen.uploads++;
        const hash = createHash("sha256");
        let length = 0;
        let measuredAt = 0;
        for await (const piece of incoming.body) {
          hash.update(piece);
          length += piece.length;
          seen.ahead = Math.max(seen.ahead, seen.sent.produced - length);
          if (length - measuredAt < bytes / 4) continue;
          measuredAt = length;
          seen.peak = Math.max(seen.peak, live());
        }
        seen.received = hash.digest("hex");
        return `${length}`;
      }),
    )
    .get("/read", () => (seen.source = new Source(bytes)));
  return { app, seen };
}

async function start(t: ExecutionContext, app: Router, options: ServeOptions = {}) {
  const server = await serve(app, { host: "127.0.0.1", port: 0, maxAmplification: Infinity, ...options });
  t.teardown(() => server.close());
  const client = new CoapClient();
  t.teardown(() => client.close());
  return { server, client, origin: `coap://127.0.0.1:${server.address?.port}` };
}

/** By default over UDP fewer bytes in smaller blocks: what is kept of a block shows by their number. */
const isLong = process.env["DPE_LONG"] === "1";

for (const [transport, bytes, cut] of [
  ["TCP", 64 * MIB, {}],
  ["UDP", isLong ? 64 * MIB : MIB, isLong ? {} : { blockBytes: 32 }],
] as const) {
  test.serial(
    `bodies of ${bytes / MIB} MiB stream both ways over ${transport}, equal by digest, in memory that stays flat`,
    async (t) => {
      t.timeout(600_000);
      const { app, seen } = mirror(bytes);
      const { server, client, origin } = await start(t, app, { tcp: { port: 0 } });
      const base = transport === "TCP" ? `coap+tcp://127.0.0.1:${server.tcpAddress?.port}` : origin;
      await client.ping(base);
      // What the first requests leave behind, code and pools, is no body's.
      await client.request(`${base}/store`, { method: "PUT", payload: new Source(MIB / 4) });
      const before = live();
      seen.sent = new Source(bytes);
      const stored = await client.request(`${base}/store`, { method: "PUT", payload: seen.sent, ...cut });
      t.is(stored.text(), String(bytes));
      t.is(seen.received, seen.sent.hash.digest("hex"));
      t.is(seen.uploads, 2);
      t.true(seen.ahead < 4 * 65_536, `the source was read ${seen.ahead} bytes ahead of the handler`);

      const read = await client.stream(`${base}/read`);
      t.like(read, { ok: true, status: "2.05" });
      const hash = createHash("sha256");
      let length = 0;
      let ahead = 0;
      let measuredAt = 0;
      for await (const piece of read.body) {
        hash.update(piece);
        length += piece.length;
        ahead = Math.max(ahead, seen.source.produced - length);
        if (length - measuredAt < bytes / 4) continue;
        measuredAt = length;
        seen.peak = Math.max(seen.peak, live());
      }
      t.is(length, bytes);
      t.is(hash.digest("hex"), seen.source.hash.digest("hex"));
      t.true(ahead < 4 * 65_536, `the handler was read ${ahead} bytes ahead of the client`);
      t.true(seen.peak - before < 8 * MIB, `${seen.peak - before} bytes more are live while the bodies pass`);
      t.is(server.endpoint.usage.bodyBytes, 0, "nothing is kept of what is over");
    },
  );
}

test.serial(
  "a stream ends where its reader stops: the source is told, and no further block is asked for",
  async (t) => {
    const { app, seen } = mirror(MIB);
    const { server, client, origin } = await start(t, app, { blockwise: { lifetimeMs: 200 } });
    const read = await client.stream(`${origin}/read`);
    for await (const piece of read.body) {
      t.is(piece.length, 1024);
      break;
    }
    t.true(seen.source.produced < 3 * CHUNK_BYTES);
    t.false(seen.source.isEnded);
    // The server gives it up when nobody asks for so long, by itself.
    for (let waited = 0; !seen.source.isEnded && waited < 500; waited++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    t.true(seen.source.isEnded);
    t.is(server.endpoint.usage.bodyBytes, 0);
  },
);

test.serial("a refusal before the body's end is the answer: the source is closed, the rest is not sent", async (t) => {
  const source = new Source(MIB);
  const app = router().put(
    "/refused",
    streamed(async (incoming) => {
      for await (const piece of incoming.body) if (piece.length > 0) throw new ResponseError(CODE.Forbidden, "enough");
      return undefined;
    }),
  );
  const { client, origin } = await start(t, app);
  const response = await client.request(`${origin}/refused`, { method: "PUT", payload: source });
  t.is(response.status, "4.03");
  t.is(response.problem()?.title, "enough");
  t.true(source.isEnded);
  t.true(source.produced < 3 * CHUNK_BYTES);
});

test.serial("a short body is one message; a handler that reads nothing answers all the same", async (t) => {
  const app = router()
    .put(
      "/echo",
      streamed((incoming) => ({ payload: incoming.body })),
    )
    .post("/long", () => new Source(10_000))
    .put(
      "/deaf",
      streamed(() => "done"),
    )
    .put("/whole", async (incoming) => {
      let length = 0;
      for await (const piece of incoming.body) length += piece.length;
      return `${length} ${incoming.payload.length}`;
    });
  const { client, origin } = await start(t, app);
  t.is((await client.request(`${origin}/echo`, { method: "PUT", payload: "short" })).text(), "short");
  t.is((await client.request(`${origin}/echo`, { method: "PUT", payload: new Source(0) })).text(), "");
  t.is((await client.request(`${origin}/deaf`, { method: "PUT", payload: "x".repeat(5000) })).text(), "done");
  t.is((await client.request(`${origin}/whole`, { method: "PUT", payload: new Source(3000) })).text(), "3000 3000");
  const long = { method: "POST", payload: new Source(10), maxBodyBytes: 4096 } as const;
  t.is(await codeOf(client.request(`${origin}/long`, long)), "COAP_BODY_TOO_LARGE");
});

test.serial(
  "RFC 7959 §2.5: blocks of a streamed body are taken once each, in order, of whatever size; what does not fit is 4.08",
  async (t) => {
    const pieces: string[] = [];
    const failures: unknown[] = [];
    const app = router()
      .put(
        "/log",
        streamed(async (incoming) => {
          try {
            for await (const piece of incoming.body) pieces.push(Buffer.from(piece).toString());
          } catch (error) {
            failures.push(error instanceof CoapError ? error.code : error);
            throw error;
          }
          return "logged";
        }),
      )
      .get("/read", () => ({ payload: new Source(4000), etag: Uint8Array.of(7) }));
    const { client, origin } = await start(t, app, { blockwise: { blockBytes: 64 } });
    const put = async (number: number, hasMore: boolean, payload: string, sizeBytes = 16) => {
      const options = [[OPTION.Block1, encodeBlock({ number, hasMore, sizeBytes })]] as const;
      const connection = await client.request(`${origin}/log`, {
        method: "PUT",
        payload,
        options,
        isBlockwise: false,
      });
      return connection.status;
    };
    const block = (letter: string, bytes = 16): string => letter.repeat(bytes);
    t.is(await put(0, true, block("a", 32), 32), "2.31");
    t.is(await put(2, true, block("b")), "2.31", "a smaller size goes on from the same byte");
    t.is(await put(2, true, block("b")), "2.31", "a block that comes again is not handled again");
    t.is(await put(3, false, "end"), "2.04");
    t.deepEqual(pieces, [block("a", 32), block("b"), "end"]);
    t.is(await put(3, false, "end"), "4.08", "it is over");
    t.is(await put(0, true, block("c")), "2.31");
    t.is(await put(5, true, block("d")), "4.08", "blocks are missing");
    t.is(await put(1, true, block("d")), "4.08", "and the body was given up");
    t.is(await put(0, true, "short"), "4.00");
    const bert = [[OPTION.Block1, 0x0f]] as const;
    const large = { method: "PUT", payload: block("b", 1024), options: bert, isBlockwise: false } as const;
    t.is((await client.request(`${origin}/log`, large)).status, "4.00", "datagrams have no BERT");
    t.is(await put(0, true, block("e")), "2.31");
    t.is(await put(0, false, "anew"), "2.04", "another body from its start");
    t.deepEqual(pieces.slice(3), [block("c"), block("e"), "anew"]);
    t.deepEqual(failures, ["COAP_PEER_CLOSED", "COAP_PEER_CLOSED"]);

    const get = async (number: number, sizeBytes = 64) => {
      const options = [[OPTION.Block2, encodeBlock({ number, hasMore: false, sizeBytes })]] as const;
      return client.request(`${origin}/read`, { options, isBlockwise: false });
    };
    const first = await get(0);
    t.like(first, { status: "2.05" });
    t.deepEqual(first.options.block2, { number: 0, hasMore: true, sizeBytes: 64 });
    t.is((await get(2, 32)).payload.length, 32, "smaller blocks from here on");
    t.is(Buffer.from((await get(2, 32)).etag ?? []).toString("hex"), "07", "the last block once more");
    t.is((await get(50, 32)).status, "4.08", "a stream has no middle");
  },
);

test.serial(
  "a streamed response over the request that it reads: within one block it is given, before the end of a longer one refused",
  async (t) => {
    const app = router().post(
      "/upper",
      streamed((incoming) =>
        (async function* () {
          for await (const piece of incoming.body) yield Buffer.from(Buffer.from(piece).toString().toUpperCase());
        })(),
      ),
    );
    const { origin } = await start(t, app, { blockwise: { blockBytes: 1024 } });
    t.is((await request(`${origin}/upper`, { method: "POST", payload: "x".repeat(1500) })).status, "5.00");
    const response = await request(`${origin}/upper`, { method: "POST", payload: "x".repeat(900) });
    t.is(response.text(), "X".repeat(900));
  },
);

test.serial("requests under one signal that outlives them, and with time-outs, leave nothing behind", async (t) => {
  const { client, origin } = await start(
    t,
    router().get("/short", () => "short"),
  );
  const { signal } = new AbortController();
  const ask = async (requests: number): Promise<void> => {
    for (let count = 0; count < requests; count++) {
      t.is((await client.request(`${origin}/short`, { signal, timeoutMs: 60_000 })).text(), "short");
      if (count % 4 === 0) await (await client.stream(`${origin}/short`, { signal })).bytes();
    }
  };
  await ask(200);
  const before = live();
  await ask(2000);
  t.true(live() - before < 2 * MIB, `${live() - before} bytes more are live`);
});

test.serial(
  "a streamed response that is cancelled before it is read, or was here at once, leaves nothing at a signal",
  async (t) => {
    const { client, origin } = await start(
      t,
      router().get("/long", () => "x".repeat(3000)),
    );
    const { signal } = new AbortController();
    await (await client.stream(`${origin}/long`, { signal })).body.cancel();
    t.is((await client.stream(`${origin}/absent`, { signal })).status, "4.04");
    t.is(getEventListeners(signal, "abort").length, 0);
  },
);
