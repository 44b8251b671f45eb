import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createStoredCredential } from "#digest/index.js";
import { type Subscriber, Subscribers } from "#security/index.js";
import {
  type Credentials,
  loadCredentials,
  loadTrustAnchors,
  type Verdict,
  verifyPeerCertificates,
} from "#x509/index.js";
import type { ServerConfig, SubscriberConfig } from "./server-config.js";

/** Subscribers and connection keys of a configuration, in the form that the protocols ask for them. */
export class ServerCredentials {
  readonly subscribers: Subscribers;
  /** The server's own certificate, where it has one. */
  readonly certificate: Credentials | undefined;
  readonly #connectionKeys: ReadonlyMap<string, Uint8Array>;
  readonly #clientAnchors: readonly Uint8Array[];
  /** Names of the certificates verified of late, by the leaf's hash, oldest first. */
  readonly #verifiedNames = new Map<string, readonly string[]>();

  /** @throws X509Error for a certificate, key or anchor file that does not serve. */
  constructor(config: ServerConfig) {
    const { certificate, key, ca } = config.credentials;
    this.certificate =
      certificate === undefined || key === undefined
        ? undefined
        : loadCredentials(readFileSync(certificate, "utf8"), key.text());
    this.#clientAnchors = ca === undefined ? [] : loadTrustAnchors(readFileSync(ca, "utf8"));
    const { algorithms } = config.interfaces.dpe1.digest;
    this.subscribers = new Subscribers(
      config.subscribers.map((subscriber) => toSubscriber(subscriber, config.realm, algorithms)),
    );
    this.#connectionKeys = new Map(config.credentials.psk.map(({ identity, key }) => [identity, key.reveal()]));
  }

  get hasPsk(): boolean {
    return this.#connectionKeys.size > 0 || this.subscribers.hasPsk;
  }

  /** The key of a PSK identity: a subscriber's own, or one that secures the connection only. */
  pskOf(identity: Uint8Array): Uint8Array | undefined {
    return (
      this.subscribers.ofPskIdentity(identity)?.psk?.key ?? this.#connectionKeys.get(TEXT_DECODER.decode(identity))
    );
  }

  /** Whether a client's chain leads to an anchor; keeps the names that it proves. */
  async verify(certificates: readonly Uint8Array[]): Promise<Verdict> {
    const verdict = await verifyPeerCertificates(certificates, {
      anchors: this.#clientAnchors,
      purpose: "clientAuth",
      atMs: Date.now(),
    });
    const [leaf] = certificates;
    if (verdict.ok && leaf !== undefined) {
      const names = verdict.sans.map(({ value }) => value);
      const key = hashOf(leaf);
      this.#verifiedNames.delete(key);
      this.#verifiedNames.set(key, verdict.commonName === undefined ? names : [...names, verdict.commonName]);
      for (const oldest of this.#verifiedNames.keys()) {
        if (this.#verifiedNames.size <= MAX_VERIFIED_NAMES) break;
        this.#verifiedNames.delete(oldest);
      }
    }
    return verdict;
  }

  /** The names that a verified certificate proves: its subjectAltNames, then its common name. */
  namesOf(leaf: Uint8Array): readonly string[] {
    return this.#verifiedNames.get(hashOf(leaf)) ?? [];
  }
}

function hashOf(certificate: Uint8Array): string {
  return createHash("sha256").update(certificate).digest("base64");
}

function toSubscriber(
  config: SubscriberConfig,
  realm: string,
  algorithms: ServerConfig["interfaces"]["dpe1"]["digest"]["algorithms"],
): Subscriber {
  const { name, password, psk, certificates, identities, endpoints, interfaces } = config;
  return {
    name,
    ...(password === undefined
      ? {}
      : { digest: createStoredCredential({ username: name, realm, password: password.text() }, algorithms) }),
    ...(psk === undefined ? {} : { psk: { identity: TEXT_ENCODER.encode(psk.identity), key: psk.key.reveal() } }),
    ...(certificates === undefined ? {} : { certificateNames: certificates }),
    ...(identities === undefined ? {} : { identities }),
    ...(endpoints === undefined ? {} : { endpoints }),
    ...(interfaces === undefined ? {} : { interfaces }),
  };
}

const MAX_VERIFIED_NAMES = 10_000;
const TEXT_ENCODER = new TextEncoder();
const TEXT_DECODER = new TextDecoder();
