import { randomBytes, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { checkEndpointName, CONTENT_FORMAT, DpeError, PATH } from "#dpe/index.js";
import { messageOf } from "#errors/index.js";
import { type CoapConnection, formatAddress } from "#net/index.js";
import {
  type AssociationFacts,
  decideOnPairing,
  decodePairingRequest,
  encodePairingAnchors,
  encodePairingGrant,
  formatPairingCode,
  formatPairingUri,
  generatePairingCode,
  mayRegister,
  type PairingDecision,
  type PairingGrant,
  pairingIdOf,
  problem,
  refusal,
  SecurityError,
  type Subscriber,
} from "#security/index.js";
import type { Store } from "#store/index.js";
import { CertificateAuthority, inFile, keyOfRequest, loadTrustAnchors, X509Error } from "#x509/index.js";
import type { ServerCredentials } from "../server-credentials.js";
import type { NewSubscriber, SubscriberDirectory } from "../subscriber-directory.js";
import { type CodeTerms, type CodeView, OpenCodes } from "./open-codes.js";
import type { PairingConfig } from "./pairing-config.js";
import { pairingHosts } from "./pairing-hosts.js";
import { RenewalLimits } from "./renewal-limits.js";

/** Pairs devices by one-time codes, and renews what it gave them (docs/pairing.md). */
export class Pairing {
  readonly #config: PairingConfig;
  readonly #parts: PairingParts;
  readonly #codes: OpenCodes;
  #material: PairingMaterial;
  /** Codes that are pairing a device at this moment. */
  readonly #busy = new Set<string>();
  readonly #renewals = new RenewalLimits();

  /** @throws X509Error for a CA that does not serve, or whose certificates this server would not accept. */
  constructor(config: PairingConfig, parts: PairingParts) {
    this.#config = config;
    this.#parts = parts;
    this.#codes = new OpenCodes(config);
    this.#material = readPairingMaterial(config, parts.credentials.clientAnchors);
  }

  /** The CA's certificate that signs those of devices, DER. */
  get authority(): Uint8Array | undefined {
    return this.#material.authority?.certificate;
  }

  /**
   * Reads CA, key and anchors of a configuration that was read anew; what it gives has them hold. `clientAnchors`: those that
   * will be accepted then.
   *
   * @throws as the constructor.
   */
  prepare(config: PairingConfig, clientAnchors: readonly Uint8Array[]): () => void {
    const next = readPairingMaterial({ ...config, credentials: this.#config.credentials }, clientAnchors);
    return () => (this.#material = next);
  }

  /** @throws DpeError DPE_TOO_MANY_CODES; DPE_BAD_REQUEST for a lifetime out of range. */
  issue(options: NewCode): IssuedCode {
    const now = Date.now();
    const { lifetimeMs = this.#config.codeLifetime, host, ...terms } = options;
    if (!(lifetimeMs >= 10_000 && lifetimeMs <= MAX_CODE_LIFETIME_MS))
      throw new DpeError("DPE_BAD_REQUEST", "a code lives for 10 seconds to 24 hours");
    const code = generatePairingCode();
    const expiresAt = now + lifetimeMs;
    this.#codes.add(code, { ...terms, replaces: terms.replaces ?? false, expiresAt }, now);
    this.#tell({ outcome: "issued", code: code.id, ...named(terms) });
    const isPsk = this.#config.credentials === "psk";
    const { listenHost, port, credentials } = this.#parts;
    const hosts =
      host === undefined ? pairingHosts(listenHost, isPsk ? undefined : credentials.certificate?.chain[0]) : [host];
    const uris = hosts.map((one) => formatPairingUri({ host: one, port: port(), code }));
    return { id: code.id, code: formatPairingCode(code), expiresAt, hosts, port: port(), uris };
  }

  /** Those that are open, and those that have ended lately. */
  codes(): readonly CodeView[] {
    return this.#codes.list(Date.now());
  }

  code(id: string): CodeView | undefined {
    return this.#codes.view(id, Date.now());
  }

  /** False when there is no open code of that identifier. */
  revoke(id: string): boolean {
    const isRevoked = this.#codes.end(id, { type: "revoked" }, Date.now());
    if (isRevoked) this.#tell({ outcome: "revoked", code: id });
    return isRevoked;
  }

  /** The key for a handshake with this identity; undefined also where it is no code's. */
  keyOf(identity: Uint8Array): Uint8Array | undefined {
    const id = pairingIdOf(identity);
    if (id === undefined) return undefined;
    const key = this.#codes.keyOf(id, Date.now());
    // An unknown identifier is what the peer wrote, and anybody may write one: handshake failures are counted elsewhere.
    if (key !== undefined) this.#tell({ outcome: "tried", code: id });
    return key;
  }

  /** A handshake with this identity was completed. */
  opened(identity: Uint8Array | undefined): void {
    const id = identity === undefined ? undefined : pairingIdOf(identity);
    if (id !== undefined) this.#codes.proved(id);
  }

  /** `POST /dpe1/pair`, accepted by {@link pairingDecision}. */
  async pair(request: RequestMessage, peer: CoapConnection): Promise<ResponseMessage> {
    const id = pairingIdOf(peer.peerInfo?.pskIdentity ?? NO_BYTES) ?? "";
    const terms = this.#codes.termsOf(id, Date.now());
    const place = { code: id, peer: formatAddress(peer.remoteAddress) };
    if (terms === undefined || this.#busy.has(id)) {
      this.#tell({ outcome: "refused", ...place, cause: "the code has ended" });
      return refusal("not-authorized");
    }
    this.#busy.add(id);
    try {
      const grant = await this.#grant(request, terms);
      const { endpoint, subscriber } = grant;
      this.#codes.end(id, { type: "paired", endpoint, subscriber }, Date.now());
      this.#tell({ outcome: "paired", ...place, endpoint, subscriber });
      return cbor(encodePairingGrant(grant));
    } catch (error) {
      const answer = errorResponse(error);
      this.#tell({ outcome: "refused", ...place, cause: messageOf(error) });
      return answer;
    } finally {
      this.#busy.delete(id);
    }
  }

  /** `POST /dpe1/renew` of a subscriber: another certificate of the same name, and the anchors, or the anchors alone. */
  async renew(
    request: RequestMessage,
    subscriber: Subscriber | undefined,
    mode: string,
    facts: AssociationFacts,
  ): Promise<ResponseMessage> {
    if (subscriber === undefined) return refusal("not-authorized");
    try {
      if (requestOf(request).request !== undefined) return await this.#renewed(request, subscriber, mode, facts);
    } catch (error) {
      return errorResponse(error);
    }
    const { anchors } = this.#material;
    if (anchors.length === 0)
      return problem(
        CODE.NotFound,
        "devices of this server are paired without anchors: it has no certificate to verify",
      );
    return cbor(encodePairingAnchors(anchors));
  }

  /** For one that a certificate of ours authenticated. */
  async #renewed(
    request: RequestMessage,
    subscriber: Subscriber,
    mode: string,
    facts: AssociationFacts,
  ): Promise<ResponseMessage> {
    const names = facts.identity?.certificateNames ?? [];
    const uri = names.find((name) => name.startsWith(PAIRED_NAME) && subscriber.certificateNames?.includes(name));
    if (this.#material.authority === undefined || uri === undefined || mode !== "certificate")
      return refusal("not-authorized");
    if (!(await this.#parts.directory.isAdded(subscriber.name))) return refusal("not-authorized");
    const waitMs = this.#renewals.take(subscriber.name, Date.now());
    if (waitMs > 0) {
      const options = Options.none.with(OPTION.MaxAge, Math.ceil(waitMs / 1000));
      return problem(CODE.TooManyRequests, "too many certificates for one device", options);
    }
    const certificate = await this.#certificate(request, uri);
    this.#tell({
      outcome: "renewed",
      subscriber: subscriber.name,
      ...(facts.peer === undefined ? {} : { peer: facts.peer }),
    });
    const grant = {
      endpoint: "-",
      subscriber: subscriber.name,
      kind: "certificate",
      certificates: [certificate],
    } as const;
    return cbor(encodePairingGrant({ ...grant, anchors: this.#material.anchors }));
  }

  async #grant(request: RequestMessage, terms: CodeTerms): Promise<PairingGrant> {
    const { endpoint = "" } = requestOf(request);
    checkEndpointName(endpoint);
    if (terms.endpoint !== undefined && !mayRegister({ name: "", endpoints: [terms.endpoint] }, endpoint))
      throw new DpeError("DPE_BAD_ENDPOINT_NAME", "this code is for an endpoint of another name");
    const subscriber = terms.subscriber ?? endpoint.replaceAll(":", "-");
    await this.#checkIsFree(endpoint, subscriber);
    const { credentials, every, lifetime } = this.#config;
    const { directory } = this.#parts;
    const psk = credentials === "psk" ? { psk: { identity: subscriber, key: NO_BYTES } } : {};
    await directory.check({ name: subscriber, ...psk }, terms.replaces);
    const made = await this.#credentialsFor(request, subscriber);
    const added = { ...made.subscriber, name: subscriber, endpoints: [endpoint] };
    if (terms.replaces) await directory.replace(added);
    else await directory.add(added);
    return {
      endpoint,
      subscriber,
      kind: credentials,
      ...made.grant,
      ...(this.#material.anchors.length === 0 ? {} : { anchors: this.#material.anchors }),
      ...(every === undefined ? {} : { intervalSeconds: Math.round(every / 1000) }),
      ...(lifetime === undefined ? {} : { lifetimeSeconds: Math.round(lifetime / 1000) }),
    };
  }

  async #credentialsFor(request: RequestMessage, subscriber: string): Promise<MadeCredentials> {
    switch (this.#config.credentials) {
      case "certificate": {
        const uri = `${PAIRED_NAME}${randomUUID()}`;
        const certificate = await this.#certificate(request, uri);
        return { subscriber: { certificates: [uri] }, grant: { certificates: [certificate] } };
      }
      case "digest": {
        const { password, secret } = newSecret();
        return { subscriber: { password }, grant: { secret } };
      }
      case "psk": {
        const { secret } = newSecret();
        return { subscriber: { psk: { identity: subscriber, key: secret } }, grant: { secret } };
      }
    }
  }

  async #certificate(message: RequestMessage, uri: string): Promise<Uint8Array> {
    const { request } = requestOf(message);
    const publicKey = request === undefined ? undefined : await keyOfRequest(request);
    const { authority } = this.#material;
    if (publicKey === undefined || authority === undefined)
      throw new DpeError(
        "DPE_BAD_REQUEST",
        "the request for a certificate is not PKCS #10 of a key on P-256, signed by it",
      );
    const options = { publicKey, uri, atMs: Date.now(), lifetimeMs: this.#config.validity };
    return (await authority.issueClient(options)).certificate;
  }

  /** A name that another subscriber's device is registered by would be refused at once. */
  async #checkIsFree(endpoint: string, subscriber: string): Promise<void> {
    const known = await this.#parts.store.registrations.ofEndpoint(endpoint, Date.now());
    if (known !== undefined && known.subscriber !== subscriber)
      throw new DpeError("DPE_NAME_TAKEN", `the name ${endpoint} is another device's`);
  }

  #tell(event: PairingEvent): void {
    this.#parts.onEvent(event);
    const { outcome, ...fields } = event;
    const { store, onFault } = this.#parts;
    const source = { isProven: true, name: event.code ?? event.subscriber };
    store.audit.append({ type: `pairing-${outcome}`, ...fields }, Date.now(), source).catch(onFault);
  }
}

interface PairingMaterial {
  readonly authority: CertificateAuthority | undefined;
  readonly anchors: readonly Uint8Array[];
}

/** @throws X509Error for a CA that does not serve. */
export function readPairingMaterial(config: PairingConfig, clientAnchors: readonly Uint8Array[]): PairingMaterial {
  const { ca, key, anchors = ca, credentials } = config;
  const authority =
    ca === undefined || key === undefined || credentials !== "certificate"
      ? undefined
      : inFile(
          key.path === undefined ? ca : `${ca} with ${key.path}`,
          () => new CertificateAuthority(readFileSync(ca, "utf8"), key.text()),
        );
  if (authority?.isAmong(clientAnchors) === false)
    throw new X509Error(
      "X509_BAD_OPTION",
      "the CA of pairing.ca is not among those of credentials.ca, so that nobody whom it pairs would be let in",
    );
  return {
    authority,
    anchors: anchors === undefined ? [] : inFile(anchors, () => loadTrustAnchors(readFileSync(anchors, "utf8"))),
  };
}

/** The decision on a message that has to do with pairing; undefined: it has nothing to do with it. */
export function pairingDecision(message: RequestMessage, peer: CoapConnection): PairingDecision | undefined {
  const { uriPath } = message.options;
  const { peerInfo } = peer;
  const suite = peerInfo !== undefined && "suite" in peerInfo ? String(peerInfo.suite) : "";
  return decideOnPairing({
    isPairingAssociation: peerInfo?.pskIdentity !== undefined && pairingIdOf(peerInfo.pskIdentity) !== undefined,
    isEphemeral: suite.startsWith("TLS_ECDHE_PSK_"),
    asksToPair: message.code === CODE.POST && uriPath.join("/") === `${PATH.dpe1}/${PATH.pairing}`,
  });
}

/** Whether a request is to renew what pairing gave. */
export function asksToRenew({ code, options }: RequestMessage): boolean {
  return code === CODE.POST && options.uriPath.join("/") === `${PATH.dpe1}/${PATH.renewal}`;
}

export interface PairingParts {
  readonly store: Store;
  readonly directory: SubscriberDirectory;
  readonly credentials: ServerCredentials;
  readonly listenHost: string;
  /** Of coaps, once it is bound. */
  readonly port: () => number;
  readonly onEvent: (event: PairingEvent) => void;
  readonly onFault: (error: unknown) => void;
}

export interface NewCode extends Omit<CodeTerms, "expiresAt" | "replaces"> {
  readonly replaces?: boolean;
  readonly lifetimeMs?: number;
  /** The host for its URI. Default: where devices may reach this server. */
  readonly host?: string;
}

/** A code as it is shown once. A secret. */
export interface IssuedCode {
  readonly id: string;
  readonly code: string;
  readonly expiresAt: number;
  readonly hosts: readonly string[];
  readonly port: number;
  /** For each host: `coaps+dpe-pair://HOST:PORT/CODE`. */
  readonly uris: readonly string[];
}

/** What happened; `code` is its identifier, which is no secret. */
export interface PairingEvent {
  readonly outcome: "issued" | "tried" | "paired" | "refused" | "revoked" | "renewed";
  readonly code?: string;
  readonly endpoint?: string;
  readonly subscriber?: string;
  readonly peer?: string;
  readonly cause?: string;
}

interface MadeCredentials {
  readonly subscriber: Pick<NewSubscriber, "certificates" | "password" | "psk">;
  readonly grant: Pick<PairingGrant, "certificates" | "secret">;
}

function named({
  endpoint,
  subscriber,
}: Pick<CodeTerms, "endpoint" | "subscriber">): Pick<PairingEvent, "endpoint" | "subscriber"> {
  return { ...(endpoint === undefined ? {} : { endpoint }), ...(subscriber === undefined ? {} : { subscriber }) };
}

/** Text, so that it stays what it is in a file. */
function newSecret(): { readonly password: string; readonly secret: Uint8Array } {
  const password = randomBytes(SECRET_BYTES).toString("base64url");
  return { password, secret: new TextEncoder().encode(password) };
}

function requestOf({ options, payload }: RequestMessage): ReturnType<typeof decodePairingRequest> {
  if (options.contentFormat !== CONTENT_FORMAT.cbor)
    throw new DpeError("DPE_UNSUPPORTED_FORMAT", `the body is CBOR: content-format ${CONTENT_FORMAT.cbor}`);
  return decodePairingRequest(payload);
}

function cbor(payload: Uint8Array): ResponseMessage {
  return { code: CODE.Changed, options: Options.none.with(OPTION.ContentFormat, CONTENT_FORMAT.cbor), payload };
}

function errorResponse(error: unknown): ResponseMessage {
  if (error instanceof SecurityError) return problem(CODE.BadRequest, `${error.code}: ${error.message}`);
  if (!(error instanceof DpeError)) throw error;
  const code = STATUS_OF[error.code] ?? CODE.BadRequest;
  return problem(code, `${error.code}: ${error.message}`);
}

const STATUS_OF: Readonly<Record<string, number>> = {
  DPE_NAME_TAKEN: CODE.Conflict,
  DPE_SUBSCRIBER_BANNED: CODE.Conflict,
  DPE_SUBSCRIBER_CONFIGURED: CODE.Conflict,
  DPE_SUBSCRIBER_EXISTS: CODE.Conflict,
  DPE_UNSUPPORTED_FORMAT: CODE.UnsupportedContentFormat,
};
/** Names that only pairing gives: nobody can choose one that is another subscriber's. */
const PAIRED_NAME = "urn:uuid:";
const SECRET_BYTES = 32;
const MAX_CODE_LIFETIME_MS = 86_400_000;
const NO_BYTES = new Uint8Array(0);
