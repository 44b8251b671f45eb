import { generateKeyShare } from "../crypto/key-exchange.js";
import { verifyData } from "../crypto/key-schedule.js";
import { schemeServesKey, SIGNATURE_SCHEMES, type SignatureSchemeName, signWith } from "../crypto/signatures.js";
import type { ResolvedClientOptions } from "../options.js";
import { encodeCertificate } from "../wire/certificate.js";
import { encodeCertificateVerify } from "../wire/certificate-verify.js";
import { encodeClientKeyExchange } from "../wire/client-key-exchange.js";
import { encodeFinished } from "../wire/finished.js";
import { HANDSHAKE_TYPES } from "../wire/handshake-header.js";
import type { ServerFlight } from "./client-state.js";
import type { HandshakeChannel } from "./handshake-driver.js";
import { agreeOnKeys } from "./key-agreement.js";
import { encodeCredential, type OwnCredential, ownCredential } from "./own-credential.js";

/**
 * The client's answer to ServerHelloDone: [Certificate], ClientKeyExchange, [CertificateVerify], ChangeCipherSpec,
 * Finished. Gives the master secret, which is the caller's to wipe. `identity`: with the PSK suites.
 */
export function sendClientFlight(
  server: ServerFlight,
  identity: Uint8Array | undefined,
  options: ResolvedClientOptions,
  channel: HandshakeChannel,
  now: number,
): Uint8Array {
  const { params } = server;
  channel.startFlight();
  const proof = addCertificate(server, options, channel);
  const share = params === undefined ? undefined : generateKeyShare(params.group);
  const ecdhSecret = params === undefined ? undefined : share?.sharedSecret(params.publicKey);
  const keyExchange = {
    ...(identity === undefined ? {} : { pskIdentity: identity }),
    ...(share === undefined ? {} : { publicKey: share.publicKey }),
  };
  channel.add(HANDSHAKE_TYPES.client_key_exchange, encodeClientKeyExchange(keyExchange));
  const master = agreeOnKeys(server, { psk: options.psk?.key, ecdhSecret }, channel);
  if (proof !== undefined) {
    const { scheme } = proof;
    const signature = signWith(scheme, proof.credential.privateKey, channel.transcript.bytes());
    const signed = { scheme: SIGNATURE_SCHEMES[scheme].id, signature };
    channel.add(HANDSHAKE_TYPES.certificate_verify, encodeCertificateVerify(signed));
  }
  channel.addChangeCipherSpec();
  const finished = verifyData(master, "client", channel.transcript.hash());
  channel.add(HANDSHAKE_TYPES.finished, encodeFinished(finished), 1);
  channel.allowChangeCipherSpec();
  channel.sendFlight(now);
  return master;
}

/** If asked, a Certificate: ours, or an empty one when none serves (RFC 5246 §7.4.6). */
function addCertificate(
  { requestedSchemes, terms }: ServerFlight,
  options: ResolvedClientOptions,
  channel: HandshakeChannel,
): { readonly credential: OwnCredential; readonly scheme: SignatureSchemeName } | undefined {
  if (requestedSchemes === undefined) return undefined;
  const credential = ownCredential(terms.clientCertificateType, options);
  const scheme =
    credential &&
    options.signatureSchemes.find(
      (name) => requestedSchemes.includes(SIGNATURE_SCHEMES[name].id) && schemeServesKey(name, credential.privateKey),
    );
  if (credential === undefined || scheme === undefined) {
    channel.add(HANDSHAKE_TYPES.certificate, encodeCertificate([]));
    return undefined;
  }
  channel.add(HANDSHAKE_TYPES.certificate, encodeCredential(credential));
  return { credential, scheme };
}
