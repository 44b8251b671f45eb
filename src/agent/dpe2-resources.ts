import {
  CoapError,
  CODE,
  conditionalAttributesOf,
  encodeLinks,
  filterLinks,
  needsNumber,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import { BINDING_OPTION, CONTENT_FORMAT, PATH } from "#dpe/index.js";
import type { ObservableResponse } from "#net/index.js";
import { problem } from "#security/index.js";
import {
  decodeFetchPack,
  encodePack,
  SenmlError,
  type SenmlFormat,
  type SenmlRecord,
  selectRecords,
} from "#senml/index.js";
import { onlyNumber, watchConditionally } from "./conditional-watch.js";
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
    if (root === ".well-known" && collection === "core" && rest.length === 0) return links(request);
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
    try {
      if (request.code === CODE.GET) return this.#get(request, rest, format);
      if (request.code === CODE.FETCH && rest.length === 0) return this.#fetch(request, format);
    } catch (error) {
      if (!(error instanceof SenmlError) && !(error instanceof CoapError)) throw error;
      return problem(CODE.BadRequest, `${error.code}: ${error.message}`);
    }
    return empty(CODE.MethodNotAllowed);
  }

  #get(request: RequestMessage, path: readonly string[], format: number): ObservableResponse {
    const wanted = path.join("/");
    const isWanted = (name: string): boolean => path.length === 0 || name === wanted || name.startsWith(`${wanted}/`);
    const records = this.#properties.select(isWanted);
    if (path.length > 0 && records.length === 0) return empty(CODE.NotFound);
    return this.#observable(request, isWanted, (all) => content(all, format));
  }

  /** RFC 8790 §3.1: names that are not there are left out. */
  #fetch(request: RequestMessage, format: number): ObservableResponse {
    const packFormat = ETCH_FORMATS.get(request.options.contentFormat ?? -1);
    if (packFormat === undefined) return empty(CODE.UnsupportedContentFormat);
    const wanted = decodeFetchPack(request.payload, packFormat, Date.now() / 1000);
    const names = new Set(wanted.map(({ name }) => name));
    const isWanted = (name: string): boolean => names.has(name);
    return this.#observable(request, isWanted, (all) => content(selectRecords(all, wanted), format));
  }

  /** @throws CoapError COAP_FORMAT_ERROR for conditional attributes that cannot be obeyed. */
  #observable(
    request: RequestMessage,
    isWanted: (name: string) => boolean,
    represent: (records: readonly SenmlRecord[]) => ResponseMessage,
  ): ObservableResponse {
    const attributes = conditionalAttributesOf(request.options.uriQuery);
    const records = this.#properties.select(isWanted);
    if (attributes !== undefined && needsNumber(attributes) && onlyNumber(records) === undefined)
      throw new CoapError("COAP_FORMAT_ERROR", "c.gt, c.lt and c.st need a resource with one number");
    return {
      ...represent(records),
      observe: (notify) => {
        const tell = (all: readonly SenmlRecord[]): void => notify(represent(all));
        return attributes === undefined
          ? this.#properties.watch(isWanted, tell)
          : watchConditionally(this.#properties, isWanted, attributes, tell);
      },
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

function links(request: RequestMessage): ResponseMessage {
  const target = `/${PATH.dpe2}/${PATH.properties}`;
  const ct = `${CONTENT_FORMAT.senmlCbor} ${CONTENT_FORMAT.senmlJson}`;
  const all = [{ target, attributes: { rt: "dpe.2", ct, obs: true } as const }];
  const text = encodeLinks(filterLinks(all, request.options.uriQuery));
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
