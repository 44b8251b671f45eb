import {
  checkPreconditions,
  CODE,
  type CoapServer,
  type HandlerResult,
  negotiate,
  OPTION,
  Options,
  type Reply,
  type Router,
  router,
  serve,
} from "#api/index.js";
import { decomposeUri, type RequestMessage } from "#coap/index.js";
import { type CoapConnection, CoapEndpoint, connect, connectStream, UdpSocket } from "#net/index.js";
import { freePort } from "#testing/free-port.js";
import { type Scoped } from "#testing/peer-process.js";
import type { Step } from "./cases.js";
import { Seen, tap } from "./seen.js";
import {
  type ClientSide,
  IDENTITY,
  isStream,
  KEY,
  type Place,
  type ServerSide,
  type Transport,
  TRANSPORTS,
} from "./sides.js";

/** The resources of the ETSI CoAP plugtests. */
export function etsiResources(): Router {
  const etag = Uint8Array.of(1, 2);
  const created = { code: CODE.Created, location: "/location1/location2/location3" };
  const later = (result: HandlerResult): Promise<HandlerResult> =>
    new Promise((resolve) => setTimeout(() => resolve(result), 200));
  const every = (intervalMs: number, state: (count: number) => State) => ({
    ...replyOf(state(0)),
    observe: (notify: (state: HandlerResult) => void) => {
      let count = 0;
      const timer = setInterval(() => notify(state(++count)), intervalMs);
      return () => clearInterval(timer);
    },
  });
  let changed = "state 0";
  const observers = new Set<(state: HandlerResult) => void>();
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
    .get("/path", () => ({ payload: "</path/sub1>,</path/sub2>", contentFormat: 40 }), { ct: "40" })
    .get("/path/sub1", () => "leaf")
    .get("/path/sub2", () => "leaf")
    .get("/obs", () => every(100, (count) => `state ${count}`), { rt: "observe", obs: true })
    .get("/obs-non", () => every(100, (count) => `state ${count}`))
    .get("/obs-expiring", () => every(100, (count) => ({ payload: `state ${count}`, maxAgeSeconds: 1 })))
    .get("/obs-deleted", () => every(100, (count) => (count < 3 ? `state ${count}` : { code: CODE.NotFound })))
    .get("/obs-format", () =>
      every(100, (count) => (count < 3 ? `state ${count}` : { payload: "{}", contentFormat: 50 })),
    )
    .get("/obs-changed", () => ({
      payload: changed,
      observe: (notify) => {
        observers.add(notify);
        return () => observers.delete(notify);
      },
    }))
    .put("/obs-changed", (incoming) => {
      changed = incoming.text();
      for (const notify of observers) notify(changed);
      return undefined;
    });
}

const replyOf = (state: State): Reply => (typeof state === "string" ? { payload: state } : state);

type State = string | Reply;

/** Short times, so that a loss and a peer that has gone are noticed while a test waits. */
const PARAMETERS = {
  ackTimeoutMs: 300,
  maxRetransmit: 3,
  separateResponseDelayMs: 50,
  reregistrationDelayMs: 50,
  maxNonConfirmableNotifications: 15,
};

export const OUR_SERVER: ServerSide = {
  name: "ours",
  transports: TRANSPORTS,
  cannot: () => undefined,
  fails: () => undefined,
  start: async (scope, transport) => {
    let seen: Seen | undefined;
    const port = await freePort();
    let server = await listen(transport, port, () => seen);
    scope.teardown(() => server.close());
    return {
      port,
      tapInto: (next) => (seen = next),
      restart: async () => {
        await server.close();
        server = await listen(transport, port, () => seen);
      },
    };
  },
};

async function listen(transport: Transport, port: number, seen: () => Seen | undefined): Promise<CoapServer> {
  const pskOf = (identity: string): string | undefined => (identity === IDENTITY ? KEY : undefined);
  const server = await serve(etsiResources(), {
    host: "127.0.0.1",
    ...{ udp: { port }, tcp: { tcp: { port } }, dtls: { dtls: { port, pskOf } }, tls: { tls: { port, pskOf } } }[
      transport
    ],
    maxAmplification: Infinity,
    understands: [OPTION.IfMatch, OPTION.IfNoneMatch],
    parameters: PARAMETERS,
  });
  const { endpoint } = server;
  const addSession = endpoint.addSession.bind(endpoint);
  const addStream = endpoint.addStream.bind(endpoint);
  const tapped = <T extends Parameters<typeof addSession>[0] | Parameters<typeof addStream>[0]>(given: T): T => {
    const into = seen();
    return into === undefined ? given : tap(given, into, false);
  };
  endpoint.addSession = (session) => addSession(tapped(session));
  endpoint.addStream = (stream) => addStream(tapped(stream));
  return server;
}

export const OUR_CLIENT: ClientSide = {
  name: "ours",
  transports: TRANSPORTS,
  cannot: ({ id }, transport) => {
    if (id === "CORE_12") return "our client never asks without a token (RFC 7252 §5.3.1); see the test by hand";
    if (id === "OBS_04" && transport === "dtls")
      return "the association is lost with the server; `CoapClient` goes on over another, as test/api/moved-observation.test.ts shows";
    return undefined;
  },
  fails: () => undefined,
  perform: async (scope, place, steps, seen) => {
    const client = await OurClient.open(scope, place, seen);
    for (const step of steps) await client.perform(step);
  },
};

/** CoAP over one connection of ours. */
class OurClient {
  readonly #scope: Scoped;
  readonly #place: Place;
  readonly #connection: CoapConnection;
  /** Another endpoint takes the transport over, which knows of nothing that was asked. */
  readonly #forget: () => void;

  private constructor(scope: Scoped, place: Place, connection: CoapConnection, forget: () => void) {
    this.#scope = scope;
    this.#place = place;
    this.#connection = connection;
    this.#forget = forget;
  }

  static async open(scope: Scoped, place: Place, seen: Seen): Promise<OurClient> {
    const { transport, port } = place;
    const endpoint = new CoapEndpoint({ parameters: PARAMETERS });
    const successor = new CoapEndpoint();
    scope.teardown(() => Promise.all([endpoint.close(), successor.close()]).then(() => undefined));
    const remote = { host: "127.0.0.1", port };
    const psk = { identity: Buffer.from(IDENTITY), key: Buffer.from(KEY) };
    if (transport === "udp") {
      const socket = await UdpSocket.bind({ host: "127.0.0.1" });
      const connection = endpoint.addSocket(socket).connectTo({ address: "127.0.0.1", port });
      return new OurClient(scope, place, connection, () => successor.addSocket(socket));
    }
    if (transport === "dtls") {
      const session = await connect(remote, { psk });
      scope.teardown(() => session.close());
      await session.opened;
      const connection = endpoint.addSession(tap(session, seen, true));
      return new OurClient(scope, place, connection, () => successor.addSession(session));
    }
    const verify = (): { ok: false; alert: "bad_certificate"; reason: string } => ({
      ok: false,
      alert: "bad_certificate",
      reason: "a PSK was wanted",
    });
    // libcoap 4.3.1 names no protocol by ALPN.
    const stream = await connectStream(
      remote,
      transport === "tcp" ? {} : { tls: { psk, verify }, dangerSkipAlpn: true },
    );
    scope.teardown(() => stream.close());
    const connection = await endpoint.addStream(tap(stream, seen, true));
    return new OurClient(scope, place, connection, () => undefined);
  }

  async perform(step: Step): Promise<void> {
    const { method, blockBytes, observing } = step;
    if (method === "PING") return this.#connection.ping();
    const sizes = blockBytes === undefined ? {} : { blockBytes, responseBlockBytes: blockBytes };
    if (observing === undefined) {
      await this.#connection.request(messageOf(step), sizes);
      return;
    }
    const observation = await this.#connection.observe(messageOf(step), sizes);
    if (observing.meanwhile !== undefined) await this.#meanwhile(observing.meanwhile);
    const notifications = observation[Symbol.asyncIterator]();
    for (let states = 1; states < observing.states; states++) if ((await notifications.next()).done === true) return;
    if (observing.endsBy === "reset") this.#forget();
    else observation.cancel();
  }

  async #meanwhile({ isByOther, ...step }: Step & { readonly isByOther: boolean }): Promise<void> {
    if (!isByOther) return this.perform(step);
    const { transport, directPort } = this.#place;
    const unseen = new Seen(isStream(transport));
    const other = await OurClient.open(this.#scope, { ...this.#place, port: directPort }, unseen);
    await other.perform(step);
  }
}

function messageOf({ method, path, query, payload, isNon, options = [] }: Step): RequestMessage {
  const { options: target } = decomposeUri(`coap://127.0.0.1${path}${query === undefined ? "" : `?${query}`}`);
  return {
    code: CODE[method === "PING" ? "GET" : method],
    options: Options.of([
      ...target,
      ...options.map(([number, hex]) => ({ number, value: Uint8Array.from(Buffer.from(hex, "hex")) })),
    ]),
    payload: new TextEncoder().encode(payload ?? ""),
    isConfirmable: isNon !== true,
  };
}
