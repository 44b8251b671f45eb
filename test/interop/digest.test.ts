import { createSocket } from "node:dgram";
import { parseConfig } from "#config/index.js";
import { BINDING_OPTION } from "#dpe/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import coapPacket from "coap-packet";
import { answerChallenge } from "../peers/independent-digest.js";

const REGISTER = { method: "POST", uri: "/dpe1/reg?ep=pi-libcoap" };

/** The challenge to a request without credentials, asked for with coap-packet. */
function challengeOf(port: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    socket.once("message", (message) => {
      socket.close();
      const option = coapPacket
        .parse(message)
        .options?.find(({ name }) => Number(name) === BINDING_OPTION.DigestChallenge);
      if (option === undefined) reject(new Error("no challenge"));
      else resolve(option.value);
    });
    const request = coapPacket.generate({
      code: "POST",
      confirmable: true,
      messageId: 1,
      options: [
        { name: "Uri-Path", value: Buffer.from("dpe1") },
        { name: "Uri-Path", value: Buffer.from("reg") },
        { name: "Uri-Query", value: Buffer.from("ep=pi-libcoap") },
      ],
    });
    socket.send(request, port, "127.0.0.1");
  });
}

testWith(
  "libcoap-notls",
  "R07 libcoap's client completes a Digest-protected registration with options computed independently",
  async (t) => {
    const config = `
realm: interop
interfaces:
  dpe1:
    listen: { host: 127.0.0.1, coap: 0 }
    connection: none
    clientAuthentication: [digest]
subscribers: [{ name: alice, password: secret }]
`;
    const events: ServerEvent[] = [];
    const server = await DpeServer.start(parseConfig(config, "server.yaml", SERVER_SCHEMA), (event) =>
      events.push(event),
    );
    t.teardown(() => server.close());
    const { port } = server.addresses.coap!;
    const register = async (password: string): Promise<string> => {
      const authorization = answerChallenge(await challengeOf(port), REGISTER, { username: "alice", password });
      const pack = '[{"n":"temperature","u":"Cel","v":21.5}]';
      const option = `${BINDING_OPTION.DigestAuthorization},0x${Buffer.from(authorization).toString("hex")}`;
      const uri = `coap://127.0.0.1:${port}${REGISTER.uri}`;
      return PeerProcess.run(t, "coap-client-notls", [
        "-m",
        "post",
        "-B",
        "5",
        "-t",
        "110",
        "-e",
        pack,
        "-O",
        option,
        uri,
      ]);
    };
    const refused = await register("wrong");
    t.regex(refused, /4\.01/);
    t.like(events.at(-1), { type: "authentication-error", error: "invalid-credentials" });
    t.is(await server.store.registrations.count(), 0);

    const accepted = await register("secret");
    t.notRegex(accepted, /4\.\d\d/);
    t.is(await server.store.registrations.count(), 1);
    t.is((await server.store.registrations.ofEndpoint("pi-libcoap", Date.now()))?.subscriber, "alice");
    t.like((await server.store.properties.latest("pi-libcoap"))[0], { name: "temperature", unit: "Cel", value: 21.5 });
  },
);
