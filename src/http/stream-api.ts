import type { FastifyInstance, FastifyReply } from "fastify";
import { type FollowStep, followFleet } from "#server/index.js";
import type { OfDevice } from "./device-api.js";
import { EventStream } from "./event-stream.js";
import { passOn, socketOfOwner } from "./neighbours.js";
import type { Operation } from "./operation.js";
import * as schema from "./schemas.js";
import { propertyView } from "./views.js";

/** What happens, as server-sent events: the observation of a device, wherever it is connected, and the whole fleet. */
export function addStreamApi(app: FastifyInstance, operation: Operation): void {
  const { server } = operation;
  const streams = new Set<EventStream>();
  /** Streams of neighbours that are handed on. */
  let passedOn = 0;
  app.addHook("preClose", (done) => {
    for (const stream of streams) stream.end();
    done();
  });

  app.get<OfDevice & { Querystring: ObserveQuery }>(
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
      stop = await followFleet(server.store, ({ type, endpoint, at, subscriber, records, cause }) => {
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
}

interface ObserveQuery {
  readonly name?: string;
  readonly pmin?: number;
  readonly pmax?: number;
  readonly gt?: number;
  readonly lt?: number;
  readonly st?: number;
}

function conditionsOf(query: ObserveQuery): string[] {
  return CONDITIONS.filter((key) => query[key] !== undefined).map((key) => `c.${key}=${query[key]}`);
}

function tooManyStreams(reply: FastifyReply): FastifyReply {
  return reply.status(503).send({ error: "HTTP_TOO_MANY_STREAMS", message: `${MAX_STREAMS} streams are open already` });
}

const CONDITIONS = ["pmin", "pmax", "gt", "lt", "st"] as const;
/** HEAD would wait for an end that does not come, and hold a place among the streams. */
const ENDLESS = { exposeHeadRoute: false };
/** Each keeps a socket and a buffer. */
const MAX_STREAMS = 100;
