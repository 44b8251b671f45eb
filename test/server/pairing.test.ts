import { AGENT_SCHEMA, type AgentConfig, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { CoapError, CODE, OPTION, Options } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { BINDING_OPTION, BINDING_OPTION_FORMATS, CONTENT_FORMAT, DpeError } from "#dpe/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import { authErrorOf } from "#security/index.js";
import { encodePack } from "#senml/index.js";
import { DpeServer, recordsOf, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import test, { type ExecutionContext } from "ava";

const KEY = "000102030405060708090a0b0c0d0e0f";

interface Policy {
  readonly dpe1: string;
  readonly dpe2?: string;
}

async function serve(t: ExecutionContext, { dpe1, dpe2 = "{}" }: Policy) {
  const events: ServerEvent[] = [];
  const waiting = new Set<() => void>();
  const config = `
realm: test
credentials: { psk: [{ identity: fleet, key: "hex:${KEY}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0, coaps: 0 }, ${dpe1} }
  dpe2: ${dpe2}
subscribers:
  - { name: alice, password: secret, endpoints: ["pi-*"] }
  - { name: bob, password: secret2, endpoints: ["pi-*"] }
  - { name: bench, psk: { identity: bench, key: "hex:ff${KEY.slice(2)}" }, endpoints: ["bench-*"] }
`;
  const server = await DpeServer.start(parseConfig(config, "server.yaml", SERVER_SCHEMA), (event) => {
    events.push(event);
    for (const wake of waiting) wake();
  });
  t.teardown(() => server.close());
  const until = (isWanted: (event: ServerEvent) => boolean): Promise<ServerEvent> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = events.find((event) => isWanted(event));
        if (found === undefined) return;
        waiting.delete(look);
        resolve(found);
      };
      waiting.add(look);
      look();
    });
  return { server, events, until };
}

function configure(
  server: DpeServer,
  endpoint: string,
  options: { readonly scheme?: "coap" | "coaps"; readonly credentials?: string; readonly dpe2?: string } = {},
): AgentConfig {
  const { scheme = "coaps", credentials = "username: alice, password: secret", dpe2 = "{}" } = options;
  const isSecure = scheme === "coaps";
  const psk = credentials.includes("psk") || !isSecure ? "" : `, psk: { identity: fleet, key: "hex:${KEY}" }`;
  const inner = `${credentials}${psk}`.replace(/^, /, "");
  const config = `
endpoint: ${endpoint}
server: ${scheme}://127.0.0.1:${server.addresses[scheme]!.port}
interfaces:
  dpe1: { connection: ${isSecure ? "dtls" : "none"}, serverAuthentication: ${isSecure ? "psk" : "none"}, credentials: { ${inner} } }
  dpe2: ${dpe2}
`;
  return parseConfig(config, "agent.yaml", AGENT_SCHEMA);
}

function thermometer(everyMs = 1000): Source {
  let reading = 20;
  return {
    name: "thermometer",
    everyMs,
    read: () =>
      Promise.resolve([
        { name: "temperature", unit: "Cel", value: reading++ },
        { name: "model", value: "test" },
      ]),
  };
}

function start(t: ExecutionContext, config: AgentConfig, source = thermometer()) {
  const events: AgentEvent[] = [];
  const agent = new DpeAgent(config, [source], (event) => events.push(event));
  t.teardown(() => agent.close());
  return { agent, events };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "no failure";
  } catch (error) {
    return error instanceof DpeError || error instanceof CoapError ? error.code : String(error);
  }
}

test("R07 R18 an agent registers over DTLS with Digest, reports, answers DPE-2 and deregisters", async (t) => {
  const { server, until } = await serve(t, { dpe1: "connection: dtls, clientAuthentication: [digest]" });
  const { agent } = start(t, configure(server, "pi-1"));
  await until((event) => event.type === "report" && event.records.some(({ value }) => value === 21));
  const [device] = await server.store.registrations.page({ limit: 10 }, Date.now());
  t.is(device?.endpoint, "pi-1");
  t.like(device?.security?.dpe1, { connection: "dtls", authentication: "digest" });
  t.is(device?.heard?.intervalSeconds, 300);
  t.is(device?.subscriber, "alice");
  t.deepEqual(
    (await server.store.properties.latest("pi-1")).map(({ name }) => name),
    ["model", "temperature"],
  );

  const [temperature] = await server.query("pi-1", "temperature");
  t.like(temperature, { name: "temperature", unit: "Cel" });
  t.is((await server.query("pi-1")).length, 2);
  t.deepEqual(
    (await server.query("pi-1", ["model", "temperature"])).map(({ name }) => name).toSorted(),
    ["model", "temperature"],
    "several names by one FETCH",
  );
  t.is(await codeOf(server.query("pi-1", ["model", "absent"])), "DPE_BAD_REQUEST");
  t.is(await codeOf(server.query("pi-1", "absent")), "DPE_BAD_REQUEST");
  t.is(await codeOf(server.query("pi-2")), "DPE_UNKNOWN_REGISTRATION");

  const observation = await server.observe("pi-1", "temperature");
  for await (const notification of observation) {
    t.true(Number(recordsOf(notification)[0]?.value) > Number(temperature?.value));
    break;
  }
  await agent.close();
  await until((event) => event.type === "gone" && event.cause === "deregistered");
  t.is(await server.store.registrations.ofEndpoint("pi-1", Date.now()), undefined);
});

test("R09 a wrong password ends in the authentication error by name, on both sides", async (t) => {
  const { server, until } = await serve(t, { dpe1: "connection: dtls, clientAuthentication: [digest]" });
  const { agent, events } = start(t, configure(server, "pi-1", { credentials: "username: alice, password: wrong" }));
  const error = await t.throwsAsync(agent.stopped);
  t.like(error, { code: "SECURITY_AUTHENTICATION_REFUSED", authError: "invalid-credentials" });
  await until((event) => event.type === "authentication-error" && event.error === "invalid-credentials");
  t.is(events.at(-1)?.type, "refused");
  t.is(await server.store.registrations.count(), 0);
});

test("R09 a subscriber may register only the names that are its own", async (t) => {
  const { server, until } = await serve(t, { dpe1: "connection: dtls, clientAuthentication: [digest]" });
  const foreign = start(t, configure(server, "bench-1"));
  t.like(await t.throwsAsync(foreign.agent.stopped), { authError: "not-authorized" });
  start(t, configure(server, "pi-1"));
  await until((event) => event.type === "registered");
  const thief = start(t, configure(server, "pi-1", { credentials: "username: bob, password: secret2" }));
  t.like(await t.throwsAsync(thief.agent.stopped), { authError: "not-authorized" });
});

test("R08 a subscriber is authenticated by its PSK, a connection key alone is not enough", async (t) => {
  const { server, until } = await serve(t, { dpe1: "connection: dtls, clientAuthentication: [psk]" });
  start(t, configure(server, "bench-1", { credentials: `psk: { identity: bench, key: "hex:ff${KEY.slice(2)}" }` }));
  const event = await until((one) => one.type === "registered");
  t.is(event.type === "registered" ? event.registration.subscriber : "", "bench");
  const stranger = start(
    t,
    configure(server, "bench-2", { credentials: `psk: { identity: fleet, key: "hex:${KEY}" }` }),
  );
  t.like(await t.throwsAsync(stranger.agent.stopped), { authError: "not-authorized" });
});

test("R13 R17 unauthenticated service where the policy allows it, plain or over the DTLS that the client asks for", async (t) => {
  const { server, until } = await serve(t, { dpe1: "connection: none, clientAuthentication: [none]" });
  start(t, configure(server, "pi-plain", { scheme: "coap", credentials: "" }));
  start(t, configure(server, "pi-dtls", { credentials: "" }));
  for (const endpoint of ["pi-plain", "pi-dtls"]) {
    const event = await until((one) => one.type === "registered" && one.registration.endpoint === endpoint);
    t.is(event.type === "registered" ? event.registration.subscriber : "", undefined);
  }
});

test("R19 DPE-1 and DPE-2 have their own connection security, in both mirror images", async (t) => {
  const lax = await serve(t, { dpe1: "connection: none, clientAuthentication: [none]", dpe2: "{ connection: dtls }" });
  start(t, configure(lax.server, "pi-plain", { scheme: "coap", credentials: "" }));
  await lax.until((event) => event.type === "registered");
  t.is(await codeOf(lax.server.query("pi-plain")), "DPE_NOT_REACHABLE");
  const strict = await serve(t, {
    dpe1: "connection: dtls, clientAuthentication: [digest]",
    dpe2: "{ connection: none }",
  });
  start(t, configure(strict.server, "pi-1"));
  await strict.until((event) => event.type === "report");
  t.is((await strict.server.query("pi-1", "model"))[0]?.value, "test");
});

test("plain requests below policy are refused with security-required, malformed ones by a code that fits", async (t) => {
  const { server } = await serve(t, { dpe1: "connection: dtls, clientAuthentication: [digest]" });
  const open = await serve(t, { dpe1: "connection: none, clientAuthentication: [none]" });
  const client = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  const transport = client.addSocket(await UdpSocket.bind({ host: "127.0.0.1" }));
  t.teardown(() => client.close());
  const post = (
    to: DpeServer,
    path: string[],
    query: string[],
    payload: Uint8Array = new Uint8Array(0),
    format: number = CONTENT_FORMAT.senmlCbor,
  ) =>
    transport.connectTo(to.addresses.coap!).request({
      code: CODE.POST,
      options: Options.none
        .withAll(OPTION.UriPath, path)
        .withAll(OPTION.UriQuery, query)
        .with(OPTION.ContentFormat, format),
      payload,
    });
  const refused = await post(server, ["dpe1", "reg"], ["ep=pi-1"]);
  t.is(refused.code, CODE.Unauthorized);
  t.is(authErrorOf(refused), "security-required");
  t.true(refused.options.has(BINDING_OPTION.SecurityRequired));

  const { server: free } = open;
  const created = await post(free, ["dpe1", "reg"], ["ep=pi-1", "lt=60"]);
  t.is(created.code, CODE.Created);
  const [root, collection, id = ""] = created.options.locationPath;
  t.deepEqual([root, collection], ["dpe1", "reg"]);
  const pack = encodePack([{ name: "a", value: 1 }], "cbor");
  t.is((await post(free, ["dpe1", "reg", id, "p"], [], pack)).code, CODE.Changed);
  t.is((await post(free, ["dpe1", "reg", id, "p"], [], Uint8Array.of(0xff))).code, CODE.BadRequest);
  t.is((await post(free, ["dpe1", "reg", id, "p"], [], pack, 0)).code, CODE.UnsupportedContentFormat);
  t.is((await post(free, ["dpe1", "reg", "unknown", "p"], [], pack)).code, CODE.NotFound);
  t.is((await post(free, ["dpe1", "reg"], ["ep=a b"])).code, CODE.BadRequest);
  t.is((await post(free, ["dpe1", "reg"], ["ep=pi-2", "lt=1"])).code, CODE.BadRequest);
  t.is((await post(free, ["dpe1", "reg"], ["ep=pi-2", "dpe2=coap://192.0.2.1"])).code, CODE.BadRequest);
  t.is((await post(free, ["dpe1", "nothing"], [])).code, CODE.NotFound);
  t.is((await post(free, ["dpe1", "err"], [])).code, CODE.Changed);
});

test("an agent registers anew by itself when the server has lost its registration", async (t) => {
  const { server, until } = await serve(t, { dpe1: "connection: dtls, clientAuthentication: [digest]" });
  const { events } = start(t, configure(server, "pi-1"));
  await until((event) => event.type === "report");
  const registration = await server.store.registrations.ofEndpoint("pi-1", Date.now());
  await server.store.registrations.deregister(registration!.id, "alice", Date.now());
  await until((event) => event.type === "registered" && event.registration.id !== registration!.id);
  t.true(events.some((event) => event.type === "lost" && event.error instanceof DpeError));
});
