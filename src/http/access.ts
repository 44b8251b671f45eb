import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyRequest } from "fastify";

/**
 * Who may use the API. Over TCP: who has the token; without one, only pages and programs of this machine, told by the Host
 * header, so that a web site cannot reach it through a visitor's browser (DNS rebinding). A browser that was sent here by
 * another site changes nothing (cross-site request forgery).
 */
export function guardAccess(app: FastifyInstance, access: Access): void {
  app.addHook("onRequest", (request, reply, done) => {
    const refusal = refusalOf(request, access);
    if (refusal === undefined) {
      done();
      return;
    }
    if (refusal.status === 401) void reply.header("www-authenticate", "Bearer");
    void reply.status(refusal.status).send({ error: refusal.error, message: refusal.message });
  });
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** Needs no token: the page, which holds nothing secret and asks for it. Told by the route, for one route has many URLs. */
    readonly isOpen?: boolean;
  }
}

export type Access =
  | { readonly type: "socket" }
  | { readonly type: "loopback" }
  | { readonly type: "token"; readonly token: Uint8Array };

interface Refusal {
  readonly status: number;
  readonly error: string;
  readonly message: string;
}

function refusalOf(request: FastifyRequest, access: Access): Refusal | undefined {
  if (access.type === "socket") return undefined;
  if (access.type === "loopback" && !isLoopbackHost(request.headers.host ?? "")) {
    return {
      status: 403,
      error: "HTTP_FOREIGN_HOST",
      message: "without a token, only this machine's own names are served",
    };
  }
  const site = request.headers["sec-fetch-site"];
  if (!SAFE_METHODS.has(request.method) && site !== undefined && site !== "same-origin" && site !== "none")
    return { status: 403, error: "HTTP_CROSS_SITE", message: "another site may not change anything here" };
  if (request.method === "POST" && request.headers["content-type"]?.startsWith("application/json") !== true)
    return { status: 415, error: "HTTP_NOT_JSON", message: "the body is JSON, with its content-type" };
  if (access.type !== "token" || request.routeOptions.config.isOpen === true) return undefined;
  const [scheme = "", given = ""] = (request.headers.authorization ?? "").split(" ");
  if (scheme.toLowerCase() === "bearer" && isSameSecret(Buffer.from(given), access.token)) return undefined;
  return { status: 401, error: "HTTP_UNAUTHORIZED", message: "a token is needed: Authorization: Bearer TOKEN" };
}

/** Hashes have one length, so that the time says nothing of the token's. */
function isSameSecret(given: Uint8Array, wanted: Uint8Array): boolean {
  const hash = (bytes: Uint8Array): Uint8Array => createHash("sha256").update(bytes).digest();
  return timingSafeEqual(hash(given), hash(wanted));
}

function isLoopbackHost(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i.test(host);
}

const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD"]);
