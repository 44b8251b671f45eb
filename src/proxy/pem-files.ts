import { readFileSync } from "node:fs";
import type { Secret } from "#config/index.js";
import { inFile, loadCredentials, loadTrustAnchors } from "#x509/index.js";

/** Trust anchors in a file, DER; none without one. @throws X509Error that begins with its name. */
export function readAnchors(ca: string | undefined): readonly Uint8Array[] {
  return ca === undefined ? [] : inFile(ca, () => loadTrustAnchors(readFileSync(ca, "utf8")));
}

/** The proxy's own certificate with its key, where it has one. @throws X509Error that begins with the names of their files. */
export function ownCertificateOf({
  certificate,
  key,
}: {
  readonly certificate?: string | undefined;
  readonly key?: Secret | undefined;
}): ReturnType<typeof loadCredentials> | undefined {
  if (certificate === undefined || key === undefined) return undefined;
  const files = key.path === undefined ? certificate : `${certificate} with ${key.path}`;
  return inFile(files, () => loadCredentials(readFileSync(certificate, "utf8"), key.text()));
}
