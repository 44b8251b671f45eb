import { extendedMasterSecret, keyBlock, masterSecret, pskPremasterSecret } from "../crypto/key-schedule.js";
import { type CipherSuite, usesEcdhe, usesPsk } from "../crypto/suites.js";
import { DtlsError } from "../errors.js";
import type { HandshakeChannel } from "./handshake-driver.js";

/** What both hellos settled. */
export interface Negotiated {
  readonly suite: CipherSuite;
  readonly clientRandom: Uint8Array;
  readonly serverRandom: Uint8Array;
  readonly extendedMasterSecret: boolean;
  /** Whether the peer's records carry a connection identifier of ours. */
  readonly hasConnectionId: boolean;
  /** RFC 9853. */
  readonly returnRoutabilityCheck: boolean;
  readonly applicationProtocol: string | undefined;
}

/**
 * From both sides' secrets to the master secret; the keys of epoch 1 go to the record layer. The transcript must end
 * with ClientKeyExchange (RFC 7627 §3).
 */
export function agreeOnKeys(
  negotiated: Negotiated,
  secrets: { readonly psk?: Uint8Array | undefined; readonly ecdhSecret?: Uint8Array | undefined },
  channel: HandshakeChannel,
): Uint8Array {
  const { suite, clientRandom, serverRandom } = negotiated;
  const premaster = premasterSecret(suite, secrets.psk, secrets.ecdhSecret);
  const isForwardSecret = usesEcdhe(suite);
  const master = negotiated.extendedMasterSecret
    ? extendedMasterSecret(premaster, channel.transcript.hash(), isForwardSecret)
    : masterSecret(premaster, clientRandom, serverRandom, isForwardSecret);
  premaster.fill(0);
  installSessionKeys(negotiated, master, channel);
  return master;
}

/** The keys of a session: its master secret with the randoms of now, also where it is resumed (RFC 5246 §6.3, F.1.4). */
export function installSessionKeys(
  { suite, clientRandom, serverRandom }: Negotiated,
  master: Uint8Array,
  channel: HandshakeChannel,
): void {
  channel.installKeys(suite, keyBlock(master, clientRandom, serverRandom, usesEcdhe(suite)));
}

function premasterSecret(suite: CipherSuite, psk?: Uint8Array, ecdhSecret?: Uint8Array): Uint8Array {
  if (usesPsk(suite)) {
    if (psk === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR", "no pre-shared key");
    return pskPremasterSecret(psk, ecdhSecret);
  }
  if (ecdhSecret === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR", "no ECDH secret");
  return ecdhSecret;
}
