import { chmodSync, mkdirSync, renameSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import swagger from "@fastify/swagger";
import { fastify, type FastifyInstance } from "fastify";
import { messageOf } from "#errors/index.js";
import { isLoopback, type HttpConfig } from "#server/index.js";
import { isForeignFolder } from "#files/index.js";
import { type Access, guardAccess } from "./access.js";
import { addApi } from "./api.js";
import { boundConnections, TIMEOUTS } from "./connections.js";
import { HttpError } from "./errors.js";
import { askNeighbours } from "./neighbours.js";
import type { Operation } from "./operation.js";
import { addPage } from "./page.js";

/** API, page and metrics on TCP. Returns what ends it, and where it listens. @throws HttpError HTTP_PORT_IN_USE, HTTP_NO_TOKEN. */
export async function listenHttp(config: HttpConfig, operation: Operation): Promise<HttpListener> {
  if (config.token === undefined && !isLoopback(config.host))
    throw new HttpError("HTTP_NO_TOKEN", `${config.host} can be reached from elsewhere, so http needs a token`);
  const access: Access =
    config.token === undefined ? { type: "loopback" } : { type: "token", token: config.token.reveal() };
  const app = await build(operation, access);
  addPage(app);
  try {
    const address = await app.listen({ host: config.host, port: config.port });
    return { address, close: () => app.close() };
  } catch (error) {
    await app.close();
    const why = error instanceof Error && "code" in error ? REASONS[String(error.code)] : undefined;
    if (why === undefined) throw error;
    throw new HttpError("HTTP_PORT_IN_USE", `http: ${config.host}:${config.port}: ${why}`, { cause: error });
  }
}

const REASONS: Readonly<Partial<Record<string, string>>> = {
  EADDRINUSE: "the port is in use by another program; set http: { port }",
  EACCES: "ports below 1024 need privileges; set http: { port }",
  EADDRNOTAVAIL: "this machine has no such address",
  ENOTFOUND: "the host name has no address",
  EAI_AGAIN: "the host name has no address",
};

/**
 * The same API on a Unix socket, for who may open it: its owner (mode 0600), without a token.
 *
 * @throws HttpError HTTP_SOCKET_IN_USE where another server answers there; HTTP_SOCKET_FAILED.
 */
export async function listenControl(path: string, operation: Operation): Promise<HttpListener> {
  const app = await build(operation, { type: "socket" });
  const isAlive = await answers(path);
  if (isAlive) throw new HttpError("HTTP_SOCKET_IN_USE", `another server answers at ${path}`);
  const unready = `${path}.${process.pid}`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    if (isForeignFolder(dirname(path))) throw new Error("its folder is another user's, or all may write there");
    remove(unready);
    await app.listen({ path: unready });
    // Nobody finds it before its mode is right.
    chmodSync(unready, 0o600);
    renameSync(unready, path);
  } catch (error) {
    await app.close();
    const why = messageOf(error);
    throw new HttpError("HTTP_SOCKET_FAILED", `the control socket ${path} cannot be made: ${why}`, { cause: error });
  }
  return {
    address: path,
    close: async () => {
      remove(path);
      await app.close();
    },
  };
}

export interface HttpListener {
  /** The URL, or the path of the socket. */
  readonly address: string;
  close(): Promise<void>;
}

async function build(operation: Operation, access: Access): Promise<FastifyInstance> {
  const app = fastify({
    forceCloseConnections: true,
    bodyLimit: MAX_BODY_BYTES,
    ...TIMEOUTS,
    ajv: { customOptions: { coerceTypes: true, removeAdditional: false } },
    routerOptions: { maxParamLength: 512 },
  });
  boundConnections(app.server);
  guardAccess(app, access);
  app.addHook("onSend", (_request, reply, payload, done) => {
    void reply.header("x-content-type-options", "nosniff");
    if (!reply.hasHeader("cache-control")) void reply.header("cache-control", "no-store");
    done(null, payload);
  });
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "DPE Server",
        version: "1",
        description: "Devices, their properties, DPE-2, subscribers and audit.",
      },
      components: { securitySchemes: { token: { type: "http", scheme: "bearer" } } },
      security: access.type === "token" ? [{ token: [] }] : [],
    },
  });
  addApi(app, operation);
  app.get("/api/openapi.json", { schema: { hide: true } }, () => app.swagger());
  const { registry } = operation.metrics;
  app.get("/metrics", { schema: { hide: true } }, async (_request, reply) =>
    reply
      .type(registry.contentType)
      .send(await operation.metrics.textWith(await askNeighbours(operation, OWN_METRICS))),
  );
  // For the neighbours.
  if (access.type === "socket") app.get(OWN_METRICS, { schema: { hide: true } }, () => registry.getMetricsAsJSON());
  return app;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It is not there.
  }
}

const OWN_METRICS = "/metrics/own";
const MAX_BODY_BYTES = 64 * 1024;
