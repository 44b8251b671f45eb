import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Credentials,
  issueThrowawayCredentials,
  loadCredentials,
  loadTrustAnchors,
  type VerifyPeerCertificatesOptions,
  type Verdict,
  verifyPeerCertificates,
} from "#x509/index.js";
import type { ExecutionContext } from "ava";

/** A server's and a client's ECDSA certificate under one CA: files for the peer, and the same loaded for our side. */
export interface CertificateFiles {
  readonly folder: string;
  readonly ca: string;
  readonly server: IdentityFiles;
  readonly client: IdentityFiles;
  /** For `verify` of our side: a client's certificate, or a server's that names 127.0.0.1. */
  readonly verifyClient: (certificates: readonly Uint8Array[]) => Promise<Verdict>;
  readonly verifyServer: (certificates: readonly Uint8Array[]) => Promise<Verdict>;
}

export interface IdentityFiles {
  readonly certificate: string;
  readonly key: string;
  readonly credentials: Credentials;
}

/** Makes the files in a folder that is removed with the test. */
export async function makeCertificateFiles(t: ExecutionContext): Promise<CertificateFiles> {
  const folder = mkdtempSync(join(tmpdir(), "dpe-interop-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const atMs = Date.now();
  const named = { dns: ["localhost"], ip: ["127.0.0.1"] };
  const server = await issueThrowawayCredentials({ commonName: "localhost", purpose: "serverAuth", atMs, ...named });
  const { authority } = server;
  const alice = { commonName: "alice", purpose: "clientAuth", atMs, dns: ["alice"], authority } as const;
  const client = await issueThrowawayCredentials(alice);
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  const identity = (name: string, issued: typeof server): IdentityFiles => {
    const certificate = write(`${name}.pem`, issued.certificatePem);
    const key = write(`${name}.key`, issued.privateKeyPem);
    return { certificate, key, credentials: loadCredentials(readFileSync(certificate, "utf8"), issued.privateKeyPem) };
  };
  const anchors = loadTrustAnchors(authority.certificatePem);
  const verify =
    (expected: Pick<VerifyPeerCertificatesOptions, "purpose" | "name">) =>
    (certificates: readonly Uint8Array[]): Promise<Verdict> =>
      verifyPeerCertificates(certificates, { anchors, atMs: Date.now(), ...expected });
  return {
    folder,
    ca: write("ca.pem", authority.certificatePem),
    server: identity("server", server),
    client: identity("client", client),
    verifyClient: verify({ purpose: "clientAuth" }),
    verifyServer: verify({ purpose: "serverAuth", name: { type: "ip", address: "127.0.0.1" } }),
  };
}
