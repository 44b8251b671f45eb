import type { FastifyInstance } from "fastify";
import { DpeError } from "#dpe/index.js";
import { StoreError } from "#store/index.js";
import { addDeviceApi } from "./device-api.js";
import type { Operation } from "./operation.js";
import { addPairingApi } from "./pairing-api.js";
import * as schema from "./schemas.js";
import { addStreamApi } from "./stream-api.js";
import { addSubscribersApi } from "./subscribers-api.js";
import { auditView } from "./views.js";

/** The API under /api, and what is answered when it fails. */
export function addApi(app: FastifyInstance, operation: Operation): void {
  const { server } = operation;
  addDeviceApi(app, server);
  addStreamApi(app, operation);
  addPairingApi(app, operation);
  addSubscribersApi(app, operation);

  app.get("/api/overview", { schema: schema.overview }, () => operation.overview());

  app.get<{ Querystring: AuditQuery }>("/api/audit", { schema: schema.audit }, async ({ query }) => {
    const { limit = 100, before, type, endpoint, subscriber } = query;
    const events = await server.store.audit.page({
      limit,
      ...(before === undefined ? {} : { before }),
      ...(type === undefined ? {} : { type }),
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(subscriber === undefined ? {} : { subscriber }),
    });
    const next = events.length === limit ? events.at(-1)?.key : undefined;
    return { events: events.map((entry) => auditView(entry)), ...(next === undefined ? {} : { next }) };
  });

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

interface AuditQuery {
  readonly limit?: number;
  readonly before?: string;
  readonly type?: string;
  readonly endpoint?: string;
  readonly subscriber?: string;
}

function statusOf(error: Error & { readonly statusCode?: number }): number {
  if (error instanceof StoreError) return 503;
  if (error.statusCode !== undefined && error.statusCode < 500) return error.statusCode;
  // What a request to a device ran into: CoAP, DTLS and network errors, the policy of DPE-2.
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (code === "DIGEST_BAD_USERNAME") return 400;
  return /^(?:COAP|DTLS|NET|SECURITY|SENML)_/.test(code) ? 502 : 500;
}

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
