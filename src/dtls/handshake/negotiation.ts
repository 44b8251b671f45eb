import type { KeyObject } from "node:crypto";
import { groupById, type GroupName } from "../crypto/key-exchange.js";
import { curveOf, keyTypeOf, schemeById, schemeServesKey, type SignatureSchemeName } from "../crypto/signatures.js";
import { type CipherSuite, suiteByName, usesEcdhe, usesPsk } from "../crypto/suites.js";
import { DtlsError } from "../errors.js";
import type { ResolvedServerOptions } from "../options.js";
import { decodeCertificateTypes } from "../wire/certificate-type.js";
import type { ClientHello } from "../wire/client-hello.js";
import { decodeIdList, decodePointFormats, EXTENSION_TYPES, UNCOMPRESSED_POINT } from "../wire/extensions.js";

import { ownCertificateTypes, type OwnCredential, ownCredential } from "./own-credential.js";

/** What a server chose of a ClientHello's offer: the first suite, in its own order, that everything needed is common for. */
export interface Choice {
  readonly suite: CipherSuite;
  /** With the certificate suites. */
  readonly credential?: OwnCredential;
  readonly group?: GroupName;
  readonly signatureScheme?: SignatureSchemeName;
}

/** @throws DtlsError DTLS_NO_COMMON_SUITE, DTLS_NO_COMMON_SIGNATURE, DTLS_DECODE_ERROR */
export function chooseSuite(hello: ClientHello, options: ResolvedServerOptions): Choice {
  const group = commonGroup(hello, options);
  const credential = chooseCredential(hello, options);
  const key = credential?.privateKey;
  const signatureScheme = key === undefined ? undefined : commonScheme(hello, options, key);
  let lacksSignature = false;
  for (const suite of options.cipherSuites.map(suiteByName)) {
    if (!hello.cipherSuites.includes(suite.id)) continue;
    if (usesEcdhe(suite) && group === undefined) continue;
    if (usesPsk(suite)) {
      if (!options.pskEnabled) continue;
      return usesEcdhe(suite) && group !== undefined ? { suite, group } : { suite };
    }
    if (credential === undefined || key === undefined || !keyServes(suite, key) || !clientTakesCurve(hello, key))
      continue;
    if (group !== undefined && signatureScheme !== undefined) return { suite, credential, group, signatureScheme };
    lacksSignature = true;
  }
  throw new DtlsError(lacksSignature ? "DTLS_NO_COMMON_SIGNATURE" : "DTLS_NO_COMMON_SUITE");
}

/** Of the types that the client takes, in its order, the first that we have (RFC 7250 §4.2). */
function chooseCredential(hello: ClientHello, options: ResolvedServerOptions): OwnCredential | undefined {
  const data = hello.extensions.get(EXTENSION_TYPES.server_certificate_type);
  const own = ownCertificateTypes(options);
  const type = (data === undefined ? (["X.509"] as const) : decodeCertificateTypes(data)).find((one) =>
    own.includes(one),
  );
  return type && ownCredential(type, options);
}

/** Without the extension the choice is the server's (RFC 8422 §5.1). */
function commonGroup(hello: ClientHello, options: ResolvedServerOptions): GroupName | undefined {
  const formats = hello.extensions.get(EXTENSION_TYPES.ec_point_formats);
  if (formats !== undefined && !decodePointFormats(formats).includes(UNCOMPRESSED_POINT)) return undefined;
  const offered = offeredGroups(hello);
  if (offered === undefined) return options.groups.includes("secp256r1") ? "secp256r1" : options.groups[0];
  return options.groups.find((group) => offered.includes(group));
}

function offeredGroups(hello: ClientHello): (GroupName | undefined)[] | undefined {
  const data = hello.extensions.get(EXTENSION_TYPES.supported_groups);
  return data === undefined ? undefined : decodeIdList(data).map(groupById);
}

/** Without the extension a client means SHA-1 (RFC 5246 §7.4.1.4.1), which is not served. */
function commonScheme(
  hello: ClientHello,
  options: ResolvedServerOptions,
  key: KeyObject,
): SignatureSchemeName | undefined {
  const data = hello.extensions.get(EXTENSION_TYPES.signature_algorithms);
  if (data === undefined) return undefined;
  const offered = decodeIdList(data).map(schemeById);
  return options.signatureSchemes.find((scheme) => offered.includes(scheme) && schemeServesKey(scheme, key));
}

function keyServes(suite: CipherSuite, key: KeyObject): boolean {
  const type = keyTypeOf(key);
  return suite.keyExchange === "ecdhe_rsa" ? type === "rsa" : type === "ec" || type === "ed25519";
}

/** supported_groups limits the curve of the certificate, too (RFC 8422 §5.3). */
function clientTakesCurve(hello: ClientHello, key: KeyObject): boolean {
  const curve = curveOf(key);
  const offered = offeredGroups(hello);
  return curve === undefined || offered === undefined || offered.includes(curve);
}
