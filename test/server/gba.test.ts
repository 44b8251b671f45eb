import { randomBytes } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { AGENT_SCHEMA, DpeAgent } from "#agent/index.js";
import { CODE, formatCode, OPTION, Options, type ResponseMessage } from "#coap/index.js";
import { ConfigError, parseConfig } from "#config/index.js";
import { DigestClient } from "#digest/index.js";
import { BINDING_OPTION_FORMATS } from "#dpe/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import { authErrorOf, ClientAuthenticator, gbaRealm } from "#security/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const NAF = "naf.example.net";
const BTID = "3fT6k1vL8y0bWQe5Jm9zXA==@bsf.example.net";
const KS_NAF = Buffer.alloc(32, 7).toString("base64");

const config = (resolver: string, more = ""): string => `
realm: 3GPP-bootstrapping@${NAF}
gba: { resolver: "${resolver}", naf: ${NAF}, ${more} }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0 }, connection: none, clientAuthentication: [digest] }
subscribers:
  - { name: alice, identities: ["imsi:262011234567890"], endpoints: ["pi-*"] }
  - { name: bob, password: secret }
`;

/** A server whose resolver answers as `handle` does. */
async function serve(t: ExecutionContext, handle: (btid: string, response: ServerResponse) => void) {
  const asked: string[] = [];
  const http = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (part: string) => (text += part));
    request.on("end", () => {
      const { btid } = JSON.parse(text) as { btid: string };
      asked.push(btid);
      handle(btid, response);
    });
  });
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
  const { port } = http.address() as AddressInfo;
  const server = await DpeServer.start(parseConfig(config(`http://127.0.0.1:${port}/`), "server.yaml", SERVER_SCHEMA));
  t.teardown(async () => {
    await server.close();
    http.closeAllConnections();
    http.close();
  });
  return { server, asked };
}

/** A device that answers challenges with these credentials. */
async function device(t: ExecutionContext, server: DpeServer, username: string, password: string) {
  const secret = { username, password, realm: gbaRealm(NAF) };
  const authenticator = new ClientAuthenticator(new DigestClient({ secret, random: randomBytes }));
  const endpoint = new CoapEndpoint({
    optionFormats: BINDING_OPTION_FORMATS,
    onSend: (message, _connection, send) => authenticator.send(message, send),
  });
  t.teardown(() => endpoint.close());
  const connection = endpoint
    .addSocket(await UdpSocket.bind({ host: "127.0.0.1" }))
    .connectTo({ address: "127.0.0.1", port: server.addresses.coap!.port });
  return (name: string): Promise<ResponseMessage> => {
    const options = Options.none.withAll(OPTION.UriPath, ["dpe1", "reg"]).withAll(OPTION.UriQuery, [`ep=${name}`]);
    return connection.request({ code: CODE.POST, options, payload: new Uint8Array(0) });
  };
}

const known = (_btid: string, response: ServerResponse): void => {
  response.end(JSON.stringify({ ksNaf: KS_NAF, lifetime: 60, identity: "imsi:262011234567890" }));
};

test("R15 a bootstrapped credential authenticates its subscriber, and is asked for once", async (t) => {
  const { server, asked } = await serve(t, known);
  const register = await device(t, server, BTID, KS_NAF);
  t.is((await register("pi-1")).code, CODE.Created);
  t.is((await server.store.registrations.page({ limit: 10 }, Date.now()))[0]?.subscriber, "alice");
  t.is(authErrorOf(await register("other")), "not-authorized", "an endpoint name that is not alice's");
  t.deepEqual(asked, [BTID]);
  const wrong = await device(t, server, BTID, Buffer.alloc(32, 8).toString("base64"));
  t.is(authErrorOf(await wrong("pi-1")), "invalid-credentials");
  t.deepEqual(asked, [BTID]);
  const bob = await device(t, server, "bob", "secret");
  t.is((await bob("b")).code, CODE.Created, "passwords go on in the same realm");
});

test("R15 an agent with a bootstrapped credential registers, and answers in the realm of its server alone", async (t) => {
  const { server } = await serve(t, known);
  const start = (naf: string): DpeAgent => {
    const agent = new DpeAgent(
      parseConfig(
        `
endpoint: pi-1
server: coap://127.0.0.1:${server.addresses.coap!.port}
interfaces:
  dpe1:
    connection: none
    serverAuthentication: none
    credentials: { gba: { btid: "${BTID}", ksNaf: "${KS_NAF}", naf: ${naf} } }
`,
        "agent.yaml",
        AGENT_SCHEMA,
      ),
      [],
    );
    t.teardown(() => agent.close());
    return agent;
  };
  const refused = await t.throwsAsync(start("other.example.net").stopped);
  t.like(refused, { code: "SECURITY_AUTHENTICATION_REFUSED" });
  t.is(await server.store.registrations.count(), 0);
  start(NAF);
  await until(async () => (await server.store.registrations.count()) > 0);
  t.is((await server.store.registrations.page({ limit: 10 }, Date.now()))[0]?.subscriber, "alice");
});

test("R15 an unknown B-TID is refused as a wrong credential is, and never asked for without an answer to a challenge", async (t) => {
  const { server, asked } = await serve(t, (_btid, response) => response.writeHead(404).end());
  const register = await device(t, server, BTID, KS_NAF);
  t.is(authErrorOf(await register("pi-1")), "invalid-credentials");
  t.is(authErrorOf(await register("pi-1")), "invalid-credentials");
  t.deepEqual(asked, [BTID]);
});

test("a resolver that fails closes the door for a while and blocks nobody else", async (t) => {
  const waiting: ServerResponse[] = [];
  let arrived: () => void = () => undefined;
  const { server } = await serve(t, (_btid, response) => {
    waiting.push(response);
    arrived();
  });
  const held = (await device(t, server, BTID, KS_NAF))("pi-1");
  while (waiting.length === 0) await new Promise<void>((resolve) => (arrived = resolve));
  const bob = await device(t, server, "bob", "secret");
  t.is((await bob("b")).code, CODE.Created);
  waiting[0]?.writeHead(500).end();
  const outage = await held;
  t.is(formatCode(outage.code), "5.03");
  t.is(authErrorOf(outage), undefined);
  t.true((outage.options.maxAge ?? 0) > 0);
  t.is(await server.store.registrations.count(), 1);
});

test("a wrong section gba is refused with file, line and key", (t) => {
  const faultOf = (text: string): string => {
    try {
      parseConfig(text, "server.yaml", SERVER_SCHEMA);
      return "none";
    } catch (error) {
      return error instanceof ConfigError ? error.message : String(error);
    }
  };
  t.is(faultOf(config("https://bsf.example.net/ks")), "none");
  t.regex(faultOf(config("http://bsf.example.net/ks")), /server\.yaml:3:\d+ gba\.resolver: an https:\/\/ URL/);
  t.regex(faultOf(config("nonsense")), /gba\.resolver/);
  t.regex(faultOf(config("https://x.example", "maxLookups: 0")), /gba\.maxLookups: expected a whole number/);
  t.regex(
    faultOf(config("https://x.example").replace("realm: 3GPP-bootstrapping@", "realm: ")),
    /server\.yaml:2:\d+ realm: with gba, clients are challenged in the realm of the NAF; write realm: 3GPP/,
  );
});
