import { CODE, Options } from "#coap/index.js";
import { CoapEndpoint, listen, UdpSocket } from "#net/index.js";

/** The server that is measured: a tiny resource at any path. Prints its coaps and coap ports. */
const [identity = "", key = ""] = process.argv.slice(2);
const answer = { code: CODE.Content, options: Options.none, payload: new TextEncoder().encode("hello") };
const server = new CoapEndpoint({ onRequest: () => answer });
const text = new TextDecoder();
const secure = await listen((session) => server.addSession(session), {
  host: "127.0.0.1",
  server: { pskEnabled: true },
  pskOf: (asked) => (text.decode(asked) === identity ? new TextEncoder().encode(key) : undefined),
});
const plain = await UdpSocket.bind({ host: "127.0.0.1" });
server.addSocket(plain);
process.stdout.write(`${secure.address.port} ${plain.address.port}\n`);
