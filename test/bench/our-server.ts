import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { CODE, Options } from "#coap/index.js";
import { CoapEndpoint, listen, UdpSocket } from "#net/index.js";
import { verifyPeerCertificates } from "#x509/index.js";
import { PAYLOAD } from "./workload.js";

/**
 * The server that is measured: a tiny resource at any path, on coaps by PSK and by certificate, and on coap.
 * Arguments: identity, key, certificate file, its key's file, and an anchor's, if clients shall show certificates. Prints
 * its coaps and coap ports; then, for each line that it reads, how many bytes are alive after a collection.
 */
const [identity = "", key = "", certificateFile = "", keyFile = "", anchorFile] = process.argv.slice(2);
const answer = { code: CODE.Content, options: Options.none, payload: new TextEncoder().encode(PAYLOAD) };
const server = new CoapEndpoint({ onRequest: () => answer });
const keyBytes = new TextEncoder().encode(key);
const der = (file: string): Uint8Array => new Uint8Array(new X509Certificate(readFileSync(file)).raw);
const anchors = anchorFile === undefined ? [] : [der(anchorFile)];
const secure = await listen((session) => server.addSession(session), {
  host: "127.0.0.1",
  server: {
    pskEnabled: true,
    certificate: { chain: [der(certificateFile)], privateKey: createPrivateKey(readFileSync(keyFile)) },
    ...(anchorFile === undefined ? {} : { clientCertificate: "require" }),
  },
  // As `dpe server` finds keys: by a text of the identity, the key at hand.
  pskOf: (asked) => (Buffer.from(asked).toString("latin1") === identity ? keyBytes : undefined),
  verify: (chain) => verifyPeerCertificates(chain, { anchors, purpose: "clientAuth", atMs: Date.now() }),
});
const plain = await UdpSocket.bind({ host: "127.0.0.1" });
server.addSocket(plain);
process.stdout.write(`${secure.address.port} ${plain.address.port}\n`);
process.stdin.on("data", () => {
  // Twice: what the first one finds finalizable is freed by the second.
  for (let i = 0; i < 2; i++) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  process.stdout.write(`${heapUsed + external}\n`);
});
