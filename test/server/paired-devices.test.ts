import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, deviceFiles, DpeAgent, pairDevice, type PairedDevice } from "#agent/index.js";
import { CODE, formatCode, OPTION, Options } from "#coap/index.js";
import { loadConfig, parseConfig } from "#config/index.js";
import { BINDING_OPTION_FORMATS, CONTENT_FORMAT, PATH } from "#dpe/index.js";
import { CIPHER_SUITES, type CipherSuiteName, type CoapConnection, CoapEndpoint, connect } from "#net/index.js";
import { authErrorOf, encodePairingRequest, pairingPsk, parsePairingCode } from "#security/index.js";
import { DpeServer, type NewCode, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import { codeOf } from "#testing/code-of.js";
import { Events } from "#testing/events.js";
import { CertificateAuthority, generateKeyAndRequest, keyOfRequest, loadCredentials, validityOf } from "#x509/index.js";
import { makePki } from "#testing/dpe-run.js";
import { OpenCodes } from "#server/pairing/open-codes.js";
import { renewalTime } from "#agent/pairing/certificate-renewal.js";
import test, { type ExecutionContext } from "ava";

const CERTIFICATE = "{ credentials: certificate, ca: ca.pem, key: ca.key, every: 30s }";

interface Setup {
  readonly pairing?: string;
  readonly modes?: string;
  readonly psk?: string;
}

async function serve(
  t: ExecutionContext,
  { pairing = CERTIFICATE, modes = "[certificate, psk, digest]", psk = "[]" }: Setup = {},
) {
  const folder = await makePki(t);
  const events = new Events<ServerEvent>();
  const config = `
realm: test
credentials: { certificate: server.pem, key: server.key, ca: ca.pem, psk: ${psk} }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: ${modes} }
  dpe2: { connection: dtls }
subscribers: [{ name: carol, password: secret, certificates: [carol] }]
pairing: ${pairing}
`;
  const server = await DpeServer.start(parseConfig(config, join(folder, "server.yaml"), SERVER_SCHEMA), events.push);
  t.teardown(() => server.close());
  const port = server.addresses.coaps?.port ?? 0;
  const issue = (terms: NewCode = {}) => {
    const issued = server.pairing?.issue(terms);
    if (issued === undefined) throw new Error("no pairing");
    return { ...issued, target: { host: "127.0.0.1", port, code: parsePairingCode(issued.code) } };
  };
  return { server, events, folder, port, issue };
}

/** Writes what a device was given, and runs its agent until it is registered. */
async function run(t: ExecutionContext, paired: PairedDevice, port: number) {
  const folder = mkdtempSync(join(tmpdir(), "dpe-device-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  for (const { name, text } of deviceFiles(paired, `coaps://127.0.0.1:${port}`))
    writeFileSync(join(folder, name), text, { mode: 0o600 });
  const events = new Events<AgentEvent>();
  const agent = new DpeAgent(loadConfig(join(folder, "agent.yaml"), AGENT_SCHEMA), [], events.push);
  t.teardown(() => agent.close());
  await Promise.race([events.until("registered"), agent.stopped]);
  return { agent, events, folder };
}

/** Opens an association with a code as any program could. */
async function open(
  t: ExecutionContext,
  port: number,
  text: string,
  suites = "TLS_ECDHE_PSK",
): Promise<CoapConnection> {
  const cipherSuites = (Object.keys(CIPHER_SUITES) as CipherSuiteName[]).filter((suite) => suite.startsWith(suites));
  const psk = pairingPsk(parsePairingCode(text));
  const session = await connect({ host: "127.0.0.1", port }, { cipherSuites, psk });
  const coap = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  t.teardown(async () => {
    await session.close();
    await coap.close();
  });
  await session.opened;
  return coap.addSession(session);
}

function post(path: readonly string[], payload: Uint8Array = new Uint8Array(0), query: readonly string[] = []) {
  const options = Options.none
    .withAll(OPTION.UriPath, path)
    .with(OPTION.ContentFormat, CONTENT_FORMAT.cbor)
    .withAll(OPTION.UriQuery, query);
  return { code: CODE.POST, options, payload };
}

const wrongSecret = (code: ReturnType<typeof parsePairingCode>) => ({ ...code, secret: "00000000000000000" });

for (const kind of ["certificate", "digest", "psk"] as const) {
  test(`a device is paired with a ${kind}, reports with it, and is out at once when it is banned`, async (t) => {
    const pairing = kind === "certificate" ? CERTIFICATE : `{ credentials: ${kind}, anchors: ca.pem }`;
    const { server, events, issue, port } = await serve(t, { pairing });
    const paired = await pairDevice(issue({ endpoint: "pi-*" }).target, "pi-1");
    t.like(paired.grant, { endpoint: "pi-1", subscriber: "pi-1", kind });
    const device = await run(t, paired, port);
    const { registration } = await events.until("registered");
    t.like(registration, { endpoint: "pi-1", subscriber: "pi-1" });
    t.is((await events.audited({ subscriber: "pi-1", outcome: "success" })).mode, kind);
    await server.directory.ban("pi-1", true);
    const isRefused = ({ error }: { readonly error: unknown }): boolean =>
      error instanceof Error && codeFrom(error) === "SECURITY_AUTHENTICATION_REFUSED";
    if (kind === "psk") await device.events.until("lost", isRefused);
    else t.true(isRefused(await device.events.until("refused")), "by an answer that is authentic");
  });
}

test("the key stays on the device, and openssl takes the certificate for what it is", async (t) => {
  const { folder, issue } = await serve(t);
  const { devicePem = "", grant } = await pairDevice(issue().target, "pi-1");
  const file = join(folder, "device.pem");
  writeFileSync(file, devicePem);
  const openssl = (...words: string[]): string => execFileSync("openssl", words, { encoding: "utf8" });
  t.regex(openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", join(folder, "ca.pem"), file), /: OK/);
  t.throws(() =>
    execFileSync("openssl", ["verify", "-purpose", "sslserver", "-CAfile", join(folder, "ca.pem"), file], {
      stdio: "pipe",
    }),
  );
  const text = openssl("x509", "-in", file, "-noout", "-text");
  t.regex(text, /URI:urn:uuid:/);
  t.regex(text, /CA:FALSE/);
  t.notRegex(text, /pi-1/);
  t.is(grant.secret, undefined);
  t.is(grant.intervalSeconds, 30);
});

test("a code pairs one device", async (t) => {
  const { events, issue } = await serve(t);
  const { target } = issue();
  await pairDevice(target, "pi-1");
  t.is(await codeOf(pairDevice(target, "pi-2")), "SECURITY_PAIRING_REFUSED");
  t.is(events.all.filter((event) => event.type === "pairing" && event.event.outcome === "paired").length, 1);
});

test("of two that use a code at once one is paired", async (t) => {
  const { server, issue } = await serve(t);
  const { target } = issue();
  const outcomes = await Promise.all(["pi-1", "pi-2"].map((name) => codeOf(pairDevice(target, name))));
  t.deepEqual(outcomes.toSorted(), ["SECURITY_PAIRING_REFUSED", "no failure"]);
  t.is((await server.directory.list()).length, 2);
});

test("five wrong tries end a code, and an unknown code is told from a wrong one by nothing", async (t) => {
  const { server, events, issue } = await serve(t);
  const { target, id } = issue();
  const wrong = { ...target, code: wrongSecret(target.code) };
  for (let tries = 1; tries <= 4; tries++) {
    t.is(await codeOf(pairDevice(wrong, "pi-1")), "SECURITY_PAIRING_REFUSED");
    t.like(server.pairing?.code(id), { tries, state: "open" });
  }
  const messageOf = async (code: typeof target.code): Promise<string> =>
    (await t.throwsAsync(pairDevice({ ...target, code }, "pi-1")))?.message ?? "";
  const unknown = await messageOf({ ...target.code, id: "000000" });
  t.is(await messageOf(wrong.code), unknown);
  t.is(server.pairing?.code(id)?.state, "tried-out");
  t.is(await messageOf(target.code), unknown);
  const alerts = events.all.flatMap((event) => (event.type === "audit" ? [event.event.cause] : []));
  t.deepEqual([...new Set(alerts)], ["decrypt_error"]);
});

test("tries with an unknown identifier end no code, and a right try in between counts for nothing", async (t) => {
  const { server, issue } = await serve(t);
  const { target, id } = issue();
  for (const other of ["000000", "000001", "000002", "000003", "000004", "000005"])
    t.is(
      await codeOf(pairDevice({ ...target, code: { ...target.code, id: other } }, "pi-1")),
      "SECURITY_PAIRING_REFUSED",
    );
  t.like(server.pairing?.code(id), { tries: 0, state: "open" });
  t.is(await codeOf(pairDevice(target, "no name")), "SECURITY_PAIRING_REFUSED");
  t.like(server.pairing?.code(id), { tries: 0, state: "open" });
  t.is(await codeOf(pairDevice(target, "pi-1")), "no failure");
});

test("the association of a code may do nothing but pair, nobody else may, and by ECDHE_PSK alone", async (t) => {
  const { events, issue, port } = await serve(t, { pairing: "{ credentials: psk }" });
  const { code } = issue();
  const connection = await open(t, port, code);
  for (const request of [
    post([PATH.dpe1, PATH.registrations], undefined, ["ep=pi-1"]),
    post([PATH.dpe1, PATH.errors]),
    post([PATH.dpe1, PATH.renewal]),
    { ...post([PATH.dpe1]), code: CODE.GET },
    { ...post([".well-known", "core"]), code: CODE.GET },
    { ...post([PATH.dpe1, PATH.pairing]), code: CODE.GET },
  ])
    t.is(authErrorOf(await connection.request(request)), "not-authorized");
  t.regex((await events.audited({ mode: "pairing", outcome: "failure" })).rule, /pair and nothing else/);
  t.is((await connection.request(post([PATH.dpe1, PATH.pairing]))).code, CODE.BadRequest);

  // Without any other pre-shared key the handshake itself fails; with one the decision refuses.
  await t.throwsAsync(open(t, port, issue().code, "TLS_PSK"));
  const other = await serve(t, { pairing: "{ credentials: psk }", psk: '[{ identity: fleet, key: "hex:00" }]' });
  const plain = await open(t, other.port, other.issue().code, "TLS_PSK");
  t.is(authErrorOf(await plain.request(post([PATH.dpe1, PATH.pairing]))), "not-authorized");
  t.regex((await other.events.audited({ mode: "pairing", outcome: "failure" })).rule, /only by ECDHE_PSK/);
});

test("whoever is authenticated otherwise cannot pair, with a key or without", async (t) => {
  const { issue, port } = await serve(t, { pairing: "{ credentials: psk }" });
  const paired = await pairDevice(issue().target, "pi-1");
  const { events } = await run(t, paired, port);
  t.truthy(await events.until("registered"));
  const key = paired.grant.secret ?? new Uint8Array(0);
  const suites = Object.keys(CIPHER_SUITES).filter((suite) => suite.includes("PSK")) as CipherSuiteName[];
  const psk = { identity: new TextEncoder().encode("pi-1"), key };
  const session = await connect({ host: "127.0.0.1", port }, { cipherSuites: suites, psk });
  const coap = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  await session.opened;
  const connection = coap.addSession(session);
  const payload = encodePairingRequest({ endpoint: "pi-2" });
  t.is(authErrorOf(await connection.request(post([PATH.dpe1, PATH.pairing], payload))), "not-authorized");
  const { request } = await generateKeyAndRequest();
  const renewal = post([PATH.dpe1, PATH.renewal], encodePairingRequest({ request }));
  t.is(authErrorOf(await connection.request(renewal)), "not-authorized");
  const anchors = post([PATH.dpe1, PATH.renewal], encodePairingRequest({}));
  t.is((await connection.request(anchors)).code, CODE.NotFound, "by psk there is nothing to trust");
  await session.close();
  await coap.close();
});

test("names: those that the code is for, that nobody has, and no subscriber of the configuration", async (t) => {
  const { server, issue, port } = await serve(t);
  const said = async (terms: NewCode, name: string): Promise<string> => {
    try {
      await pairDevice(issue(terms).target, name);
      return "paired";
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  };
  t.regex(await said({ endpoint: "pi-*" }, "mac-1"), /4\.00: DPE_BAD_ENDPOINT_NAME/);
  t.regex(await said({}, "no name"), /4\.00: DPE_BAD_ENDPOINT_NAME/);
  t.regex(await said({}, "carol"), /4\.09: DPE_SUBSCRIBER_EXISTS/);
  t.regex(await said({ subscriber: "carol", replaces: true }, "pi-1"), /4\.09: DPE_SUBSCRIBER_CONFIGURED/);
  const first = await pairDevice(issue().target, "pi-1");
  const { agent } = await run(t, first, port);
  t.regex(await said({}, "pi-1"), /4\.09: DPE_SUBSCRIBER_EXISTS/);
  t.regex(await said({ subscriber: "other" }, "pi-1"), /4\.09: DPE_NAME_TAKEN/);
  t.is(await said({ replaces: true }, "pi-1"), "paired");
  t.is(codeFrom(await t.throwsAsync(agent.stopped)), "SECURITY_AUTHENTICATION_REFUSED");
  await server.directory.ban("pi-1", true);
  t.regex(await said({ replaces: true }, "pi-1"), /4\.09: DPE_SUBSCRIBER_BANNED/);
});

test.serial("nothing is signed for who is refused, and for one device no more than ten times an hour", async (t) => {
  t.timeout(60_000);
  type Issue = (
    this: CertificateAuthority,
    ...options: Parameters<CertificateAuthority["issueClient"]>
  ) => ReturnType<CertificateAuthority["issueClient"]>;
  const issueClient = Reflect.get(CertificateAuthority.prototype, "issueClient") as Issue;
  let signed = 0;
  CertificateAuthority.prototype.issueClient = function counted(options) {
    signed++;
    return issueClient.call(this, options);
  };
  t.teardown(() => (CertificateAuthority.prototype.issueClient = issueClient));
  const { issue, port } = await serve(t);
  const paired = await pairDevice(issue().target, "pi-1");
  t.is(signed, 1);
  for (const terms of [{}, { subscriber: "carol", replaces: true }])
    await t.throwsAsync(pairDevice(issue(terms).target, "pi-1"), { message: /4\.09: DPE_SUBSCRIBER_/ });
  await t.throwsAsync(pairDevice(issue().target, "carol"), { message: /4\.09: DPE_SUBSCRIBER_EXISTS/ });
  t.is(signed, 1, "refused before the CA signs");

  const { devicePem = "" } = paired;
  const session = await connect(
    { host: "127.0.0.1", port },
    { certificate: loadCredentials(devicePem, devicePem), verify: () => ({ ok: true }) },
  );
  const coap = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  t.teardown(async () => {
    await session.close();
    await coap.close();
  });
  await session.opened;
  const connection = coap.addSession(session);
  const { request } = await generateKeyAndRequest();
  const renewal = post([PATH.dpe1, PATH.renewal], encodePairingRequest({ request }));
  const codes: string[] = [];
  for (let n = 0; n < 12; n++) codes.push(formatCode((await connection.request(renewal)).code));
  t.deepEqual(codes, [...Array.from({ length: 10 }, () => "2.04"), "4.29", "4.29"]);
  t.is(signed, 11);
  const limited = await connection.request(renewal);
  t.true((limited.options.uint(OPTION.MaxAge) ?? 0) > 3500);
});

test("a request that is none of a key is refused, and the code stays open", async (t) => {
  const { server, issue, port } = await serve(t);
  const { code, id } = issue();
  const connection = await open(t, port, code);
  const { request } = await generateKeyAndRequest();
  const tampered = request.slice();
  tampered[tampered.length - 1] = (tampered.at(-1) ?? 0) ^ 1;
  for (const bad of [tampered, Uint8Array.of(1), new Uint8Array(2000)]) {
    const answer = await connection.request(
      post([PATH.dpe1, PATH.pairing], encodePairingRequest({ request: bad, endpoint: "pi-1" })),
    );
    t.is(formatCode(answer.code), "4.00");
  }
  t.is(server.pairing?.code(id)?.state, "open");
});

test("a certificate is renewed over the association at two thirds of its validity, for a key of its own", async (t) => {
  const { events, folder, issue, port } = await serve(t);
  const paired = await pairDevice(issue().target, "pi-1");
  // The same name, from the same CA, as if most of its time were over.
  const authority = new CertificateAuthority(
    readFileSync(join(folder, "ca.pem"), "utf8"),
    readFileSync(join(folder, "ca.key"), "utf8"),
  );
  const { privateKeyPem, request } = await generateKeyAndRequest();
  const publicKey = await keyOfRequest(request);
  const uri = /URI:(urn:uuid:[0-9a-f-]+)/.exec(textOf(t, folder, paired.devicePem ?? ""))?.[1] ?? "";
  if (publicKey === undefined) throw new Error("unreachable");
  const old = await authority.issueClient({
    publicKey,
    uri,
    atMs: Date.now() - 80 * 86_400_000,
    lifetimeMs: 90 * 86_400_000,
  });
  const { certificate } = old;
  const aged = { ...paired, devicePem: `${pemOf(certificate)}${privateKeyPem}` };
  const { agent, events: told, folder: device } = await run(t, aged, port);
  const { validUntil } = await told.until("renewed");
  t.true(validUntil > Date.now() + 20 * 86_400_000);
  await events.until("pairing", ({ event }) => event.outcome === "renewed" && event.subscriber === "pi-1");
  const text = readFileSync(join(device, "device.pem"), "utf8");
  t.is(statSync(join(device, "device.pem")).mode & 0o777, 0o600);
  t.false(text.includes(privateKeyPem));
  t.true(textOf(t, folder, text).includes(uri));
  // The agent's own next handshake, and a restart, use the new one.
  await agent.close();
  const again = new Events<AgentEvent>();
  const next = new DpeAgent(loadConfig(join(device, "agent.yaml"), AGENT_SCHEMA), [], again.push);
  t.teardown(() => next.close());
  await again.until("registered");
  t.is(again.all.filter(({ type }) => type === "renewed").length, 0);
});

test("a certificate is due at two thirds of its validity, and up to a tenth of it earlier", async (t) => {
  const folder = await makePki(t);
  const authority = new CertificateAuthority(
    readFileSync(join(folder, "ca.pem"), "utf8"),
    readFileSync(join(folder, "ca.key"), "utf8"),
  );
  const publicKey = await keyOfRequest((await generateKeyAndRequest()).request);
  if (publicKey === undefined) throw new Error("unreachable");
  const atMs = Math.floor(Date.now() / 1000) * 1000;
  const { certificate } = await authority.issueClient({ publicKey, uri: "urn:uuid:1", atMs, lifetimeMs: 100_000 });
  t.deepEqual(validityOf(certificate), { notBeforeMs: atMs - 10_000, notAfterMs: atMs + 100_000 });
  t.is(Math.round(renewalTime(certificate, 0)), atMs - 10_000 + Math.round((110_000 * 2) / 3));
  t.true(renewalTime(certificate, 0.1) < renewalTime(certificate, 0));
  const { notAfterMs } = await authority.issueClient({
    publicKey,
    uri: "urn:uuid:1",
    atMs,
    lifetimeMs: 10 * 365 * 86_400_000,
  });
  t.true(notAfterMs < atMs + 31 * 86_400_000, "never longer than the CA's own");
});

test("codes expire, are revoked, and no more than a number are open", (t) => {
  const codes = new OpenCodes({ maxCodes: 2 });
  const code = (id: string) => ({ id, secret: "00000000000000000" });
  const terms = { expiresAt: 1000, replaces: false };
  codes.add(code("AAAAAA"), terms, 0);
  codes.add(code("BBBBBB"), terms, 0);
  t.throws(() => codes.add(code("CCCCCC"), terms, 0), { code: "DPE_TOO_MANY_CODES" });
  t.true(codes.end("BBBBBB", { type: "revoked" }, 0));
  t.false(codes.end("BBBBBB", { type: "revoked" }, 0));
  t.is(codes.keyOf("BBBBBB", 0), undefined);
  codes.add(code("CCCCCC"), { ...terms, expiresAt: 5000 }, 0);
  t.truthy(codes.keyOf("AAAAAA", 999));
  t.is(codes.keyOf("AAAAAA", 1000), undefined);
  t.is(codes.termsOf("AAAAAA", 1000), undefined);
  t.deepEqual(
    codes.list(1000).map(({ id, state }) => [id, state]),
    [["CCCCCC", "open"]],
  );
  // At the same time as one after another.
  for (let tries = 0; tries < 5; tries++) t.truthy(codes.keyOf("CCCCCC", 1000));
  t.is(codes.keyOf("CCCCCC", 1000), undefined);
});

test("a server whose CA it would not accept itself does not start", async (t) => {
  const [folder, other] = [await makePki(t), await makePki(t)];
  const config = `
credentials: { certificate: server.pem, key: server.key, ca: ca.pem }
interfaces: { dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [certificate] } }
pairing: { ca: ${other}/ca.pem, key: ${other}/ca.key }
`;
  const parsed = parseConfig(config, join(folder, "server.yaml"), SERVER_SCHEMA);
  t.is(await codeOf(DpeServer.start(parsed)), "X509_BAD_OPTION");
});

function codeFrom(error: Error | undefined): string {
  return error !== undefined && "code" in error ? String(error.code) : "";
}

function textOf(t: ExecutionContext, folder: string, pem: string): string {
  const file = join(folder, `${Math.random()}.pem`);
  t.teardown(() => rmSync(file, { force: true }));
  writeFileSync(file, pem);
  return execFileSync("openssl", ["x509", "-in", file, "-noout", "-text"], { encoding: "utf8" });
}

function pemOf(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}
