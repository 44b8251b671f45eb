import { BridgeError } from "#bridge/index.js";
import { CODE, CoapError, Options, type RequestMessage } from "#coap/index.js";
import { CONTENT_FORMAT, PATH } from "#dpe/index.js";
import type { Answer, ObservableResponse } from "#net/index.js";
import { decodeFetchPack, decodePack, SenmlError, type SenmlFormat, type SenmlValue } from "#senml/index.js";
import type { Properties } from "./properties.js";
import type { Source } from "./sources/source.js";

/**
 * DPE-2 requests that go on to where a property is: a query of properties by name is answered with their values as they are
 * now, and `PUT` or `POST /dpe2/p/NAME` sets one that the agent's configuration names as writable. Everything else is answered
 * from what was read before.
 */
export class LiveSources {
  readonly #sources: readonly Source[];
  readonly #properties: Properties;

  constructor(sources: readonly Source[], properties: Properties) {
    this.#sources = sources;
    this.#properties = properties;
  }

  /** `respond` is what answers from the properties as they are kept. */
  answer(request: RequestMessage, respond: () => ObservableResponse): Answer {
    const [root, collection, ...rest] = request.options.uriPath;
    if (root !== PATH.dpe2 || collection !== PATH.properties) return respond();
    const name = rest.join("/");
    const isWrite = request.code === CODE.PUT || request.code === CODE.POST;
    if (isWrite && name !== "") return this.#write(name, request);
    const names = request.options.observe === undefined ? namesOf(request, name) : [];
    const live = names.length > 0 ? this.#sources.filter((source) => source.refresh !== undefined) : [];
    return live.length === 0 ? respond() : this.#refresh(live, names).then(respond);
  }

  /** A source that does not answer leaves what was read before: it has its time. */
  async #refresh(live: readonly Source[], names: readonly string[]): Promise<void> {
    const readings = await Promise.all(
      live.flatMap((source) => names.map(async (name) => (await source.refresh?.(name).catch(() => undefined)) ?? [])),
    );
    const fresh = readings.flat();
    if (fresh.length > 0) this.#properties.update(fresh, Date.now() / 1000);
  }

  async #write(name: string, request: RequestMessage): Promise<ObservableResponse> {
    const format = FORMATS.get(request.options.contentFormat ?? CONTENT_FORMAT.senmlCbor);
    if (format === undefined) return answered(CODE.UnsupportedContentFormat);
    let value: SenmlValue;
    try {
      const [record, ...others] = decodePack(request.payload, format, Date.now() / 1000);
      if (record?.value === undefined || others.length > 0) return answered(CODE.BadRequest);
      ({ value } = record);
    } catch (error) {
      if (error instanceof SenmlError) return answered(CODE.BadRequest);
      throw error;
    }
    for (const source of this.#sources) {
      try {
        if ((await source.write?.(name, value)) === true) return answered(CODE.Changed);
      } catch (error) {
        if (error instanceof BridgeError) return answered(CODE_OF[error.code] ?? CODE.ServiceUnavailable);
        if (error instanceof CoapError) return answered(CODE.GatewayTimeout);
        throw error;
      }
    }
    return answered(CODE.MethodNotAllowed);
  }
}

/** The properties that a GET or a FETCH asks for by name; a FETCH that cannot be read is refused where it is answered. */
function namesOf(request: RequestMessage, path: string): readonly string[] {
  if (request.code === CODE.GET) return path === "" ? [] : [path];
  const format = ETCH_FORMATS.get(request.options.contentFormat ?? -1);
  if (request.code !== CODE.FETCH || path !== "" || format === undefined) return [];
  try {
    return [...new Set(decodeFetchPack(request.payload, format, Date.now() / 1000).map(({ name }) => name))];
  } catch (error) {
    if (error instanceof SenmlError) return [];
    throw error;
  }
}

function answered(code: number): ObservableResponse {
  return { code, options: Options.none, payload: new Uint8Array(0) };
}

const FORMATS: ReadonlyMap<number, SenmlFormat> = new Map([
  [CONTENT_FORMAT.senmlCbor, "cbor"],
  [CONTENT_FORMAT.senmlJson, "json"],
]);
const ETCH_FORMATS: ReadonlyMap<number, SenmlFormat> = new Map([
  [CONTENT_FORMAT.senmlEtchCbor, "cbor"],
  [CONTENT_FORMAT.senmlEtchJson, "json"],
]);
const CODE_OF: Partial<Record<BridgeError["code"], number>> = {
  BRIDGE_REFUSED: CODE.BadRequest,
  BRIDGE_NOT_SUPPORTED: CODE.BadRequest,
  BRIDGE_BAD_ANSWER: CODE.BadGateway,
};
