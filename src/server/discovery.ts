import { encodeCbor } from "#cbor/index.js";
import { CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { CONTENT_FORMAT, PATH } from "#dpe/index.js";
import type { ServerConfig } from "./server-config.js";

/**
 * `GET /dpe1`: what each interface requires, for whoever is not preconfigured (R20), in CBOR or JSON by Accept. Anybody may ask
 * and nobody vouches for the answer: a client follows it only as far as its own policy goes.
 */
export class Discovery {
  readonly #config: ServerConfig;
  /** The ports that are bound. */
  readonly #ports: () => BoundPorts;

  constructor(config: ServerConfig, ports: () => BoundPorts) {
    this.#config = config;
    this.#ports = ports;
  }

  answer(request: RequestMessage): ResponseMessage {
    if (request.code !== CODE.GET) return { ...EMPTY, code: CODE.MethodNotAllowed };
    const accept = request.options.accept ?? CONTENT_FORMAT.cbor;
    if (accept !== CONTENT_FORMAT.cbor && accept !== CONTENT_FORMAT.json) return { ...EMPTY, code: CODE.NotAcceptable };
    const required = this.#required();
    return {
      code: CODE.Content,
      options: Options.none.with(OPTION.ContentFormat, accept),
      payload:
        accept === CONTENT_FORMAT.cbor ? encodeCbor(required) : new TextEncoder().encode(JSON.stringify(required)),
    };
  }

  #required(): Record<string, unknown> {
    const { realm, interfaces } = this.#config;
    const { dpe1, dpe2 } = interfaces;
    const { coap, coaps } = this.#ports();
    return {
      realm,
      dpe1: {
        connection: dpe1.connection,
        clientAuthentication: dpe1.clientAuthentication,
        ...(coap === undefined ? {} : { coap }),
        ...(coaps === undefined ? {} : { coaps }),
      },
      dpe2: { connection: dpe2.connection, clientAuthentication: dpe2.clientAuthentication },
    };
  }
}

export interface BoundPorts {
  readonly coap: number | undefined;
  readonly coaps: number | undefined;
}

/** What anybody may ask without being known: discovery, and the client's authentication error about this server. */
export function isOpenResource({ code, options }: RequestMessage): boolean {
  const path = options.uriPath.join("/");
  if (code === CODE.GET) return path === PATH.dpe1 || path === ".well-known/core";
  return code === CODE.POST && path === `${PATH.dpe1}/${PATH.errors}`;
}

const EMPTY: ResponseMessage = { code: CODE.Content, options: Options.none, payload: new Uint8Array(0) };
