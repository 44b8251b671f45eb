import { CODE, OPTION, Options } from "#coap/index.js";
import { CoapEndpoint, connect, listen } from "#net/index.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { makeCertificateFiles } from "./certificate-files.js";

for (const library of ["openssl", "gnutls"] as const) {
  testWith(
    `libcoap-${library}`,
    `coap-client-${library} and our server authenticate each other by certificate`,
    async (t) => {
      const files = await makeCertificateFiles(t);
      const coap = new CoapEndpoint({
        onRequest: (_request, connection) => ({
          code: CODE.Content,
          options: Options.none,
          payload: new TextEncoder().encode(`certificates: ${connection.peerInfo?.certificates?.length ?? 0}`),
        }),
      });
      const endpoint = await listen((session) => coap.addSession(session), {
        host: "127.0.0.1",
        server: { certificate: files.server.credentials, clientCertificate: "require" },
        verify: files.verifyClient,
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
      const files = await makeCertificateFiles(t);
      const port = await freePort();
      const identity = ["-c", files.server.certificate, "-j", files.server.key, "-C", files.ca];
      const listening = ["-A", "127.0.0.1", "-p", String(port), "-v", "7"];
      const peer = PeerProcess.start(t, `coap-server-${library}`, [...identity, ...listening]);
      await peer.printed("created DTLS endpoint");
      const session = await connect(
        { host: "127.0.0.1", port: port + 1 },
        {
          certificate: files.client.credentials,
          verify: files.verifyServer,
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
