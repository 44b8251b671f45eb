import { type CoapConnection, type CoapEndpoint, DtlsSession, formatAddress } from "#net/index.js";
import { type Subscriber, Subscribers } from "#security/index.js";
import type { CertificateFaultAlert } from "#x509/index.js";
import { keptTrust } from "./kept-trust.js";
import type { PeerFacts } from "./peer-facts.js";
import type { ServerCredentials } from "./server-credentials.js";
import type { ServerEvent } from "./server-event.js";

/**
 * Which associations may go on when credentials have changed. Each ends at once whose certificate is not valid any more,
 * whose key is another now, or whose subscriber is gone or changed.
 */
export class AssociationReview {
  readonly #parts: ReviewParts;

  constructor(parts: ReviewParts) {
    this.#parts = parts;
  }

  /** To be called before credentials change: what it gives ends, after the change, what may not go on, and counts it. */
  begin(): () => Promise<number> {
    const { coap, onEvent } = this.#parts;
    const connections = [...coap.connections].filter(({ isSecure }) => isSecure);
    const keys = new Map(connections.map((connection) => [connection, this.#keyOf(connection)]));
    return async () => {
      let ended = 0;
      for (const connection of connections) {
        const end = await this.#endOf(connection, keys.get(connection));
        if (end === undefined || connection.isClosed) continue;
        ended++;
        onEvent({ type: "association-ended", peer: formatAddress(connection.remoteAddress), cause: end.cause });
        if (connection.transport instanceof DtlsSession) connection.transport.abort(end.alert, end.cause);
        else void connection.close();
      }
      return ended;
    };
  }

  /** Ends the associations of subscribers, as they were before they changed or went, and what Digest bound to them. */
  endOf(former: readonly Subscriber[]): void {
    if (former.length === 0) return;
    const { coap, facts } = this.#parts;
    const subscribers = new Subscribers(former);
    for (const connection of coap.connections) {
      // What was never heard of yet is worked out as it was.
      const known = facts.lastOf(connection) ?? facts.workOut(connection, subscribers);
      const { psk, certificate, rawPublicKey, digestSubscriber } = known;
      const isConcerned = [psk, certificate, rawPublicKey, digestSubscriber].some(
        (one) => typeof one === "object" && subscribers.named(one.name) !== undefined,
      );
      if (isConcerned) void connection.close();
    }
  }

  /** Why an association may not go on with the credentials of now. */
  async #endOf(
    connection: CoapConnection,
    key: Uint8Array | undefined,
  ): Promise<{ readonly alert: CertificateFaultAlert | "access_denied"; readonly cause: string } | undefined> {
    const { credentials } = this.#parts;
    const now = this.#keyOf(connection);
    const isSameKey = key === undefined ? now === undefined : now !== undefined && Buffer.compare(key, now) === 0;
    if (!isSameKey) return { alert: "access_denied", cause: "the pre-shared key has changed" };
    const { certificates = [] } = connection.peerInfo ?? {};
    if (certificates.length === 0) {
      // Of a certificate from before a restart only the hash is left: it goes on while what it was trusted for is the same.
      const { transport } = connection;
      const isKept = transport instanceof DtlsSession && transport.peer?.certificateHash !== undefined;
      return isKept && keptTrust(transport, credentials, Date.now()) === undefined
        ? { alert: "certificate_unknown", cause: "trust has changed since the restart" }
        : undefined;
    }
    let verdict = await credentials.verify(certificates);
    // An agent that this server dialled has shown its certificate as a server.
    if (!verdict.ok && verdict.cause === "wrong-usage") verdict = await credentials.verify(certificates, "serverAuth");
    return verdict.ok ? undefined : { alert: verdict.alert, cause: verdict.reason };
  }

  #keyOf(connection: CoapConnection): Uint8Array | undefined {
    const identity = connection.peerInfo?.pskIdentity;
    return identity === undefined ? undefined : this.#parts.credentials.pskOf(identity);
  }
}

export interface ReviewParts {
  readonly coap: CoapEndpoint;
  readonly credentials: ServerCredentials;
  readonly facts: PeerFacts;
  readonly onEvent: (event: ServerEvent) => void;
}
