import { CODE, OPTION, type Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { isIP } from "node:net";
import type { ProxyConfig } from "./proxy-config.js";
import { proxyQuestionOf, type ProxyRequestTarget } from "./proxy-uri.js";
import { segmentsOf, Target } from "./target.js";

/** Where a request goes, and by which path; or the code that refuses it. */
export type Routing =
  | { readonly type: "to"; readonly target: Target; readonly options: Options; readonly back: PathMapping }
  | { readonly type: "refuse"; readonly code: number; readonly reason: string };

/** Paths of the target below `there` are paths of the proxy below `here`. */
export interface PathMapping {
  readonly here: readonly string[];
  readonly there: readonly string[];
}

/** Finds the target of each request: that of a forward proxy by its URI, that of a reverse proxy by host and path. */
export class RequestRouter {
  readonly #forward: readonly Target[];
  readonly #routes: readonly { readonly host: string | undefined; readonly path: string[]; readonly target: Target }[];

  /** All that requests may go to. */
  readonly targets: readonly Target[];

  /** Of `before` those targets stay of which nothing changed. @throws X509Error for files of a target that do not serve. */
  constructor(config: ProxyConfig, before: readonly Target[] = []) {
    this.targets = config.targets.map((target) => {
      const made = new Target(target);
      return before.find(({ mark }) => mark === made.mark) ?? made;
    });
    const targets = new Map(this.targets.map((target) => [target.config.name, target]));
    this.#forward = config.forward.flatMap((name) => targets.get(name) ?? []);
    this.#routes = config.routes
      .flatMap(({ host, path, target: name }) => {
        const target = targets.get(name);
        return target === undefined ? [] : [{ host: host?.toLowerCase(), path: segmentsOf(path), target }];
      })
      // The longest path first, and a host before any host.
      .toSorted((a, b) => b.path.length - a.path.length || Number(b.host !== undefined) - Number(a.host !== undefined));
  }

  route(request: RequestMessage): Routing {
    const question = proxyQuestionOf(request.options);
    switch (question.type) {
      case "none":
        return this.#routeHere(request.options);
      case "malformed":
        return { type: "refuse", code: CODE.BadRequest, reason: "the URI to be proxied is malformed" };
      case "other-scheme":
        return { type: "refuse", code: CODE.ProxyingNotSupported, reason: "only coap and coaps are proxied" };
      case "target":
        return this.#routeForward(request.options, question.target);
    }
  }

  #routeForward(options: Options, asked: ProxyRequestTarget): Routing {
    const target = this.#forward.find(
      ({ config: { uri }, basePath }) =>
        uri.scheme === asked.scheme &&
        uri.host === asked.host &&
        uri.port === asked.port &&
        isBelow(asked.path, basePath),
    );
    if (target === undefined)
      return { type: "refuse", code: CODE.ProxyingNotSupported, reason: "the target is not listed" };
    const forwarded = withPath(options, target, asked.path).withAll(OPTION.UriQuery, asked.query);
    return { type: "to", target, options: forwarded, back: { here: [], there: [] } };
  }

  #routeHere(options: Options): Routing {
    const host = options.uriHost?.toLowerCase();
    const path = options.uriPath;
    const route = this.#routes.find((one) => (one.host === undefined || one.host === host) && isBelow(path, one.path));
    if (route === undefined) return { type: "refuse", code: CODE.NotFound, reason: "no route has this host and path" };
    const { target } = route;
    const mapped = [...target.basePath, ...path.slice(route.path.length)];
    return {
      type: "to",
      target,
      options: withPath(options, target, mapped),
      back: { here: route.path, there: target.basePath },
    };
  }
}

/** Turns a Location-Path of the target into one of the proxy. */
export function mapBack(response: ResponseMessage, { here, there }: PathMapping): ResponseMessage {
  const path = response.options.locationPath;
  if (path.length === 0 || !isBelow(path, there) || (here.length === 0 && there.length === 0)) return response;
  const options = response.options.withAll(OPTION.LocationPath, [...here, ...path.slice(there.length)]);
  return { ...response, options };
}

/** RFC 7252 §5.7.2: what was said to the proxy is said anew to the target, Uri-Host only where it has a name. */
function withPath(options: Options, { config: { uri } }: Target, path: readonly string[]): Options {
  const forwarded = options
    .without(OPTION.ProxyUri, OPTION.ProxyScheme, OPTION.UriHost, OPTION.UriPort)
    .withAll(OPTION.UriPath, path);
  return isIP(uri.host) === 0 ? forwarded.with(OPTION.UriHost, uri.host) : forwarded;
}

/** Segments of `.` and `..` would leave the bounds at a target that resolves them (RFC 3986 §5.2.4). */
function isBelow(path: readonly string[], base: readonly string[]): boolean {
  return base.every((segment, index) => path[index] === segment) && !path.some((one) => one === "." || one === "..");
}
