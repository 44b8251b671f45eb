import { CODE, CONTENT_FORMAT, encodeLinks, filterLinks, type Link, type Method, methodName } from "#coap/index.js";
import { type HandlerResult, ResponseError } from "./reply.js";
import type { CoapRequest, Handler } from "./serve.js";
import type { StreamedRoute } from "./streamed.js";

/**
 * Resources by path and method. A segment `:name` takes any one segment, and `*` at the end all that are left. What is not
 * there is 4.04, another method 4.05; `/.well-known/core` answers with all paths that have no such segments, by filter (RFC 6690).
 */
export function router(): Router {
  return new Router();
}

export class Router {
  readonly #resources: Resource[] = [];
  #hasStreamed = false;

  get(path: string, handler: RouteHandler | StreamedRoute, attributes?: Link["attributes"]): this {
    return this.on("GET", path, handler, attributes);
  }

  post(path: string, handler: RouteHandler | StreamedRoute, attributes?: Link["attributes"]): this {
    return this.on("POST", path, handler, attributes);
  }

  put(path: string, handler: RouteHandler | StreamedRoute, attributes?: Link["attributes"]): this {
    return this.on("PUT", path, handler, attributes);
  }

  delete(path: string, handler: RouteHandler | StreamedRoute, attributes?: Link["attributes"]): this {
    return this.on("DELETE", path, handler, attributes);
  }

  fetch(path: string, handler: RouteHandler | StreamedRoute, attributes?: Link["attributes"]): this {
    return this.on("FETCH", path, handler, attributes);
  }

  patch(path: string, handler: RouteHandler | StreamedRoute, attributes?: Link["attributes"]): this {
    return this.on("PATCH", path, handler, attributes);
  }

  ipatch(path: string, handler: RouteHandler | StreamedRoute, attributes?: Link["attributes"]): this {
    return this.on("iPATCH", path, handler, attributes);
  }

  /** `attributes` are those of the path's link, such as `{ rt: "temperature", obs: true }`. */
  on(method: Method, path: string, handler: RouteHandler | StreamedRoute, attributes: Link["attributes"] = {}): this {
    let resource = this.#resources.find((one) => one.path === path);
    if (resource === undefined) {
      const segments = path.split("/").filter((segment) => segment !== "");
      resource = { path, segments, handlers: new Map(), attributes: {} };
      this.#resources.push(resource);
    }
    resource.handlers.set(method, handler);
    if (typeof handler !== "function") this.#hasStreamed = true;
    resource.attributes = { ...resource.attributes, ...attributes };
    return this;
  }

  /** A {@link Handler}. */
  readonly handle: Handler = (request) => {
    const found = this.#find(request.path);
    if (found === undefined) {
      if (request.path.join("/") !== ".well-known/core") throw new ResponseError(CODE.NotFound);
      if (request.code !== CODE.GET) throw new ResponseError(CODE.MethodNotAllowed);
      return this.#links(request);
    }
    const method = methodName(request.code);
    const handler = method === undefined ? undefined : found.resource.handlers.get(method);
    if (handler === undefined) throw new ResponseError(CODE.MethodNotAllowed);
    return typeof handler === "function"
      ? handler(request, found.parameters)
      : handler.streamed(request, found.parameters);
  };

  /** For {@link serve}: whether {@link streamedFor} may give a handler. */
  get hasStreamed(): boolean {
    return this.#hasStreamed;
  }

  /** For {@link serve}: the handler of a request whose body it reads as it comes; undefined for all others. */
  streamedFor(request: CoapRequest): Handler | undefined {
    const found = this.#find(request.path);
    const method = methodName(request.code);
    const handler = found === undefined || method === undefined ? undefined : found.resource.handlers.get(method);
    if (found === undefined || handler === undefined || typeof handler === "function") return undefined;
    return (incoming) => handler.streamed(incoming, found.parameters);
  }

  #find(path: readonly string[]): { readonly resource: Resource; readonly parameters: Parameters } | undefined {
    for (const resource of this.#resources) {
      const parameters = matched(resource.segments, path);
      if (parameters !== undefined) return { resource, parameters };
    }
    return undefined;
  }

  #links(request: CoapRequest): HandlerResult {
    const links = this.#resources
      .filter(({ segments }) => segments.every((segment) => !isPattern(segment)))
      .map(({ segments, attributes }) => ({
        target: `/${segments.map((segment) => encodeURIComponent(segment)).join("/")}`,
        attributes,
      }));
    return {
      payload: encodeLinks(filterLinks(links, request.options.uriQuery)),
      contentFormat: CONTENT_FORMAT["application/link-format"],
    };
  }
}

export type RouteHandler = (request: CoapRequest, parameters: Parameters) => HandlerResult | Promise<HandlerResult>;

/** Values of the segments `:name`, and of `*` with its segments joined by "/". */
export type Parameters = Readonly<Record<string, string>>;

interface Resource {
  readonly path: string;
  readonly segments: readonly string[];
  readonly handlers: Map<Method, RouteHandler | StreamedRoute>;
  attributes: Link["attributes"];
}

function matched(pattern: readonly string[], path: readonly string[]): Parameters | undefined {
  let parameters: Record<string, string> | undefined;
  for (let index = 0; index < pattern.length; index++) {
    const segment = pattern[index] ?? "";
    const given = path[index];
    if (segment === "*" && index === pattern.length - 1) {
      parameters ??= noParameters();
      parameters["*"] = path.slice(index).join("/");
      return parameters;
    }
    if (given === undefined) return undefined;
    if (segment.startsWith(":")) (parameters ??= noParameters())[segment.slice(1)] = given;
    else if (segment !== given) return undefined;
  }
  return pattern.length === path.length ? (parameters ?? NO_PARAMETERS) : undefined;
}

function noParameters(): Record<string, string> {
  return Object.create(null) as Record<string, string>;
}

function isPattern(segment: string): boolean {
  return segment === "*" || segment.startsWith(":");
}

const NO_PARAMETERS: Parameters = Object.freeze(noParameters());
