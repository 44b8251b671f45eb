import { keepPublicKey } from "../crypto/certificate-key.js";
import { groupById, type GroupName } from "../crypto/key-exchange.js";
import { schemeById, type SignatureSchemeName, verifyWith } from "../crypto/signatures.js";
import { DtlsError } from "../errors.js";
import { encodeServerEcdhParams, type ServerKeyExchange } from "../wire/server-key-exchange.js";
import { concat, copyOf } from "../wire/writer.js";
import type { EcdhParams, ServerFlight } from "./client-state.js";

/** @throws DtlsError DTLS_ILLEGAL_PARAMETER */
export function checkedParams({ params }: ServerKeyExchange, groups: readonly GroupName[]): EcdhParams {
  const group = params === undefined ? undefined : groupById(params.group);
  if (params === undefined || group === undefined || !groups.includes(group)) {
    throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "a group that was not offered");
  }
  return { group, publicKey: copyOf(params.publicKey) };
}

/** RFC 8422 §5.4: over both randoms and the parameters. @throws DtlsError DTLS_ILLEGAL_PARAMETER, DTLS_BAD_SIGNATURE */
export function checkSignature(
  server: ServerFlight,
  { params, signature }: ServerKeyExchange,
  schemes: readonly SignatureSchemeName[],
): SignatureSchemeName {
  const scheme = signature === undefined ? undefined : schemeById(signature.scheme);
  if (signature === undefined || scheme === undefined || !schemes.includes(scheme)) {
    throw new DtlsError("DTLS_ILLEGAL_PARAMETER", "a signature scheme that was not offered");
  }
  if (params === undefined || server.credential === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR");
  const content = concat(server.clientRandom, server.serverRandom, encodeServerEcdhParams(params));
  if (!verifyWith(scheme, server.credential.publicKey, content, signature.signature))
    throw new DtlsError("DTLS_BAD_SIGNATURE");
  const leaf = server.credential.certificates?.[0];
  if (leaf !== undefined) keepPublicKey(leaf, server.credential.publicKey);
  return scheme;
}
