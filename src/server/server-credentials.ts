import { createStoredCredential } from "#digest/index.js";
import { type Subscriber, Subscribers } from "#security/index.js";
import type { ServerConfig, SubscriberConfig } from "./server-config.js";

/** Subscribers and connection keys of a configuration, in the form that the protocols ask for them. */
export class ServerCredentials {
  readonly subscribers: Subscribers;
  readonly #connectionKeys: ReadonlyMap<string, Uint8Array>;

  constructor(config: ServerConfig) {
    const { algorithms } = config.interfaces.dpe1.digest;
    this.subscribers = new Subscribers(
      config.subscribers.map((subscriber) => toSubscriber(subscriber, config.realm, algorithms)),
    );
    this.#connectionKeys = new Map(config.credentials.psk.map(({ identity, key }) => [identity, key.reveal()]));
  }

  /** The key of a PSK identity: a subscriber's own, or one that secures the connection only. */
  pskOf(identity: Uint8Array): Uint8Array | undefined {
    return (
      this.subscribers.ofPskIdentity(identity)?.psk?.key ?? this.#connectionKeys.get(TEXT_DECODER.decode(identity))
    );
  }
}

function toSubscriber(
  config: SubscriberConfig,
  realm: string,
  algorithms: ServerConfig["interfaces"]["dpe1"]["digest"]["algorithms"],
): Subscriber {
  const { name, password, psk, endpoints, interfaces } = config;
  return {
    name,
    ...(password === undefined
      ? {}
      : { digest: createStoredCredential({ username: name, realm, password: password.text() }, algorithms) }),
    ...(psk === undefined ? {} : { psk: { identity: TEXT_ENCODER.encode(psk.identity), key: psk.key.reveal() } }),
    ...(endpoints === undefined ? {} : { endpoints }),
    ...(interfaces === undefined ? {} : { interfaces }),
  };
}

const TEXT_ENCODER = new TextEncoder();
const TEXT_DECODER = new TextDecoder();
