import { request as httpRequest } from "node:http";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Operation } from "./operation.js";

/** The API socket of the process that heard an endpoint last; undefined where that is this one, or no neighbour. */
export async function socketOfOwner({ server, neighbours }: Operation, endpoint: string): Promise<string | undefined> {
  if (neighbours === undefined) return undefined;
  const device = await server.store.registrations.device(endpoint, Date.now());
  return device?.heard === undefined ? undefined : neighbours.get(device.heard.server);
}

/** Hands a request to a neighbour, and its answer back as it comes. `onEnd` is called once. */
export function passOn(
  socketPath: string,
  request: FastifyRequest,
  reply: FastifyReply,
  onEnd: () => void,
): FastifyReply {
  reply.hijack();
  const { raw } = reply;
  const { "last-event-id": lastEventId } = request.headers;
  const headers = lastEventId === undefined ? {} : { "last-event-id": lastEventId };
  const passed = httpRequest({ socketPath, method: request.method, path: request.url, headers }, (answer) => {
    raw.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(raw);
    // Cut off, it ends here too, so that the client comes back.
    answer.once("close", () => raw.end());
  });
  passed.once("error", () => {
    if (!raw.headersSent) raw.writeHead(503, { "content-type": "application/json" });
    raw.end(
      JSON.stringify({ error: "DPE_NOT_REACHABLE", message: "the process that the endpoint is connected to ended" }),
    );
  });
  raw.once("close", () => {
    passed.destroy();
    onEnd();
  });
  passed.end();
  return reply;
}

/** What each neighbour that answers gives at a path, as JSON. */
export async function askNeighbours({ neighbours }: Operation, path: string): Promise<readonly unknown[]> {
  const answers = await Promise.all([...(neighbours?.values() ?? [])].map((socket) => answerOf(socket, path)));
  return answers.filter((answer) => answer !== undefined);
}

/** Undefined where it does not answer in time: it may be starting. */
function answerOf(socketPath: string, path: string): Promise<unknown> {
  return new Promise((resolve) => {
    const asked = httpRequest({ socketPath, path, timeout: TIMEOUT_MS }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("end", () =>
        resolve(answer.statusCode === 200 ? JSON.parse(Buffer.concat(chunks).toString()) : undefined),
      );
    });
    asked.once("timeout", () => asked.destroy());
    asked.once("error", () => resolve(undefined));
    asked.once("close", () => resolve(undefined));
    asked.end();
  });
}

const TIMEOUT_MS = 2000;
