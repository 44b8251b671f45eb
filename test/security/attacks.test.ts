import { randomBytes } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { encodeCbor } from "#cbor/index.js";
import { CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { DigestClient } from "#digest/index.js";
import { BINDING_OPTION, BINDING_OPTION_FORMATS, DIGEST_KEY } from "#dpe/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import {
  AuditTrail,
  type AuditEvent,
  cleanText,
  decodeChallenge,
  encodeAuthorization,
  encodeSecurityRequired,
  FailureLimits,
  refusal,
  type ScopedChallenge,
} from "#security/index.js";
import { SERVER_SCHEMA } from "#server/index.js";
import { Store } from "#store/index.js";
import { codeOf } from "#testing/code-of.js";
import { freePort } from "#testing/free-port.js";
import { parseConfig } from "#config/index.js";
import {
  ALICE_KEY,
  BY_FLEET_KEY,
  makePki,
  outcomeOf,
  plainClient,
  registrationOf,
  startAgent,
  startServer,
  uriOf,
} from "#testing/dpe-run.js";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";

const PLAIN_DIGEST = "connection: none, clientAuthentication: [digest], digest: { scope: request, qop: [auth] }";
const OPEN = "connection: none, serverAuthentication: none";

type Ask = Awaited<ReturnType<typeof plainClient>>;

async function challengeFor(ask: Ask, to: Parameters<Ask>[0]): Promise<ScopedChallenge> {
  const response = await ask(to, registrationOf("pi-1"));
  const value = response.options.get(BINDING_OPTION.DigestChallenge);
  if (value === undefined) throw new Error(`no challenge in ${outcomeOf(response)}`);
  return decodeChallenge(value);
}

/** A registration with a Digest answer. */
function answered(challenge: ScopedChallenge, username: string, password: string): RequestMessage {
  const client = new DigestClient({ secret: { username, password }, random: randomBytes });
  client.takeChallenge(challenge);
  const request = registrationOf("pi-1");
  const authorization = client.authorize({ method: "POST", uri: "/dpe1/reg?ep=pi-1", body: request.payload })!;
  return {
    ...request,
    options: request.options.with(BINDING_OPTION.DigestAuthorization, encodeAuthorization(authorization)),
  };
}

test("an unknown user and a wrong password are answered by the same bytes but for the nonce", async (t) => {
  const { server, events } = await startServer(t, { dpe1: PLAIN_DIGEST });
  const to = server.addresses.coap!;
  const answers = [];
  for (const [username, password] of [
    ["alice", "wrong"],
    ["nobody", "wrong"],
  ] as const) {
    const ask = await plainClient(t);
    const response = await ask(to, answered(await challengeFor(ask, to), username, password));
    t.is(outcomeOf(response), "invalid-credentials");
    const challenge = decodeChallenge(response.options.get(BINDING_OPTION.DigestChallenge)!);
    const { nonce, ...rest } = challenge;
    t.is(nonce.length, 40);
    const options = response.options.without(BINDING_OPTION.DigestChallenge);
    answers.push({ rest, code: response.code, payload: response.payload, options });
  }
  t.deepEqual(answers[0], answers[1]);
  await events.audited({ outcome: "failure", detail: "unknown-user", subscriber: "nobody" });
  t.notRegex(JSON.stringify(server.audit.list()), /wrong"|secret/);
});

test("an answer that was good before a restart is stale after it, and at another server of the same store", async (t) => {
  const store = await Store.open({ type: "memory" });
  t.teardown(() => store.close());
  const listen = `coap: ${await freePort()}`;
  const first = await startServer(t, { dpe1: PLAIN_DIGEST, parts: { store }, listen });
  const other = await startServer(t, { dpe1: PLAIN_DIGEST, parts: { store } });
  const ask = await plainClient(t);
  const to = first.server.addresses.coap!;
  const message = answered(await challengeFor(ask, to), "alice", "secret");
  t.is(outcomeOf(await ask(to, message)), "2.01");
  t.is(outcomeOf(await ask(to, message)), "replayed");
  t.is(outcomeOf(await ask(other.server.addresses.coap!, message)), "stale-nonce");
  await first.server.close();
  const again = await startServer(t, { dpe1: PLAIN_DIGEST, parts: { store }, listen });
  t.is(outcomeOf(await ask(to, message)), "stale-nonce");
  t.is(outcomeOf(await ask(to, answered(await challengeFor(ask, to), "alice", "secret"))), "2.01");
  t.is(again.events.all.filter(({ type }) => type === "registered").length, 1);
});

test("a nonce that is stale again and again makes an agent wait and try anew, never stop as refused", async (t) => {
  let registrations = 0;
  const challenge: ScopedChallenge = {
    realm: "test",
    nonce: randomBytes(40),
    stale: true,
    algorithms: ["SHA-256"],
    qops: ["auth"],
    userhash: false,
    scope: "request",
  };
  const coap = new CoapEndpoint({
    optionFormats: BINDING_OPTION_FORMATS,
    onRequest: ({ options: asked }) => {
      // Reports, which follow at once, go below it.
      if (asked.getAll(OPTION.UriPath).length === 2) registrations++;
      if (registrations <= 7) return refusal("stale-nonce", { challenge: { ...challenge, nonce: randomBytes(40) } });
      const options = Options.none.withAll(OPTION.LocationPath, ["dpe1", "reg", "1"]);
      return { code: CODE.Created, options, payload: new Uint8Array(0) };
    },
  });
  t.teardown(() => coap.close());
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  coap.addSocket(socket);
  const { events } = startAgent(t, {
    server: `coap://127.0.0.1:${socket.address.port}`,
    dpe1: `${OPEN}, credentials: { username: alice, password: secret }`,
  });
  await events.until("registered");
  t.is(registrations, 8, "three times in each of two attempts, and once in a third");
  t.deepEqual(
    events.all.flatMap((event) => (event.type === "lost" ? [codeIn(event.error)] : [])),
    ["DPE_NOT_REACHABLE", "DPE_NOT_REACHABLE"],
  );
});

function codeIn(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

test("failures are bounded, delay nobody elsewhere, and no neighbour that was authentic lately", (t) => {
  const limits = new FailureLimits({ maxEntries: 100 });
  for (let index = 0; index < 10_000; index++) limits.failed("alice", `192.0.2.${index % 100}`, index);
  t.true(limits.size <= 100);
  t.is(limits.waitMs("alice", "198.51.100.1", 10_000), 0, "from her own address");

  const shared = new FailureLimits();
  shared.succeeded("carol", "192.0.2.1", 0);
  for (let index = 0; index < 50; index++) shared.failed(`guess-${index}`, "192.0.2.1", 0);
  t.true(shared.waitMs("dave", "192.0.2.1", 0) > 0, "the address is at its limit");
  t.is(shared.waitMs("carol", "192.0.2.1", 0), 0, "but not for whom it knows");
  for (let index = 0; index < 5; index++) shared.failed("carol", "192.0.2.1", 0);
  t.is(shared.waitMs("carol", "192.0.2.1", 0), 30_000, "her own name's failures count");
  t.is(shared.waitMs("carol", "192.0.2.1", 30_000), 0);
  t.true(shared.waitMs("x", "2001:db8::1", 0) === 0);
  for (let index = 0; index < 50; index++) shared.failed("x", `2001:db8:0:0:${index}::1`, 0);
  t.true(shared.waitMs("y", "2001:db8::ffff", 0) > 0, "a /64 counts as one");
  t.is(shared.waitMs("y", "2001:db8:0:1::1", 0), 0);
});

test("a clock that is set back by a year locks nobody out for a year", (t) => {
  const limits = new FailureLimits();
  const year = 365 * 86_400_000;
  for (let index = 0; index < 50; index++) limits.failed("alice", "192.0.2.1", year);
  t.true(limits.waitMs("alice", "192.0.2.1", year - 1000) > 0, "a small step forgets nothing");
  t.is(limits.waitMs("alice", "192.0.2.1", 3_600_000), 0);
  for (let index = 0; index < 50; index++) limits.failed("alice", "192.0.2.1", 3_600_000);
  t.true(limits.waitMs("alice", "192.0.2.1", 3_600_000) > 0, "and counts on");
  t.is(limits.waitMs("alice", "192.0.2.1", 3_660_000), 0);
});

test("10,000 wrong passwords from 100 addresses: answered by 4.29 soon, memory flat, the true subscriber gets in", async (t) => {
  t.timeout(120_000);
  // Buckets that do not fill again, however long it takes here.
  const failures = "failures: { perSubscriber: { burst: 5, refill: 24h }, perAddress: { burst: 50, refill: 24h } }";
  const { server, events } = await startServer(t, {
    dpe1: PLAIN_DIGEST.replace("qop: [auth]", `qop: [auth], ${failures}`),
  });
  const to = server.addresses.coap!;
  const outcomes = new Map<string, number>();
  const count = (outcome: string): void => void outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  let half = 0;
  const attackers = await Promise.all(
    Array.from({ length: 100 }, async (_, index) => {
      const coap = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
      const transport = coap.addSocket(await UdpSocket.bind({ host: `127.0.1.${index + 1}` }));
      return {
        coap,
        ask: ((address, request) => transport.connectTo(address).request(request, { insists: true })) as Ask,
      };
    }),
  );
  for (let round = 0; round < 100; round++) {
    // The test's own record of what happened is no part of the server.
    events.all.length = 0;
    if (round === 70) half = liveHeapBytes();
    await Promise.all(
      attackers.map(async ({ ask }) => {
        const response = await ask(to, answered(CHALLENGE, "alice", "wrong"));
        count(outcomeOf(response));
        if (round >= 8) return;
        const fresh = response.options.get(BINDING_OPTION.DigestChallenge);
        if (fresh !== undefined) count(outcomeOf(await ask(to, answered(decodeChallenge(fresh), "alice", "wrong"))));
      }),
    );
  }
  const grown = liveHeapBytes() - half;
  t.log(`live heap: ${grown} bytes more after 3,000 further wrong passwords`);
  t.true(grown < 2_000_000, `the live heap grew by ${grown} bytes after 7,000`);
  t.is(outcomes.get("invalid-credentials"), 500, "five for each address");
  t.true((outcomes.get("too-many-failures") ?? 0) > 5000, JSON.stringify([...outcomes]));
  t.is(server.audit.list().length, 500, "the trail is bounded");
  startAgent(t, { server: uriOf(server, "coap"), dpe1: `${OPEN}, credentials: { username: alice, password: secret }` });
  t.is((await events.until("registered")).registration.subscriber, "alice");
  await Promise.all(attackers.map(({ coap }) => coap.close()));
});

/** What is left after everything that can be collected was; how much garbage there is at a moment says nothing. */
function liveHeapBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  for (let pass = 0; pass < 3; pass++) collect();
  return process.memoryUsage().heapUsed;
}

/** A challenge of another server: its nonce is not ours. */
const CHALLENGE: ScopedChallenge = {
  realm: "test",
  nonce: new Uint8Array(40),
  stale: false,
  algorithms: ["SHA-256"],
  qops: ["auth"],
  userhash: false,
  scope: "request",
};

test("every malformed security option is 4.00 or 4.02 with problem details that name the field, never an exception", async (t) => {
  const { server, events } = await startServer(t, { dpe1: PLAIN_DIGEST });
  const to = server.addresses.coap!;
  const ask = await plainClient(t);
  const good = new Map<number, unknown>([
    [DIGEST_KEY.realm, "test"],
    [DIGEST_KEY.nonce, new Uint8Array(40)],
    [DIGEST_KEY.algorithm, 3],
    [DIGEST_KEY.qop, 1],
    [DIGEST_KEY.username, "alice"],
    [DIGEST_KEY.cnonce, new Uint8Array(16)],
    [DIGEST_KEY.nonceCount, 1],
    [DIGEST_KEY.response, new Uint8Array(32)],
  ]);
  const names = new Map<number, string>([
    [DIGEST_KEY.realm, "realm"],
    [DIGEST_KEY.nonce, "nonce"],
    [DIGEST_KEY.opaque, "opaque"],
    [DIGEST_KEY.algorithm, "algorithm"],
    [DIGEST_KEY.qop, "qop"],
    [DIGEST_KEY.username, "username"],
    [DIGEST_KEY.cnonce, "cnonce"],
    [DIGEST_KEY.nonceCount, "nc"],
    [DIGEST_KEY.response, "response"],
  ]);
  const send = async (...values: readonly Uint8Array[]) => {
    const response = await ask(to, {
      ...registrationOf("pi-1"),
      options: registrationOf("pi-1").options.withAll(BINDING_OPTION.DigestAuthorization, values),
    });
    return { code: outcomeOf(response), text: new TextDecoder().decode(response.payload) };
  };
  t.is((await send(encodeCbor(good))).code, "stale-nonce", "well formed, and not ours");
  for (const [key, name] of names) {
    const isOptional = key === DIGEST_KEY.opaque || key === DIGEST_KEY.qop;
    const without = new Map([...good].filter(([other]) => other !== key));
    if (!isOptional) t.like(await send(encodeCbor(without)), { code: "4.00" }, `${name} missing`);
    for (const value of [null, true, -1, 1.5, [], new Map(), "x".repeat(100), new Uint8Array(100), ""]) {
      const { code, text } = await send(encodeCbor(new Map([...good, [key, value]])));
      if (code === "stale-nonce" || code === "invalid-credentials") {
        t.true(name === "realm" || name === "username", `${name} ${JSON.stringify(value)} was taken`);
        continue;
      }
      t.is(code, "4.00", `${name} ${JSON.stringify(value)}`);
      t.true(text.includes(name), `${text} names ${name}`);
    }
  }
  t.is((await send(encodeCbor(good), encodeCbor(good))).code, "4.02", "twice");
  t.is((await send(new Uint8Array(513))).code, "4.02", "oversized");
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 60 }), async (value) => {
      t.is((await send(value)).code, "4.00");
    }),
    { numRuns: 200 },
  );
  t.deepEqual(
    events.all.filter(({ type }) => type === "fault" || type === "registered"),
    [],
  );
});

test("a changed or banned credential ends its associations and Digest bindings at once, and nobody else's", async (t) => {
  const subscribers = (alice: string, bob = "secret2"): string =>
    `[${alice === "" ? "" : `{ name: alice, password: ${alice} },`} { name: bob, password: ${bob} }]`;
  const { server, events } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [digest]",
    subscribers: subscribers("secret"),
  });
  const alice = startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY() });
  const bob = startAgent(t, {
    server: uriOf(server),
    endpoint: "pi-2",
    dpe1: BY_FLEET_KEY("username: bob, password: secret2"),
  });
  for (const endpoint of ["pi-1", "pi-2"])
    await events.until("report", ({ registration }) => registration.endpoint === endpoint);
  const parsed = (text: string) =>
    parseConfig(
      `{ realm: test, credentials: { psk: [{ identity: x, key: "hex:00" }] }, interfaces: { dpe1: { listen: { coaps: 0 }, connection: dtls, clientAuthentication: [digest] } }, subscribers: ${text} }`,
      "x.yaml",
      SERVER_SCHEMA,
    ).subscribers;
  await server.directory.configure(parsed(subscribers("changed")));
  t.like((await alice.events.until("refused")).error, { authError: "invalid-credentials" });
  t.is(bob.events.all.filter(({ type }) => type === "lost" || type === "refused").length, 0);
  t.is((await server.query("pi-2", "model"))[0]?.value, "test");
  await server.directory.configure(parsed(subscribers("")));
  t.is(await codeOf(server.query("pi-1")), "DPE_UNKNOWN_REGISTRATION", "with the subscriber its registration goes");
  t.is((await server.query("pi-2", "model"))[0]?.value, "test");
  await server.directory.configure(parsed("[{ name: bob, password: secret2, banned: true }]"));
  t.like((await bob.events.until("refused")).error, { authError: "invalid-credentials" });
  t.is(await codeOf(server.directory.ban("bob", false)), "DPE_SUBSCRIBER_CONFIGURED", "who bans is who lets in again");
});

/** Somebody on the path of plain CoAP, who answers each request in the server's place. */
async function forger(t: ExecutionContext, answer: (request: RequestMessage) => Partial<ResponseMessage>) {
  const seen: string[] = [];
  let wake: () => void = () => undefined;
  const asked = new Promise<void>((resolve) => (wake = resolve));
  const coap = new CoapEndpoint({
    optionFormats: BINDING_OPTION_FORMATS,
    maxAmplification: Infinity,
    onRequest: (request) => {
      const hasCredentials = request.options.has(BINDING_OPTION.DigestAuthorization);
      seen.push(`${request.code} ${request.options.uriPath.join("/")}${hasCredentials ? " with credentials" : ""}`);
      wake();
      return { code: CODE.Created, options: Options.none, payload: new Uint8Array(0), ...answer(request) };
    },
  });
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  coap.addSocket(socket);
  t.teardown(() => coap.close());
  return { seen, asked, uri: `coap://127.0.0.1:${socket.address.port}` };
}

test("whoever strips or forges plain answers gets no credential, and no service below the client's policy", async (t) => {
  const folder = await makePki(t);
  const { server } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [digest]",
    credentials: "{ certificate: server.pem, key: server.key }",
    folder: await makePki(t),
  });
  const coaps = server.addresses.coaps!.port;
  const strict =
    "connection: dtls, serverAuthentication: certificate, ca: ca.pem, credentials: { username: alice, password: secret }";
  const question = [`${CODE.GET} dpe1`];
  // Says that the registration was taken, as if nothing were required.
  const stripping = await forger(t, () => ({
    options: Options.none.withAll(OPTION.LocationPath, ["dpe1", "reg", "x"]),
  }));
  const patient = startAgent(t, { server: stripping.uri, dpe1: strict, folder });
  await stripping.asked;
  await patient.agent.close();
  t.deepEqual(stripping.seen, question);
  t.deepEqual(patient.events.all, []);
  // Leads to a server of the forger's own.
  const leading = await forger(t, () => ({
    code: CODE.Content,
    payload: encodeCbor({ dpe1: { connection: "none", clientAuthentication: ["none"], coaps } }),
  }));
  const wary = startAgent(t, { server: leading.uri, dpe1: strict, folder });
  t.like((await wary.events.until("refused")).error, { code: "SECURITY_SERVER_NOT_ACCEPTED" });
  t.deepEqual(leading.seen, [...question, ...question, ...question], "three handshakes are refused");
  // An agent that allows plain CoAP, and was told once that DTLS is needed, never goes back.
  const required = encodeSecurityRequired({ port: coaps, interfaceName: "dpe1" });
  let count = 0;
  const fickle = await forger(t, () =>
    count++ > 0
      ? {}
      : { code: CODE.Unauthorized, options: Options.none.with(BINDING_OPTION.SecurityRequired, required) },
  );
  const lax = startAgent(t, { server: fickle.uri, dpe1: OPEN });
  t.like((await lax.events.until("refused")).error, { authError: "credentials-required" });
  t.deepEqual(fickle.seen, [`${CODE.POST} dpe1/reg`]);
});

test("a DPE-2 address is the sender's own or listed; it is dialled, and its proofs are judged", async (t) => {
  const { server, events } = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [none]",
    dpe2: "{ clientAuthentication: [digest], addresses: [127.0.0.9] }",
  });
  const to = server.addresses.coap!;
  const ask = await plainClient(t);
  const at = (uri: string): RequestMessage => {
    const { options, ...rest } = registrationOf("pi-9");
    return { ...rest, options: options.withAll(OPTION.UriQuery, ["ep=pi-9", `dpe2=${uri}`]) };
  };
  for (const uri of [
    "coap://192.0.2.1",
    "coap://127.0.0.2:5683",
    "coap://localhost",
    "http://127.0.0.1",
    "coap://127.0.0.1:0",
    "coap://127.0.0.1/x",
  ])
    t.is(outcomeOf(await ask(to, at(uri))), "4.00", uri);
  for (const uri of ["coap://127.0.0.1:7", "coap://127.0.0.9", "coaps://[::ffff:127.0.0.1]:7"])
    t.is(outcomeOf(await ask(to, at(uri))), "2.01", uri);

  const dpe2 = '{ bind: ["coap://127.0.0.1:0"] }';
  const login = (password: string): string => `${OPEN}, credentials: { username: alice, password: ${password} }`;
  startAgent(t, { server: uriOf(server, "coap"), dpe1: login("secret"), dpe2 });
  const wrong = startAgent(t, { server: uriOf(server, "coap"), endpoint: "pi-2", dpe1: login("wrong"), dpe2 });
  for (const endpoint of ["pi-1", "pi-2"])
    await events.until("report", ({ registration }) => registration.endpoint === endpoint);
  t.is((await server.query("pi-1", "model"))[0]?.value, "test");
  const observation = await server.observe("pi-1", "temperature");
  for await (const notification of observation) {
    t.true(notification.options.has(BINDING_OPTION.DigestProof), "a notification has a proof of its own");
    break;
  }
  t.is(await codeOf(server.query("pi-2", "model")), "SECURITY_CLIENT_NOT_ACCEPTED");
  t.is((await wrong.events.until("server-error")).authError, 2);
});

test("an agent that asks for DTLS on DPE-2 is dialled over DTLS from then on", async (t) => {
  const { server, events } = await startServer(t, { dpe1: "connection: none, clientAuthentication: [psk, digest]" });
  const agent = startAgent(t, {
    server: uriOf(server, "coap"),
    dpe1: `connection: none, serverAuthentication: none, credentials: { username: alice, password: secret, psk: { identity: alice, key: "hex:${ALICE_KEY}" } }`,
    // It announces the plain address, for its policy of connection is lax; but a PSK is proved by DTLS only.
    dpe2: '{ bind: ["coap://127.0.0.1:0", "coaps://127.0.0.1:0"], connection: dtls, serverAuthentication: psk }',
  });
  await events.until("report");
  t.is((await server.query("pi-1", "model"))[0]?.value, "test");
  t.like(await agent.events.audited({ interface: "dpe2", outcome: "success" }), { connection: "dtls", mode: "psk" });
});

test("the audit trail is bounded, newest first, and cleans what peers wrote", (t) => {
  const event = (time: number, cause: string): AuditEvent => ({
    time,
    outcome: "failure",
    interface: "dpe1",
    side: "server",
    mode: "digest",
    subscriber: "x",
    peer: "192.0.2.1:1",
    connection: "none",
    rule: "r",
    cause,
  });
  const trail = new AuditTrail(6);
  trail.record({ ...event(0, "accepted"), outcome: "success" });
  for (let time = 1; time <= 5; time++) trail.record(event(time, time % 2 === 0 ? "even" : "odd"));
  t.deepEqual(
    trail.list().map(({ time }) => time),
    [5, 4, 3, 0],
    "the success stays",
  );
  t.deepEqual(
    trail.list({ cause: "odd", limit: 1 }).map(({ time }) => time),
    [5],
  );
  t.deepEqual(trail.list({ sinceMs: 5 }).length, 1);
  t.is(trail.counts.get("dpe1 failure odd"), 3);
  t.is(cleanText(`a\n\u{1b}[31m\u{202e}${"b".repeat(200)}`).length, 128);
  t.is(cleanText("a\n\u{1b}\u{202e}"), "a\u{FFFD}\u{FFFD}\u{FFFD}");
});
