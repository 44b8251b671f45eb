import { execFile } from "node:child_process";
import { CODE, OPTION, Options, type ResponseMessage } from "#coap/index.js";
import { ConfigError, parseConfig } from "#config/index.js";
import { BINDING_OPTION, BINDING_OPTION_FORMATS } from "#dpe/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import { authErrorOf, encodeSubscriberIdentity, subscriberIdentity } from "#security/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { testWith } from "#testing/peer-process.js";
import test, { type ExecutionContext } from "ava";

const RADIUS = `radius: { listen: 0, clients: [{ address: 127.0.0.1, secret: testing123 }], identity: 3GPP-IMSI, form: imsi }`;

const config = (external: string): string => `
interfaces:
  dpe1:
    listen: { host: 0.0.0.0, coap: 0 }
    connection: none
    clientAuthentication: [external]
    ${external}
subscribers:
  - { name: alice, identities: ["imsi:262011234567890"], endpoints: ["pi-*"] }
  - { name: bob, identities: ["imsi:262010000000001"] }
`;

async function serve(t: ExecutionContext, external: string) {
  const events: ServerEvent[] = [];
  const server = await DpeServer.start(parseConfig(config(external), "server.yaml", SERVER_SCHEMA), (event) =>
    events.push(event),
  );
  t.teardown(() => server.close());
  return { server, events };
}

/** A plain CoAP device with an address of its own. */
async function device(t: ExecutionContext, host: string, server: DpeServer) {
  const endpoint = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  const connection = endpoint
    .addSocket(await UdpSocket.bind({ host }))
    .connectTo({ address: "127.0.0.1", port: server.addresses.coap!.port });
  t.teardown(() => endpoint.close());
  return (name: string, extra: Options = Options.none): Promise<ResponseMessage> => {
    const options = Options.of([
      ...Options.none.withAll(OPTION.UriPath, ["dpe1", "reg"]).withAll(OPTION.UriQuery, [`ep=${name}`]),
      ...extra,
    ]);
    return connection.request({ code: CODE.POST, options, payload: new Uint8Array(0) });
  };
}

function account(server: DpeServer, attributes: string): Promise<string> {
  return new Promise((resolve) => {
    const words = ["-r", "2", "-t", "3", `127.0.0.1:${server.addresses.radius!.port}`, "acct", "testing123"];
    const child = execFile("radclient", ["-x", ...words], { timeout: 20_000 }, (_error, stdout, stderr) =>
      resolve(`${stdout}${stderr}`),
    );
    child.stdin?.end(`${attributes}\n`);
  });
}

testWith(
  "radclient",
  "R06 R14 a plain device is served as the subscriber that RADIUS has at its address, and refused after Stop",
  async (t) => {
    const { server, events } = await serve(t, `external: { ${RADIUS} }`);
    const register = await device(t, "127.0.0.21", server);
    const elsewhere = await device(t, "127.0.0.22", server);
    const session = 'Acct-Session-Id="A1",NAS-Identifier="gw",Framed-IP-Address=127.0.0.21';
    t.is(authErrorOf(await register("pi-1")), "credentials-required");

    const answer = await account(server, `Acct-Status-Type=Start,${session},3GPP-IMSI="262011234567890"`);
    t.regex(answer, /Received Accounting-Response/);
    t.is((await register("pi-1")).code, CODE.Created);
    t.is((await server.store.registrations.page({ limit: 10 }, Date.now()))[0]?.subscriber, "alice");
    t.is(authErrorOf(await register("other")), "not-authorized", "an endpoint name that is not alice's");
    t.is(authErrorOf(await elsewhere("pi-2")), "credentials-required");

    await account(server, `Acct-Status-Type=Stop,${session}`);
    t.is(authErrorOf(await register("pi-1")), "credentials-required");
    const told = events.flatMap((event) => (event.type === "radius" ? [event.event] : []));
    t.like(told[0], { status: "start", identity: "262011234567890", addresses: ["127.0.0.21"] });
    t.like(told[1], { status: "stop", outcome: { type: "ended" } });

    // Known to the network, but no subscriber of this server.
    await account(server, `Acct-Status-Type=Start,${session.replace("A1", "A2")},3GPP-IMSI="999999999999999"`);
    t.is(authErrorOf(await register("pi-1")), "not-authorized");
  },
);

test("R14 a Subscriber-Identity counts from a listed proxy's address, and is refused from any other", async (t) => {
  const { server, events } = await serve(t, "external: { proxies: [{ address: 127.0.0.24/30 }] }");
  const inserted = Options.none.with(
    BINDING_OPTION.SubscriberIdentity,
    encodeSubscriberIdentity(subscriberIdentity("imsi", "262010000000001")),
  );
  t.is((await (await device(t, "127.0.0.25", server))("b", inserted)).code, CODE.Created);
  t.is((await server.store.registrations.page({ limit: 10 }, Date.now()))[0]?.subscriber, "bob");
  const direct = await device(t, "127.0.0.29", server);
  const refused = await direct("b", inserted);
  t.is(refused.code, CODE.Forbidden);
  t.is(authErrorOf(refused), "untrusted-identity");
  t.like(events.at(-1), { type: "authentication-error", error: "untrusted-identity" });
});

test("a wrong section external is refused with file, line and key", (t) => {
  const faultOf = (external: string): string => {
    try {
      parseConfig(config(external), "server.yaml", SERVER_SCHEMA);
      return "none";
    } catch (error) {
      return error instanceof ConfigError ? error.message : String(error);
    }
  };
  for (const [external, expected] of [
    ["", /server\.yaml:4:\d+ interfaces\.dpe1: clientAuthentication external needs the section external/],
    ["external: {}", /server\.yaml:7:\d+ interfaces\.dpe1\.external: needs radius, proxies or both/],
    ["external: { proxies: [{ psk: a, address: 10.0.0.1 }] }", /external\.proxies\[0\]: a proxy is known by one of/],
    ["external: { proxies: [{ address: 10.0.0.1/8 }] }", /proxies\[0\]\.address: expected an IP address, or a prefix/],
    ["external: { radius: { secret: a, identity: User-Name } }", /external\.radius\.form/],
    ["external: { radius: { secret: a, identity: Username, form: nai } }", /radius\.identity.*User-Name/],
    ["external: { radius: { identity: User-Name, form: nai } }", /radius: give either clients/],
    [
      "external: { radius: { secret: a, identity: User-Name, form: nai, maxSessions: 0 } }",
      /maxSessions: expected a whole/,
    ],
    [
      "external: { radius: { secret: a, identity: User-Name, form: nai, sessionTimout: 5m } }",
      /did you mean "sessionTimeout"/,
    ],
  ] as const) {
    t.regex(faultOf(external), expected);
  }
  t.is(faultOf(`external: { ${RADIUS} }`), "none");
});
