import { CODE, encodeLinks, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { BINDING_OPTION, CONTENT_FORMAT, PATH } from "#dpe/index.js";
import type { ObservableResponse } from "#net/index.js";
import { encodePack, type SenmlRecord } from "#senml/index.js";
import type { Properties } from "./properties.js";

/** The resources of DPE-2 on the client (docs/binding.md): its properties, one by one or all, each observable. */
export class Dpe2Resources {
  readonly #properties: Properties;
  readonly #onServerError: (authError: number | undefined) => void;

  constructor(properties: Properties, onServerError: (authError: number | undefined) => void) {
    this.#properties = properties;
    this.#onServerError = onServerError;
  }

  handle(request: RequestMessage): ObservableResponse {
    const [root, collection, ...rest] = request.options.uriPath;
    if (root === ".well-known" && collection === "core" && rest.length === 0) return links();
    if (root !== PATH.dpe2) return empty(CODE.NotFound);
    if (collection === PATH.errors && rest.length === 0) {
      if (request.code !== CODE.POST) return empty(CODE.MethodNotAllowed);
      this.#onServerError(request.options.uint(BINDING_OPTION.AuthError));
      return empty(CODE.Changed);
    }
    if (collection !== PATH.properties) return empty(CODE.NotFound);
    if (request.code !== CODE.GET) return empty(CODE.MethodNotAllowed);
    const accept = request.options.accept;
    if (accept !== undefined && accept !== CONTENT_FORMAT.senmlCbor && accept !== CONTENT_FORMAT.senmlJson)
      return empty(CODE.NotAcceptable);
    const format = accept ?? CONTENT_FORMAT.senmlCbor;
    const name = rest.length === 0 ? undefined : rest.join("/");
    const records = this.#properties.select(name);
    if (name !== undefined && records.length === 0) return empty(CODE.NotFound);
    return {
      ...content(records, format),
      observe: (notify) => this.#properties.watch(name, (changed) => notify(content(changed, format))),
    };
  }
}

function content(records: readonly SenmlRecord[], format: number): ResponseMessage {
  return {
    code: CODE.Content,
    options: Options.none.with(OPTION.ContentFormat, format),
    payload: encodePack(records, format === CONTENT_FORMAT.senmlJson ? "json" : "cbor"),
  };
}

function links(): ResponseMessage {
  const target = `/${PATH.dpe2}/${PATH.properties}`;
  const text = encodeLinks([{ target, attributes: { rt: "dpe.2", ct: String(CONTENT_FORMAT.senmlCbor), obs: true } }]);
  const options = Options.none.with(OPTION.ContentFormat, CONTENT_FORMAT.linkFormat);
  return { code: CODE.Content, options, payload: new TextEncoder().encode(text) };
}

function empty(code: number): ResponseMessage {
  return { code, options: Options.none, payload: new Uint8Array(0) };
}
