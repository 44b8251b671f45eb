import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { CODE, Options } from "#coap/index.js";
import { CoapEndpoint, listen, UdpSocket } from "#net/index.js";
import { PAYLOAD } from "./workload.js";

/**
 * The server that is measured: a tiny resource at any path, on coaps by PSK and by certificate, and on coap.
 * Arguments: identity, key, certificate file, its key's file. Prints its coaps and coap ports.
 */
const [identity = "", key = "", certificateFile = "", keyFile = ""] = process.argv.slice(2);
const answer = { code: CODE.Content, options: Options.none, payload: new TextEncoder().encode(PAYLOAD) };
const server = new CoapEndpoint({ onRequest: () => answer });
const text = new TextDecoder();
const secure = await listen((session) => server.addSession(session), {
  host: "127.0.0.1",
  server: {
    pskEnabled: true,
    certificate: {
      chain: [new Uint8Array(new X509Certificate(readFileSync(certificateFile)).raw)],
      privateKey: createPrivateKey(readFileSync(keyFile)),
    },
  },
  pskOf: (asked) => (text.decode(asked) === identity ? new TextEncoder().encode(key) : undefined),
});
const plain = await UdpSocket.bind({ host: "127.0.0.1" });
server.addSocket(plain);
process.stdout.write(`${secure.address.port} ${plain.address.port}\n`);
