import type { FastifyInstance, FastifyReply } from "fastify";
import type { DpeServer } from "#server/index.js";
import * as schema from "./schemas.js";
import { deviceView, propertyView, requestView, stateOf } from "./views.js";

/** Devices, their properties and history, and DPE-2 requests to them. */
export function addDeviceApi(app: FastifyInstance, server: DpeServer): void {
  const { store } = server;

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

  app.get<OfDevice>("/api/devices/:endpoint", { schema: schema.device }, async ({ params }, reply) => {
    const device = await store.registrations.device(params.endpoint, Date.now());
    if (device === undefined) return notFound(reply, params.endpoint);
    const properties = await store.properties.latest(params.endpoint);
    return { ...deviceView(device), properties: properties.map((record) => propertyView(record)) };
  });

  app.delete<OfDevice>("/api/devices/:endpoint", { schema: schema.forget }, async ({ params }, reply) => {
    if (!(await store.registrations.forget(params.endpoint))) return notFound(reply, params.endpoint);
    await store.audit.append({ type: "forgotten", endpoint: params.endpoint }, Date.now());
    return reply.status(204).send();
  });

  app.get<OfDevice>("/api/devices/:endpoint/properties", { schema: schema.properties }, async ({ params }, reply) => {
    if ((await store.registrations.device(params.endpoint, Date.now())) === undefined)
      return notFound(reply, params.endpoint);
    const properties = await store.properties.latest(params.endpoint);
    return { properties: properties.map((record) => propertyView(record)) };
  });

  app.get<OfDevice & { Querystring: HistoryQuery }>(
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

  app.post<OfDevice & { Body: { readonly names?: readonly string[] } }>(
    "/api/devices/:endpoint/query",
    { schema: schema.query },
    async ({ params, body }, reply) => {
      const answer = await server.ask(params.endpoint, body.names ?? [], AbortSignal.timeout(QUERY_TIMEOUT_MS));
      if (answer.type === "queued") return reply.status(202).send({ request: requestView(answer.request) });
      return { properties: answer.records.map((record) => propertyView(record)) };
    },
  );

  app.get<OfDevice>("/api/devices/:endpoint/requests", { schema: schema.requests }, async ({ params }) => {
    const requests = await store.requests.list(params.endpoint, Date.now());
    return { requests: requests.map((request) => requestView(request)) };
  });
}

/** The part of a path that names a device. */
export interface OfDevice {
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

function matches(wanted: NonNullable<DevicesQuery["state"]>, state: ReturnType<typeof stateOf>): boolean {
  if (wanted === "ended") return state === "expired" || state === "deregistered";
  return wanted === "registered" ? state === "registered" || state === "overdue" : state === wanted;
}

function notFound(reply: FastifyReply, endpoint: string): FastifyReply {
  return reply.status(404).send({ error: "DPE_UNKNOWN_REGISTRATION", message: `no endpoint ${endpoint} is known` });
}

const QUERY_TIMEOUT_MS = 30_000;
const SCAN_PAGE = 500;
const MAX_LOOKED_AT = 200_000;
