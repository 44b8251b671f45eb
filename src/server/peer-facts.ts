import { randomBytes } from "node:crypto";
import { canonicalIpAddress } from "#ip/index.js";
import { type CoapConnection, DtlsSession, formatAddress } from "#net/index.js";
import { type AssociationFacts, type LowerLayerIdentity, type Subscribers } from "#security/index.js";
import { certificateKeyFingerprint, keyFingerprint } from "#x509/index.js";
import { keptTrust } from "./kept-trust.js";
import type { ServerCredentials } from "./server-credentials.js";

/** What is known of each connection, worked out when it is first heard of. */
export class PeerFacts {
  readonly #credentials: ServerCredentials;
  readonly #facts = new WeakMap<CoapConnection, WorkedOut>();

  constructor(credentials: ServerCredentials) {
    this.#credentials = credentials;
  }

  of(peer: CoapConnection): AssociationFacts {
    const known = this.#facts.get(peer);
    const { generation } = this.#credentials;
    // A session with a connection identifier may have moved. What Digest bound to it stays, also when credentials change.
    if (known?.generation === generation && known.facts.peer === formatAddress(peer.remoteAddress)) return known.facts;
    return this.#renew(peer, known?.facts, generation);
  }

  /** As they were worked out last, though credentials may have changed since. */
  lastOf(peer: CoapConnection): AssociationFacts | undefined {
    return this.#facts.get(peer)?.facts;
  }

  #renew(peer: CoapConnection, known: AssociationFacts | undefined, generation: number): AssociationFacts {
    const { binding, digestExpiresAt } = known ?? {};
    const bound = known?.digestSubscriber;
    // Whoever changed is another: with the subscriber that Digest bound, the binding ends.
    const isBound = bound !== undefined && this.#credentials.subscribers.named(bound.name) === bound;
    const digestSubscriber = isBound ? bound : undefined;
    const now = this.workOut(peer, this.#credentials.subscribers, known?.identity?.certificateNames);
    const externalSubscriber = known?.address === now.address ? known.externalSubscriber : undefined;
    const facts = {
      ...now,
      ...(binding === undefined ? {} : { binding }),
      ...(digestSubscriber === undefined ? {} : { digestSubscriber }),
      ...(digestExpiresAt === undefined ? {} : { digestExpiresAt }),
      ...(externalSubscriber === undefined ? {} : { externalSubscriber }),
    };
    this.#facts.set(peer, { facts, generation });
    return facts;
  }

  /** What they are by those subscribers; nothing is kept of it. `namesKnown`: of its certificate, which stays the same. */
  workOut(peer: CoapConnection, subscribers: Subscribers, namesKnown?: readonly string[]): AssociationFacts {
    const { address } = peer.remoteAddress;
    const facts = { address: canonicalIpAddress(address) ?? address, peer: formatAddress(peer.remoteAddress) };
    if (!peer.isSecure) return { ...facts, connection: "none" };
    const pskIdentity = peer.peerInfo?.pskIdentity;
    const leaf = peer.peerInfo?.certificates?.[0];
    const names = leaf === undefined ? this.#namesKept(peer) : (namesKnown ?? this.#credentials.namesOf(leaf));
    const rawPublicKey = peer.peerInfo?.rawPublicKey;
    const fingerprint =
      rawPublicKey === undefined ? leaf && certificateKeyFingerprint(leaf) : keyFingerprint(rawPublicKey);
    const ofKey = fingerprint === undefined ? undefined : subscribers.ofKeyFingerprint(fingerprint);
    const identity: LowerLayerIdentity = {
      ...(pskIdentity === undefined ? {} : { pskIdentity: TEXT_DECODER.decode(pskIdentity) }),
      ...(names === undefined ? {} : { certificateNames: names }),
      ...(fingerprint === undefined ? {} : { keyFingerprint: fingerprint }),
    };
    return {
      ...facts,
      connection: "dtls",
      binding: randomBytes(BINDING_BYTES),
      identity,
      ...(pskIdentity === undefined ? {} : { psk: subscribers.ofPskIdentity(pskIdentity) ?? "unknown" }),
      ...(names === undefined ? {} : { certificate: subscribers.ofCertificateNames(names) ?? ofKey ?? "unknown" }),
      ...(rawPublicKey === undefined ? {} : { rawPublicKey: ofKey ?? "unknown" }),
    };
  }

  /** After a restart the certificate itself is not known any more. */
  #namesKept({ transport }: CoapConnection): readonly string[] | undefined {
    if (!(transport instanceof DtlsSession) || transport.peer?.certificateHash === undefined) return undefined;
    return keptTrust(transport, this.#credentials, Date.now())?.names;
  }
}

interface WorkedOut {
  readonly facts: AssociationFacts;
  /** Of the credentials that they were worked out of. */
  readonly generation: number;
}

const BINDING_BYTES = 16;
const TEXT_DECODER = new TextDecoder();
