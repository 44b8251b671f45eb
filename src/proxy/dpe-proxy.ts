import { CoapError, CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { changedKeys } from "#config/index.js";
import { BINDING_OPTION, BINDING_OPTION_FORMATS, CONNECTION_LEVEL } from "#dpe/index.js";
import {
  type CoapConnection,
  CoapEndpoint,
  DtlsError,
  type DtlsEndpoint,
  DtlsSession,
  formatAddress,
  listen,
  type ObservableResponse,
  type ServerOptions,
  type SocketAddress,
  UdpSocket,
} from "#net/index.js";
import type { AccountingEvent } from "#radius/index.js";
import { encodeSubscriberIdentity, refusal } from "#security/index.js";
import { within } from "#waiting/index.js";
import type { CertificateFaultAlert } from "#x509/index.js";
import { ClientIdentities, identityText } from "./client-identities.js";
import { dpe2Fault } from "./dpe2-address.js";
import { hopLimitReached, nextHop } from "./hop-limit.js";
import type { ProxyConfig } from "./proxy-config.js";
import { ownCertificateOf, readAnchors } from "./pem-files.js";
import { mapBack, RequestRouter } from "./request-router.js";
import { dtlsOptions, type Target } from "./target.js";
import { UpstreamAssociations } from "./upstream-associations.js";

/**
 * A CoAP proxy (RFC 7252 §5.7), forward and reverse, that tells servers who its clients are: it takes out whatever
 * Subscriber-Identity it received and inserts what it knows itself (R14). Messages go through one by one, blocks and
 * notifications too, so that no body is ever kept here and Digest of the client with the server works as without it.
 *
 * Nothing is reached but the targets that are listed.
 */
export class DpeProxy {
  #config: ProxyConfig;
  readonly #onEvent: (event: ProxyEvent) => void;
  readonly #identities: ClientIdentities;
  #router: RequestRouter;
  readonly #coap: CoapEndpoint;
  readonly #upstream: UpstreamAssociations;
  #keys: ReadonlyMap<string, Uint8Array>;
  #dtls: DtlsEndpoint | undefined;
  #plain: UdpSocket | undefined;

  private constructor(config: ProxyConfig, identities: ClientIdentities, onEvent: (event: ProxyEvent) => void) {
    this.#config = config;
    this.#identities = identities;
    this.#onEvent = onEvent;
    this.#router = new RequestRouter(config);
    this.#keys = keysOf(config);
    this.#coap = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      applicationOptions: FORWARDED_OPTIONS,
      proxy: { needsProvenAddress: config.listen.proveAddresses },
      onMessage: (message, client) => this.#forward(message, client),
      onDisconnect: (client) => this.#upstream.closeClient(client),
      onFault: (error) => onEvent({ type: "fault", error }),
    });
    this.#upstream = new UpstreamAssociations({
      maxAssociations: config.maxAssociations,
      idleTimeoutMs: config.idleTimeout,
      endpoint: (client, onUse) => ({
        optionFormats: BINDING_OPTION_FORMATS,
        applicationOptions: FORWARDED_OPTIONS,
        proxy: {},
        onMessage: (message) => {
          onUse();
          return this.#forwardBack(message, client);
        },
        onFault: (error) => onEvent({ type: "fault", error }),
      }),
    });
  }

  /** @throws NetError NET_PORT_IN_USE and those of binding; X509Error for files that do not serve. */
  static async start(config: ProxyConfig, onEvent: (event: ProxyEvent) => void = () => undefined): Promise<DpeProxy> {
    const identities = await ClientIdentities.open(config.identities, config.credentials.ca, (event) =>
      onEvent({ type: "radius", event }),
    );
    let proxy: DpeProxy | undefined;
    try {
      proxy = new DpeProxy(config, identities, onEvent);
      await proxy.#listen();
      return proxy;
    } catch (error) {
      await (proxy === undefined ? identities.close() : proxy.close());
      throw error;
    }
  }

  /** Where the proxy listens. */
  get addresses(): {
    readonly coap: SocketAddress | undefined;
    readonly coaps: SocketAddress | undefined;
    readonly radius: SocketAddress | undefined;
  } {
    return { coap: this.#plain?.address, coaps: this.#dtls?.address, radius: this.#identities.radiusAddress };
  }

  /** Associations with targets that are open. */
  get associations(): number {
    return this.#upstream.size;
  }

  /**
   * Takes credentials, targets, routes and identities of a configuration that was read anew. Associations end at once, of
   * clients whose key is another now or whose certificate is not valid any more, and with targets of which anything changed.
   * What is listened on, RADIUS and the limits wait for a restart.
   *
   * @throws X509Error for a file that does not serve, changing nothing.
   */
  async reload(config: ProxyConfig): Promise<void> {
    const router = new RequestRouter(config, this.#router.targets);
    const server = serverOptions(config);
    this.#identities.replace(config.identities, config.credentials.ca);
    const before = this.#keys;
    const waiting = changedKeys(this.#config, config).filter((key) => !TAKEN_AT_ONCE.test(key));
    this.#router = router;
    this.#keys = keysOf(config);
    const { listen: bound, maxAssociations, idleTimeout } = this.#config;
    this.#config = { ...config, listen: bound, maxAssociations, idleTimeout };
    this.#dtls?.replaceServer(server);
    this.#upstream.keepOnly(router.targets);
    let associationsEnded = 0;
    for (const client of this.#coap.connections) {
      const alert = await this.#endOf(client, before);
      if (alert === undefined || client.isClosed) continue;
      associationsEnded++;
      if (client.transport instanceof DtlsSession) client.transport.abort(alert, "credentials have changed");
    }
    this.#onEvent({ type: "reloaded", associationsEnded, waiting });
  }

  /** The alert by which a client's association ends that may not go on with the credentials of now. */
  async #endOf(
    { peerInfo }: CoapConnection,
    before: ReadonlyMap<string, Uint8Array>,
  ): Promise<CertificateFaultAlert | "access_denied" | undefined> {
    if (peerInfo?.pskIdentity !== undefined) {
      const identity = identityText(peerInfo.pskIdentity) ?? "";
      const [old, now] = [before.get(identity), this.#keys.get(identity)];
      return old !== undefined && now !== undefined && Buffer.compare(old, now) === 0 ? undefined : "access_denied";
    }
    if (peerInfo?.certificates === undefined) return undefined;
    const verdict = await this.#identities.verify(peerInfo.certificates);
    return verdict.ok ? undefined : verdict.alert;
  }

  async close(): Promise<void> {
    await this.#identities.close();
    await this.#upstream.close();
    await this.#dtls?.close();
    await this.#coap.close();
  }

  async #listen(): Promise<void> {
    const { host, coap, coaps } = this.#config.listen;
    if (coaps !== undefined) {
      this.#dtls = await listen((session) => this.#coap.addSession(session), {
        host,
        port: coaps,
        server: serverOptions(this.#config),
        verify: (certificates) => this.#identities.verify(certificates),
        pskOf: (identity) => this.#keys.get(identityText(identity) ?? ""),
        onHandshakeFailed: (remote, error) =>
          this.#onEvent({ type: "handshake-failed", peer: formatAddress(remote), cause: error?.code ?? "closed" }),
      });
    }
    if (coap !== undefined) {
      this.#plain = await UdpSocket.bind({ host, port: coap });
      this.#coap.addSocket(this.#plain);
    }
  }

  async #forward(message: RequestMessage, client: CoapConnection): Promise<ObservableResponse> {
    const routing = this.#router.route(message);
    if (routing.type === "refuse") {
      this.#onEvent({ type: "refused", peer: formatAddress(client.remoteAddress), rule: routing.reason });
      return diagnostic(routing.code, routing.reason);
    }
    const hop = nextHop(message.options, this.#config.hopLimit);
    if (hop.type === "malformed") return diagnostic(CODE.BadRequest, "Hop-Limit is 1 to 255");
    if (hop.type === "reached") return hopLimitReached(this.#config.name);
    const ports = [this.#plain, this.#dtls].flatMap((one) => one?.address.port ?? []);
    const fault = dpe2Fault(message, client.remoteAddress.address, ports);
    if (fault !== undefined) {
      this.#onEvent({ type: "refused", peer: formatAddress(client.remoteAddress), rule: fault });
      return diagnostic(CODE.BadRequest, fault);
    }
    const { target } = routing;
    if (needsMoreSecurity(message.options, client, target)) return refusal("security-required", this.#securityHint());
    const identity = await this.#identities.of(client);
    if (identity === undefined && this.#config.identities.required) {
      this.#onEvent({ type: "refused", peer: formatAddress(client.remoteAddress), rule: "identities.required" });
      return refusal("not-authorized");
    }
    let options = routing.options
      .without(BINDING_OPTION.SubscriberIdentity, OPTION.Echo)
      .with(OPTION.HopLimit, hop.hopLimit);
    if (identity !== undefined)
      options = options.with(BINDING_OPTION.SubscriberIdentity, encodeSubscriberIdentity(identity));
    let server: CoapConnection | undefined;
    try {
      const { timeout } = this.#config;
      // A handshake that takes longer is there for the next request.
      server = await within(timeout, this.#upstream.to(target, client), () => {
        throw new CoapError("COAP_TIMEOUT", `not reached within ${timeout} ms`);
      });
    } catch (error) {
      this.#onEvent({ type: "target-failed", target: target.config.name, error });
      const isLate =
        (error instanceof DtlsError && error.code === "DTLS_HANDSHAKE_TIMEOUT") ||
        (error instanceof CoapError && error.code === "COAP_TIMEOUT");
      return diagnostic(isLate ? CODE.GatewayTimeout : CODE.BadGateway, "the target cannot be reached");
    }
    if (server === undefined) return busy();
    const response = await this.#exchange({ ...message, options }, server);
    return adapted(response, (one) => mapBack(this.#checked(one), routing.back));
  }

  /** A request of a target on the association that a client's requests opened: DPE-2 by role reversal. */
  async #forwardBack(message: RequestMessage, client: CoapConnection): Promise<ObservableResponse> {
    if (this.#config.requestsBack === "refuse") return diagnostic(CODE.NotFound, "no requests are relayed to clients");
    const hop = nextHop(message.options, this.#config.hopLimit);
    if (hop.type === "malformed") return diagnostic(CODE.BadRequest, "Hop-Limit is 1 to 255");
    if (hop.type === "reached") return hopLimitReached(this.#config.name);
    const options = message.options
      .without(
        BINDING_OPTION.SubscriberIdentity,
        OPTION.Echo,
        OPTION.ProxyUri,
        OPTION.ProxyScheme,
        OPTION.UriHost,
        OPTION.UriPort,
      )
      .with(OPTION.HopLimit, hop.hopLimit);
    const response = await this.#exchange({ ...message, options }, client);
    return adapted(response, (one) => this.#checked(one));
  }

  /** One message to the next hop, and its response or what became of it. */
  async #exchange(message: RequestMessage, to: CoapConnection): Promise<ObservableResponse> {
    const limit = to.transport instanceof DtlsSession ? to.transport.maxDataBytes : MAX_PLAIN_MESSAGE_BYTES;
    if (message.options.encodedBytes + message.payload.length + MESSAGE_OVERHEAD_BYTES > limit)
      return tooLarge(message);
    const { code, options, payload } = message;
    const isConfirmable = message.isConfirmable ?? true;
    const request = { code, options, payload, isConfirmable };
    const timeout = { signal: AbortSignal.timeout(this.#config.timeout), isBlockwise: false };
    try {
      if (options.observe !== 0 || (code !== CODE.GET && code !== CODE.FETCH))
        return await to.request(request, timeout);
      // The time-out is for the first response only: the observation itself lives on.
      const observation = await to.observe(request, timeout);
      if (observation.first.options.observe === undefined) return observation.first;
      return {
        ...observation.first,
        isMessage: true,
        observe: (notify) => {
          void (async () => {
            try {
              for await (const notification of observation) notify(notification);
            } catch (error) {
              notify(failed(error));
            }
          })();
          return () => observation.cancel();
        },
      };
    } catch (error) {
      return failed(error);
    }
  }

  /** RFC 7252 §5.7.2 for options that are unsafe to forward; Observe is put in anew, and 5.08 names this proxy. */
  #checked(response: ResponseMessage): ResponseMessage {
    if (response.code === CODE.HopLimitReached) return hopLimitReached(this.#config.name, response);
    return { ...response, options: response.options.without(OPTION.Observe, BINDING_OPTION.SecurityRequired) };
  }

  #securityHint(): Parameters<typeof refusal>[1] {
    return { securityRequired: { port: this.#dtls?.address.port, interfaceName: "dpe1" } };
  }
}

/** What a proxy tells of its work; none of it holds a secret. */
export type ProxyEvent =
  | { readonly type: "refused"; readonly peer: string; readonly rule: string }
  | { readonly type: "target-failed"; readonly target: string; readonly error: unknown }
  | { readonly type: "handshake-failed"; readonly peer: string; readonly cause: string }
  /** `waiting` are the keys that have changed and hold from the next start only. */
  | { readonly type: "reloaded"; readonly associationsEnded: number; readonly waiting: readonly string[] }
  | { readonly type: "radius"; readonly event: AccountingEvent }
  | { readonly type: "fault"; readonly error: unknown };

function keysOf({ credentials }: ProxyConfig): ReadonlyMap<string, Uint8Array> {
  return new Map(credentials.psk.map(({ identity, key }) => [identity, key.reveal()]));
}

/** Reads what clients and targets are shown and verified by. @throws X509Error for a file that does not serve. */
export function checkProxyCredentials(config: ProxyConfig): void {
  serverOptions(config);
  readAnchors(config.credentials.ca);
  for (const target of config.targets) dtlsOptions(target);
}

/** @throws X509Error. */
function serverOptions({ credentials }: ProxyConfig): ServerOptions {
  const { ca, psk } = credentials;
  const certificate = ownCertificateOf(credentials);
  return {
    pskEnabled: psk.length > 0,
    ...(certificate === undefined ? {} : { certificate }),
    clientCertificate: ca === undefined ? "none" : "request",
  };
}

/** R17 end to end: the client's demand holds for both legs. */
function needsMoreSecurity(options: Options, client: CoapConnection, { config }: Target): boolean {
  const requested = options.uint(BINDING_OPTION.SecurityRequest) ?? CONNECTION_LEVEL.none;
  return requested >= CONNECTION_LEVEL.dtls && (!client.isSecure || config.uri.scheme !== "coaps");
}

function adapted(
  response: ObservableResponse,
  adapt: (response: ResponseMessage) => ResponseMessage,
): ObservableResponse {
  const { observe } = response;
  const first = adapt(response);
  if (observe === undefined) return first;
  return {
    ...first,
    isMessage: true,
    observe: (notify) => observe((notification) => notify(adapt(notification))),
  };
}

/** What a client learns of a next hop that did not answer as it should (RFC 7252 §5.9.3). */
function failed(error: unknown): ResponseMessage {
  if (!(error instanceof CoapError)) throw error;
  if (error.code === "COAP_LIMIT_REACHED") return busy();
  return error.code === "COAP_TIMEOUT" || error.code === "COAP_CANCELLED"
    ? diagnostic(CODE.GatewayTimeout, "the target did not answer in time")
    : diagnostic(CODE.BadGateway, "the target gave no valid response");
}

function busy(): ResponseMessage {
  const options = Options.none.with(OPTION.MaxAge, BUSY_SECONDS);
  return { ...diagnostic(CODE.ServiceUnavailable, "the proxy is busy"), options };
}

/** RFC 7959 §2.9.3: the Block1 of a 4.13 asks for smaller blocks. */
function tooLarge({ options, payload }: RequestMessage): ResponseMessage {
  const response = diagnostic(CODE.RequestEntityTooLarge, "the message is too large for the way to the target");
  if (payload.length <= SMALLER_BLOCK_BYTES || (options.block1?.number ?? 0) > 0) return response;
  const block = { number: 0, hasMore: true, sizeBytes: SMALLER_BLOCK_BYTES };
  return { ...response, options: response.options.withBlock1(block) };
}

function diagnostic(code: number, text: string): ResponseMessage {
  return { code, options: Options.none, payload: new TextEncoder().encode(text) };
}

const TAKEN_AT_ONCE =
  /^(?:name|credentials|targets|routes|forward|requestsBack|hopLimit|timeout|identities\.(?!radius))/;
/** What only the target can obey goes to it; what only a proxy can, is obeyed here. */
const FORWARDED_OPTIONS: readonly number[] = [OPTION.IfMatch, OPTION.IfNoneMatch, OPTION.ProxyUri, OPTION.ProxyScheme];
/** Header, token and payload marker. */
const MESSAGE_OVERHEAD_BYTES = 4 + 8 + 1;
/** RFC 7252 §4.6: within an IPv6 packet of 1280 bytes. */
const MAX_PLAIN_MESSAGE_BYTES = 1232;
const SMALLER_BLOCK_BYTES = 512;
const BUSY_SECONDS = 30;
