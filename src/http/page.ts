import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { FastifyInstance } from "fastify";

/** The web page: a few files of the package, served from memory under a strict Content-Security-Policy. */
export function addPage(app: FastifyInstance): void {
  for (const { path, body, type, tag } of pageFiles()) {
    app.get(path, { schema: { hide: true }, config: { isOpen: true } }, (request, reply) => {
      void reply.headers({
        "content-security-policy": POLICY,
        "referrer-policy": "no-referrer",
        "x-frame-options": "DENY",
      });
      void reply.headers({ "cache-control": "no-cache", etag: tag });
      if (request.headers["if-none-match"] === tag) return reply.status(304).send();
      return reply.type(type).send(body);
    });
  }
}

function pageFiles(): readonly PageFile[] {
  return readdirSync(FOLDER).flatMap((name) => {
    const type = TYPES[extname(name)];
    if (type === undefined) return [];
    const body = readFileSync(join(FOLDER, name));
    const tag = `"${createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`;
    return [{ path: name === "index.html" ? "/" : `/page/${name}`, body, type, tag }];
  });
}

interface PageFile {
  readonly path: string;
  readonly body: Buffer;
  readonly type: string;
  readonly tag: string;
}

const FOLDER = fileURLToPath(new URL("../../../web/", import.meta.url));
const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");
