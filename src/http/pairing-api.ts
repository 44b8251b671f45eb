import type { FastifyInstance, FastifyReply } from "fastify";
import type { CodeView } from "#server/index.js";
import type { Operation } from "./operation.js";
import * as schema from "./schemas.js";

/** One-time codes for devices: issue, list, withdraw. A code comes out once, when it is issued. */
export function addPairingApi(app: FastifyInstance, { server: { pairing } }: Operation): void {
  app.post<{ Body: NewCodeBody | undefined }>("/api/pairing", { schema: schema.addCode }, (request, reply) => {
    if (pairing === undefined) return isOff(reply);
    const { expiresSeconds, replace = false, ...rest } = request.body ?? {};
    const issued = pairing.issue({
      ...rest,
      replaces: replace,
      ...(expiresSeconds === undefined ? {} : { lifetimeMs: expiresSeconds * 1000 }),
    });
    return reply.status(201).send({ ...issued, expiresAt: new Date(issued.expiresAt).toISOString() });
  });

  app.get("/api/pairing", { schema: schema.codes }, (_request, reply) =>
    pairing === undefined ? isOff(reply) : reply.send({ codes: pairing.codes().map((one) => viewOf(one)) }),
  );

  app.get<OfCode>("/api/pairing/:id", { schema: schema.oneCode }, ({ params }, reply) => {
    if (pairing === undefined) return isOff(reply);
    const found = pairing.code(params.id);
    return found === undefined ? unknown(reply) : reply.send(viewOf(found));
  });

  app.delete<OfCode>("/api/pairing/:id", { schema: schema.revokeCode }, ({ params }, reply) => {
    if (pairing === undefined) return isOff(reply);
    return pairing.revoke(params.id) ? reply.status(204).send() : unknown(reply);
  });
}

interface OfCode {
  readonly Params: { readonly id: string };
}

interface NewCodeBody {
  readonly endpoint?: string;
  readonly subscriber?: string;
  readonly expiresSeconds?: number;
  readonly replace?: boolean;
  readonly host?: string;
}

function viewOf({ id, state, expiresAt, tries, terms, endpoint, subscriber }: CodeView): object {
  const device = { endpoint: endpoint ?? terms.endpoint, subscriber: subscriber ?? terms.subscriber };
  return { id, state, expiresAt: new Date(expiresAt).toISOString(), tries, ...device };
}

function unknown(reply: FastifyReply): FastifyReply {
  return reply.status(404).send({ error: "HTTP_NOT_FOUND", message: "there is no open code of that identifier" });
}

function isOff(reply: FastifyReply): FastifyReply {
  return reply.status(409).send({
    error: "DPE_PAIRING_OFF",
    message: "this server pairs no devices: give its configuration a section pairing (dpe init server writes one)",
  });
}
