import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { CODE, formatCode, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { DigestClient } from "#digest/index.js";
import {
  BINDING_OPTION_FORMATS,
  CONNECTION_LEVEL,
  CONTENT_FORMAT,
  DpeError,
  DPE2_OVER_ASSOCIATION,
  PATH,
  QUERY,
} from "#dpe/index.js";
import {
  type CoapConnection,
  CoapEndpoint,
  connect,
  type ObservableResponse,
  resolveHost,
  UdpSocket,
  CIPHER_SUITES,
} from "#net/index.js";
import { authErrorOf, ClientAuthenticator, SecurityError } from "#security/index.js";
import { encodePack, type SenmlRecord } from "#senml/index.js";
import { loadCredentials, loadTrustAnchors, verifyPeerCertificates } from "#x509/index.js";
import type { AgentConfig } from "./agent-config.js";

/**
 * DPE-1 on one association with the server: registration, refresh, reports, deregistration. The same association carries
 * DPE-2 back to us. When it is lost it is of no more use: open a new one.
 */
export class ServerAssociation {
  /** Fulfilled when the association is lost or closed. */
  readonly closed: Promise<void>;

  readonly #config: AgentConfig;
  readonly #connection: CoapConnection;
  readonly #endpoint: CoapEndpoint;
  #location: readonly string[] | undefined;

  private constructor(config: AgentConfig, connection: CoapConnection, endpoint: CoapEndpoint, closed: Promise<void>) {
    this.#config = config;
    this.#connection = connection;
    this.#endpoint = endpoint;
    this.closed = closed;
  }

  /**
   * Opens an association as the policy asks; `signal` ends a handshake that is no longer wanted.
   *
   * @throws NetError, DtlsError, CoapError; SecurityError SECURITY_CONNECTION_BELOW_POLICY before anything is sent.
   */
  static async open(
    config: AgentConfig,
    onDpe2: (request: RequestMessage) => ObservableResponse,
    signal: AbortSignal,
  ): Promise<ServerAssociation> {
    const { dpe1, dpe2 } = config.interfaces;
    const level = config.server.scheme === "coaps" ? "dtls" : "none";
    if (CONNECTION_LEVEL[level] < CONNECTION_LEVEL[dpe1.connection]) {
      throw new SecurityError(
        "SECURITY_CONNECTION_BELOW_POLICY",
        `${config.server.href} is not ${dpe1.connection}, which interfaces.dpe1.connection asks for`,
      );
    }
    if (dpe1.serverAuthentication === "psk" && (level !== "dtls" || dpe1.credentials.psk === undefined)) {
      throw new SecurityError(
        "SECURITY_CONNECTION_BELOW_POLICY",
        "serverAuthentication psk needs a coaps server and credentials.psk",
      );
    }
    if (dpe1.serverAuthentication === "certificate" && level !== "dtls") {
      throw new SecurityError(
        "SECURITY_CONNECTION_BELOW_POLICY",
        "serverAuthentication certificate needs a coaps server",
      );
    }
    const isDpe2Allowed = dpe2.bind === "association" && CONNECTION_LEVEL[level] >= CONNECTION_LEVEL[dpe2.connection];
    const { username, password } = dpe1.credentials;
    const authenticator =
      username === undefined || password === undefined
        ? undefined
        : new ClientAuthenticator(
            new DigestClient({ secret: { username, password: password.text() }, random: randomBytes }),
          );
    let lost: () => void = () => undefined;
    const closed = new Promise<void>((resolve) => (lost = resolve));
    const endpoint = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      onRequest: (request) => (isDpe2Allowed ? onDpe2(request) : NOT_FOUND),
      ...(authenticator === undefined
        ? {}
        : { onSend: (message, _connection, send) => authenticator.send(message, send) }),
      onDisconnect: () => lost(),
    });
    const connection = await connectTo(config, endpoint, signal);
    return new ServerAssociation(config, connection, endpoint, closed);
  }

  /** @throws SecurityError SECURITY_AUTHENTICATION_REFUSED with the authentication error; DpeError DPE_BAD_REQUEST; CoapError. */
  async register(records: readonly SenmlRecord[]): Promise<void> {
    const query = [
      `${QUERY.endpoint}=${this.#config.endpoint}`,
      `${QUERY.lifetimeSeconds}=${Math.round(this.#config.lifetime / 1000)}`,
      ...(this.#config.interfaces.dpe2.bind === "association" ? [`dpe2=${DPE2_OVER_ASSOCIATION}`] : []),
    ];
    const pack = records.length > 0 ? encodePack(records, "cbor") : NO_PAYLOAD;
    const response = await this.#post([PATH.dpe1, PATH.registrations], query, pack);
    if (response.code !== CODE.Created) throw unexpected("registration", response);
    this.#location = response.options.locationPath;
  }

  /**
   * Sends a SenML-CBOR pack. Returns false where the server can never take what is in it.
   *
   * @throws as {@link register}; DpeError DPE_UNKNOWN_REGISTRATION: register anew.
   */
  async report(pack: Uint8Array): Promise<boolean> {
    const response = await this.#change("report", [PATH.properties], pack);
    return response.code === CODE.Changed;
  }

  /** @throws as {@link report}. */
  async refresh(): Promise<void> {
    const response = await this.#change("refresh", [], NO_PAYLOAD);
    if (response.code !== CODE.Changed) throw unexpected("refresh", response);
  }

  /** Ends the registration, if there is one and it is not to be kept, then the association. */
  async close({ keepsRegistration = false }: { readonly keepsRegistration?: boolean } = {}): Promise<void> {
    const location = this.#location;
    this.#location = undefined;
    if (location !== undefined && !keepsRegistration && !this.#connection.isClosed) {
      const options = Options.none.withAll(OPTION.UriPath, location);
      const signal = AbortSignal.timeout(DEREGISTER_TIMEOUT_MS);
      // The registration ends by its lifetime where the server does not answer.
      await this.#connection
        .request({ code: CODE.DELETE, options, payload: NO_PAYLOAD }, { signal })
        .catch(() => undefined);
    }
    await this.#connection.close();
    await this.#endpoint.close();
  }

  async #change(what: string, path: readonly string[], payload: Uint8Array): Promise<ResponseMessage> {
    if (this.#location === undefined) throw new DpeError("DPE_UNKNOWN_REGISTRATION", "not registered");
    const response = await this.#post([...this.#location, ...path], [], payload);
    if (response.code === CODE.NotFound)
      throw new DpeError("DPE_UNKNOWN_REGISTRATION", "the server does not know the registration any more");
    if (response.code !== CODE.Changed && !UNACCEPTABLE.has(response.code)) throw unexpected(what, response);
    return response;
  }

  #post(path: readonly string[], query: readonly string[], payload: Uint8Array): Promise<ResponseMessage> {
    let options = Options.none.withAll(OPTION.UriPath, path).withAll(OPTION.UriQuery, query);
    if (payload.length > 0) options = options.with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor);
    return this.#connection.request({ code: CODE.POST, options, payload });
  }
}

async function connectTo(config: AgentConfig, endpoint: CoapEndpoint, signal: AbortSignal): Promise<CoapConnection> {
  const { scheme, host, port } = config.server;
  if (scheme === "coap") {
    const address = await resolveHost(host);
    const socket = await UdpSocket.bind({ host: address.includes(":") ? "::" : "0.0.0.0" });
    return endpoint.addSocket(socket).connectTo({ address, port });
  }
  const session = await connect({ host, port }, dtlsOptions(config));
  const giveUp = (): void => void session.close();
  signal.addEventListener("abort", giveUp, { once: true });
  await session.opened.finally(() => signal.removeEventListener("abort", giveUp));
  return endpoint.addSession(session);
}

/** Only what the policy accepts is offered: a server that must show a certificate is not offered a PSK, nor the reverse. */
function dtlsOptions(config: AgentConfig): Parameters<typeof connect>[1] {
  const { serverAuthentication, ca, credentials } = config.interfaces.dpe1;
  const { host } = config.server;
  const { psk, certificate, key } = credentials;
  const suites = Object.keys(CIPHER_SUITES) as (keyof typeof CIPHER_SUITES)[];
  const usesPsk = serverAuthentication === "psk" || (serverAuthentication === "none" && psk !== undefined);
  const cipherSuites = suites.filter((suite) => suite.includes("PSK") === usesPsk);
  if (usesPsk) {
    return psk === undefined
      ? {}
      : { cipherSuites, psk: { identity: new TextEncoder().encode(psk.identity), key: psk.key.reveal() } };
  }
  const isAddress = isIP(host) !== 0;
  const anchors = ca === undefined ? [] : loadTrustAnchors(readFileSync(ca, "utf8"));
  const name = isAddress ? ({ type: "ip", address: host } as const) : ({ type: "dns", name: host } as const);
  return {
    cipherSuites,
    ...(isAddress ? {} : { serverName: host }),
    ...(certificate === undefined || key === undefined
      ? {}
      : { certificate: loadCredentials(readFileSync(certificate, "utf8"), key.text()) }),
    verify: (certificates) =>
      serverAuthentication === "none"
        ? { ok: true }
        : verifyPeerCertificates(certificates, { anchors, purpose: "serverAuth", atMs: Date.now(), name }),
  };
}

function unexpected(what: string, response: ResponseMessage): Error {
  const authError = authErrorOf(response);
  const code = formatCode(response.code);
  if (authError !== undefined) {
    return new SecurityError(
      "SECURITY_AUTHENTICATION_REFUSED",
      `the server refused the ${what}: ${code} ${authError}`,
      { authError },
    );
  }
  return new DpeError("DPE_BAD_REQUEST", `the server answered the ${what} with ${code}`);
}

const NOT_FOUND: ResponseMessage = { code: CODE.NotFound, options: Options.none, payload: new Uint8Array(0) };
/** It is the content that is at fault, and will be the next time. */
const UNACCEPTABLE: ReadonlySet<number> = new Set([
  CODE.BadRequest,
  CODE.RequestEntityTooLarge,
  CODE.UnsupportedContentFormat,
]);
const NO_PAYLOAD = new Uint8Array(0);
const DEREGISTER_TIMEOUT_MS = 2000;
