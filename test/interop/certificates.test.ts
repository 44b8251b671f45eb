import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CODE, OPTION, Options } from "#coap/index.js";
import { CoapEndpoint, connect, listen } from "#net/index.js";
import { freePort, PeerProcess, testWith } from "#testing/peer-process.js";
import { issueThrowawayCredentials, loadCredentials, loadTrustAnchors, verifyPeerCertificates } from "#x509/index.js";
import type { ExecutionContext } from "ava";

/** A server's and a client's certificate under one CA, as files for the peer. */
async function makeFiles(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), "dpe-interop-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const atMs = Date.now();
  const server = await issueThrowawayCredentials({
    commonName: "localhost",
    purpose: "serverAuth",
    atMs,
    dns: ["localhost"],
    ip: ["127.0.0.1"],
  });
  const { authority } = server;
  const client = await issueThrowawayCredentials({
    commonName: "alice",
    purpose: "clientAuth",
    atMs,
    dns: ["alice"],
    authority,
  });
  const file = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };
  return {
    ca: file("ca.pem", authority.certificatePem),
    server: { certificate: file("server.pem", server.certificatePem), key: file("server.key", server.privateKeyPem) },
    client: { certificate: file("client.pem", client.certificatePem), key: file("client.key", client.privateKeyPem) },
  };
}

const credentialsOf = ({ certificate, key }: { readonly certificate: string; readonly key: string }) =>
  loadCredentials(readFileSync(certificate, "utf8"), readFileSync(key, "utf8"));

for (const library of ["openssl", "gnutls"] as const) {
  testWith(
    `libcoap-${library}`,
    `coap-client-${library} and our server authenticate each other by certificate`,
    async (t) => {
      const files = await makeFiles(t);
      const anchors = loadTrustAnchors(readFileSync(files.ca, "utf8"));
      const coap = new CoapEndpoint({
        onRequest: (_request, connection) => ({
          code: CODE.Content,
          options: Options.none,
          payload: new TextEncoder().encode(`certificates: ${connection.peerInfo?.certificates?.length ?? 0}`),
        }),
      });
      const endpoint = await listen((session) => coap.addSession(session), {
        host: "127.0.0.1",
        server: { certificate: credentialsOf(files.server), clientCertificate: "require" },
        verify: (certificates) =>
          verifyPeerCertificates(certificates, { anchors, purpose: "clientAuth", atMs: Date.now() }),
      });
      t.teardown(async () => {
        await coap.close();
        await endpoint.close();
      });
      const identity = ["-c", files.client.certificate, "-j", files.client.key, "-C", files.ca];
      const uri = `coaps://127.0.0.1:${endpoint.address.port}/x`;
      const output = await PeerProcess.run(t, `coap-client-${library}`, [...identity, "-B", "10", "-m", "get", uri]);
      t.regex(output, /certificates: [12]/);
    },
  );

  testWith(
    `libcoap-${library}`,
    `our client and coap-server-${library} authenticate each other by certificate`,
    async (t) => {
      const files = await makeFiles(t);
      const anchors = loadTrustAnchors(readFileSync(files.ca, "utf8"));
      const port = await freePort();
      const identity = ["-c", files.server.certificate, "-j", files.server.key, "-C", files.ca];
      const listening = ["-A", "127.0.0.1", "-p", String(port), "-v", "7"];
      const peer = PeerProcess.start(t, `coap-server-${library}`, [...identity, ...listening]);
      await peer.printed("created DTLS endpoint");
      const session = await connect(
        { host: "127.0.0.1", port: port + 1 },
        {
          certificate: credentialsOf(files.client),
          verify: (certificates) =>
            verifyPeerCertificates(certificates, {
              anchors,
              purpose: "serverAuth",
              atMs: Date.now(),
              name: { type: "ip", address: "127.0.0.1" },
            }),
        },
      );
      const peerInfo = await session.opened;
      t.truthy(peerInfo.certificates);
      const endpoint = new CoapEndpoint();
      const connection = endpoint.addSession(session);
      const response = await connection.request({
        code: CODE.GET,
        options: Options.none.with(OPTION.UriPath, "time"),
        payload: new Uint8Array(0),
      });
      t.is(response.code, CODE.Content);
      await connection.close();
      await endpoint.close();
    },
  );
}
