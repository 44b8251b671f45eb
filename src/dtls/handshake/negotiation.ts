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
  let lacksSignature = false;
  /** Looked for once, and only for suites that need it: plain PSK needs none of it. */
  let common: Common | undefined;
  for (const name of options.cipherSuites) {
    const suite = suiteByName(name);
    if (!hello.cipherSuites.includes(suite.id) || (usesPsk(suite) && !options.pskEnabled)) continue;
    if (!usesEcdhe(suite)) return { suite };
    common ??= findCommon(hello, options);
    const { group, credential, signatureScheme } = common;
    if (group === undefined) continue;
    if (usesPsk(suite)) return { suite, group };
    const key = credential?.privateKey;
    if (credential === undefined || key === undefined || !keyServes(suite, key) || !clientTakesCurve(hello, key))
      continue;
    if (signatureScheme !== undefined) return { suite, credential, group, signatureScheme };
    lacksSignature = true;
  }
  throw new DtlsError(lacksSignature ? "DTLS_NO_COMMON_SIGNATURE" : "DTLS_NO_COMMON_SUITE");
}

/** What the suites with ECDHE and certificates need in common. */
interface Common {
  readonly group: GroupName | undefined;
  readonly credential: OwnCredential | undefined;
  readonly signatureScheme: SignatureSchemeName | undefined;
}

function findCommon(hello: ClientHello, options: ResolvedServerOptions): Common {
  const credential = chooseCredential(hello, options);
  const key = credential?.privateKey;
  return {
    group: commonGroup(hello, options),
    credential,
    signatureScheme: key === undefined ? undefined : commonScheme(hello, options, key),
  };
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
