import { CODE, OPTION, Options } from "#coap/index.js";
import { BINDING_OPTION, CONTENT_FORMAT, DpeError } from "#dpe/index.js";
import { authErrorOf } from "#security/index.js";
import { encodePack } from "#senml/index.js";
import { type DpeServer, recordsOf } from "#server/index.js";
import { codeOf } from "#testing/code-of.js";
import { BY_FLEET_KEY, KEY, plainClient, startAgent, startServer, uriOf } from "#testing/dpe-run.js";
import test, { type ExecutionContext } from "ava";

const BY_DIGEST = "connection: dtls, clientAuthentication: [digest]";
const BENCH_KEY = `ff${KEY.slice(2)}`;
const SUBSCRIBERS = `
  - { name: alice, password: secret, endpoints: ["pi-*"] }
  - { name: bob, password: secret2, endpoints: ["pi-*"] }
  - { name: bench, psk: { identity: bench, key: "hex:${BENCH_KEY}" }, endpoints: ["bench-*"] }`;

const serve = (t: ExecutionContext, dpe1: string, dpe2 = "{}") =>
  startServer(t, { dpe1, dpe2, subscribers: SUBSCRIBERS });

/** By the fleet's key and as alice, unless that is said. */
const start = (t: ExecutionContext, server: DpeServer, endpoint: string, dpe1 = BY_FLEET_KEY()) =>
  startAgent(t, { endpoint, server: uriOf(server), dpe1 });

const startPlain = (t: ExecutionContext, server: DpeServer, endpoint: string) =>
  startAgent(t, { endpoint, server: uriOf(server, "coap"), dpe1: "connection: none, serverAuthentication: none" });

test("R07 R18 an agent registers over DTLS with Digest, reports, answers DPE-2 and deregisters", async (t) => {
  const { server, events } = await serve(t, BY_DIGEST);
  const { agent } = start(t, server, "pi-1");
  await events.until("report", (event) => event.records.some(({ value }) => value === 21));
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
  await events.until("gone", (event) => event.cause === "deregistered");
  t.is(await server.store.registrations.ofEndpoint("pi-1", Date.now()), undefined);
});

test("R09 a wrong password ends in the authentication error by name, on both sides", async (t) => {
  const { server, events } = await serve(t, BY_DIGEST);
  const { agent, events: told } = start(t, server, "pi-1", BY_FLEET_KEY("username: alice, password: wrong"));
  const error = await t.throwsAsync(agent.stopped);
  t.like(error, { code: "SECURITY_AUTHENTICATION_REFUSED", authError: "invalid-credentials" });
  await events.until("authentication-error", (event) => event.error === "invalid-credentials");
  t.is(told.all.at(-1)?.type, "refused");
  t.is(await server.store.registrations.count(), 0);
});

test("R09 a subscriber may register only the names that are its own", async (t) => {
  const { server, events } = await serve(t, BY_DIGEST);
  const foreign = start(t, server, "bench-1");
  t.like(await t.throwsAsync(foreign.agent.stopped), { authError: "not-authorized" });
  const told = await events.until("authentication-error", ({ error }) => error === "not-authorized");
  t.like(told, { rule: "dpe1.subscribers: alice may not register the name bench-1: see its endpoints" });
  start(t, server, "pi-1");
  await events.until("registered");
  const thief = start(t, server, "pi-1", BY_FLEET_KEY("username: bob, password: secret2"));
  t.like(await t.throwsAsync(thief.agent.stopped), { authError: "not-authorized" });
});

test("R08 a subscriber is authenticated by its PSK, a connection key alone is not enough", async (t) => {
  const { server, events } = await serve(t, "connection: dtls, clientAuthentication: [psk]");
  const byPsk = (identity: string, key: string) =>
    `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: ${identity}, key: "hex:${key}" } }`;
  start(t, server, "bench-1", byPsk("bench", BENCH_KEY));
  t.is((await events.until("registered")).registration.subscriber, "bench");
  const stranger = start(t, server, "bench-2", byPsk("fleet", KEY));
  t.like(await t.throwsAsync(stranger.agent.stopped), { authError: "not-authorized" });
});

test("R13 R17 unauthenticated service where the policy allows it, plain or over the DTLS that the client asks for", async (t) => {
  const { server, events } = await serve(t, "connection: none, clientAuthentication: [none]");
  startPlain(t, server, "pi-plain");
  start(t, server, "pi-dtls", BY_FLEET_KEY(""));
  for (const endpoint of ["pi-plain", "pi-dtls"]) {
    const { registration } = await events.until("registered", (one) => one.registration.endpoint === endpoint);
    t.is(registration.subscriber, undefined);
  }
});

test("R19 DPE-1 and DPE-2 have their own connection security, in both mirror images", async (t) => {
  const lax = await serve(t, "connection: none, clientAuthentication: [none]", "{ connection: dtls }");
  startPlain(t, lax.server, "pi-plain");
  await lax.events.until("registered");
  t.is(await codeOf(lax.server.query("pi-plain")), "DPE_NOT_REACHABLE");
  const strict = await serve(t, BY_DIGEST, "{ connection: none }");
  start(t, strict.server, "pi-1");
  await strict.events.until("report");
  t.is((await strict.server.query("pi-1", "model"))[0]?.value, "test");
});

test("plain requests below policy are refused with security-required, malformed ones by a code that fits", async (t) => {
  const { server } = await serve(t, BY_DIGEST);
  const open = await serve(t, "connection: none, clientAuthentication: [none]");
  const request = await plainClient(t);
  const post = (
    to: DpeServer,
    path: string[],
    query: string[],
    payload: Uint8Array = new Uint8Array(0),
    format: number = CONTENT_FORMAT.senmlCbor,
  ) =>
    request(to.addresses.coap!, {
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
  const { server, events } = await serve(t, BY_DIGEST);
  const { events: told } = start(t, server, "pi-1");
  await events.until("report");
  const registration = await server.store.registrations.ofEndpoint("pi-1", Date.now());
  await server.store.registrations.deregister(registration!.id, "alice", Date.now());
  await events.until("registered", (event) => event.registration.id !== registration!.id);
  t.true(told.all.some((event) => event.type === "lost" && event.error instanceof DpeError));
});
