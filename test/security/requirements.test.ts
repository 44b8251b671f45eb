import { CODE, OPTION, Options } from "#coap/index.js";
import { decodeCbor } from "#cbor/index.js";
import { BINDING_OPTION } from "#dpe/index.js";
import { encodeSubscriberIdentity, type ExternalIdentities, subscriberIdentity } from "#security/index.js";
import { recordsOf } from "#server/index.js";
import { codeOf } from "#testing/code-of.js";
import {
  ALICE_KEY,
  BY_FLEET_KEY,
  KEY,
  makePki,
  outcomeOf,
  plainClient,
  registrationOf,
  startAgent,
  startServer,
  uriOf,
} from "#testing/dpe-run.js";
import test from "ava";

/*
 * One test for each of the twenty requirements that docs/binding.md takes from OMA's change request, titled by its id, over
 * real sockets: an acceptance and, for each MUST, a refusal.
 */

const OPEN = "connection: none, serverAuthentication: none";
const DIGEST = "connection: dtls, clientAuthentication: [digest]";
const PKI = "{ certificate: server.pem, key: server.key, ca: ca.pem }";
const WRONG = "username: alice, password: wrong";

test("R01 DPE-1 demands Digest and DPE-2 nothing, and the reverse", async (t) => {
  const first = await startServer(t, { dpe1: DIGEST, dpe2: "{ clientAuthentication: [none] }" });
  startAgent(t, { server: uriOf(first.server), dpe1: BY_FLEET_KEY() });
  t.is((await first.events.until("registered")).registration.subscriber, "alice");
  await first.events.until("report");
  t.is((await first.server.query("pi-1", "model"))[0]?.value, "test");
  await first.events.audited({ interface: "dpe2", outcome: "success", mode: "none" });

  const second = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [none]",
    dpe2: "{ clientAuthentication: [digest] }",
  });
  startAgent(t, { server: uriOf(second.server), dpe1: BY_FLEET_KEY() });
  startAgent(t, { server: uriOf(second.server), endpoint: "pi-2", dpe1: BY_FLEET_KEY(WRONG) });
  for (const endpoint of ["pi-1", "pi-2"])
    await second.events.until("report", ({ registration }) => registration.endpoint === endpoint);
  t.is((await second.server.query("pi-1", "model"))[0]?.value, "test");
  t.like(await second.events.audited({ interface: "dpe2", outcome: "success" }), {
    mode: "digest",
    subscriber: "alice",
  });
  t.is(await codeOf(second.server.query("pi-2", "model")), "SECURITY_CLIENT_NOT_ACCEPTED");
});

test("R02 the client supplies what the server's policy asks for, in each mode and on each interface", async (t) => {
  const folder = await makePki(t);
  const subscribers = `[{ name: alice, password: secret, certificates: [alice], psk: { identity: alice, key: "hex:${ALICE_KEY}" } }]`;
  const credentials: Readonly<Record<string, string>> = {
    digest:
      "connection: dtls, serverAuthentication: certificate, ca: ca.pem, credentials: { username: alice, password: secret }",
    certificate:
      "connection: dtls, serverAuthentication: certificate, ca: ca.pem, credentials: { certificate: client.pem, key: client.key }",
    psk: `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: alice, key: "hex:${ALICE_KEY}" } }`,
    none: "connection: dtls, serverAuthentication: certificate, ca: ca.pem",
  };
  for (const [mode, dpe1] of Object.entries(credentials)) {
    const { server, events } = await startServer(t, {
      dpe1: `connection: dtls, clientAuthentication: [${mode}]`,
      dpe2: `{ clientAuthentication: [${mode}] }`,
      credentials: PKI,
      subscribers,
      folder,
    });
    startAgent(t, { server: uriOf(server), dpe1, folder });
    await events.until("report");
    t.is((await server.query("pi-1", "model"))[0]?.value, "test", mode);
    for (const interfaceName of ["dpe1", "dpe2"] as const)
      await events.audited({ interface: interfaceName, outcome: "success", mode: mode as "digest" });
    if (mode === "certificate" || mode === "none") continue;
    const other = startAgent(t, { server: uriOf(server), endpoint: "pi-2", dpe1: credentials["none"] ?? "", folder });
    const refused = await other.events.until("refused");
    t.like(refused.error, { code: "SECURITY_AUTHENTICATION_REFUSED", authError: "credentials-required" }, mode);
  }
});

test("R03 R04 the client may demand that the server authenticate, and the server does, by certificate and by PSK", async (t) => {
  const folder = await makePki(t);
  const { server, events } = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [none]",
    credentials: `{ certificate: server.pem, key: server.key, psk: [{ identity: fleet, key: "hex:${KEY}" }] }`,
    folder,
  });
  const demands: Readonly<Record<string, string>> = {
    certificate: "connection: dtls, serverAuthentication: certificate, ca: ca.pem",
    psk: BY_FLEET_KEY(""),
    address: "connection: none, serverAuthentication: address, addresses: [127.0.0.0/8]",
    none: OPEN,
  };
  for (const [mode, dpe1] of Object.entries(demands)) {
    const scheme = mode === "certificate" || mode === "psk" ? "coaps" : "coap";
    const agent = startAgent(t, { server: uriOf(server, scheme), endpoint: `pi-${mode}`, dpe1, folder });
    await events.until("registered", ({ registration }) => registration.endpoint === `pi-${mode}`);
    await agent.events.audited({ side: "client", outcome: "success", mode: mode as "psk" });
  }
  const wrongKey = startAgent(t, {
    server: uriOf(server),
    dpe1: `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: fleet, key: "hex:${ALICE_KEY}" } }`,
  });
  t.like(await wrongKey.events.until("audit"), { event: { outcome: "failure", cause: "decrypt_error" } });
});

test("R05 valid authentication is accepted, offered though not required too; wrong is refused even so", async (t) => {
  const { server, events } = await startServer(t, { dpe1: "connection: none, clientAuthentication: [none]" });
  startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY() });
  await events.until("registered");
  const optional = await startServer(t, { dpe1: "connection: none, clientAuthentication: [psk, none]" });
  startAgent(t, {
    server: uriOf(optional.server),
    dpe1: `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: alice, key: "hex:${ALICE_KEY}" } }`,
  });
  t.is((await optional.events.until("registered")).registration.subscriber, "alice");
  const inserted = Options.none.with(
    BINDING_OPTION.SubscriberIdentity,
    encodeSubscriberIdentity(subscriberIdentity("opaque", "alice")),
  );
  const ask = await plainClient(t);
  t.is(outcomeOf(await ask(server.addresses.coap!, registrationOf("pi-2", inserted))), "untrusted-identity");
});

test("R06 a function outside of DPE authenticates the client, and nobody else is let in", async (t) => {
  const external: ExternalIdentities = {
    ofAddress: (address) => (address === "127.0.0.1" ? subscriberIdentity("imsi", "001010123456789") : undefined),
    mayInsert: () => false,
  };
  const { server, events } = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [external], external: { proxies: [{ psk: replaced }] }",
    subscribers: "[{ name: alice, identities: ['imsi:001010123456789'] }]",
    parts: { external },
  });
  startAgent(t, { server: uriOf(server, "coap"), dpe1: OPEN });
  t.is((await events.until("registered")).registration.subscriber, "alice");
  const stranger = await plainClient(t, "127.0.0.2");
  t.is(outcomeOf(await stranger(server.addresses.coap!, registrationOf("pi-2"))), "credentials-required");
});

test("R07 Digest authenticates the client on both interfaces; a wrong password does not", async (t) => {
  const algorithms = ["SHA-512-256-sess", "SHA-512-256", "SHA-256-sess", "SHA-256", "MD5-sess", "MD5"];
  for (const [index, algorithm] of algorithms.entries()) {
    const scope = index % 2 === 0 ? "request" : "association";
    const qop = index % 3 === 0 ? "auth" : "auth-int";
    const digest = `digest: { algorithms: [${algorithm}], qop: [${qop}], scope: ${scope}, userhash: ${index % 2 === 1} }`;
    const { server, events } = await startServer(t, {
      dpe1: `${DIGEST}, ${digest}`,
      dpe2: `{ clientAuthentication: [digest], ${digest} }`,
    });
    const lax = ", digest: { requireServerProof: true, dangerAllowMd5: true }";
    startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY() + lax });
    await events.until("report");
    t.is((await server.query("pi-1", "model"))[0]?.value, "test", algorithm);
    const wrong = startAgent(t, { server: uriOf(server), endpoint: "pi-2", dpe1: BY_FLEET_KEY(WRONG) + lax });
    t.like((await wrong.events.until("refused")).error, { authError: "invalid-credentials" });
    t.like(await events.audited({ outcome: "failure" }), { mode: "digest", cause: "invalid-credentials" });
  }
});

test("R08 a client certificate authenticates its subscriber; another's authority does not count", async (t) => {
  const folder = await makePki(t);
  const other = await makePki(t);
  const subscribers = "[{ name: alice, certificates: [alice] }]";
  const setup = { dpe1: "connection: dtls, clientAuthentication: [certificate]", subscribers, folder };
  const { server, events } = await startServer(t, { ...setup, credentials: PKI });
  const dpe1 = (owner: string): string =>
    `connection: dtls, serverAuthentication: certificate, ca: ${folder}/ca.pem, credentials: { certificate: ${owner}/client.pem, key: ${owner}/client.key }`;
  startAgent(t, { server: uriOf(server), dpe1: dpe1(folder), folder });
  t.is((await events.until("registered")).registration.subscriber, "alice");
  const stranger = startAgent(t, { server: uriOf(server), endpoint: "pi-2", dpe1: dpe1(other), folder });
  t.is((await stranger.events.audited({ outcome: "failure" })).cause, "unknown_ca");
  t.like(await events.audited({ outcome: "failure" }), {
    cause: "unknown_ca",
    mode: "handshake",
    detail: "unknown-issuer",
  });
});

test("R09 each cause of a refusal is its own authentication error, with problem details", async (t) => {
  const { server, events } = await startServer(t, { dpe1: DIGEST });
  const ask = await plainClient(t);
  const below = await ask(server.addresses.coap!, registrationOf("pi-1"));
  t.is(outcomeOf(below), "security-required");
  t.is(below.options.contentFormat, 257);
  t.deepEqual(decodeCbor(below.payload), new Map([[-1, "4.01 security-required"]]));

  const wrong = startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY(WRONG) });
  t.like((await wrong.events.until("refused")).error, { authError: "invalid-credentials" });
  const foreign = startAgent(t, { server: uriOf(server), endpoint: "foreign", dpe1: BY_FLEET_KEY() });
  t.like((await foreign.events.until("refused")).error, { authError: "not-authorized" });
  startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY() });
  await events.until("registered");
  const thief = startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY("username: bob, password: secret2") });
  t.like((await thief.events.until("refused")).error, { authError: "not-authorized" });
});

test("R10 the server's certificate is verified to the anchor and to the name that was dialled", async (t) => {
  const folder = await makePki(t);
  const other = await makePki(t);
  const { server, events } = await startServer(t, { dpe1: DIGEST, credentials: PKI, folder });
  const dpe1 = (ca: string): string =>
    `connection: dtls, serverAuthentication: certificate, ca: ${ca}/ca.pem, credentials: { username: alice, password: secret }`;
  startAgent(t, { server: uriOf(server), dpe1: dpe1(folder) });
  await events.until("registered");
  const elsewhere = startAgent(t, { server: uriOf(server), endpoint: "pi-2", dpe1: dpe1(other) });
  t.like((await elsewhere.events.until("refused")).error, { code: "SECURITY_SERVER_NOT_ACCEPTED" });
  const port = server.addresses.coaps!.port;
  const misnamed = startAgent(t, { server: `coaps://localhost:${port}`, endpoint: "pi-3", dpe1: dpe1(folder) });
  t.like(await misnamed.events.audited({ outcome: "failure" }), { cause: "bad_certificate", detail: "wrong-name" });
});

test("R11 a server is accepted by its address or name, and from elsewhere refused", async (t) => {
  const { server, events } = await startServer(t, { dpe1: "connection: none, clientAuthentication: [digest]" });
  const port = server.addresses.coap!.port;
  const dpe1 = (addresses: string): string =>
    `connection: none, serverAuthentication: address, addresses: ${addresses}, credentials: { username: alice, password: secret }`;
  for (const [index, list] of ["[127.0.0.1]", "['127.0.0.0/8']", "[localhost]"].entries()) {
    const host = list === "[localhost]" ? "localhost" : "127.0.0.1";
    startAgent(t, { server: `coap://${host}:${port}`, endpoint: `pi-${index}`, dpe1: dpe1(list) });
    await events.until("registered", ({ registration }) => registration.endpoint === `pi-${index}`);
  }
  const refused = startAgent(t, { server: `coap://127.0.0.1:${port}`, dpe1: dpe1("[192.0.2.0/24, server.example]") });
  t.like((await refused.events.until("refused")).error, { code: "SECURITY_SERVER_NOT_ACCEPTED" });
});

test("R12 a server that is not accepted is told: by the alert that names the cause, else at its err resource", async (t) => {
  const folder = await makePki(t);
  const other = await makePki(t);
  const { server, events } = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [digest]",
    credentials: PKI,
    folder,
  });
  startAgent(t, {
    server: uriOf(server),
    dpe1: `connection: dtls, serverAuthentication: certificate, ca: ${other}/ca.pem`,
  });
  t.like(await events.audited({ mode: "handshake" }), {
    outcome: "failure",
    cause: "unknown_ca",
    detail: "alert received",
  });

  startAgent(t, {
    server: uriOf(server, "coap"),
    dpe1: "connection: none, serverAuthentication: address, addresses: [192.0.2.1]",
  });
  t.is((await events.until("client-error")).authError, 10);
  const told = await events.audited({ cause: "server-not-accepted" });
  t.like(told, { side: "client", interface: "dpe1", outcome: "failure" });
  t.true(told.peer.startsWith("127.0.0.1:"));
  t.is(server.audit.list({ cause: "server-not-accepted" }).length, 1);
  t.is(server.audit.counts.get("dpe1 failure server-not-accepted"), 1);
});

test("R13 unauthenticated service is given where the policy allows it, and nowhere else", async (t) => {
  const open = await startServer(t, { dpe1: "connection: none, clientAuthentication: [none]" });
  startAgent(t, { server: uriOf(open.server, "coap"), dpe1: OPEN });
  t.is((await open.events.until("registered")).registration.subscriber, undefined);
  await open.events.until("report");
  t.is((await open.server.query("pi-1", "model"))[0]?.value, "test");

  const closed = await startServer(t, { dpe1: "connection: none, clientAuthentication: [digest]" });
  const nobody = startAgent(t, { server: uriOf(closed.server, "coap"), dpe1: OPEN });
  t.like((await nobody.events.until("refused")).error, { authError: "credentials-required" });
  const strict = startAgent(t, {
    server: uriOf(open.server, "coap"),
    endpoint: "pi-2",
    dpe1: OPEN,
    dpe2: "{ serverAuthentication: psk }",
  });
  await open.events.until("report", ({ registration }) => registration.endpoint === "pi-2");
  t.is(await codeOf(open.server.query("pi-2")), "DPE_BAD_REQUEST");
  await strict.events.audited({ interface: "dpe2", side: "client", cause: "server-not-accepted" });
});

test("R14 an identity is taken from a listed proxy, and the same option from anybody else refused", async (t) => {
  const { server } = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [external], external: { proxies: [{ psk: replaced }] }",
    subscribers:
      "[{ name: alice, identities: ['msisdn:4915112345', 'nai:alice@example.net', 'ip:2001:db8::1', 'opaque:x'] }]",
    parts: {
      external: { ofAddress: () => undefined, mayInsert: ({ address }) => address === "127.0.0.2" },
    },
  });
  const proxy = await plainClient(t, "127.0.0.2");
  const direct = await plainClient(t, "127.0.0.3");
  const forms = [
    ["msisdn", "4915112345"],
    ["nai", "alice@example.net"],
    ["ip", "2001:db8::1"],
    ["opaque", "x"],
  ] as const;
  for (const [form, value] of forms) {
    const option = encodeSubscriberIdentity(subscriberIdentity(form, value));
    const request = registrationOf(`pi-${form}`, Options.none.with(BINDING_OPTION.SubscriberIdentity, option));
    t.is(outcomeOf(await proxy(server.addresses.coap!, request)), "2.01", form);
    t.is(outcomeOf(await direct(server.addresses.coap!, request)), "untrusted-identity", form);
  }
  t.is((await server.store.registrations.ofEndpoint("pi-nai", Date.now()))?.subscriber, "alice");
});

test("R15 Digest takes three steps from the first message on: challenge, answer over its nonce, acceptance", async (t) => {
  const ha1 = "5a1d3bb349c9e986abf371d3a8d8fef2d17a3a1f3aa7ec8f6d4d6a3cc0ea0a1b";
  const { server, events } = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [digest], digest: { scope: request }",
    subscribers: `[{ name: alice, password: secret }, { name: carol, ha1: { SHA-256: "hex:${ha1}" } }]`,
  });
  const dpe1 = (credentials: string): string =>
    `connection: none, serverAuthentication: none, credentials: { ${credentials} }, digest: { requireServerProof: true }`;
  startAgent(t, { server: uriOf(server, "coap"), dpe1: dpe1("username: alice, password: secret") });
  await events.until("registered");
  const kinds = events.all.map((event) =>
    event.type === "authentication-error" ? event.error : event.type === "audit" ? event.event.cause : event.type,
  );
  t.is(kinds[0], "credentials-required");
  t.true(kinds.indexOf("accepted") < kinds.indexOf("registered"));
  const wrong = startAgent(t, {
    server: uriOf(server, "coap"),
    endpoint: "pi-2",
    dpe1: dpe1("username: carol, password: not-hers"),
  });
  t.like((await wrong.events.until("refused")).error, { authError: "invalid-credentials" });
  t.like(await events.audited({ outcome: "failure" }), { subscriber: "carol", detail: "wrong-response" });
});

test("R16 errors of certificates are told by the transport, in both directions and by the same cause", async (t) => {
  const folder = await makePki(t);
  const other = await makePki(t);
  const { server, events } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [certificate]",
    credentials: PKI,
    subscribers: "[{ name: alice, certificates: [alice] }]",
    folder,
  });
  const agent = startAgent(t, {
    server: uriOf(server),
    dpe1: `connection: dtls, serverAuthentication: certificate, ca: ${other}/ca.pem, credentials: { certificate: ${folder}/client.pem, key: ${folder}/client.key }`,
  });
  const ours = await agent.events.audited({ outcome: "failure" });
  const theirs = await events.audited({ outcome: "failure" });
  t.is(ours.cause, "unknown_ca");
  t.is(theirs.cause, ours.cause);
  const bare = startAgent(t, {
    server: uriOf(server),
    endpoint: "pi-2",
    dpe1: `connection: dtls, serverAuthentication: certificate, ca: ${folder}/ca.pem`,
  });
  t.like(await bare.events.until("lost"), { error: { code: "DTLS_ALERT_RECEIVED" } });
  await events.audited({ cause: "handshake_failure", detail: "DTLS_CLIENT_CERTIFICATE_REQUIRED" });
});

test("R17 a client that asks for more than the policy does is served over DTLS, on DPE-1 and on DPE-2", async (t) => {
  const { server, events } = await startServer(t, { dpe1: "connection: none, clientAuthentication: [none]" });
  startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY("") });
  await events.until("registered");
  const ask = await plainClient(t);
  const asking = Options.none.with(BINDING_OPTION.SecurityRequest, 1);
  const refused = await ask(server.addresses.coap!, registrationOf("pi-2", asking));
  t.is(outcomeOf(refused), "security-required");
  t.true(refused.options.has(BINDING_OPTION.SecurityRequired));

  // DPE-2 toward an agent that listens on both and asks for DTLS only when it is asked plainly.
  const psk = await startServer(t, { dpe1: "connection: none, clientAuthentication: [psk]" });
  const listening = startAgent(t, {
    server: uriOf(psk.server),
    dpe1: `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: alice, key: "hex:${ALICE_KEY}" } }`,
    dpe2: '{ bind: ["coaps://127.0.0.1:0"], serverAuthentication: psk }',
  });
  await psk.events.until("report");
  t.is((await psk.server.query("pi-1", "model"))[0]?.value, "test");
  t.like(await listening.events.audited({ interface: "dpe2" }), {
    outcome: "success",
    connection: "dtls",
    mode: "psk",
  });
});

test("R18 the operations run over DTLS 1.2, and what is not of its association is not served", async (t) => {
  const { server, events } = await startServer(t, { dpe1: DIGEST });
  startAgent(t, { server: uriOf(server), dpe1: BY_FLEET_KEY() });
  await events.until("report");
  const success = await events.audited({ outcome: "success" });
  t.like(success, { connection: "dtls", mode: "digest" });
  const ask = await plainClient(t);
  const [, , id = ""] = ["dpe1", "reg", (await server.store.registrations.ofEndpoint("pi-1", Date.now()))?.id];
  const report = {
    code: CODE.POST,
    options: Options.none.withAll(OPTION.UriPath, ["dpe1", "reg", id, "p"]),
    payload: new Uint8Array(0),
  };
  t.is(outcomeOf(await ask(server.addresses.coap!, report)), "security-required");
});

test("R19 DPE-1 runs over DTLS and DPE-2 plain, and the reverse, each demand for itself", async (t) => {
  const first = await startServer(t, { dpe1: DIGEST, dpe2: "{ connection: none }" });
  startAgent(t, {
    server: uriOf(first.server),
    dpe1: BY_FLEET_KEY(),
    dpe2: '{ bind: ["coap://127.0.0.1:0"] }',
  });
  await first.events.until("report");
  t.is((await first.server.query("pi-1", "model"))[0]?.value, "test");
  t.like(await first.events.audited({ interface: "dpe2" }), { outcome: "success", connection: "none" });
  t.like(await first.events.audited({ interface: "dpe1", outcome: "success" }), { connection: "dtls" });

  const second = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [digest]",
    dpe2: "{ connection: dtls, clientAuthentication: [psk] }",
  });
  const credentials = `{ username: alice, password: secret, psk: { identity: alice, key: "hex:${ALICE_KEY}" } }`;
  const dpe1 = `connection: none, serverAuthentication: none, credentials: ${credentials}`;
  startAgent(t, {
    server: uriOf(second.server, "coap"),
    dpe1,
    dpe2: '{ bind: ["coaps://127.0.0.1:0"], connection: dtls, serverAuthentication: psk }',
  });
  startAgent(t, { server: uriOf(second.server, "coap"), endpoint: "pi-2", dpe1 });
  for (const endpoint of ["pi-1", "pi-2"])
    await second.events.until("report", ({ registration }) => registration.endpoint === endpoint);
  const observation = await second.server.observe("pi-1", "temperature");
  t.is(recordsOf(observation.first)[0]?.name, "temperature");
  observation.cancel();
  t.like(await second.events.audited({ interface: "dpe2" }), { outcome: "success", connection: "dtls", mode: "psk" });
  t.is(await codeOf(second.server.query("pi-2", "model")), "DPE_NOT_REACHABLE");
});

test("R01 R19 DPE-1 by DTLS, server certificate and Digest with DPE-2 by nothing, and the mirror image of that", async (t) => {
  const folder = await makePki(t);
  const password = "username: alice, password: secret";
  const first = await startServer(t, { dpe1: DIGEST, dpe2: "{ connection: none }", credentials: PKI, folder });
  startAgent(t, {
    server: uriOf(first.server),
    dpe1: `connection: dtls, serverAuthentication: certificate, ca: ca.pem, credentials: { ${password} }`,
    dpe2: '{ bind: ["coap://127.0.0.1:0"] }',
    folder,
  });
  await first.events.until("report");
  t.is((await first.server.query("pi-1", "model"))[0]?.value, "test");
  t.like(await first.events.audited({ interface: "dpe1", outcome: "success" }), { mode: "digest", connection: "dtls" });
  t.like(await first.events.audited({ interface: "dpe2", outcome: "success" }), { mode: "none", connection: "none" });

  const second = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [none]",
    dpe2: "{ connection: dtls, clientAuthentication: [digest] }",
    credentials: PKI,
    folder,
  });
  const listening = (login: string): string =>
    `${OPEN}, credentials: { certificate: device.pem, key: device.key, ${login} }`;
  const dpe2 = '{ bind: ["coaps://127.0.0.1:0"], connection: dtls, serverAuthentication: certificate, ca: ca.pem }';
  const server = uriOf(second.server, "coap");
  const agent = startAgent(t, { server, dpe1: listening(password), dpe2, folder });
  startAgent(t, { server, endpoint: "pi-2", dpe1: listening(WRONG), dpe2, folder });
  const other = await makePki(t);
  const wary = startAgent(t, {
    server,
    endpoint: "pi-3",
    dpe1: listening(password),
    dpe2: dpe2.replace("ca.pem", `${other}/ca.pem`),
    folder,
  });
  for (const endpoint of ["pi-1", "pi-2", "pi-3"])
    await second.events.until("report", ({ registration }) => registration.endpoint === endpoint);
  t.is((await second.server.query("pi-1", "model"))[0]?.value, "test");
  t.like(await second.events.audited({ interface: "dpe1", outcome: "success" }), { mode: "none", connection: "none" });
  t.like(await second.events.audited({ interface: "dpe2", outcome: "success" }), {
    mode: "digest",
    connection: "dtls",
  });
  t.like(await agent.events.audited({ interface: "dpe2" }), { mode: "certificate", outcome: "success" });
  t.is(await codeOf(second.server.query("pi-2", "model")), "SECURITY_CLIENT_NOT_ACCEPTED");
  t.is(await codeOf(second.server.query("pi-3", "model")), "DTLS_ALERT_RECEIVED");
  t.is(wary.events.all.filter(({ type }) => type === "queried").length, 0);
  const refused = await wary.events.audited({ interface: "dpe2", outcome: "failure" });
  t.is((await second.events.audited({ interface: "dpe2", mode: "handshake" })).cause, refused.cause);
});

test("R20 an agent that knows nothing beforehand finds what is required, and goes no further than its own policy", async (t) => {
  const folder = await makePki(t);
  const { server, events } = await startServer(t, { dpe1: DIGEST, credentials: PKI, folder });
  const ask = await plainClient(t);
  const discover = { code: CODE.GET, options: Options.none.with(OPTION.UriPath, "dpe1"), payload: new Uint8Array(0) };
  const answer = decodeCbor((await ask(server.addresses.coap!, discover)).payload);
  t.true(answer instanceof Map);
  const found = answer as ReadonlyMap<string, ReadonlyMap<string, unknown>>;
  t.is(found.get("dpe1")?.get("connection"), "dtls");
  t.deepEqual(found.get("dpe1")?.get("clientAuthentication"), ["digest"]);
  t.is(found.get("dpe1")?.get("coaps"), server.addresses.coaps!.port);

  const credentials = "credentials: { username: alice, password: secret }";
  startAgent(t, { server: uriOf(server, "coap"), dpe1: `${OPEN}, ${credentials}` });
  await events.until("registered");
  t.like(await events.audited({ outcome: "success", mode: "digest" }), { connection: "dtls" });
  startAgent(t, {
    server: uriOf(server, "coap"),
    endpoint: "pi-2",
    dpe1: `connection: dtls, serverAuthentication: certificate, ca: ca.pem, ${credentials}`,
    folder,
  });
  await events.until("registered", ({ registration }) => registration.endpoint === "pi-2");
  const other = await makePki(t);
  const strict = startAgent(t, {
    server: uriOf(server, "coap"),
    endpoint: "pi-3",
    dpe1: `connection: dtls, serverAuthentication: certificate, ca: ${other}/ca.pem, ${credentials}`,
  });
  t.like((await strict.events.until("refused")).error, { code: "SECURITY_SERVER_NOT_ACCEPTED" });
});
