import { randomBytes } from "node:crypto";
import { CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import {
  BINDING_OPTION_FORMATS,
  CONTENT_FORMAT,
  Devices,
  BINDING_OPTION,
  DpeError,
  PATH,
  type Registration,
  Registrations,
} from "#dpe/index.js";
import {
  type Answer,
  type CoapConnection,
  CoapEndpoint,
  type DtlsEndpoint,
  formatAddress,
  listen,
  monotonicNow,
  type Observation,
  type SocketAddress,
  UdpSocket,
} from "#net/index.js";
import { decide, type ExternalIdentities, type Judgement, SecurityError, ServerGuard } from "#security/index.js";
import { decodePack, type SenmlRecord } from "#senml/index.js";
import { Dpe1Resources } from "./dpe1-resources.js";
import { PeerFacts } from "./peer-facts.js";
import type { ServerConfig } from "./server-config.js";
import { ServerCredentials } from "./server-credentials.js";

/** A DPE Server: DPE-1 on its sockets, and DPE-2 toward the registered endpoints over the associations that they opened. */
export class DpeServer {
  readonly registrations: Registrations = new Registrations(() => randomBytes(9).toString("base64url"));
  readonly devices: Devices = new Devices();

  readonly #config: ServerConfig;
  readonly #credentials: ServerCredentials;
  readonly #guard: ServerGuard;
  readonly #resources: Dpe1Resources;
  readonly #coap: CoapEndpoint;
  readonly #onEvent: (event: ServerEvent) => void;
  readonly #facts: PeerFacts;
  /** The connection on which each endpoint was last heard, for DPE-2. */
  readonly #reached = new Map<string, CoapConnection>();
  #current: CoapConnection | undefined;
  #dtls: DtlsEndpoint | undefined;
  #plain: UdpSocket | undefined;
  #sweeper: NodeJS.Timeout | undefined;

  private constructor(config: ServerConfig, onEvent: (event: ServerEvent) => void, parts: ServerParts) {
    this.#config = config;
    this.#onEvent = onEvent;
    this.#credentials = new ServerCredentials(config);
    this.#facts = new PeerFacts(this.#credentials);
    const { connection, clientAuthentication, digest, listen: ports } = config.interfaces.dpe1;
    if (clientAuthentication.includes("external") && parts.external === undefined) {
      throw new SecurityError(
        "SECURITY_NO_EXTERNAL_IDENTITIES",
        "clientAuthentication external, but nothing outside vouches for anybody",
      );
    }
    this.#guard = new ServerGuard(
      "dpe1",
      {
        connection,
        clientAuthentication,
        digest: { realm: config.realm, algorithms: digest.algorithms, qops: digest.qop, scope: digest.scope },
        ...(ports.coaps === undefined ? {} : { securePort: ports.coaps }),
      },
      { subscribers: this.#credentials.subscribers, external: parts.external, random: randomBytes },
    );
    this.#resources = new Dpe1Resources({
      registrations: this.registrations,
      devices: this.devices,
      now: monotonicNow,
      onRegistered: (registration) => {
        if (this.#current !== undefined) this.#reached.set(registration.endpoint, this.#current);
        this.#onEvent({ type: "registered", registration });
      },
      onDeregistered: (registration) => this.#forget(registration, "deregistered"),
      onReport: (registration, records) => {
        if (this.#current !== undefined) this.#reached.set(registration.endpoint, this.#current);
        this.#onEvent({ type: "report", registration, records });
      },
      onClientError: (request, subscriber) =>
        this.#onEvent({
          type: "client-error",
          subscriber: subscriber?.name,
          authError: request.options.uint(BINDING_OPTION.AuthError),
        }),
    });
    this.#coap = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      blockwise: { optionsOutsideOperation: [BINDING_OPTION.DigestAuthorization] },
      onMessage: (message, peer, serve) => this.#guarded(message, peer, serve),
      onRequest: (request, peer, context) => this.#served(request, peer, context),
      onFault: (error) => this.#onEvent({ type: "fault", error }),
    });
  }

  /** @throws NetError NET_PORT_IN_USE and those of binding; SecurityError SECURITY_NO_EXTERNAL_IDENTITIES; X509Error. */
  static async start(
    config: ServerConfig,
    onEvent: (event: ServerEvent) => void = () => undefined,
    parts: ServerParts = {},
  ): Promise<DpeServer> {
    const server = new DpeServer(config, onEvent, parts);
    try {
      await server.#listen();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** Where the server listens. */
  get addresses(): { readonly coap: SocketAddress | undefined; readonly coaps: SocketAddress | undefined } {
    return { coap: this.#plain?.address, coaps: this.#dtls?.address };
  }

  /**
   * DPE-2: asks an endpoint for one property, or for all of them.
   *
   * @throws DpeError DPE_UNKNOWN_REGISTRATION, DPE_NOT_REACHABLE, DPE_BAD_REQUEST for an error response; CoapError.
   */
  async query(endpoint: string, name?: string, signal?: AbortSignal): Promise<readonly SenmlRecord[]> {
    const response = await this.#reach(endpoint).request(propertyRequest(name), signal === undefined ? {} : { signal });
    return recordsOf(response);
  }

  /** DPE-2: observes one property of an endpoint, or all. Throws as {@link query} does. */
  observe(endpoint: string, name?: string): Promise<Observation> {
    return this.#reach(endpoint).observe(propertyRequest(name));
  }

  async close(): Promise<void> {
    clearInterval(this.#sweeper);
    await this.#dtls?.close();
    await this.#coap.close();
  }

  async #listen(): Promise<void> {
    const { host, coap, coaps } = this.#config.interfaces.dpe1.listen;
    if (coaps !== undefined) {
      this.#dtls = await listen((session) => this.#coap.addSession(session), {
        host,
        port: coaps,
        server: {
          pskEnabled: this.#credentials.hasPsk,
          ...(this.#config.dtls.connectionId === "on" ? {} : { connectionId: false as const }),
          ...(this.#credentials.certificate === undefined ? {} : { certificate: this.#credentials.certificate }),
          clientCertificate: this.#clientCertificate(),
        },
        verify: (certificates) => this.#credentials.verify(certificates),
        pskOf: (identity) => this.#credentials.pskOf(identity),
        onHandshakeFailed: (remote, error) =>
          this.#onEvent({
            type: "handshake-failed",
            peer: formatAddress(remote),
            cause: error?.code ?? "closed by the peer",
          }),
      });
    }
    if (coap !== undefined) {
      this.#plain = await UdpSocket.bind({ host, port: coap });
      this.#coap.addSocket(this.#plain);
    }
    this.#sweeper = setInterval(() => {
      for (const registration of this.registrations.sweep(monotonicNow())) this.#forget(registration, "expired");
    }, SWEEP_INTERVAL_MS);
  }

  /** Demanded where nothing else would do, asked for where it is one way of several. */
  #clientCertificate(): "none" | "request" | "require" {
    const { dpe1, dpe2 } = this.#config.interfaces;
    const modes = [...dpe1.clientAuthentication, ...dpe2.clientAuthentication];
    if (!modes.includes("certificate")) return "none";
    return dpe1.clientAuthentication.every((mode) => mode === "certificate") ? "require" : "request";
  }

  #guarded(
    message: RequestMessage,
    peer: CoapConnection,
    serve: (message: RequestMessage, context?: unknown) => Answer,
  ): Answer {
    const judgement = this.#guard.judge(message, this.#facts.of(peer), Date.now());
    if (judgement.type === "refuse") {
      this.#onEvent({
        type: "authentication-error",
        peer: formatAddress(peer.remoteAddress),
        error: judgement.error,
        rule: judgement.rule,
      });
      return judgement.response;
    }
    const answer = serve(message, judgement.subscriber);
    const { finish } = judgement;
    if (finish === undefined) return answer;
    return answer instanceof Promise
      ? answer.then((response) => ({ ...response, ...finish(response) }))
      : { ...answer, ...finish(answer) };
  }

  #served(request: RequestMessage, peer: CoapConnection, context: unknown): ResponseMessage {
    this.#current = peer;
    try {
      return this.#resources.handle(request, context as Extract<Judgement, { type: "accept" }>["subscriber"]);
    } finally {
      this.#current = undefined;
    }
  }

  #reach(endpoint: string): CoapConnection {
    if (this.registrations.ofEndpoint(endpoint, monotonicNow()) === undefined) {
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", `no endpoint ${endpoint} is registered`);
    }
    const peer = this.#reached.get(endpoint);
    if (peer === undefined || peer.isClosed)
      throw new DpeError("DPE_NOT_REACHABLE", `${endpoint} has no open association`);
    const { connection, psk } = this.#facts.of(peer);
    const decision = decide("dpe2", this.#config.interfaces.dpe2, {
      connection,
      ...(psk === undefined ? {} : { psk }),
    });
    if (decision.type === "refuse")
      throw new DpeError("DPE_NOT_REACHABLE", `${endpoint}: ${decision.error} (${decision.rule})`);
    return peer;
  }

  #forget(registration: Registration, cause: "deregistered" | "expired"): void {
    this.#reached.delete(registration.endpoint);
    this.devices.forget(registration.endpoint);
    this.#onEvent({ type: "gone", registration, cause });
  }
}

/** What a server is given besides its configuration. */
export interface ServerParts {
  /** What functions outside of DPE know of subscribers; needed by the client authentication `external`. */
  readonly external?: ExternalIdentities;
}

/** What a server tells of its work; none of it holds a secret. */
export type ServerEvent =
  | { readonly type: "registered"; readonly registration: Registration }
  | { readonly type: "report"; readonly registration: Registration; readonly records: readonly SenmlRecord[] }
  | { readonly type: "gone"; readonly registration: Registration; readonly cause: "deregistered" | "expired" }
  | { readonly type: "authentication-error"; readonly peer: string; readonly error: string; readonly rule: string }
  | { readonly type: "handshake-failed"; readonly peer: string; readonly cause: string }
  | { readonly type: "client-error"; readonly subscriber: string | undefined; readonly authError: number | undefined }
  | { readonly type: "fault"; readonly error: unknown };

/** The properties in a DPE-2 response. @throws DpeError DPE_BAD_REQUEST for an error response; SenmlError. */
export function recordsOf(response: ResponseMessage): SenmlRecord[] {
  if (response.code !== CODE.Content)
    throw new DpeError("DPE_BAD_REQUEST", `the endpoint answered ${response.code >> 5}.${response.code & 31}`);
  const format = response.options.contentFormat === CONTENT_FORMAT.senmlJson ? "json" : "cbor";
  return decodePack(response.payload, format, Date.now() / 1000);
}

function propertyRequest(name: string | undefined): RequestMessage {
  const path = [PATH.dpe2, PATH.properties, ...(name?.split("/") ?? [])];
  const options = Options.none.withAll(OPTION.UriPath, path).with(OPTION.Accept, CONTENT_FORMAT.senmlCbor);
  return { code: CODE.GET, options, payload: new Uint8Array(0) };
}

const SWEEP_INTERVAL_MS = 10_000;
