import { CODE, encodeLinks, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { BINDING_OPTION, CONTENT_FORMAT, PATH } from "#dpe/index.js";
import type { ObservableResponse } from "#net/index.js";
import { problem } from "#security/index.js";
import {
  decodeFetchPack,
  encodePack,
  type FetchRecord,
  SenmlError,
  type SenmlFormat,
  type SenmlRecord,
  selectRecords,
} from "#senml/index.js";
import type { Properties } from "./properties.js";

/** The resources of DPE-2 on the client (docs/binding.md): its properties: one, those that a FETCH names, or all; observable. */
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
    const accept = request.options.accept;
    if (accept !== undefined && accept !== CONTENT_FORMAT.senmlCbor && accept !== CONTENT_FORMAT.senmlJson)
      return empty(CODE.NotAcceptable);
    const format = accept ?? CONTENT_FORMAT.senmlCbor;
    if (request.code === CODE.GET) return this.#get(rest, format);
    return request.code === CODE.FETCH && rest.length === 0
      ? this.#fetch(request, format)
      : empty(CODE.MethodNotAllowed);
  }

  #get(path: readonly string[], format: number): ObservableResponse {
    const wanted = path.join("/");
    const isWanted = (name: string): boolean => path.length === 0 || name === wanted || name.startsWith(`${wanted}/`);
    const records = this.#properties.select(isWanted);
    if (path.length > 0 && records.length === 0) return empty(CODE.NotFound);
    return {
      ...content(records, format),
      observe: (notify) => this.#properties.watch(isWanted, (changed) => notify(content(changed, format))),
    };
  }

  /** RFC 8790 §3.1: names that are not there are left out. */
  #fetch(request: RequestMessage, format: number): ObservableResponse {
    const packFormat = ETCH_FORMATS.get(request.options.contentFormat ?? -1);
    if (packFormat === undefined) return empty(CODE.UnsupportedContentFormat);
    let wanted: readonly FetchRecord[];
    try {
      wanted = decodeFetchPack(request.payload, packFormat, Date.now() / 1000);
    } catch (error) {
      if (!(error instanceof SenmlError)) throw error;
      return problem(CODE.BadRequest, `${error.code}: ${error.message}`);
    }
    const names = new Set(wanted.map(({ name }) => name));
    const isWanted = (name: string): boolean => names.has(name);
    return {
      ...content(selectRecords(this.#properties.select(isWanted), wanted), format),
      observe: (notify) =>
        this.#properties.watch(isWanted, (changed) => notify(content(selectRecords(changed, wanted), format))),
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

const ETCH_FORMATS: ReadonlyMap<number, SenmlFormat> = new Map([
  [CONTENT_FORMAT.senmlEtchCbor, "cbor"],
  [CONTENT_FORMAT.senmlEtchJson, "json"],
]);
