import { execFile } from "node:child_process";
import { CODE, OPTION, Options, type ResponseMessage } from "#coap/index.js";
import { ConfigError, parseConfig } from "#config/index.js";
import { BINDING_OPTION, BINDING_OPTION_FORMATS, CONTENT_FORMAT } from "#dpe/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import { authErrorOf, encodeSubscriberIdentity, type ExternalIdentities, subscriberIdentity } from "#security/index.js";
import { encodePack } from "#senml/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { Store } from "#store/index.js";
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

    const observing = await answeringDevice(t, "127.0.0.21", server);
    t.is((await observing.register("pi-3", ["dpe2=association"])).code, CODE.Created);
    const observation = await server.observe("pi-3", "temperature");

    await account(server, `Acct-Status-Type=Stop,${session}`);
    await t.throwsAsync(observation[Symbol.asyncIterator]().next(), { code: "COAP_PEER_CLOSED" });
    await t.throwsAsync(server.query("pi-3", "temperature"), { code: "DPE_NOT_REACHABLE" });
    t.is(observing.asked.length, 1);
    t.is(authErrorOf(await register("pi-1")), "credentials-required");
    const told = events.flatMap((event) => (event.type === "radius" ? [event.event] : []));
    t.like(told[0], { status: "start", identity: "262011234567890", addresses: ["127.0.0.21"] });
    t.like(told[1], { status: "stop", outcome: { type: "ended" } });

    // Known to the network, but no subscriber of this server.
    await account(server, `Acct-Status-Type=Start,${session.replace("A1", "A2")},3GPP-IMSI="999999999999999"`);
    t.is(authErrorOf(await register("pi-1")), "not-authorized");
  },
);

/** Addresses as a network would know them, and a way to change them. */
function network() {
  const owners = new Map<string, string>();
  const external: ExternalIdentities = {
    knowsAddresses: true,
    ofAddress: (address) => {
      const imsi = owners.get(address);
      return imsi === undefined ? undefined : subscriberIdentity("imsi", imsi);
    },
    mayInsert: () => false,
  };
  return { owners, external };
}

/** A plain device at an address of its own, which answers DPE-2 and says when it was asked. */
async function answeringDevice(t: ExecutionContext, host: string, server: DpeServer) {
  const asked: string[] = [];
  const properties: ResponseMessage = {
    code: CODE.Content,
    options: Options.none.with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor),
    payload: encodePack([{ name: "temperature", value: 21 }], "cbor"),
  };
  const endpoint = new CoapEndpoint({
    optionFormats: BINDING_OPTION_FORMATS,
    onRequest: (request) => {
      asked.push(request.options.uriPath.join("/"));
      if (request.options.observe !== 0) return properties;
      return { ...properties, observe: () => () => undefined };
    },
  });
  t.teardown(() => endpoint.close());
  const socket = await UdpSocket.bind({ host });
  const connection = endpoint.addSocket(socket).connectTo({ address: "127.0.0.1", port: server.addresses.coap!.port });
  const register = (name: string, query: readonly string[] = []): Promise<ResponseMessage> =>
    connection.request({
      code: CODE.POST,
      options: Options.none.withAll(OPTION.UriPath, ["dpe1", "reg"]).withAll(OPTION.UriQuery, [`ep=${name}`, ...query]),
      payload: new Uint8Array(0),
    });
  return { asked, register, port: socket.address.port };
}

test("R14 when the network's session ends, observations of its subscriber end and nothing more is sent to the address", async (t) => {
  const events: ServerEvent[] = [];
  const { owners, external } = network();
  const parsed = parseConfig(config(`external: { ${RADIUS} }`), "server.yaml", SERVER_SCHEMA);
  const server = await DpeServer.start(parsed, (event) => events.push(event), { external });
  t.teardown(() => server.close());
  owners.set("127.0.0.31", "262011234567890");
  const device = await answeringDevice(t, "127.0.0.31", server);
  t.is((await device.register("pi-1", ["dpe2=association"])).code, CODE.Created);
  t.is((await server.query("pi-1", "temperature"))[0]?.value, 21);
  const observation = await server.observe("pi-1", "temperature");
  t.is(device.asked.length, 2);

  // The address is another subscriber's from now on, whose device would be read and set in the first one's name.
  owners.set("127.0.0.31", "262010000000001");
  await t.throwsAsync(server.query("pi-1", "temperature"), { code: "DPE_NOT_REACHABLE" });
  server.networkChanged();
  await t.throwsAsync(
    (async () => {
      for await (const notification of observation) t.fail(String(notification.code));
    })(),
    { code: "COAP_PEER_CLOSED" },
  );
  t.like(events.at(-1), {
    type: "association-ended",
    cause: "the network does not have alice at this address any more",
  });
  await t.throwsAsync(server.query("pi-1", "temperature"), { code: "DPE_NOT_REACHABLE" });
  t.is(device.asked.length, 2);
  t.is(authErrorOf(await device.register("pi-1", ["dpe2=association"])), "not-authorized", "the name is alice's still");

  owners.set("127.0.0.31", "262011234567890");
  t.is((await device.register("pi-1", ["dpe2=association"])).code, CODE.Created);
  t.is((await server.query("pi-1", "temperature"))[0]?.value, 21);
});

test("R14 an address that a client listens on is asked while the network has its subscriber there, after a restart too", async (t) => {
  const { owners, external } = network();
  const store = await Store.open({ type: "memory" });
  t.teardown(() => store.close());
  const parsed = parseConfig(config(`external: { ${RADIUS} }`), "server.yaml", SERVER_SCHEMA);
  const first = await DpeServer.start(parsed, undefined, { external, store });
  owners.set("127.0.0.32", "262011234567890");
  const device = await answeringDevice(t, "127.0.0.32", first);
  t.is((await device.register("pi-2", [`dpe2=coap://127.0.0.32:${device.port}`])).code, CODE.Created);
  t.is((await first.query("pi-2", "temperature"))[0]?.value, 21);
  owners.delete("127.0.0.32");
  await t.throwsAsync(first.query("pi-2", "temperature"), { code: "DPE_NOT_REACHABLE" });
  await first.close();
  const second = await DpeServer.start(parsed, undefined, { external, store });
  t.teardown(() => second.close());
  await t.throwsAsync(second.query("pi-2", "temperature"), { code: "DPE_NOT_REACHABLE" });
  owners.set("127.0.0.32", "262011234567890");
  t.is((await second.query("pi-2", "temperature"))[0]?.value, 21);
  t.is(device.asked.length, 2);
});

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
