import type { FastifyInstance } from "fastify";
import type { NewSubscriber } from "#server/index.js";
import type { Operation } from "./operation.js";
import * as schema from "./schemas.js";
import { subscriberView } from "./views.js";

/** Who may use the service: list, add, remove, ban. Credentials go in, and never come out. */
export function addSubscribersApi(app: FastifyInstance, { server }: Operation): void {
  const { directory } = server;

  app.get("/api/subscribers", { schema: schema.subscribers }, async () => ({
    subscribers: (await directory.list()).map((row) => subscriberView(row)),
  }));

  app.post<{ Body: SubscriberBody }>("/api/subscribers", { schema: schema.addSubscriber }, async ({ body }, reply) => {
    const { psk, ...rest } = body;
    await directory.add({
      ...rest,
      ...(psk === undefined
        ? {}
        : { psk: { identity: psk.identity, key: Uint8Array.from(Buffer.from(psk.key, "hex")) } }),
    });
    return reply.status(201).send({ name: body.name });
  });

  app.delete<Named>("/api/subscribers/:name", { schema: schema.removeSubscriber }, async ({ params }, reply) => {
    await directory.remove(params.name);
    return reply.status(204).send();
  });

  app.post<Named & { Body: { readonly banned: boolean } }>(
    "/api/subscribers/:name/ban",
    { schema: schema.banSubscriber },
    async ({ params, body }) => {
      await directory.ban(params.name, body.banned);
      return { name: params.name, isBanned: body.banned };
    },
  );
}

interface Named {
  readonly Params: { readonly name: string };
}

interface SubscriberBody extends Omit<NewSubscriber, "psk"> {
  /** The key in hexadecimal. */
  readonly psk?: { readonly identity: string; readonly key: string };
}
