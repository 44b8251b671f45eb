import {
  CODE,
  encodeLinks,
  filterLinks,
  type Link,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import {
  CONTENT_FORMAT,
  DEFAULT_LIFETIME_SECONDS,
  type Devices,
  DPE2_OVER_ASSOCIATION,
  type Dpe2Binding,
  DpeError,
  type DpeErrorCode,
  formatDpe2Uri,
  parseDpe2Uri,
  PATH,
  QUERY,
  type Registration,
  type Registrations,
} from "#dpe/index.js";
import { canonicalAddress, mayRegister, mayReport, problem, refusal, type Subscriber } from "#security/index.js";
import { decodePack, SenmlError, type SenmlRecord } from "#senml/index.js";
import type { Discovery } from "./discovery.js";

/** The resources of DPE-1 (docs/binding.md): registration, refresh, reports, deregistration, errors of the client. */
export class Dpe1Resources {
  readonly #surroundings: Dpe1Surroundings;

  constructor(surroundings: Dpe1Surroundings) {
    this.#surroundings = surroundings;
  }

  /** Answers a whole request of a subscriber (undefined: unauthenticated, as policy allows) from an address. */
  handle(request: RequestMessage, subscriber: Subscriber | undefined, sender: string): ResponseMessage {
    const [root, collection, id, part, ...more] = request.options.uriPath;
    if (root === ".well-known" && collection === "core" && id === undefined) return this.#links(request);
    if (root !== PATH.dpe1 || more.length > 0) return NOT_FOUND;
    try {
      if (collection === undefined) return this.#surroundings.discovery.answer(request);
      if (collection === PATH.errors && id === undefined) return this.#error(request, subscriber);
      if (collection !== PATH.registrations) return NOT_FOUND;
      if (id === undefined) return this.#register(request, subscriber, sender);
      if (part === undefined) return this.#registration(request, id, subscriber, sender);
      return part === PATH.properties ? this.#report(request, id, subscriber) : NOT_FOUND;
    } catch (error) {
      if (error instanceof DpeError) return dpeProblem(error);
      if (error instanceof SenmlError) return problem(CODE.BadRequest, `${error.code}: ${error.message}`);
      throw error;
    }
  }

  #register(request: RequestMessage, subscriber: Subscriber | undefined, sender: string): ResponseMessage {
    if (request.code !== CODE.POST) return METHOD_NOT_ALLOWED;
    const query = queryOf(request);
    const endpoint = query.get(QUERY.endpoint) ?? "";
    if (subscriber !== undefined && !mayRegister(subscriber, endpoint)) return refusal("not-authorized");
    const records = packOf(request);
    if (!areReportable(subscriber, records)) return refusal("not-authorized");
    const { registrations, devices } = this.#surroundings;
    const { registration } = registrations.register(
      {
        endpoint,
        subscriber: subscriber?.name,
        lifetimeSeconds: lifetimeOf(query) ?? DEFAULT_LIFETIME_SECONDS,
        dpe2: this.#dpe2Of(query, sender) ?? { type: "association" },
        isQueueMode: query.has(QUERY.queueMode),
      },
      this.#surroundings.now(),
    );
    if (!devices.report(endpoint, records)) return problem(CODE.RequestEntityTooLarge, "too many properties");
    this.#surroundings.onRegistered(registration);
    this.#surroundings.onReport(registration, records);
    const location = [PATH.dpe1, PATH.registrations, registration.id];
    return { code: CODE.Created, options: Options.none.withAll(OPTION.LocationPath, location), payload: NO_PAYLOAD };
  }

  #registration(
    request: RequestMessage,
    id: string,
    subscriber: Subscriber | undefined,
    sender: string,
  ): ResponseMessage {
    const { registrations } = this.#surroundings;
    if (request.code === CODE.POST) {
      const query = queryOf(request);
      const change = { lifetimeSeconds: lifetimeOf(query), dpe2: this.#dpe2Of(query, sender) };
      const registration = registrations.refresh(id, subscriber?.name, change, this.#surroundings.now());
      this.#surroundings.onRegistered(registration);
      return CHANGED;
    }
    if (request.code !== CODE.DELETE) return METHOD_NOT_ALLOWED;
    this.#surroundings.onDeregistered(registrations.deregister(id, subscriber?.name, this.#surroundings.now()));
    return { ...CHANGED, code: CODE.Deleted };
  }

  #report(request: RequestMessage, id: string, subscriber: Subscriber | undefined): ResponseMessage {
    if (request.code !== CODE.POST) return METHOD_NOT_ALLOWED;
    const { registrations, devices } = this.#surroundings;
    const registration = registrations.heard(id, subscriber?.name, this.#surroundings.now());
    const records = packOf(request);
    if (!areReportable(subscriber, records)) return refusal("not-authorized");
    if (!devices.report(registration.endpoint, records))
      return problem(CODE.RequestEntityTooLarge, "too many properties");
    this.#surroundings.onReport(registration, records);
    return CHANGED;
  }

  /**
   * An address of the client's own must be the one that it sends from, or one that policy lists: nobody makes the server send
   * requests to others.
   */
  #dpe2Of(query: ReadonlyMap<string, string>, sender: string): Dpe2Binding | undefined {
    const text = query.get(QUERY.dpe2);
    if (text === undefined) return undefined;
    if (text === DPE2_OVER_ASSOCIATION) return { type: "association" };
    const uri = parseDpe2Uri(text);
    const address = canonicalAddress(uri.address);
    if (address === undefined || (address !== sender && !this.#surroundings.dpe2Addresses.includes(address)))
      throw new DpeError("DPE_BAD_REQUEST", "a dpe2 URI names the address that the registration comes from");
    return { type: "uri", uri: formatDpe2Uri({ ...uri, address }) };
  }

  #error(request: RequestMessage, subscriber: Subscriber | undefined): ResponseMessage {
    if (request.code !== CODE.POST) return METHOD_NOT_ALLOWED;
    this.#surroundings.onClientError(request, subscriber);
    return CHANGED;
  }

  #links(request: RequestMessage): ResponseMessage {
    if (request.code !== CODE.GET) return METHOD_NOT_ALLOWED;
    const links: Link[] = [
      { target: `/${PATH.dpe1}`, attributes: { rt: "dpe.1", ct: String(CONTENT_FORMAT.cbor) } },
      {
        target: `/${PATH.dpe1}/${PATH.registrations}`,
        attributes: { rt: "dpe.reg", ct: String(CONTENT_FORMAT.senmlCbor) },
      },
      { target: `/${PATH.dpe1}/${PATH.errors}`, attributes: { rt: "dpe.err" } },
    ];
    const text = encodeLinks(filterLinks(links, request.options.uriQuery));
    const options = Options.none.with(OPTION.ContentFormat, CONTENT_FORMAT.linkFormat);
    return { code: CODE.Content, options, payload: new TextEncoder().encode(text) };
  }
}

/** What the resources act on, and who is told. */
export interface Dpe1Surroundings {
  readonly registrations: Registrations;
  readonly devices: Devices;
  readonly discovery: Discovery;
  /** Canonical addresses that a `dpe2` URI may name besides the sender's own. */
  readonly dpe2Addresses: readonly string[];
  now(): number;
  onRegistered(registration: Registration): void;
  onDeregistered(registration: Registration): void;
  onReport(registration: Registration, records: readonly SenmlRecord[]): void;
  onClientError(request: RequestMessage, subscriber: Subscriber | undefined): void;
}

function queryOf(request: RequestMessage): ReadonlyMap<string, string> {
  return new Map(
    request.options.uriQuery.map((argument) => {
      const [name = "", ...value] = argument.split("=");
      return [name, value.join("=")];
    }),
  );
}

function lifetimeOf(query: ReadonlyMap<string, string>): number | undefined {
  const text = query.get(QUERY.lifetimeSeconds);
  if (text === undefined) return undefined;
  if (!/^\d{1,10}$/.test(text))
    throw new DpeError("DPE_LIFETIME_OUT_OF_RANGE", `lt is a number of seconds, not ${text.slice(0, 20)}`);
  return Number(text);
}

function areReportable(subscriber: Subscriber | undefined, records: readonly SenmlRecord[]): boolean {
  return subscriber === undefined || records.every(({ name }) => mayReport(subscriber, name));
}

function packOf({ options, payload }: RequestMessage): SenmlRecord[] {
  if (payload.length === 0) return [];
  const format = options.contentFormat;
  if (format !== CONTENT_FORMAT.senmlCbor && format !== CONTENT_FORMAT.senmlJson) {
    throw new DpeError(
      "DPE_UNSUPPORTED_FORMAT",
      `the body is SenML: content-format ${CONTENT_FORMAT.senmlCbor} or ${CONTENT_FORMAT.senmlJson}`,
    );
  }
  return decodePack(payload, format === CONTENT_FORMAT.senmlCbor ? "cbor" : "json", Date.now() / 1000);
}

function dpeProblem(error: DpeError): ResponseMessage {
  return error.code === "DPE_NAME_TAKEN"
    ? refusal("not-authorized")
    : problem(CODE_OF[error.code], `${error.code}: ${error.message}`);
}

const CODE_OF: Readonly<Record<DpeErrorCode, number>> = {
  DPE_BAD_ENDPOINT_NAME: CODE.BadRequest,
  DPE_BAD_REQUEST: CODE.BadRequest,
  DPE_LIFETIME_OUT_OF_RANGE: CODE.BadRequest,
  DPE_NAME_TAKEN: CODE.Forbidden,
  DPE_NOT_REACHABLE: CODE.ServiceUnavailable,
  DPE_TOO_MANY_REGISTRATIONS: CODE.ServiceUnavailable,
  DPE_UNKNOWN_REGISTRATION: CODE.NotFound,
  DPE_UNSUPPORTED_FORMAT: CODE.UnsupportedContentFormat,
};

const NO_PAYLOAD = new Uint8Array(0);
const CHANGED: ResponseMessage = { code: CODE.Changed, options: Options.none, payload: NO_PAYLOAD };
const NOT_FOUND: ResponseMessage = { ...CHANGED, code: CODE.NotFound };
const METHOD_NOT_ALLOWED: ResponseMessage = { ...CHANGED, code: CODE.MethodNotAllowed };
