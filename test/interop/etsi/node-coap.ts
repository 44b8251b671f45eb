import { createSocket, type Socket } from "node:dgram";
import { CoapsClientSocket, listenCoaps } from "#node-coap/index.js";
import { freePort } from "#testing/free-port.js";
import { type Scoped } from "#testing/peer-process.js";
import coap from "coap";
import type { EtsiCase, Step } from "./cases.js";
import { type ClientSide, IDENTITY, KEY, type Place, type ServerSide, type Transport } from "./sides.js";

/** Short times, so that a loss and a peer that has gone are noticed while a test waits. */
// Its EXCHANGE_LIFETIME has to be whole milliseconds.
coap.updateTiming({ ackTimeout: 0.25, ackRandomFactor: 1, maxRetransmit: 3 });

/** The npm package coap: plain, and over our DTLS by `dpe-coap/node-coap`. */
export const NODE_COAP_CLIENT: ClientSide = {
  name: "node-coap",
  transports: ["udp", "dtls"],
  cannot: ({ id }) => CLIENT_CANNOT[id],
  fails: ({ id }) => CLIENT_FAILS[id],
  perform: async (scope, place, steps) => {
    const agent = new coap.Agent({ socket: socketTo(scope, place.transport) });
    for (const step of steps) await perform(agent, place, step);
  },
};

const CLIENT_CANNOT: Readonly<Record<string, string>> = {
  CORE_12: "node-coap gives each request a token",
  CORE_31: "node-coap sends no ping",
  OBS_04: "node-coap does not look at Max-Age",
};

/** ObserveReadStream takes a missing Observe for the number 0, which is older than what it had. */
const DROPS_THE_END = "node-coap's client does not tell of a response that ends an observation (RFC 7641 §3.2)";
const CLIENT_FAILS: Readonly<Record<string, string>> = { OBS_07: DROPS_THE_END, OBS_08: DROPS_THE_END };

function socketTo(scope: Scoped, transport: Transport): Socket {
  const psk = { identity: Buffer.from(IDENTITY), key: Buffer.from(KEY) };
  const socket = transport === "dtls" ? new CoapsClientSocket({ connectOptions: { psk } }) : createSocket("udp4");
  scope.teardown(() => new Promise<void>((resolve) => void socket.close(() => resolve())));
  if (transport === "udp") socket.bind(0, "127.0.0.1");
  return socket;
}

function perform(agent: coap.Agent, place: Place, step: Step): Promise<void> {
  const { method, path, query, payload, isNon, token, options = [], blockBytes, observing } = step;
  return new Promise<void>((resolve, reject) => {
    const request = agent.request({
      hostname: "127.0.0.1",
      port: place.port,
      method: method === "PING" ? "GET" : method,
      pathname: path,
      confirmable: isNon !== true,
      observe: observing !== undefined,
      ...(query === undefined ? {} : { query }),
      ...(token === undefined ? {} : { token: Buffer.from(token) }),
    });
    for (const [number, hex] of options) request.setOption(String(number), Buffer.from(hex, "hex"));
    if (blockBytes !== undefined) {
      const value = Buffer.of(Math.log2(blockBytes) - 4);
      if (payload !== undefined) request.setOption("Block1", value);
      if (payload === undefined || path === "/large-post") request.setOption("Block2", value);
    }
    request.on("error", reject).on("response", (response: coap.IncomingMessage) => {
      if (observing === undefined || !(response instanceof coap.ObserveReadStream)) return resolve();
      let states = 0;
      response.on("data", () => {
        states++;
        if (states === 1 && observing.meanwhile !== undefined)
          perform(
            agent,
            observing.meanwhile.isByOther ? { ...place, port: place.directPort } : place,
            observing.meanwhile,
          ).catch(reject);
        if (response.code.startsWith("2") && states < observing.states) return;
        response.close(observing.endsBy === "get");
        resolve();
      });
    });
    request.end(payload);
  });
}

const BY_TOKEN = "node-coap's server looks for the blocks of a request under one token (RFC 7959 §2.5, §3)";

export const NODE_COAP_SERVER: ServerSide = {
  name: "node-coap",
  transports: ["udp", "dtls"],
  cannot: ({ id }) => (id.startsWith("LINK") ? "node-coap has no links: an application of its own has to" : undefined),
  fails: ({ id }) => SERVER_FAILS[id],
  start: async (scope, transport) => {
    const port = await freePort();
    let close = await listen(transport, port);
    scope.teardown(() => close());
    return {
      port,
      restart: async () => {
        await close();
        close = await listen(transport, port);
      },
    };
  },
};

const SERVER_FAILS: Readonly<Record<string, string>> = {
  CORE_31: "node-coap's server does not answer a ping (RFC 7252 §4.3)",
  BLOCK_03: BY_TOKEN,
  BLOCK_04: BY_TOKEN,
  BLOCK_05: BY_TOKEN,
  BLOCK_06:
    "node-coap's server takes an empty Block2, which asks for blocks of 16 bytes, for blocks of none (RFC 7959 §2.2)",
  OBS_02: "node-coap's server notifies by Acknowledgements that acknowledge nothing (RFC 7252 §4.2, RFC 7641 §4.5)",
  OBS_05: "node-coap's server goes on for ever when its notifications are not acknowledged (RFC 7641 §4.5)",
  OBS_03: "node-coap's server goes on after a GET with Observe 1, which it leaves to the application (RFC 7641 §4.1)",
};

async function listen(transport: Transport, port: number): Promise<() => Promise<void>> {
  const ends = new Set<() => void>();
  const server = coap.createServer({ piggybackReplyMs: 50 }, serveEtsi(ends));
  const endAll = (): void => {
    for (const end of ends) end();
  };
  if (transport === "udp") {
    await new Promise<void>((resolve) => void server.listen(port, "127.0.0.1", () => resolve()));
    return () =>
      new Promise<void>((resolve) => {
        endAll();
        server.once("close", () => setImmediate(resolve)).close();
      });
  }
  const socket = await listenCoaps({
    host: "127.0.0.1",
    port,
    server: { pskEnabled: true },
    pskOf: (identity) => (Buffer.from(identity).toString() === IDENTITY ? Buffer.from(KEY) : undefined),
  });
  server.listen(socket);
  return async () => {
    endAll();
    server.close();
    await new Promise<void>((resolve) => void socket.close(() => resolve()));
  };
}

type Handler = (request: coap.IncomingMessage, response: coap.OutgoingMessage | coap.ObserveWriteStream) => void;

/** The resources of the ETSI CoAP plugtests; node-coap has no links of its own and no filters, so it is given none. */
function serveEtsi(ends: Set<() => void>): Handler {
  const etag = Buffer.of(1, 2);
  const large = "x".repeat(1280);
  let changed = "state 0";
  const observers = new Set<coap.ObserveWriteStream>();
  const put: Readonly<Record<string, Handler>> = {
    "/test": (_, response) => end(response, "2.04"),
    "/validate": (request, response) =>
      end(
        response,
        optionsOf(request, "If-Match").every((value) => value.equals(etag)) &&
          optionsOf(request, "If-None-Match").length === 0
          ? "2.04"
          : "4.12",
      ),
    "/large-update": (_, response) => end(response, "2.04"),
    "/obs-changed": (request, response) => {
      changed = request.payload.toString();
      for (const observer of observers) observer.write(changed);
      end(response, "2.04");
    },
  };
  const post: Readonly<Record<string, Handler>> = {
    "/test": (_, response) => end(response, "2.01"),
    "/location": (_, response) => {
      response.setOption(
        "Location-Path",
        ["location1", "location2", "location3"].map((part) => Buffer.from(part)),
      );
      end(response, "2.01");
    },
    "/location-query": (_, response) => {
      response.setOption(
        "Location-Query",
        ["first=1", "second=2"].map((part) => Buffer.from(part)),
      );
      end(response, "2.01");
    },
    "/large-create": (_, response) => {
      response.setOption(
        "Location-Path",
        ["large-create", "1"].map((part) => Buffer.from(part)),
      );
      end(response, "2.01");
    },
    "/large-post": (request, response) => end(response, "2.04", request.payload.toString().toUpperCase()),
  };
  const get: Readonly<Record<string, Handler>> = {
    "/test": (_, response) => end(response, "2.05", "test"),
    "/seg1/seg2/seg3": (_, response) => end(response, "2.05", "nested"),
    "/query": (request, response) => end(response, "2.05", request.url.split("?")[1]?.replaceAll("&", " ")),
    "/separate": (_, response) => void setTimeout(() => end(response, "2.05", "late"), 200),
    "/multi-format": (request, response) => {
      const isXml = request.headers["Accept"] === "application/xml";
      response.setOption("Content-Format", isXml ? "application/xml" : "text/plain");
      end(response, "2.05", isXml ? "<text/>" : "text");
    },
    "/validate": (request, response) => {
      response.setOption("ETag", etag);
      const isValid = optionsOf(request, "ETag").some((value) => value.equals(etag));
      end(response, isValid ? "2.03" : "2.05", isValid ? undefined : "valid");
    },
    "/large": (_, response) => end(response, "2.05", large),
  };
  const observed = (request: coap.IncomingMessage, stream: coap.ObserveWriteStream): void => {
    const path = pathOf(request);
    if (path === "/obs-changed") {
      observers.add(stream);
      stream.on("finish", () => observers.delete(stream));
      stream.write(changed);
      return;
    }
    stream.setOption("Content-Format", "text/plain");
    if (path === "/obs-expiring") stream.setOption("Max-Age", 1);
    let count = 0;
    stream.write("state 0");
    const stop = (): void => {
      clearInterval(timer);
      ends.delete(stop);
    };
    const timer = setInterval(() => {
      const code = ++count < 3 ? undefined : { "/obs-deleted": "4.04", "/obs-format": "4.06" }[path];
      if (code === undefined) return stream.write(`state ${count}`);
      stop();
      stream.statusCode = code;
      return stream.write("");
    }, 100);
    stream.on("finish", stop);
    ends.add(stop);
  };
  const tables: Readonly<Record<string, Readonly<Record<string, Handler>>>> = { GET: get, PUT: put, POST: post };
  return (request, response) => {
    if (response instanceof coap.ObserveWriteStream) return observed(request, response);
    const path = pathOf(request);
    const table: Readonly<Record<string, Handler>> | undefined = tables[request.method ?? ""];
    const handler = table?.[path];
    if (request.method === "DELETE" && path === "/test") end(response, "2.02");
    else if (handler !== undefined) handler(request, response);
    else if (request.method === "GET" && path.startsWith("/obs")) end(response, "2.05", "state");
    else end(response, "4.04");
  };
}

const pathOf = (request: coap.IncomingMessage): string => request.url.split("?")[0] ?? "";

function optionsOf(request: coap.IncomingMessage, name: string): Buffer[] {
  return (request._packet.options ?? []).flatMap(({ name: given, value }) =>
    given === name && (Buffer.isBuffer(value) || typeof value === "string") ? [Buffer.from(value)] : [],
  );
}

function end(response: coap.OutgoingMessage | coap.ObserveWriteStream, code: string, body?: string): void {
  response.statusCode = code;
  response.end(body);
}

export type { EtsiCase };
