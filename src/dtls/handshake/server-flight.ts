import { GROUPS } from "../crypto/key-exchange.js";
import { SIGNATURE_SCHEMES, signWith } from "../crypto/signatures.js";
import { usesPsk } from "../crypto/suites.js";
import { DtlsError } from "../errors.js";
import type { ResolvedServerOptions } from "../options.js";
import { CLIENT_CERTIFICATE_TYPES, encodeCertificateRequest } from "../wire/certificate-request.js";
import { DTLS_1_2 } from "../wire/record.js";
import { encodeServerHello } from "../wire/server-hello.js";
import { encodeServerEcdhParams, encodeServerKeyExchange } from "../wire/server-key-exchange.js";
import { concat } from "../wire/writer.js";
import type { Choice } from "./negotiation.js";
import type { Hellos } from "./server-state.js";

export function composeServerHello(
  hellos: Hellos,
  sessionId: Uint8Array,
  extensions: Map<number, Uint8Array>,
): Uint8Array {
  return encodeServerHello({
    version: DTLS_1_2,
    random: hellos.serverRandom,
    sessionId,
    cipherSuite: hellos.suite.id,
    compressionMethod: 0,
    extensions,
  });
}

/** Undefined where the suite has none: PSK without a hint (RFC 4279 §2). */
export function composeServerKeyExchange(
  hellos: Hellos,
  { suite, signatureScheme, credential }: Choice,
  hint: Uint8Array | undefined,
): Uint8Array | undefined {
  const { share, clientRandom, serverRandom } = hellos;
  if (share === undefined) return hint && encodeServerKeyExchange({ pskIdentityHint: hint });
  const params = { group: GROUPS[share.group].id, publicKey: share.publicKey };
  if (usesPsk(suite)) return encodeServerKeyExchange({ pskIdentityHint: hint ?? new Uint8Array(0), params });
  const key = credential?.privateKey;
  if (key === undefined || signatureScheme === undefined) throw new DtlsError("DTLS_INTERNAL_ERROR");
  const content = concat(clientRandom, serverRandom, encodeServerEcdhParams(params));
  const signature = signWith(signatureScheme, key, content);
  return encodeServerKeyExchange({ params, signature: { scheme: SIGNATURE_SCHEMES[signatureScheme].id, signature } });
}

export function composeCertificateRequest({
  signatureSchemes,
  certificateAuthorities,
}: ResolvedServerOptions): Uint8Array {
  const types = new Set(
    signatureSchemes.map((name) =>
      SIGNATURE_SCHEMES[name].keyType === "rsa"
        ? CLIENT_CERTIFICATE_TYPES.rsa_sign
        : CLIENT_CERTIFICATE_TYPES.ecdsa_sign,
    ),
  );
  return encodeCertificateRequest({
    certificateTypes: [...types],
    signatureSchemes: signatureSchemes.map((name) => SIGNATURE_SCHEMES[name].id),
    certificateAuthorities,
  });
}
