import { X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, deviceFiles, DpeAgent, pairDevice, type Source } from "#agent/index.js";
import { CODE, Options } from "#coap/index.js";
import { loadConfig } from "#config/index.js";
import { connect } from "#net/index.js";
import { encodePairingAnchors, parsePairingCode } from "#security/index.js";
import {
  CertificateFiles,
  CertificateKeeper,
  DpeServer,
  ownCertificates,
  RENEWED_FOR_MS,
  renewWhatIsDue,
  SERVER_SCHEMA,
  type ServerEvent,
} from "#server/index.js";
import { Events } from "#testing/events.js";
import { until } from "#testing/until.js";
import {
  CertificateAuthority,
  decodePemCertificates,
  encodePemCertificates,
  generateKeyAndRequest,
  issueThrowawayCredentials,
  keyOfRequest,
  loadTrustAnchors,
  verifyPeerCertificates,
} from "#x509/index.js";
import { CertificateRenewal } from "#agent/pairing/certificate-renewal.js";
import { TrustRenewal } from "#agent/pairing/trust-renewal.js";
import test, { type ExecutionContext } from "ava";

const DAY_MS = 86_400_000;

/** A folder as `dpe init server` makes it, of a CA and a certificate that are that old; and the server of it. */
async function initialized(
  t: ExecutionContext,
  { renew = false, days = 730, caDays = 3650, agoDays = 0, kind = "certificate" } = {},
) {
  const folder = mkdtempSync(join(tmpdir(), "dpe-renewal-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const { authority, certificatePem, privateKeyPem } = await issueThrowawayCredentials({
    commonName: "DPE Server",
    authorityName: "DPE CA",
    purpose: "serverAuth",
    atMs: Date.now() - agoDays * DAY_MS,
    validityDays: days,
    authorityValidityDays: caDays,
    dns: ["localhost"],
    ip: ["127.0.0.1"],
  });
  const write = (name: string, text: string, mode = 0o600): void => writeFileSync(join(folder, name), text, { mode });
  write("ca.pem", authority.certificatePem, 0o644);
  write("ca.key", authority.privateKeyPem);
  write("server.pem", certificatePem);
  write("server.key", privateKeyPem);
  const yaml = (port: number): string => `
credentials: { certificate: server.pem, key: server.key, ca: ca.pem${renew ? ", renew: true" : ""} }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${port} }, connection: dtls, clientAuthentication: [${kind}] }
  dpe2: { connection: dtls }
pairing: { credentials: ${kind}, ca: ca.pem, key: ca.key }
`;
  let bound = 0;
  const file = join(folder, "server.yaml");
  const config = () => {
    writeFileSync(file, yaml(bound));
    return loadConfig(file, SERVER_SCHEMA);
  };
  const read = (name: string): string => readFileSync(join(folder, name), "utf8");
  const start = async () => {
    const events = new Events<ServerEvent>();
    const counts: number[] = [];
    const server = await DpeServer.start(config(), (event) => {
      events.push(event);
      if (event.type !== "report") return;
      for (const { name, value } of event.records) if (name === "counter") counts.push(Number(value));
    });
    bound = server.addresses.coaps?.port ?? 0;
    t.teardown(() => server.close());
    return { server, events, counts };
  };
  return { folder, read, write, config, start, port: () => bound };
}

/** A device that counts, and renews; its certificate is as old as that part of its validity. */
async function device(t: ExecutionContext, server: DpeServer, port: number) {
  const issued = server.pairing?.issue({});
  const target = { host: "127.0.0.1", port, code: parsePairingCode(issued?.code ?? "") };
  const folder = mkdtempSync(join(tmpdir(), "dpe-device-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  for (const { name, text } of deviceFiles(await pairDevice(target, "pi-1"), `coaps://127.0.0.1:${port}`))
    writeFileSync(join(folder, name), text, { mode: 0o600 });
  let count = 0;
  const start = () => {
    const events = new Events<AgentEvent>();
    const read = () => Promise.resolve([{ name: "counter", value: ++count }]);
    const source: Source = { name: "counter", everyMs: 50, read };
    const agent = new DpeAgent(loadConfig(join(folder, "agent.yaml"), AGENT_SCHEMA), [source], events.push);
    t.teardown(() => agent.close());
    return { agent, events };
  };
  /** As if two thirds of its time were over. */
  const age = async (caPem: string, caKey: string): Promise<void> => {
    const file = join(folder, "device.pem");
    const uri = /URI:(urn:uuid:[0-9a-f-]+)/.exec(new X509Certificate(readFileSync(file)).subjectAltName ?? "")?.[1];
    const { privateKeyPem, request } = await generateKeyAndRequest();
    const publicKey = await keyOfRequest(request);
    if (publicKey === undefined || uri === undefined) throw new Error("unreachable");
    const times = { atMs: Date.now() - 80 * DAY_MS, lifetimeMs: 90 * DAY_MS };
    const { certificate } = await new CertificateAuthority(caPem, caKey).issueClient({ publicKey, uri, ...times });
    writeFileSync(file, `${encodePemCertificates([certificate])}${privateKeyPem}`);
  };
  return { folder, start, age, read: (name: string) => readFileSync(join(folder, name), "utf8") };
}

/** The chain that a handshake shows, to whoever trusts these alone. */
async function shownTo(port: number, anchors: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
  let shown: readonly Uint8Array[] = [];
  const verify = (certificates: readonly Uint8Array[]) => {
    shown = certificates.map((der) => der.slice());
    const name = { type: "ip", address: "127.0.0.1" } as const;
    return verifyPeerCertificates(certificates, { anchors, purpose: "serverAuth", atMs: Date.now(), name });
  };
  const session = await connect({ host: "127.0.0.1", port }, { verify });
  await session.opened.catch((error: unknown) => {
    // The server asks for a certificate of ours, and refuses us without; what it shows is verified by then.
    if (!String(error).includes("certificate") && !String(error).includes("handshake_failure")) throw error;
  });
  await session.close();
  return shown;
}

const serialOf = (der: Uint8Array | undefined): string => new X509Certificate(der ?? new Uint8Array(0)).serialNumber;
const anchorsOf = (pem: string): readonly Uint8Array[] => loadTrustAnchors(pem);
const isInOrder = (counts: readonly number[]): boolean => counts.every((count, index) => count === index + 1);

test("a renewed server certificate is shown at once; no association ends, and no reading is lost", async (t) => {
  t.timeout(60_000);
  const made = await initialized(t);
  const { server, events, counts } = await made.start();
  const paired = await device(t, server, made.port());
  const { agent, events: told } = paired.start();
  await until(() => counts.length > 3);
  const before = decodePemCertificates(made.read("server.pem"))[0];
  const key = made.read("server.key");
  const now = Date.now();
  const until500 = now + 500 * DAY_MS;
  t.is(
    Math.floor((await new CertificateFiles(made.config()).renewServer({ notAfterMs: until500 }, now)) / 1000),
    Math.floor(until500 / 1000),
  );
  t.is(made.read("server.key"), key, "the key stays");
  await server.reload(made.config());
  t.is((await events.until("reloaded")).associationsEnded, 0);
  const had = counts.length;
  await until(() => counts.length > had + 3);
  t.is(server.associationCounts.full, 2, "the pairing, and the agent's one");
  const [shown] = await shownTo(made.port(), anchorsOf(paired.read("ca.pem")));
  t.not(serialOf(shown), serialOf(before));
  const [was, is] = [before, shown].map((der) => new X509Certificate(der ?? new Uint8Array(0)));
  t.deepEqual([is?.subject, is?.subjectAltName], [was?.subject, was?.subjectAltName]);
  t.is(is?.validFrom, was?.validFrom, "clocks of devices may be behind");
  t.false(told.all.some(({ type }) => type === "lost" || type === "moved"));
  await agent.close();
  t.true(isInOrder(counts));
});

test("a CA whose certificate is renewed goes on for devices of before, which trust the new one after their renewal", async (t) => {
  t.timeout(60_000);
  const made = await initialized(t);
  const { server, counts } = await made.start();
  const paired = await device(t, server, made.port());
  const old = made.read("ca.pem");
  await paired.age(old, made.read("ca.key"));
  const files = new CertificateFiles(made.config());
  await files.renewAuthority(Date.now() + 3650 * DAY_MS);
  t.is(statSync(join(made.folder, "ca.pem")).mode & 0o777, 0o644, "as it was");
  await server.reload(made.config());
  t.is(paired.read("ca.pem").replaceAll(/\s/g, ""), old.replaceAll(/\s/g, ""));
  const { agent, events } = paired.start();
  await events.until("renewed");
  t.deepEqual(anchorsOf(paired.read("ca.pem")).map(serialOf), anchorsOf(made.read("ca.pem")).map(serialOf));
  await until(() => counts.length > 3);
  await agent.close();
  const again = paired.start();
  await again.events.until("registered");
  await again.agent.close();
  t.true(isInOrder(counts));
});

test("a device that was paired by password trusts the next CA before its own ends, and goes on when that is taken away", async (t) => {
  t.timeout(60_000);
  // Its CA ends in a minute and a half, so that the device asks in the next seconds.
  const made = await initialized(t, { kind: "digest", days: 3650, agoDays: 3650 - 90 / 86_400 });
  const { server, counts } = await made.start();
  const paired = await device(t, server, made.port());
  const old = made.read("ca.pem");
  const now = Date.now();
  const terms = { notAfterMs: now + 730 * DAY_MS, authorityNotAfterMs: now + 3650 * DAY_MS };
  await new CertificateFiles(made.config()).succeedAuthority(terms, now);
  await server.reload(made.config());
  t.deepEqual(anchorsOf(paired.read("ca.pem")).map(serialOf), anchorsOf(old).map(serialOf));
  const first = paired.start();
  t.is((await first.events.until("trust-renewed")).anchors, 2, "the next one, and the one that still is");
  t.deepEqual(anchorsOf(paired.read("ca.pem")).map(serialOf), anchorsOf(made.read("ca.pem")).map(serialOf));
  t.is(statSync(join(paired.folder, "ca.pem")).mode & 0o777, 0o600);
  await until(() => counts.length > 3);
  await first.agent.close();
  const [next] = anchorsOf(made.read("ca.pem"));
  if (next === undefined) throw new Error("unreachable");
  made.write("ca.pem", encodePemCertificates([next]), 0o644);
  made.write("server.pem", made.read("server.pem").replace(/(?<=-----END CERTIFICATE-----\n)[^]*/, ""));
  await server.reload(made.config());
  const second = paired.start();
  const had = counts.length;
  await until(() => counts.length > had + 3);
  t.is((await second.events.until("trust-renewed")).anchors, 1, "the old one is needed no more");
  t.false(second.events.all.some(({ type }) => type === "renewal-failed"));
  await second.agent.close();
  t.true(isInOrder(counts));
});

test("a clock that was years ahead when renewals failed puts none off once it is set back", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-ahead-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const now = Date.now();
  const ahead = now + 12 * 365 * 86_400_000;
  const made = await issueThrowawayCredentials({
    commonName: "pi-1",
    purpose: "clientAuth",
    atMs: now,
    dns: ["localhost"],
  });
  const [device, ca] = [join(folder, "device.pem"), join(folder, "ca.pem")];
  writeFileSync(device, made.certificatePem + made.privateKeyPem);
  writeFileSync(ca, made.authority.certificatePem);
  const certificate = new CertificateRenewal(device, 0);
  const planned = certificate.dueAt(now);
  const trust = new TrustRenewal(ca, 0, ahead);
  const server = {
    anchorsFile: ca,
    serverCertificates: undefined,
    renew: () => Promise.reject(new Error("not now")),
  };
  await t.throwsAsync(certificate.renew(server, ahead), { message: "not now" });
  await t.throwsAsync(trust.renew(server, ahead), { message: "not now" });
  t.true(certificate.dueAt(ahead) > ahead, "while it is ahead it waits");
  t.true(trust.dueAt(ahead) > ahead);
  t.is(certificate.dueAt(now), planned);
  const week = 7 * 86_400_000;
  t.is(trust.dueAt(now), now + week);
  t.true(trust.dueAt(now + week) <= now + week, "and the week passes");
});

test("anchors are taken of no server that was accepted by anything but its certificate", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-anchors-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const make = (name: string) =>
    issueThrowawayCredentials({
      commonName: name,
      authorityName: name,
      purpose: "serverAuth",
      atMs: Date.now(),
      dns: ["localhost"],
    });
  const [ours, theirs] = [(await make("ours")).authority, (await make("theirs")).authority];
  const file = join(folder, "ca.pem");
  writeFileSync(file, ours.certificatePem);
  const asked: number[] = [];
  const payload = encodePairingAnchors(anchorsOf(theirs.certificatePem));
  const renew = () => {
    asked.push(1);
    return Promise.resolve({ code: CODE.Changed, options: Options.none, payload });
  };
  const trust = new TrustRenewal(file, 0, Date.now());
  t.true(trust.dueAt(Date.now()) <= Date.now());
  t.is(await trust.renew({ anchorsFile: undefined, serverCertificates: undefined, renew }, Date.now()), undefined);
  t.deepEqual(asked, []);
  t.is(readFileSync(file, "utf8"), ours.certificatePem);
  t.true(trust.dueAt(Date.now()) > Date.now());
  // A resumed association shows no certificate: what was trusted stays.
  t.is(await trust.renew({ anchorsFile: file, serverCertificates: [], renew }, Date.now()), 2);
  t.deepEqual(
    anchorsOf(readFileSync(file, "utf8")).map(serialOf),
    anchorsOf(theirs.certificatePem + ours.certificatePem).map(serialOf),
  );
  t.is(await trust.renew({ anchorsFile: file, serverCertificates: [], renew }, Date.now()), undefined, "no change");
  const refusing = () => Promise.resolve({ code: CODE.Forbidden, options: Options.none, payload: new Uint8Array(0) });
  await t.throwsAsync(trust.renew({ anchorsFile: file, serverCertificates: [], renew: refusing }, Date.now()), {
    code: "SECURITY_PAIRING_REFUSED",
  });
  const other = { code: CODE.Changed, options: Options.none, payload: Uint8Array.of(0xa0) };
  await t.throwsAsync(
    trust.renew({ anchorsFile: file, serverCertificates: [], renew: () => Promise.resolve(other) }, Date.now()),
    { code: "SECURITY_BAD_PAIRING_MESSAGE" },
  );
});

test("a CA with a new key: devices of before are led to it, renew under it, and need the old one no more", async (t) => {
  t.timeout(60_000);
  const made = await initialized(t);
  const { server, counts } = await made.start();
  const paired = await device(t, server, made.port());
  const first = paired.start();
  await until(() => counts.length > 3);
  const [old, oldKey] = [made.read("ca.pem"), made.read("ca.key")];
  const now = Date.now();
  const terms = {
    notAfterMs: now + 730 * DAY_MS,
    authorityNotAfterMs: now + RENEWED_FOR_MS.authority,
    hasNewKey: true,
  };
  await new CertificateFiles(made.config()).succeedAuthority(terms, now);
  t.is(made.read("ca.key.old"), oldKey);
  t.is(statSync(join(made.folder, "ca.key.old")).mode & 0o777, 0o600);
  t.not(made.read("ca.key"), oldKey);
  await server.reload(made.config());
  t.is(server.connections, 1, "the device's association goes on");
  await until(() => counts.length > 8);
  await first.agent.close();

  // Who trusts either one accepts the server.
  const [newest, kept] = anchorsOf(made.read("ca.pem"));
  t.is(serialOf(kept), serialOf(anchorsOf(old)[0]));
  for (const anchor of [newest, kept]) {
    const shown = await shownTo(made.port(), anchor === undefined ? [] : [anchor]);
    t.is(shown.length, 2);
    const anchors = anchor === undefined ? [] : [anchor];
    t.true((await verifyPeerCertificates(shown, { anchors, purpose: "serverAuth", atMs: now })).ok);
  }
  // A device that renews gets a certificate of the new CA, and trusts it.
  await paired.age(old, oldKey);
  const second = paired.start();
  await second.events.until("renewed");
  t.true(anchorsOf(paired.read("ca.pem")).some((der) => serialOf(der) === serialOf(newest)));
  await until(() => counts.length > 12);
  await second.agent.close();
  const leaf = new X509Certificate(paired.read("device.pem"));
  t.true(leaf.verify(new X509Certificate(newest ?? new Uint8Array(0)).publicKey));

  // The old CA goes: this device does not notice.
  writeFileSync(join(made.folder, "ca.pem"), encodePemCertificates(newest === undefined ? [] : [newest]));
  await server.reload(made.config());
  writeFileSync(join(paired.folder, "ca.pem"), encodePemCertificates(newest === undefined ? [] : [newest]));
  const third = paired.start();
  await third.events.until("registered");
  await third.agent.close();
  t.true(isInOrder(counts));
});

test("anchors of a renewal can lock no device out: what the server has not been seen to lead to comes beside", async (t) => {
  const other = await issueThrowawayCredentials({ commonName: "x", purpose: "clientAuth", atMs: Date.now() });
  const made = await initialized(t);
  writeFileSync(join(made.folder, "other.pem"), other.authority.certificatePem);
  const plain = made.config();
  t.truthy(plain.pairing);
  const events = new Events<ServerEvent>();
  const config = { ...plain, pairing: plain.pairing && { ...plain.pairing, anchors: join(made.folder, "other.pem") } };
  const server = await DpeServer.start(config, events.push);
  t.teardown(() => server.close());
  const port = server.addresses.coaps?.port ?? 0;
  const paired = await device(t, server, port);
  writeFileSync(join(paired.folder, "ca.pem"), made.read("ca.pem"));
  await paired.age(made.read("ca.pem"), made.read("ca.key"));
  const { events: told } = paired.start();
  await told.until("renewed");
  const trusted = anchorsOf(paired.read("ca.pem")).map(serialOf).toSorted();
  const both = [made.read("ca.pem"), made.read("other.pem")].flatMap((pem) => anchorsOf(pem).map(serialOf));
  t.deepEqual(trusted, both.toSorted());
});

test("a server renews what is due by itself, with a third of its time left, and what has expired before it starts", async (t) => {
  const young = await initialized(t, { renew: true });
  t.deepEqual(await renewWhatIsDue(new CertificateFiles(young.config()), Date.now()), []);
  const aging = await initialized(t, { renew: true, agoDays: 500 });
  const events = new Events<ServerEvent>();
  const keeper = new CertificateKeeper({ config: aging.config, certificates: () => [], onEvent: events.push });
  await keeper.start();
  keeper.stop();
  t.deepEqual(
    events.all.map((event) => event.type === "certificate-renewed" && event.role),
    ["server"],
  );
  await keeper.look();
  t.is(events.all.length, 1, "and not again");

  const expired = await initialized(t, { renew: true, agoDays: 800, caDays: 790 });
  const renewed = await renewWhatIsDue(new CertificateFiles(expired.config()), Date.now());
  t.deepEqual(
    renewed.map(({ role }) => role),
    ["pairing-ca", "server"],
  );
  const { server } = await expired.start();
  t.true(server.certificates(Date.now()).every(({ state }) => state === "valid"));
});

test("what cannot be renewed is told, and changes nothing; what nears its end is told", async (t) => {
  const foreign = await initialized(t, { renew: true, agoDays: 3000, days: 3001, caDays: 3001 });
  const { authority } = await issueThrowawayCredentials({ commonName: "x", purpose: "clientAuth", atMs: Date.now() });
  const before = foreign.read("server.pem");
  writeFileSync(join(foreign.folder, "ca.pem"), authority.certificatePem);
  writeFileSync(join(foreign.folder, "ca.key"), authority.privateKeyPem);
  const events = new Events<ServerEvent>();
  const config = foreign.config();
  const [server] = decodePemCertificates(before);
  const keeper = new CertificateKeeper({
    config: () => config,
    certificates: (now) => ownCertificates({ server: server === undefined ? [] : [server] }, now),
    onEvent: events.push,
  });
  await keeper.look();
  t.deepEqual(
    events.all.map(({ type }) => type),
    ["certificate-renewal-failed", "certificate-ending"],
  );
  t.is(foreign.read("server.pem"), before);
  await t.throwsAsync(new CertificateFiles(config).renewServer({ notAfterMs: Date.now() + DAY_MS }, Date.now()), {
    code: "X509_BAD_OPTION",
    message: /did not issue/,
  });
  const terms = { notAfterMs: Date.now() + DAY_MS, authorityNotAfterMs: Date.now() + DAY_MS };
  await t.throwsAsync(new CertificateFiles(config).succeedAuthority(terms, Date.now()), { code: "X509_BAD_OPTION" });
  t.is(foreign.read("ca.key"), authority.privateKeyPem, "nothing of the CA is touched");
  t.false(existsSync(join(foreign.folder, "ca.key.old")));
  t.throws(() => new CertificateFiles({ ...config, pairing: undefined }), { code: "X509_BAD_OPTION" });
});
