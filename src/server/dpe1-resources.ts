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
  DPE2_OVER_ASSOCIATION,
  type Dpe2Binding,
  DpeError,
  type DpeErrorCode,
  formatDpe2Uri,
  parseDpe2Uri,
  PATH,
  QUERY,
  type Registration,
} from "#dpe/index.js";
import { canonicalIpAddress } from "#ip/index.js";
import { cleanText, mayRegister, mayReport, problem, refusal, type Subscriber } from "#security/index.js";
import { decodePack, SenmlError, type SenmlRecord } from "#senml/index.js";
import { type DeviceSecurity, type Store, StoreError } from "#store/index.js";
import type { Discovery } from "./discovery.js";

/** The resources of DPE-1 (docs/binding.md): registration, refresh, reports, deregistration, errors of the client. */
export class Dpe1Resources {
  readonly #surroundings: Dpe1Surroundings;

  constructor(surroundings: Dpe1Surroundings) {
    this.#surroundings = surroundings;
  }

  /** Answers a whole request of a subscriber (undefined: unauthenticated, as policy allows), once what it says is durable. */
  async handle(request: RequestMessage, subscriber: Subscriber | undefined, origin: Origin): Promise<ResponseMessage> {
    const [root, collection, id, part, ...more] = request.options.uriPath;
    if (root === ".well-known" && collection === "core" && id === undefined) return this.#links(request);
    if (root !== PATH.dpe1 || more.length > 0) return NOT_FOUND;
    try {
      if (collection === undefined) return this.#surroundings.discovery.answer(request);
      if (collection === PATH.errors && id === undefined) return this.#error(request, subscriber, origin);
      if (collection !== PATH.registrations) return NOT_FOUND;
      if (id === undefined) return await this.#register(request, subscriber, origin);
      if (part === undefined) return await this.#registration(request, id, subscriber, origin);
      return part === PATH.properties ? await this.#report(request, id, subscriber, origin) : NOT_FOUND;
    } catch (error) {
      if (error instanceof DpeError && error.code === "DPE_NAME_TAKEN") {
        // Told to nobody but the operator: whose a name is, is not for others to find out.
        origin.onNotAllowed(subscriber, error.message);
        return refusal("not-authorized");
      }
      if (error instanceof DpeError) return dpeProblem(error);
      if (error instanceof SenmlError) return problem(CODE.BadRequest, `${error.code}: ${error.message}`);
      if (!(error instanceof StoreError)) throw error;
      // The client still has what it sent, and sends it again.
      this.#surroundings.onStoreFault(error);
      return problem(CODE.ServiceUnavailable, error.code);
    }
  }

  async #register(
    request: RequestMessage,
    subscriber: Subscriber | undefined,
    origin: Origin,
  ): Promise<ResponseMessage> {
    if (request.code !== CODE.POST) return METHOD_NOT_ALLOWED;
    const query = queryOf(request);
    const endpoint = query.get(QUERY.endpoint) ?? "";
    if (subscriber !== undefined && !mayRegister(subscriber, endpoint))
      return notAllowed(
        origin,
        subscriber,
        `${subscriber.name} may not register the name ${cleanText(endpoint)}: see its endpoints`,
      );
    const records = packOf(request);
    const foreign = foreignOf(subscriber, records);
    if (foreign !== undefined) return notAllowed(origin, subscriber, foreign);
    const { store } = this.#surroundings;
    const { registration, added } = await store.registrations.register(
      {
        endpoint,
        subscriber: subscriber?.name,
        lifetimeSeconds: lifetimeOf(query) ?? DEFAULT_LIFETIME_SECONDS,
        dpe2: this.#dpe2Of(query, origin.sender) ?? { type: "association" },
        isQueueMode: query.has(QUERY.queueMode),
      },
      { records, server: store.server, security: origin.security() },
      this.#surroundings.now(),
    );
    origin.onHeard(registration);
    this.#surroundings.onRegistered(registration, true);
    this.#surroundings.onReport(registration, added);
    const location = [PATH.dpe1, PATH.registrations, registration.id];
    return { code: CODE.Created, options: Options.none.withAll(OPTION.LocationPath, location), payload: NO_PAYLOAD };
  }

  async #registration(
    request: RequestMessage,
    id: string,
    subscriber: Subscriber | undefined,
    origin: Origin,
  ): Promise<ResponseMessage> {
    const { store, now } = this.#surroundings;
    if (request.code === CODE.POST) {
      const query = queryOf(request);
      const change = { lifetimeSeconds: lifetimeOf(query), dpe2: this.#dpe2Of(query, origin.sender) };
      const report = { records: [], server: store.server, security: origin.security() };
      const registration = await store.registrations.refresh(id, subscriber?.name, change, report, now());
      origin.onHeard(registration);
      this.#surroundings.onRegistered(registration, false);
      return CHANGED;
    }
    if (request.code !== CODE.DELETE) return METHOD_NOT_ALLOWED;
    this.#surroundings.onDeregistered(await store.registrations.deregister(id, subscriber?.name, now()));
    return { ...CHANGED, code: CODE.Deleted };
  }

  async #report(
    request: RequestMessage,
    id: string,
    subscriber: Subscriber | undefined,
    origin: Origin,
  ): Promise<ResponseMessage> {
    if (request.code !== CODE.POST) return METHOD_NOT_ALLOWED;
    const { store, now } = this.#surroundings;
    const records = packOf(request);
    const foreign = foreignOf(subscriber, records);
    if (foreign !== undefined) return notAllowed(origin, subscriber, foreign);
    const report = { records, server: store.server };
    const { registration, added } = await store.registrations.report(id, subscriber?.name, report, now());
    origin.onHeard(registration);
    this.#surroundings.onReport(registration, added);
    return CHANGED;
  }

  /**
   * An address of the client's own must be the one that it sends from, or one that policy lists: nobody makes the server send
   * requests to others.
   */
  #dpe2Of(query: ReadonlyMap<string, string>, sender: string | undefined): Dpe2Binding | undefined {
    const text = query.get(QUERY.dpe2);
    if (text === undefined) return undefined;
    if (text === DPE2_OVER_ASSOCIATION) return { type: "association" };
    const uri = parseDpe2Uri(text);
    const address = canonicalIpAddress(uri.address);
    if (address === undefined || (address !== sender && !this.#surroundings.dpe2Addresses.includes(address)))
      throw new DpeError("DPE_BAD_REQUEST", "a dpe2 URI names the address that the registration comes from");
    return { type: "uri", uri: formatDpe2Uri({ ...uri, address }) };
  }

  #error(request: RequestMessage, subscriber: Subscriber | undefined, origin: Origin): ResponseMessage {
    if (request.code !== CODE.POST) return METHOD_NOT_ALLOWED;
    origin.onClientError(request, subscriber);
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
  readonly store: Store;
  readonly discovery: Discovery;
  /** Canonical addresses that a `dpe2` URI may name besides the sender's own. */
  readonly dpe2Addresses: readonly string[];
  /** ms since 1970. */
  readonly now: () => number;
  /** `isAnew`: not a refresh of the registration that was there. */
  onRegistered(registration: Registration, isAnew: boolean): void;
  onDeregistered(registration: Registration): void;
  onReport(registration: Registration, records: readonly SenmlRecord[]): void;
  onStoreFault(error: StoreError): void;
}

/** Where a request came from. */
export interface Origin {
  /** The client's canonical address; undefined where a proxy sends for it. */
  readonly sender: string | undefined;
  security(): DeviceSecurity;
  /** The endpoint of this registration was heard there. */
  onHeard(registration: Registration): void;
  /** The client does not accept the server. */
  onClientError(request: RequestMessage, subscriber: Subscriber | undefined): void;
  /** The client is who it says, and asked for what is not its own: `why`, for the operator. */
  onNotAllowed(subscriber: Subscriber | undefined, why: string): void;
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

/** Why a report is not the subscriber's to make; undefined: it is. */
function foreignOf(subscriber: Subscriber | undefined, records: readonly SenmlRecord[]): string | undefined {
  if (subscriber === undefined) return undefined;
  const foreign = records.find(({ name }) => !mayReport(subscriber, name));
  return foreign && `${subscriber.name} may not report ${cleanText(foreign.name)}: see its properties`;
}

/** The peer learns no more than that; the operator why. */
function notAllowed(origin: Origin, subscriber: Subscriber | undefined, why: string): ResponseMessage {
  origin.onNotAllowed(subscriber, why);
  return refusal("not-authorized");
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
  return problem(CODE_OF[error.code], `${error.code}: ${error.message}`);
}

const CODE_OF: Readonly<Record<DpeErrorCode, number>> = {
  DPE_BAD_ENDPOINT_NAME: CODE.BadRequest,
  DPE_BAD_REQUEST: CODE.BadRequest,
  DPE_LIFETIME_OUT_OF_RANGE: CODE.BadRequest,
  DPE_NAME_TAKEN: CODE.Forbidden,
  DPE_NOT_ALLOWED: CODE.Forbidden,
  DPE_NOT_REACHABLE: CODE.ServiceUnavailable,
  DPE_SUBSCRIBER_BANNED: CODE.BadRequest,
  DPE_SUBSCRIBER_CONFIGURED: CODE.BadRequest,
  DPE_SUBSCRIBER_EXISTS: CODE.BadRequest,
  DPE_UNKNOWN_SUBSCRIBER: CODE.BadRequest,
  DPE_TOO_MANY_CODES: CODE.ServiceUnavailable,
  DPE_TOO_MANY_PROPERTIES: CODE.RequestEntityTooLarge,
  DPE_TOO_MANY_REQUESTS: CODE.ServiceUnavailable,
  DPE_TOO_MANY_REGISTRATIONS: CODE.ServiceUnavailable,
  DPE_UNKNOWN_REGISTRATION: CODE.NotFound,
  DPE_UNSUPPORTED_FORMAT: CODE.UnsupportedContentFormat,
};

const NO_PAYLOAD = new Uint8Array(0);
const CHANGED: ResponseMessage = { code: CODE.Changed, options: Options.none, payload: NO_PAYLOAD };
const NOT_FOUND: ResponseMessage = { ...CHANGED, code: CODE.NotFound };
const METHOD_NOT_ALLOWED: ResponseMessage = { ...CHANGED, code: CODE.MethodNotAllowed };
