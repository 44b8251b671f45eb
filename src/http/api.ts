import type { FastifyInstance, FastifyReply } from "fastify";
import { DpeError } from "#dpe/index.js";
import type { Registration } from "#dpe/index.js";
import { type FollowStep, followFleet } from "#server/index.js";
import { StoreError } from "#store/index.js";
import { EventStream } from "./event-stream.js";
import { passOn, socketOfOwner } from "./neighbours.js";
import type { Operation } from "./operation.js";
import * as schema from "./schemas.js";
import { auditView, deviceView, propertyView, requestView, stateOf } from "./views.js";

/** The API under /api: devices, their properties and history, DPE-2, audit, and what happens as server-sent events. */
export function addApi(app: FastifyInstance, operation: Operation): void {
  const { server } = operation;
  const { store } = server;
  const streams = new Set<EventStream>();
  /** Streams of neighbours that are handed on. */
  let passedOn = 0;
  app.addHook("preClose", (done) => {
    for (const stream of streams) stream.end();
    done();
  });

  app.get("/api/overview", { schema: schema.overview }, () => operation.overview());

  app.get<{ Querystring: DevicesQuery }>("/api/devices", { schema: schema.devices }, async ({ query }) => {
    const { after, prefix, limit = 100, state } = query;
    const found: object[] = [];
    let last = after;
    // With a state, names that do not match are passed over, within a bound.
    for (let looked = 0; found.length < limit && looked < MAX_LOOKED_AT;) {
      const wanted = state === undefined ? limit : SCAN_PAGE;
      const page = await store.registrations.page(
        { ...(last === undefined ? {} : { after: last }), ...(prefix === undefined ? {} : { prefix }), limit: wanted },
        Date.now(),
      );
      looked += page.length;
      for (const device of page) {
        if (found.length >= limit) break;
        last = device.endpoint;
        if (state === undefined || matches(state, stateOf(device))) found.push(deviceView(device));
      }
      if (page.length < wanted) return { devices: found };
      if (state === undefined) break;
    }
    return { devices: found, next: last };
  });

  app.get<Endpoint>("/api/devices/:endpoint", { schema: schema.device }, async ({ params }, reply) => {
    const device = await store.registrations.device(params.endpoint, Date.now());
    if (device === undefined) return notFound(reply, params.endpoint);
    const properties = await store.properties.latest(params.endpoint);
    return { ...deviceView(device), properties: properties.map((record) => propertyView(record)) };
  });

  app.delete<Endpoint>("/api/devices/:endpoint", { schema: schema.forget }, async ({ params }, reply) => {
    if (!(await store.registrations.forget(params.endpoint))) return notFound(reply, params.endpoint);
    await store.audit.append({ type: "forgotten", endpoint: params.endpoint }, Date.now());
    return reply.status(204).send();
  });

  app.get<Endpoint>("/api/devices/:endpoint/properties", { schema: schema.properties }, async ({ params }, reply) => {
    if ((await store.registrations.device(params.endpoint, Date.now())) === undefined)
      return notFound(reply, params.endpoint);
    const properties = await store.properties.latest(params.endpoint);
    return { properties: properties.map((record) => propertyView(record)) };
  });

  app.get<Endpoint & { Querystring: HistoryQuery }>(
    "/api/devices/:endpoint/history",
    { schema: schema.history },
    async ({ params, query }) => {
      const { name, from, until, limit } = query;
      const values = await store.properties.history(
        params.endpoint,
        name,
        {
          ...(from === undefined ? {} : { fromSeconds: Date.parse(from) / 1000 }),
          ...(until === undefined ? {} : { untilSeconds: Date.parse(until) / 1000 }),
          ...(limit === undefined ? {} : { limit }),
        },
        Date.now(),
      );
      return { endpoint: params.endpoint, name, values: values.map((record) => propertyView(record)) };
    },
  );

  app.post<Endpoint & { Body: { readonly names?: readonly string[] } }>(
    "/api/devices/:endpoint/query",
    { schema: schema.query },
    async ({ params, body }, reply) => {
      const answer = await server.ask(params.endpoint, body.names ?? [], AbortSignal.timeout(QUERY_TIMEOUT_MS));
      if (answer.type === "queued") return reply.status(202).send({ request: requestView(answer.request) });
      return { properties: answer.records.map((record) => propertyView(record)) };
    },
  );

  app.get<Endpoint>("/api/devices/:endpoint/requests", { schema: schema.requests }, async ({ params }) => {
    const requests = await store.requests.list(params.endpoint, Date.now());
    return { requests: requests.map((request) => requestView(request)) };
  });

  app.get<Endpoint & { Querystring: ObserveQuery }>(
    "/api/devices/:endpoint/observe",
    { schema: schema.observe, ...ENDLESS },
    async (request, reply) => {
      const { params, query } = request;
      if (streams.size + passedOn >= MAX_STREAMS) return tooManyStreams(reply);
      const owner = await socketOfOwner(operation, params.endpoint);
      if (owner !== undefined) {
        passedOn++;
        return passOn(owner, request, reply, () => passedOn--);
      }
      const ended = new AbortController();
      const { name } = query;
      const isResumed = request.headers["last-event-id"] !== undefined;
      const options = { conditions: conditionsOf(query), signal: ended.signal, isResumed };
      const steps = server.follow(params.endpoint, name === undefined ? options : { ...options, name });
      // What is wrong from the beginning has a status; who was here before waits.
      const first = isResumed ? undefined : await steps.next();
      let id = 0;
      const send = (step: FollowStep): void => {
        if (step.type === "waiting") stream.send("waiting", { message: step.message }, id++);
        else stream.send("properties", { properties: step.records.map((record) => propertyView(record)) }, id++);
      };
      const stream = new EventStream(reply, () => {
        streams.delete(stream);
        ended.abort();
      });
      streams.add(stream);
      if (first?.done === false) send(first.value);
      void (async () => {
        try {
          for await (const step of steps) {
            send(step);
            // At a neighbour now: the client comes back, and is led there.
            if (step.type === "waiting" && (await socketOfOwner(operation, params.endpoint)) !== undefined) break;
          }
        } catch (error) {
          operation.onFault(error);
        }
        stream.end();
      })();
      return reply;
    },
  );

  app.get<{ Querystring: AuditQuery }>("/api/audit", { schema: schema.audit }, async ({ query }) => {
    const { limit = 100, before, type, endpoint, subscriber } = query;
    const events = await store.audit.page({
      limit,
      ...(before === undefined ? {} : { before }),
      ...(type === undefined ? {} : { type }),
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(subscriber === undefined ? {} : { subscriber }),
    });
    const next = events.length === limit ? events.at(-1)?.key : undefined;
    return { events: events.map((entry) => auditView(entry)), ...(next === undefined ? {} : { next }) };
  });

  app.get<{ Querystring: { readonly endpoint?: string } }>(
    "/api/events",
    { schema: schema.events, ...ENDLESS },
    async ({ query }, reply) => {
      if (streams.size + passedOn >= MAX_STREAMS) return tooManyStreams(reply);
      let stop: () => void = () => undefined;
      const stream = new EventStream(reply, () => {
        streams.delete(stream);
        stop();
      });
      streams.add(stream);
      stop = await followFleet(store, ({ type, endpoint, at, subscriber, records, cause }) => {
        if (query.endpoint !== undefined && query.endpoint !== endpoint) return;
        stream.send(type, {
          endpoint,
          at: new Date(at).toISOString(),
          ...(subscriber === undefined ? {} : { subscriber }),
          ...(records === undefined ? {} : { properties: records.map((record) => propertyView(record)) }),
          ...(cause === undefined ? {} : { cause }),
        });
      });
      if (stream.isClosed) stop();
      return reply;
    },
  );

  app.setErrorHandler((error: Error & { readonly statusCode?: number; readonly code?: string }, _request, reply) => {
    const status = error instanceof DpeError ? (STATUS_OF[error.code] ?? 502) : statusOf(error);
    if (status === 500) operation.onFault(error);
    return reply.status(status).send({
      error: error.code ?? "HTTP_FAULT",
      message: status === 500 ? "something failed here; the server's log says what" : error.message,
    });
  });
  app.setNotFoundHandler((_request, reply) =>
    reply.status(404).send({ error: "HTTP_NOT_FOUND", message: "there is nothing here" }),
  );
}

/** What identifies a registration to a person. */
export type RegistrationName = Pick<Registration, "endpoint" | "subscriber">;

interface Endpoint {
  readonly Params: { readonly endpoint: string };
}

interface DevicesQuery {
  readonly after?: string;
  readonly prefix?: string;
  readonly limit?: number;
  readonly state?: "registered" | "overdue" | "ended";
}

interface HistoryQuery {
  readonly name: string;
  readonly from?: string;
  readonly until?: string;
  readonly limit?: number;
}

interface ObserveQuery {
  readonly name?: string;
  readonly pmin?: number;
  readonly pmax?: number;
  readonly gt?: number;
  readonly lt?: number;
  readonly st?: number;
}

interface AuditQuery {
  readonly limit?: number;
  readonly before?: string;
  readonly type?: string;
  readonly endpoint?: string;
  readonly subscriber?: string;
}

function matches(wanted: NonNullable<DevicesQuery["state"]>, state: ReturnType<typeof stateOf>): boolean {
  if (wanted === "ended") return state === "expired" || state === "deregistered";
  return wanted === "registered" ? state === "registered" || state === "overdue" : state === wanted;
}

function conditionsOf(query: ObserveQuery): string[] {
  return CONDITIONS.filter((key) => query[key] !== undefined).map((key) => `c.${key}=${query[key]}`);
}

function notFound(reply: FastifyReply, endpoint: string): FastifyReply {
  return reply.status(404).send({ error: "DPE_UNKNOWN_REGISTRATION", message: `no endpoint ${endpoint} is known` });
}

function tooManyStreams(reply: FastifyReply): FastifyReply {
  return reply.status(503).send({ error: "HTTP_TOO_MANY_STREAMS", message: `${MAX_STREAMS} streams are open already` });
}

function statusOf(error: Error & { readonly statusCode?: number }): number {
  if (error instanceof StoreError) return 503;
  if (error.statusCode !== undefined && error.statusCode < 500) return error.statusCode;
  // What a request to a device ran into: CoAP, DTLS and network errors, the policy of DPE-2.
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (code === "DIGEST_BAD_USERNAME") return 400;
  return /^(?:COAP|DTLS|NET|SECURITY|SENML)_/.test(code) ? 502 : 500;
}

const CONDITIONS = ["pmin", "pmax", "gt", "lt", "st"] as const;
const STATUS_OF: Readonly<Record<string, number>> = {
  DPE_BAD_REQUEST: 502,
  DPE_TOO_MANY_CODES: 503,
  DPE_NOT_ALLOWED: 403,
  DPE_NOT_REACHABLE: 503,
  DPE_SUBSCRIBER_CONFIGURED: 409,
  DPE_SUBSCRIBER_EXISTS: 409,
  DPE_TOO_MANY_REQUESTS: 503,
  DPE_UNKNOWN_REGISTRATION: 404,
  DPE_UNKNOWN_SUBSCRIBER: 404,
};
const QUERY_TIMEOUT_MS = 30_000;
/** HEAD would wait for an end that does not come, and hold a place among the streams. */
const ENDLESS = { exposeHeadRoute: false };
/** Each keeps a socket and a buffer. */
const MAX_STREAMS = 100;
const SCAN_PAGE = 500;
const MAX_LOOKED_AT = 200_000;
