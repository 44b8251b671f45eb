import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "#config/index.js";
import { AGENT_SCHEMA } from "#agent/index.js";
import { SERVER_SCHEMA } from "#server/index.js";
import { codeOf } from "#testing/code-of.js";
import { makePki, startAgent, startServer, uriOf } from "#testing/dpe-run.js";
import { pemKeyFingerprint, X509Error } from "#x509/index.js";
import test, { type ExecutionContext } from "ava";

/** A folder with private keys, by name, and their fingerprints. */
function makeKeys<const Name extends string>(t: ExecutionContext, ...names: readonly Name[]) {
  const folder = mkdtempSync(join(tmpdir(), "dpe-keys-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const prints = names.map((name) => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
    writeFileSync(join(folder, `${name}.key`), pem, { mode: 0o600 });
    return [name, pemKeyFingerprint(pem)] as const;
  });
  return { folder, prints: Object.fromEntries(prints) as Record<Name, string> };
}

function codeIn(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

const BY_KEY = "connection: dtls, clientAuthentication: [rawPublicKey]";
const agentKeys = (pin: string, own = "alice"): string =>
  `connection: dtls, serverAuthentication: rawPublicKey, serverKeys: ["${pin}"], credentials: { rawPublicKey: ${own}.key }`;

test("R02 R08 a raw public key authenticates its subscriber on both interfaces, and a stranger's does not", async (t) => {
  const { folder, prints } = makeKeys(t, "server", "alice", "stranger");
  const { server, events } = await startServer(t, {
    dpe1: BY_KEY,
    dpe2: "{ connection: dtls, clientAuthentication: [rawPublicKey] }",
    credentials: "{ rawPublicKey: server.key }",
    subscribers: `[{ name: alice, keys: ["${prints.alice}"], endpoints: ["pi-*"] }]`,
    folder,
  });
  const agent = startAgent(t, { server: uriOf(server), dpe1: agentKeys(prints.server), folder });
  t.is((await events.until("registered")).registration.subscriber, "alice");
  t.is((await server.query("pi-1", "model"))[0]?.value, "test");
  for (const interfaceName of ["dpe1", "dpe2"] as const)
    await events.audited({ interface: interfaceName, outcome: "success", mode: "rawPublicKey", subscriber: "alice" });
  t.like(await agent.events.audited({ side: "client", interface: "dpe1" }), {
    outcome: "success",
    mode: "rawPublicKey",
  });

  const stranger = startAgent(t, {
    server: uriOf(server),
    endpoint: "pi-2",
    dpe1: agentKeys(prints.server, "stranger"),
    folder,
  });
  t.like((await stranger.events.until("refused")).error, { code: "SECURITY_AUTHENTICATION_REFUSED" });
  const told = await stranger.events.audited({ side: "client", outcome: "failure" });
  const logged = await events.audited({ side: "server", outcome: "failure", mode: "handshake" });
  t.deepEqual([told.cause, logged.cause], ["certificate_unknown", "certificate_unknown"]);
});

test("R03 R04 a server is accepted by the fingerprint of its raw public key, and refused by another", async (t) => {
  const { folder, prints } = makeKeys(t, "server", "alice", "other");
  const { server, events } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [digest]",
    credentials: "{ rawPublicKey: server.key }",
    folder,
  });
  const login = "credentials: { username: alice, password: secret }";
  const demand = (pins: string): string =>
    `connection: dtls, serverAuthentication: rawPublicKey, serverKeys: [${pins}], ${login}`;
  // Two pins, as while a key is exchanged; written as OpenSSL does.
  const colons = prints.server.toUpperCase().replaceAll(/..(?=.)/g, "$&:");
  startAgent(t, { server: uriOf(server), dpe1: demand(`"${prints.other}", "${colons}"`), folder });
  t.is((await events.until("registered")).registration.subscriber, "alice");
  const wary = startAgent(t, {
    server: uriOf(server),
    endpoint: "pi-2",
    dpe1: demand(`"${prints.other}"`),
    folder,
  });
  t.like((await wary.events.until("refused")).error, { code: "SECURITY_SERVER_NOT_ACCEPTED" });
  const told = await wary.events.audited({ side: "client", outcome: "failure" });
  const logged = await events.audited({ side: "server", outcome: "failure", mode: "handshake" });
  t.deepEqual([told.cause, logged.cause], ["certificate_unknown", "certificate_unknown"]);
});

test("raw public keys and certificates may stand beside each other, each for who has them", async (t) => {
  const { folder, prints } = makeKeys(t, "raw-server", "alice");
  const pki = await makePki(t);
  const { server, events } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [rawPublicKey, certificate]",
    credentials: `{ rawPublicKey: ${folder}/raw-server.key, certificate: server.pem, key: server.key, ca: ca.pem }`,
    subscribers: `[{ name: alice, keys: ["${prints.alice}"] }, { name: carol, certificates: [alice] }]`,
    folder: pki,
  });
  const both = (modes: string, own: string): string =>
    `connection: dtls, serverAuthentication: [${modes}], serverKeys: ["${prints["raw-server"]}"], ca: ca.pem, credentials: { ${own} }`;
  const key = `rawPublicKey: ${folder}/alice.key`;
  startAgent(t, { server: uriOf(server), dpe1: both("rawPublicKey, certificate", key), folder: pki });
  t.is((await events.until("registered")).registration.subscriber, "alice");
  const certified = "certificate: client.pem, key: client.key";
  const second = startAgent(t, {
    server: uriOf(server),
    endpoint: "pi-2",
    dpe1: both("certificate, rawPublicKey", certified),
    folder: pki,
  });
  const registered = await events.until("registered", ({ registration }) => registration.endpoint === "pi-2");
  t.is(registered.registration.subscriber, "carol");
  t.is((await second.events.audited({ side: "client" })).mode, "certificate");

  const onlyKeys = await startServer(t, {
    dpe1: BY_KEY,
    credentials: "{ certificate: server.pem, key: server.key, ca: ca.pem }",
    subscribers: `[{ name: alice, keys: ["${prints.alice}"] }]`,
    folder: pki,
  });
  const refused = startAgent(t, {
    server: uriOf(onlyKeys.server),
    dpe1: `connection: dtls, serverAuthentication: certificate, ca: ca.pem, credentials: { ${certified} }`,
    folder: pki,
  });
  t.like((await refused.events.until("refused")).error, { code: "SECURITY_AUTHENTICATION_REFUSED" });
  t.is((await refused.events.audited({ outcome: "failure" })).cause, "unsupported_certificate");
});

test("a certificate stands for a subscriber by the fingerprint of its key too", async (t) => {
  const folder = await makePki(t);
  const print = pemKeyFingerprint(readFileSync(join(folder, "client.pem"), "utf8"));
  t.is(pemKeyFingerprint(readFileSync(join(folder, "client.key"), "utf8")), print);
  const { server, events } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [certificate]",
    credentials: "{ certificate: server.pem, key: server.key, ca: ca.pem }",
    subscribers: `[{ name: carol, keys: ["${print}"] }]`,
    folder,
  });
  startAgent(t, {
    server: uriOf(server),
    dpe1: "connection: dtls, serverAuthentication: certificate, ca: ca.pem, credentials: { certificate: client.pem, key: client.key }",
    folder,
  });
  t.is((await events.until("registered")).registration.subscriber, "carol");
  t.throws(() => pemKeyFingerprint("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), {
    instanceOf: X509Error,
    code: "X509_MALFORMED_PUBLIC_KEY",
  });
});

test("R17 R19 toward an agent that listens, DPE-2 runs by raw public keys of both sides", async (t) => {
  const { folder, prints } = makeKeys(t, "server", "alice", "bob", "other");
  const { server, events } = await startServer(t, {
    dpe1: "connection: none, clientAuthentication: [digest]",
    dpe2: "{ connection: dtls, clientAuthentication: [rawPublicKey] }",
    credentials: "{ rawPublicKey: server.key }",
    subscribers: `[{ name: alice, password: secret, keys: ["${prints.alice}"] }, { name: bob, keys: ["${prints.bob}"] }]`,
    folder,
  });
  const agentOf = (endpoint: string, own: string, pin: string) =>
    startAgent(t, {
      server: uriOf(server, "coap"),
      endpoint,
      dpe1: `connection: none, serverAuthentication: none, credentials: { username: alice, password: secret, rawPublicKey: ${own}.key }`,
      dpe2: `{ bind: ["coaps://127.0.0.1:0"], connection: dtls, serverAuthentication: rawPublicKey, serverKeys: ["${pin}"] }`,
      folder,
    });
  const agent = agentOf("pi-1", "alice", prints.server);
  const wary = agentOf("pi-2", "alice", prints.other);
  // Its key is known, but another subscriber's than the one that registered.
  agentOf("pi-3", "bob", prints.server);
  agentOf("pi-4", "other", prints.server);
  for (const endpoint of ["pi-1", "pi-2", "pi-3", "pi-4"])
    await events.until("report", ({ registration }) => registration.endpoint === endpoint);
  t.is((await server.query("pi-1", "model"))[0]?.value, "test");
  t.like(await events.audited({ interface: "dpe2" }), {
    outcome: "success",
    mode: "rawPublicKey",
    subscriber: "alice",
  });
  t.like(await agent.events.audited({ interface: "dpe2" }), { outcome: "success", mode: "rawPublicKey" });
  t.is(await codeOf(server.query("pi-2", "model")), "DTLS_ALERT_RECEIVED");
  t.is((await wary.events.audited({ interface: "dpe2", outcome: "failure" })).cause, "certificate_unknown");
  t.is(await codeOf(server.query("pi-3", "model")), "SECURITY_CLIENT_NOT_ACCEPTED");
  t.is(await codeOf(server.query("pi-4", "model")), "DTLS_CERTIFICATE_REFUSED");
});

test("a key that is withdrawn, or whose subscriber is banned, ends its association at once", async (t) => {
  const { folder, prints } = makeKeys(t, "server", "alice");
  const { server, events } = await startServer(t, {
    dpe1: BY_KEY,
    credentials: "{ rawPublicKey: server.key }",
    subscribers: `[{ name: alice, keys: ["${prints.alice}"] }]`,
    folder,
  });
  const agent = startAgent(t, { server: uriOf(server), dpe1: agentKeys(prints.server), folder });
  await events.until("report");
  await server.directory.ban("alice", true);
  await agent.events.until("lost", ({ error }) => codeIn(error) === "SECURITY_AUTHENTICATION_REFUSED");
  t.is((await agent.events.audited({ outcome: "failure" })).cause, "certificate_unknown");

  await server.directory.ban("alice", false);
  const again = startAgent(t, { server: uriOf(server), endpoint: "pi-2", dpe1: agentKeys(prints.server), folder });
  await events.until("registered", ({ registration }) => registration.endpoint === "pi-2");
  await server.directory.configure([{ name: "alice", keys: ["00".repeat(32)] }]);
  await again.events.until("lost", ({ error }) => codeIn(error) === "SECURITY_AUTHENTICATION_REFUSED");
});

test("what of raw public keys does not go together is refused with the configuration", (t) => {
  const pin = "ab".repeat(32);
  const agent = (dpe1: string): string => `endpoint: a\nserver: coaps://h\ninterfaces: { dpe1: { ${dpe1} } }\n`;
  const read = (text: string): unknown => parseConfig(text, "agent.yaml", AGENT_SCHEMA);
  t.notThrows(() => read(agent(`connection: dtls, serverAuthentication: rawPublicKey, serverKeys: ["sha256:${pin}"]`)));
  for (const [dpe1, said] of [
    ["connection: dtls, serverAuthentication: rawPublicKey", /serverAuthentication rawPublicKey and serverKeys/],
    [`connection: dtls, serverAuthentication: none, serverKeys: ["${pin}"]`, /rawPublicKey and serverKeys/],
    ['connection: dtls, serverAuthentication: rawPublicKey, serverKeys: ["abc"]', /dpe key FILE/],
    [`connection: dtls, serverAuthentication: rawPublicKey, serverKeys: [7]`, /dpe key FILE/],
  ] as const)
    t.throws(() => read(agent(dpe1)), { message: said });
  t.throws(
    () =>
      parseConfig(
        "credentials: { psk: [{ identity: a, key: b }] }\ninterfaces: { dpe1: { listen: { coaps: 0 }, connection: dtls, clientAuthentication: [rawPublicKey] } }\n",
        "server.yaml",
        SERVER_SCHEMA,
      ),
    { message: /needs credentials.rawPublicKey, or a certificate/ },
  );
});
