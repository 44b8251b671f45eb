import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { AGENT_SCHEMA } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { computeHa1, createStoredCredential, DigestClient, NonceKeeper } from "#digest/index.js";
import { connect } from "#net/index.js";
import { ServerGuard, Subscribers } from "#security/index.js";
import { SERVER_SCHEMA } from "#server/index.js";
import { Store } from "#store/index.js";
import { startAgent, startServer, uriOf } from "#testing/dpe-run.js";
import test from "ava";

/*
 * Whatever an operator may have printed, by a log, a debugger's console or an error that was not expected, shows no secret:
 * no text of it, and no bytes in any of the forms that Node.js prints them in.
 */

const PASSWORD = "correct-horse-7f3a";
const KEY = "a1b2c3d4e5f60718293a4b5c6d7e8f90";

/** All that is shown of a value, by JSON too where it can be. */
function shownOf(value: unknown): string {
  const shown = [
    inspect(value, { depth: 20, showHidden: true, maxArrayLength: 1000, maxStringLength: 100_000 }),
    inspect(value, { depth: 20, getters: true, maxArrayLength: 1000, maxStringLength: 100_000 }),
    String(value),
    ...(value instanceof Error ? [value.stack ?? "", shownOf(value.cause ?? "")] : []),
  ];
  try {
    shown.push(JSON.stringify(value) ?? "");
  } catch {
    // A cycle has no JSON.
  }
  return shown.join("\n");
}

/** The secrets that a text shows, by the first eight bytes of each. */
function found(text: string, secrets: Readonly<Record<string, Uint8Array>>): string[] {
  const bare = text.toLowerCase().replaceAll(/\s+/g, "");
  return Object.entries(secrets).flatMap(([name, bytes]) => {
    const start = [...bytes.subarray(0, 8)];
    const forms = {
      text: new TextDecoder().decode(bytes).toLowerCase(),
      hex: Buffer.from(start).toString("hex"),
      list: start.join(","),
      object: start.map((byte, index) => `"${index}":${byte}`).join(","),
      base64: Buffer.from(bytes).toString("base64").slice(0, 10).toLowerCase(),
    };
    return Object.entries(forms).flatMap(([form, wanted]) => (bare.includes(wanted) ? [`${name} as ${form}`] : []));
  });
}

const SECRETS = {
  password: new TextEncoder().encode(PASSWORD),
  key: Buffer.from(KEY, "hex"),
  ha1: Buffer.from(computeHa1("SHA-256", "alice", "test", PASSWORD), "hex"),
};

test("the search finds a secret in each form that it may be printed in", (t) => {
  for (const value of [
    { password: PASSWORD },
    new Uint8Array(SECRETS.key),
    Buffer.from(SECRETS.key),
    { key: KEY.toUpperCase() },
    { deep: { list: [...SECRETS.ha1] } },
    SECRETS.ha1.toString("base64"),
    new Error(`it was ${PASSWORD}`),
    new Error("no", { cause: new Error("deeper", { cause: { key: new Uint8Array(SECRETS.key) } }) }),
  ])
    t.true(found(shownOf(value), SECRETS).length > 0, inspect(value));
  t.deepEqual(found(shownOf({ name: "alice" }), SECRETS), []);
});

test("subscribers, credentials, Digest and the guard show none of their secrets", (t) => {
  const credential = createStoredCredential({ username: "alice", realm: "test", password: PASSWORD });
  const alice = {
    name: "alice",
    digest: credential,
    psk: { identity: new TextEncoder().encode("alice"), key: new Uint8Array(SECRETS.key) },
  };
  const subscribers = new Subscribers([alice]);
  const client = new DigestClient({ secret: { username: "alice", password: PASSWORD }, random: randomBytes });
  client.takeChallenge({
    realm: "test",
    nonce: randomBytes(40),
    stale: false,
    algorithms: ["SHA-256"],
    qops: ["auth"],
    userhash: false,
  });
  const keeper = new NonceKeeper({ key: Buffer.concat([SECRETS.key, SECRETS.key]), random: randomBytes });
  const guard = new ServerGuard(
    "dpe1",
    {
      connection: "none",
      clientAuthentication: ["digest"],
      digest: { realm: "test", algorithms: ["SHA-256"], qops: ["auth"], scope: "request" },
    },
    { subscribers, random: (size) => Buffer.concat([SECRETS.key, SECRETS.key]).subarray(0, size) },
  );
  const all = {
    alice,
    subscribers,
    credential,
    client,
    attempt: client.attempt({ method: "GET", uri: "/", body: new Uint8Array(0) }),
    keeper,
    guard,
  };
  for (const [name, value] of Object.entries(all)) t.deepEqual(found(shownOf(value), SECRETS), [], name);
  // What is hidden is there still, for whoever asks for it by name.
  t.deepEqual(Buffer.from(subscribers.named("alice")?.psk?.key ?? []), SECRETS.key);
  t.deepEqual(Buffer.from(credential.ha1["SHA-256"] ?? []), SECRETS.ha1);
});

test("configurations, a server and an agent that run, their sessions, events and errors show no secret", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-secrets-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  writeFileSync(join(folder, "own.key"), pem, { mode: 0o600 });
  const d = Buffer.from(privateKey.export({ format: "jwk" }).d ?? "", "base64url");
  const secrets = { ...SECRETS, privateKey: d, pem: new TextEncoder().encode(pem.split("\n")[1] ?? "") };
  const store = await Store.open({ type: "memory" });
  t.teardown(() => store.close());
  const { server, events } = await startServer(t, {
    dpe1: "connection: dtls, clientAuthentication: [digest]",
    dpe2: "{ clientAuthentication: [digest] }",
    credentials: `{ rawPublicKey: own.key, psk: [{ identity: fleet, key: "hex:${KEY}" }] }`,
    subscribers: `[{ name: alice, password: ${PASSWORD}, psk: { identity: alice, key: "hex:${KEY}" } }]`,
    folder,
    parts: { store },
  });
  await server.directory.add({ name: "added", password: PASSWORD, psk: { identity: "added", key: SECRETS.key } });
  const byKey = (login: string): string =>
    `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: fleet, key: "hex:${KEY}" }, ${login} }`;
  const right = startAgent(t, { server: uriOf(server), dpe1: byKey(`username: alice, password: ${PASSWORD}`) });
  await events.until("report");
  await server.query("pi-1", "model");
  const wrong = startAgent(t, {
    server: uriOf(server),
    endpoint: "pi-2",
    dpe1: byKey(`username: bob, password: ${PASSWORD}`),
  });
  const refused = await wrong.events.until("refused");
  const psk = { identity: new TextEncoder().encode("fleet"), key: new Uint8Array(SECRETS.key) };
  const session = await connect({ host: "127.0.0.1", port: server.addresses.coaps!.port }, { psk });
  t.teardown(() => session.close());
  await session.opened;
  const config = `
credentials: { rawPublicKey: own.key, psk: [{ identity: fleet, key: "hex:${KEY}" }] }
http: { port: 1, token: ${PASSWORD} }
mqtt: { url: "mqtt://127.0.0.1", username: a, password: ${PASSWORD} }
interfaces: { dpe1: { listen: { coaps: 0 }, connection: dtls, clientAuthentication: [digest] } }
subscribers: [{ name: alice, password: ${PASSWORD} }]
`;
  const agentConfig = `{ endpoint: a, server: "coaps://h", interfaces: { dpe1: { ${byKey(`username: alice, password: ${PASSWORD}`)} } } }`;
  const all = {
    server,
    store,
    audit: server.audit.list(),
    directory: server.directory,
    subscribers: await server.directory.list(),
    rows: await store.audit.page({ limit: 100 }),
    agents: [right.agent, wrong.agent],
    events: [events.all, right.events.all, wrong.events.all],
    error: refused.error,
    session,
    serverConfig: parseConfig(config, join(folder, "server.yaml"), SERVER_SCHEMA),
    agentConfig: parseConfig(agentConfig, "agent.yaml", AGENT_SCHEMA),
    badConfig: (() => {
      try {
        return parseConfig(config.replace("name: alice", "nam: alice"), join(folder, "server.yaml"), SERVER_SCHEMA);
      } catch (error) {
        return error;
      }
    })(),
  };
  for (const [name, value] of Object.entries(all)) t.deepEqual(found(shownOf(value), secrets), [], name);
});
