import { DpeError, type Dpe2Uri, parseDpe2Uri, type Registration } from "#dpe/index.js";
import {
  CIPHER_SUITE_NAMES,
  type CoapConnection,
  type CoapEndpoint,
  connect,
  DtlsError,
  formatAddress,
  type PlainTransport,
  UdpSocket,
} from "#net/index.js";
import { type AuditEvent, handshakeFailure } from "#security/index.js";
import type { ServerCredentials } from "./server-credentials.js";

/**
 * How DPE-2 reaches each endpoint: over the association that carried its DPE-1, or at an address that the client listens on.
 * There the server dials, over DTLS where the URI or the client asks for it: with the subscriber's own PSK, else with
 * raw public keys or certificates.
 */
export class Dpe2Connections {
  readonly #coap: CoapEndpoint;
  readonly #credentials: ServerCredentials;
  readonly #onAudit: (event: AuditEvent) => void;
  readonly #onMoved: OnMoved;
  /** The connection on which each endpoint was last heard. */
  readonly #heard = new Map<string, CoapConnection>();
  /** Connections that the server opened, by endpoint. */
  readonly #dialled = new Map<string, Dialled>();
  /** By the address that they are bound to, one of each family. */
  readonly #plain = new Map<string, Promise<PlainTransport>>();

  /** `onAudit` is told of handshakes that fail, `onMoved` of endpoints that are heard on another connection than before. */
  constructor(
    coap: CoapEndpoint,
    credentials: ServerCredentials,
    onAudit: (event: AuditEvent) => void,
    onMoved: OnMoved,
  ) {
    this.#onAudit = onAudit;
    this.#onMoved = onMoved;
    this.#coap = coap;
    this.#credentials = credentials;
  }

  heardOn(endpoint: string, connection: CoapConnection): void {
    const before = this.#heard.get(endpoint);
    if (before === connection) return;
    before?.supersede();
    this.#heard.set(endpoint, connection);
    this.#onMoved(endpoint, before, connection);
  }

  /** Another server has the endpoint: what it was heard on here leads nowhere. */
  heardElsewhere(endpoint: string): void {
    this.#heard.delete(endpoint);
  }

  /** The connection on which the endpoint was heard last, closed by now perhaps. */
  lastHeardOn(endpoint: string): CoapConnection | undefined {
    return this.#heard.get(endpoint);
  }

  /** Whether the endpoint was heard on an association that is open still. */
  hears(endpoint: string): boolean {
    return this.#heard.get(endpoint)?.isClosed === false;
  }

  /**
   * From time to time: forgets some of those that were heard on connections which are closed by now, and are registered no
   * more. Of what ends at another server of the store nobody tells this one.
   */
  async sweep(isRegistered: (endpoint: string) => Promise<boolean>): Promise<void> {
    // Those that were looked at longest ago come first.
    const some = [...first(this.#heard, SWEEP_LOOKS)];
    for (const [endpoint, connection] of some) {
      const isLeft = connection.isClosed && !(await isRegistered(endpoint));
      if (this.#heard.get(endpoint) !== connection) continue;
      this.#heard.delete(endpoint);
      if (!isLeft) this.#heard.set(endpoint, connection);
    }
  }

  /** Endpoints of which it is known on what connection they were heard. */
  get heardCount(): number {
    return this.#heard.size;
  }

  forget(endpoint: string): void {
    this.#heard.delete(endpoint);
    const dialled = this.#dialled.get(endpoint);
    this.#dialled.delete(endpoint);
    if (dialled !== undefined) void dialled.connection.then(close, () => undefined);
  }

  /** @throws DpeError DPE_NOT_REACHABLE; NetError, DtlsError of dialling. */
  async to(registration: Registration): Promise<CoapConnection> {
    const { endpoint, dpe2 } = registration;
    if (dpe2.type === "association") {
      const connection = this.#heard.get(endpoint);
      if (connection === undefined || connection.isClosed)
        throw new DpeError("DPE_NOT_REACHABLE", `${endpoint} has no open association`);
      return connection;
    }
    return this.#dial(registration, dpe2.uri, parseDpe2Uri(dpe2.uri));
  }

  /**
   * Dials an endpoint anew over DTLS, as it asked for, and goes on so. Undefined where it cannot be dialled: it is reached
   * over its own association, or is spoken with by DTLS already.
   */
  async secured(registration: Registration, port: number | undefined): Promise<CoapConnection | undefined> {
    const { dpe2 } = registration;
    if (dpe2.type === "association") return undefined;
    const plain = parseDpe2Uri(dpe2.uri);
    if (plain.isSecure) return undefined;
    return this.#dial(registration, `${dpe2.uri} over DTLS`, {
      isSecure: true,
      address: plain.address,
      port: port ?? DEFAULT_COAPS_PORT,
    });
  }

  async #dial({ endpoint, subscriber }: Registration, key: string, target: Dpe2Uri): Promise<CoapConnection> {
    const known = this.#dialled.get(endpoint);
    // Once over DTLS, a plain URI leads there still: what the client asked for is not forgotten.
    if (known?.key === key || known?.key === `${key} over DTLS`) {
      const connection = await known.connection.catch(() => undefined);
      if (connection?.isClosed === false) return connection;
    }
    const opening = target.isSecure ? this.#openSecure(target, subscriber) : this.#openPlain(target);
    const dialled: Dialled = { key, connection: opening };
    if (known !== undefined) void known.connection.then((old) => (old.isSecure ? close(old) : undefined), ignore);
    this.#dialled.set(endpoint, dialled);
    try {
      return await opening;
    } catch (error) {
      if (this.#dialled.get(endpoint) === dialled) this.#dialled.delete(endpoint);
      throw error;
    }
  }

  async #openPlain({ address, port }: Dpe2Uri): Promise<CoapConnection> {
    const host = address.includes(":") ? "::" : "0.0.0.0";
    let plain = this.#plain.get(host);
    if (plain === undefined) {
      plain = UdpSocket.bind({ host }).then((socket) => this.#coap.addSocket(socket));
      this.#plain.set(host, plain);
      // What could not be bound is tried again.
      plain.catch(() => this.#plain.delete(host));
    }
    return (await plain).connectTo({ address, port });
  }

  async #openSecure({ address, port }: Dpe2Uri, subscriber: string | undefined): Promise<CoapConnection> {
    const { psk, keyFingerprints = [] } =
      (subscriber === undefined ? undefined : this.#credentials.subscribers.named(subscriber)) ?? {};
    const { certificate, rawPublicKey } = this.#credentials;
    const session = await connect(
      { host: address, port },
      {
        cipherSuites: CIPHER_SUITE_NAMES.filter((suite) => suite.includes("PSK") === (psk !== undefined)),
        ...(psk === undefined ? {} : { psk }),
        ...(certificate === undefined ? {} : { certificate }),
        ...(rawPublicKey === undefined ? {} : { rawPublicKey }),
        ...(keyFingerprints.length === 0
          ? {}
          : { verifyRawPublicKey: (spki: Uint8Array) => this.#credentials.verifyRawPublicKey(spki) }),
        // Whose certificate it is, is the policy's part; here it must lead to an anchor.
        verify: (certificates) => this.#credentials.verify(certificates, "serverAuth"),
      },
    );
    try {
      await session.opened;
    } catch (error) {
      const peer = formatAddress({ address, port });
      const where = { time: Date.now(), interface: "dpe2", side: "server", peer } as const;
      if (error instanceof DtlsError) this.#onAudit(handshakeFailure(error, where));
      throw error;
    }
    return this.#coap.addSession(session);
  }
}

function* first<Item>(items: Iterable<Item>, count: number): Generator<Item> {
  let taken = 0;
  for (const item of items) {
    if (taken++ === count) return;
    yield item;
  }
}

type OnMoved = (endpoint: string, from: CoapConnection | undefined, to: CoapConnection) => void;

interface Dialled {
  /** The URI, and whether it was raised to DTLS. */
  readonly key: string;
  readonly connection: Promise<CoapConnection>;
}

function close(connection: CoapConnection): Promise<void> {
  return connection.close();
}

function ignore(): void {}

/** Of each sweep: with one every ten seconds 100,000 endpoints are looked at within 20 minutes. */
const SWEEP_LOOKS = 1000;
/** RFC 7252 §6.2 */
const DEFAULT_COAPS_PORT = 5684;
