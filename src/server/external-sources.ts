import { type IpPrefix, isInPrefix, parseIpAddress } from "#ip/index.js";
import { type AccountingEvent, listenForAccounting, type RadiusConfig, type RadiusListener } from "#radius/index.js";
import type { AssociationFacts, ExternalIdentities, SubscriberIdentity } from "#security/index.js";

/** What is known of subscribers from outside of DPE, as configured: by RADIUS accounting, and who may insert identities. */
export class ExternalSources implements ExternalIdentities {
  readonly #proxies: readonly ProxyConfig[];
  readonly #radius: RadiusListener<SubscriberIdentity> | undefined;

  private constructor(proxies: readonly ProxyConfig[], radius: RadiusListener<SubscriberIdentity> | undefined) {
    this.#proxies = proxies;
    this.#radius = radius;
  }

  /** @throws NetError NET_PORT_IN_USE and those of binding. */
  static async open(config: ExternalConfig, onRadius: (event: AccountingEvent) => void): Promise<ExternalSources> {
    const radius = config.radius === undefined ? undefined : await listenForAccounting(config.radius, onRadius);
    return new ExternalSources(config.proxies, radius);
  }

  /** Where RADIUS accounting is taken. */
  get radiusAddress(): { readonly address: string; readonly port: number } | undefined {
    return this.#radius?.address;
  }

  get knowsAddresses(): boolean {
    return this.#radius !== undefined;
  }

  ofAddress(address: string): SubscriberIdentity | undefined {
    return this.#radius?.identityOf(address);
  }

  mayInsert({ identity, address }: AssociationFacts): boolean {
    return this.#proxies.some((proxy) => {
      if (proxy.psk !== undefined) return identity?.pskIdentity === proxy.psk;
      if (proxy.certificate !== undefined) return identity?.certificateNames?.includes(proxy.certificate) === true;
      const bytes = parseIpAddress(address);
      return bytes !== undefined && proxy.address !== undefined && isInPrefix(bytes, proxy.address);
    });
  }

  async close(): Promise<void> {
    await this.#radius?.close();
  }
}

/** The section `external` of an interface. */
export interface ExternalConfig {
  readonly radius?: RadiusConfig | undefined;
  readonly proxies: readonly ProxyConfig[];
}

/** A peer that may insert Subscriber-Identity, known by one of these; an address proves little, and only by policy. */
export interface ProxyConfig {
  readonly psk?: string | undefined;
  /** A subjectAltName of its certificate, or the common name. */
  readonly certificate?: string | undefined;
  readonly address?: IpPrefix | undefined;
}
