import { isInPrefix, parseIpAddress } from "#ip/index.js";
import type { CoapConnection } from "#net/index.js";
import { type AccountingEvent, listenForAccounting, type RadiusListener } from "#radius/index.js";
import { SecurityError, subscriberIdentity, type SubscriberIdentity } from "#security/index.js";
import { type Verdict, verifyPeerCertificates } from "#x509/index.js";
import { readAnchors } from "./pem-files.js";
import type { IdentitiesConfig, IdentitySource, StaticIdentity } from "./proxy-config.js";

/** Who the clients of a proxy are, by what their DTLS proves, by a list, and by RADIUS accounting. */
export class ClientIdentities {
  #config: IdentitiesConfig;
  #anchors: readonly Uint8Array[];
  readonly #radius: RadiusListener<SubscriberIdentity> | undefined;
  /** Names that a connection's certificate proves. */
  #names = new WeakMap<CoapConnection, Promise<readonly string[]>>();

  private constructor(
    config: IdentitiesConfig,
    anchors: readonly Uint8Array[],
    radius: RadiusListener<SubscriberIdentity> | undefined,
  ) {
    this.#config = config;
    this.#anchors = anchors;
    this.#radius = radius;
  }

  /** @throws X509Error for anchors that do not serve; NetError NET_PORT_IN_USE and those of binding. */
  static async open(
    config: IdentitiesConfig,
    ca: string | undefined,
    onRadius: (event: AccountingEvent) => void,
  ): Promise<ClientIdentities> {
    const anchors = readAnchors(ca);
    const radius = config.radius === undefined ? undefined : await listenForAccounting(config.radius, onRadius);
    return new ClientIdentities(config, anchors, radius);
  }

  get radiusAddress(): { readonly address: string; readonly port: number } | undefined {
    return this.#radius?.address;
  }

  /** Takes others in place of those before; RADIUS goes on as it was. @throws X509Error, changing nothing. */
  replace(config: IdentitiesConfig, ca: string | undefined): void {
    this.#anchors = readAnchors(ca);
    this.#config = config;
    this.#names = new WeakMap();
  }

  /** Whether a client's chain leads to an anchor. */
  verify(certificates: readonly Uint8Array[]): Promise<Verdict> {
    return verifyPeerCertificates(certificates, { anchors: this.#anchors, purpose: "clientAuth", atMs: Date.now() });
  }

  /** The identity of the first source that knows the client now. */
  async of(connection: CoapConnection): Promise<SubscriberIdentity | undefined> {
    let names = this.#names.get(connection);
    if (names === undefined) this.#names.set(connection, (names = this.#namesOf(connection)));
    const proved = await names;
    for (const source of this.#config.sources) {
      const identity = this.#from(source, connection, proved);
      if (identity !== undefined) return identity;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await this.#radius?.close();
  }

  async #namesOf(connection: CoapConnection): Promise<readonly string[]> {
    const { certificates = [] } = connection.peerInfo ?? {};
    const verdict = certificates.length === 0 ? undefined : await this.verify(certificates);
    if (verdict?.ok !== true) return [];
    const names = verdict.sans.map(({ value }) => value);
    return verdict.commonName === undefined ? names : [...names, verdict.commonName];
  }

  #from(source: IdentitySource, connection: CoapConnection, names: readonly string[]): SubscriberIdentity | undefined {
    switch (source) {
      case "static":
        return this.#config.static.find((one) => isClient(one, connection, names))?.identity;
      case "dtls":
        return this.#proved(connection, names);
      case "radius":
        return this.#radius?.identityOf(connection.remoteAddress.address);
    }
  }

  /** The PSK identity, or the first name of the certificate that has the form. */
  #proved(connection: CoapConnection, names: readonly string[]): SubscriberIdentity | undefined {
    const { psk, certificate } = this.#config.dtls;
    const pskIdentity = pskIdentityOf(connection);
    if (pskIdentity !== undefined) return inForm(psk, pskIdentity);
    for (const name of names) {
      const identity = inForm(certificate, name);
      if (identity !== undefined) return identity;
    }
    return undefined;
  }
}

function isClient(
  { psk, certificate, address }: StaticIdentity,
  connection: CoapConnection,
  names: readonly string[],
): boolean {
  if (psk !== undefined) return pskIdentityOf(connection) === psk;
  if (certificate !== undefined) return names.includes(certificate);
  const bytes = parseIpAddress(connection.remoteAddress.address);
  return address !== undefined && bytes !== undefined && isInPrefix(bytes, address);
}

function pskIdentityOf(connection: CoapConnection): string | undefined {
  const identity = connection.peerInfo?.pskIdentity;
  return identity === undefined ? undefined : identityText(identity);
}

/** A PSK identity as text: what is not UTF-8, or begins with a mark that is left out, could be taken for another one. */
export function identityText(identity: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(identity);
  } catch {
    return undefined;
  }
}

function inForm(form: SubscriberIdentity["form"], value: string): SubscriberIdentity | undefined {
  try {
    return subscriberIdentity(form, value);
  } catch (error) {
    if (error instanceof SecurityError) return undefined;
    throw error;
  }
}
