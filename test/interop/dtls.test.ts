import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CODE, Options } from "#coap/index.js";
import type { CertificateVerdict, CipherSuiteName } from "#dtls/index.js";
import {
  CoapEndpoint,
  connect,
  type DtlsEndpoint,
  type DtlsSession,
  type EndpointOptions,
  listen,
} from "#net/index.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import test, { type ExecutionContext } from "ava";
import { makeCertificateFiles } from "./certificate-files.js";
import coapPacket from "coap-packet";
import nodeDtls from "node-dtls-client";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const KEY = "0123456789abcdef";
const KEY_HEX = Buffer.from(KEY).toString("hex");
const PSK = { identity: bytes("alice"), key: bytes(KEY) };
const pskOf = (identity: Uint8Array): Uint8Array | undefined => (text(identity) === "alice" ? bytes(KEY) : undefined);

/** Our suites by the names of OpenSSL, which knows no ECDHE_PSK suite with CCM or GCM, and of GnuTLS's priorities. */
const PSK_SUITES: readonly Suite[] = [
  { suite: "TLS_PSK_WITH_AES_128_CCM_8", openssl: "PSK-AES128-CCM8", gnutls: "AES-128-CCM-8" },
  { suite: "TLS_PSK_WITH_AES_128_CCM", openssl: "PSK-AES128-CCM", gnutls: "AES-128-CCM" },
  { suite: "TLS_PSK_WITH_AES_128_GCM_SHA256", openssl: "PSK-AES128-GCM-SHA256", gnutls: "AES-128-GCM" },
];
const ECDSA_SUITES: readonly Suite[] = [
  { suite: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", openssl: "ECDHE-ECDSA-AES128-CCM8", gnutls: "AES-128-CCM-8" },
  { suite: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", openssl: "ECDHE-ECDSA-AES128-CCM", gnutls: "AES-128-CCM" },
  {
    suite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
    gnutls: "AES-128-GCM",
  },
];

interface Suite {
  readonly suite: CipherSuiteName;
  readonly openssl: string;
  readonly gnutls: string;
}

const opensslSuite = (name: string): readonly string[] => ["-cipher", `${name}:@SECLEVEL=0`];
const gnutlsPriority = (cipher: string, keyExchange: "PSK" | "ECDHE-ECDSA" = "PSK"): string =>
  `NONE:+VERS-DTLS1.2:+${keyExchange}:+CTYPE-X509:+${cipher}:+AEAD:+SIGN-ALL:+COMP-NULL:+GROUP-ALL`;

/** A server of ours that answers each message with itself, turned round. */
async function listenReversing(
  t: ExecutionContext,
  options: EndpointOptions & Pick<Required<EndpointOptions>, "server">,
): Promise<{ readonly endpoint: DtlsEndpoint; readonly sessions: readonly DtlsSession[] }> {
  const sessions: DtlsSession[] = [];
  const endpoint = await listen(
    (session) => {
      sessions.push(session);
      session.onmessage = (data) => session.send(bytes(reversed(text(data))));
    },
    { ...LOOPBACK, ...options },
  );
  t.teardown(() => endpoint.close());
  return { endpoint, sessions };
}

const reversed = (line: string): string => `${line.trimEnd().split("").toReversed().join("")}\n`;

/** Sends a line and gives the answer; the session's handshake is waited for. */
async function ask(session: DtlsSession, line: string): Promise<string> {
  await session.opened;
  const answer = new Promise<Uint8Array>((resolve) => (session.onmessage = resolve));
  session.send(bytes(line));
  return text(await answer);
}

/** s_server prints what it is sent, and sends what it is typed. */
async function converse(session: DtlsSession, server: PeerProcess): Promise<string> {
  await session.opened;
  const answer = new Promise<Uint8Array>((resolve) => (session.onmessage = resolve));
  session.send(bytes("hello out there\n"));
  await server.printed("hello out there");
  server.write("hello to you\n");
  return text(await answer);
}

testWith("openssl", "openssl s_client speaks each PSK suite with our server", async (t) => {
  const { endpoint, sessions } = await listenReversing(t, { server: { pskEnabled: true }, pskOf });
  for (const { suite, openssl } of PSK_SUITES) {
    const options = ["s_client", "-dtls1_2", "-connect", `127.0.0.1:${endpoint.address.port}`];
    const psk = ["-psk", KEY_HEX, "-psk_identity", "alice"];
    const client = PeerProcess.start(t, "openssl", [...options, ...psk, ...opensslSuite(openssl)]);
    await client.printed("Verify return code");
    client.write("hello out there\n");
    await client.printed("ereht tuo olleh");
    const session = sessions.at(-1);
    t.is(session?.peer?.suite, suite);
    t.is(text(session!.peer!.pskIdentity!), "alice");
    client.write("Q\n");
    t.is(await session!.closed, undefined);
  }
});

testWith("openssl", "our client speaks each PSK suite with openssl s_server", async (t) => {
  for (const { suite, openssl } of PSK_SUITES) {
    const port = await freePort();
    const options = ["s_server", "-dtls1_2", "-listen", "-accept", `127.0.0.1:${port}`, "-nocert"];
    const psk = ["-psk", KEY_HEX, "-psk_identity", "alice", "-psk_hint", "a hint"];
    const server = PeerProcess.start(t, "openssl", [...options, ...psk, ...opensslSuite(openssl)]);
    await server.printed("ACCEPT");
    const session = await connect({ host: "127.0.0.1", port }, { psk: PSK });
    t.is(await converse(session, server), "hello to you\n");
    t.is(session.peer?.suite, suite);
    await session.close();
    await server.end();
  }
});

testWith(
  "openssl",
  "openssl s_client and our server show each other certificates, by each ECDHE_ECDSA suite",
  async (t) => {
    const [ours, theirs] = [await selfSigned(t), await selfSigned(t)];
    const { endpoint, sessions } = await listenReversing(t, {
      server: { certificate: ours.credential, clientCertificate: "require" },
      verify: trusting(theirs),
    });
    for (const { suite, openssl } of ECDSA_SUITES) {
      const options = ["s_client", "-dtls1_2", "-connect", `127.0.0.1:${endpoint.address.port}`];
      const certificate = ["-cert", theirs.certificateFile, "-key", theirs.keyFile, "-CAfile", ours.certificateFile];
      const client = PeerProcess.start(t, "openssl", [...options, ...certificate, ...opensslSuite(openssl)]);
      await client.printed("Verify return code: 0 (ok)");
      client.write("hello out there\n");
      await client.printed("ereht tuo olleh");
      const session = sessions.at(-1);
      t.is(session?.peer?.suite, suite);
      t.deepEqual(session?.peer?.certificates?.map(hex), [hex(theirs.der)]);
      client.write("Q\n");
      t.is(await session!.closed, undefined);
    }
  },
);

testWith(
  "openssl",
  "our client and openssl s_server show each other certificates, by each ECDHE_ECDSA suite",
  async (t) => {
    const [ours, theirs] = [await selfSigned(t), await selfSigned(t)];
    for (const { suite, openssl } of ECDSA_SUITES) {
      const port = await freePort();
      const options = ["s_server", "-dtls1_2", "-listen", "-accept", `127.0.0.1:${port}`, "-CAfile"];
      const certificate = ["-cert", theirs.certificateFile, "-key", theirs.keyFile, "-Verify", "1"];
      const trust = [ours.certificateFile, "-verify_return_error"];
      const server = PeerProcess.start(t, "openssl", [...options, ...trust, ...certificate, ...opensslSuite(openssl)]);
      await server.printed("ACCEPT");
      const remote = { host: "127.0.0.1", port };
      const session = await connect(remote, { certificate: ours.credential, verify: trusting(theirs) });
      t.is(await converse(session, server), "hello to you\n");
      t.is(session.peer?.suite, suite);
      t.deepEqual(session.peer?.certificates?.map(hex), [hex(theirs.der)]);
      await session.close();
      await server.end();
    }
  },
);

testWith("openssl", "our client refuses openssl s_server when its certificate is another's", async (t) => {
  const [expected, shown] = [await selfSigned(t), await selfSigned(t)];
  const port = await freePort();
  const options = ["s_server", "-dtls1_2", "-listen", "-accept", `127.0.0.1:${port}`];
  const certificate = ["-cert", shown.certificateFile, "-key", shown.keyFile];
  const server = PeerProcess.start(t, "openssl", [...options, ...certificate]);
  await server.printed("ACCEPT");
  const session = await connect({ host: "127.0.0.1", port }, { verify: trusting(expected) });
  await t.throwsAsync(session.opened);
  await server.printed("alert unknown ca");
});

testWith("gnutls", "gnutls-cli speaks each PSK suite with our server", async (t) => {
  const { endpoint, sessions } = await listenReversing(t, { server: { pskEnabled: true }, pskOf });
  for (const { suite, gnutls } of PSK_SUITES) {
    const options = ["--udp", "--port", String(endpoint.address.port), "--pskusername", "alice", "--pskkey", KEY_HEX];
    const client = PeerProcess.start(t, "gnutls-cli", [...options, "--priority", gnutlsPriority(gnutls), "127.0.0.1"]);
    await client.printed("Handshake was completed");
    client.write("hello out there\n");
    await client.printed("ereht tuo olleh");
    t.is(sessions.at(-1)?.peer?.suite, suite);
    await client.end();
  }
});

testWith("gnutls", "our client speaks each PSK suite with gnutls-serv", async (t) => {
  const folder = await temporaryFolder(t);
  const keys = join(folder, "keys.psk");
  await writeFile(keys, `alice:${KEY_HEX}\n`);
  for (const { suite, gnutls } of PSK_SUITES) {
    const port = await freePort();
    const options = ["--udp", "--port", String(port), "--echo", "--pskpasswd", keys];
    const server = PeerProcess.start(t, "gnutls-serv", [...options, "--priority", gnutlsPriority(gnutls)]);
    await server.printed("IPv4 0.0.0.0");
    const session = await connect({ host: "127.0.0.1", port }, { psk: PSK });
    t.is(await ask(session, "hello out there\n"), "hello out there\n");
    t.is(session.peer?.suite, suite);
    await session.close();
    await server.end();
  }
});

for (const isMutual of [false, true]) {
  const what = isMutual ? "show each other certificates" : "agree by the server's certificate alone";

  testWith("gnutls", `gnutls-cli and our server ${what}, by each ECDHE_ECDSA suite`, async (t) => {
    const files = await makeCertificateFiles(t);
    const { endpoint, sessions } = await listenReversing(t, {
      server: { certificate: files.server.credentials, clientCertificate: isMutual ? "require" : "none" },
      verify: files.verifyClient,
    });
    const { certificate, key } = files.client;
    const own = isMutual ? ["--x509certfile", certificate, "--x509keyfile", key] : [];
    for (const { suite, gnutls } of ECDSA_SUITES) {
      const options = ["--udp", "--port", String(endpoint.address.port), "--x509cafile", files.ca, ...own];
      const priority = ["--priority", gnutlsPriority(gnutls, "ECDHE-ECDSA")];
      const client = PeerProcess.start(t, "gnutls-cli", [...options, ...priority, "localhost"]);
      await client.printed("Handshake was completed");
      client.write("hello out there\n");
      await client.printed("ereht tuo olleh");
      t.regex(client.output, /The certificate is trusted/);
      t.is(sessions.at(-1)?.peer?.suite, suite);
      t.deepEqual(sessions.at(-1)?.peer?.certificates?.[0], isMutual ? files.client.credentials.chain[0] : undefined);
      await client.end();
    }
  });

  testWith("gnutls", `our client and gnutls-serv ${what}, by each ECDHE_ECDSA suite`, async (t) => {
    const files = await makeCertificateFiles(t);
    const { certificate, key } = files.server;
    for (const { suite, gnutls } of ECDSA_SUITES) {
      const port = await freePort();
      const options = ["--udp", "--port", String(port), "--echo", "--x509certfile", certificate, "--x509keyfile", key];
      const demand = isMutual ? ["--require-client-cert", "--verify-client-cert"] : ["--disable-client-cert"];
      const priority = ["--priority", gnutlsPriority(gnutls, "ECDHE-ECDSA")];
      const server = PeerProcess.start(t, "gnutls-serv", [
        ...options,
        "--x509cafile",
        files.ca,
        ...demand,
        ...priority,
      ]);
      await server.printed("IPv4 0.0.0.0");
      const session = await connect(
        { host: "127.0.0.1", port },
        { verify: files.verifyServer, ...(isMutual ? { certificate: files.client.credentials } : {}) },
      );
      t.is(await ask(session, "hello out there\n"), "hello out there\n");
      t.is(session.peer?.suite, suite);
      await session.close();
      if (isMutual) {
        const anonymous = await connect({ host: "127.0.0.1", port }, { verify: files.verifyServer });
        await server.printed("No certificate was found");
        await anonymous.close();
      }
      await server.end();
    }
  });
}

testWith("openssl", "openssl s_client and our server agree by the server's certificate alone", async (t) => {
  const files = await makeCertificateFiles(t);
  const { endpoint, sessions } = await listenReversing(t, { server: { certificate: files.server.credentials } });
  const options = ["s_client", "-dtls1_2", "-connect", `127.0.0.1:${endpoint.address.port}`, "-CAfile", files.ca];
  const client = PeerProcess.start(t, "openssl", [...options, "-verify_return_error", "-verify_ip", "127.0.0.1"]);
  await client.printed("Verify return code: 0 (ok)");
  client.write("hello out there\n");
  await client.printed("ereht tuo olleh");
  t.is(sessions.at(-1)?.peer?.certificates, undefined);
});

testWith("openssl", "our client and openssl s_server agree by the server's certificate alone", async (t) => {
  const files = await makeCertificateFiles(t);
  const port = await freePort();
  const { certificate, key } = files.server;
  const options = [
    "s_server",
    "-dtls1_2",
    "-listen",
    "-accept",
    `127.0.0.1:${port}`,
    "-cert",
    certificate,
    "-key",
    key,
  ];
  const server = PeerProcess.start(t, "openssl", options);
  await server.printed("ACCEPT");
  const session = await connect({ host: "127.0.0.1", port }, { verify: files.verifyServer });
  t.is(await converse(session, server), "hello to you\n");
  t.deepEqual(session.peer?.certificates?.[0], files.server.credentials.chain[0]);
  await session.close();
});

test("a device of node-dtls-client and coap-packet, with no line of ours, reads from our server", async (t) => {
  const server = new CoapEndpoint({
    onRequest: (request, connection) => ({
      code: CODE.Content,
      options: Options.none,
      payload: bytes(`${text(connection.peerInfo!.pskIdentity!)} at ${request.options.uriPath.join("/")}`),
    }),
  });
  const endpoint = await listen((session) => server.addSession(session), {
    ...LOOPBACK,
    server: { pskEnabled: true },
    pskOf,
  });
  t.teardown(async () => {
    await server.close();
    await endpoint.close();
  });
  for (const suite of ["TLS_PSK_WITH_AES_128_CCM_8", "TLS_PSK_WITH_AES_128_GCM_SHA256"] as const) {
    const answer = await new Promise<Buffer>((resolve, reject) => {
      const device = nodeDtls.dtls.createSocket({
        type: "udp4",
        address: "127.0.0.1",
        port: endpoint.address.port,
        psk: { alice: KEY },
        ciphers: [suite],
        timeout: 10_000,
      });
      t.teardown(() => new Promise<void>((closed) => device.close(() => closed())));
      device.on("error", reject);
      device.on("message", resolve);
      device.on("connected", () => {
        const options = [{ name: "Uri-Path" as const, value: Buffer.from("dpe2") }];
        const token = Buffer.from("token");
        device.send(coapPacket.generate({ code: "GET", confirmable: true, messageId: 7, token, options }));
      });
    });
    const response = coapPacket.parse(answer);
    t.like(response, { code: "2.05", ack: true, messageId: 7 });
    t.is(response.token.toString(), "token");
    t.is(response.payload.toString(), "alice at dpe2");
  }
});

interface SelfSigned {
  readonly certificateFile: string;
  readonly keyFile: string;
  readonly der: Uint8Array;
  readonly credential: { readonly chain: readonly Uint8Array[]; readonly privateKey: KeyObject };
}

/** A P-256 key and its own certificate, made by OpenSSL. */
async function selfSigned(t: ExecutionContext): Promise<SelfSigned> {
  const folder = await temporaryFolder(t);
  const certificateFile = join(folder, "certificate.pem");
  const keyFile = join(folder, "key.pem");
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", keyFile];
  const subject = ["-subj", `/CN=${folder.slice(-6)}`, "-days", "2", "-out", certificateFile];
  await PeerProcess.run(t, "openssl", ["req", "-x509", ...key, ...subject]);
  const der = new Uint8Array(new X509Certificate(await readFile(certificateFile)).raw);
  const privateKey = createPrivateKey(await readFile(keyFile));
  return { certificateFile, keyFile, der, credential: { chain: [der], privateKey } };
}

/** Trusts one certificate by its bytes, and nothing else. */
const trusting =
  ({ der }: SelfSigned) =>
  (certificates: readonly Uint8Array[]): CertificateVerdict =>
    certificates[0] !== undefined && hex(certificates[0]) === hex(der)
      ? { ok: true }
      : { ok: false, alert: "unknown_ca", reason: "not the certificate that was expected" };

const hex = (value: Uint8Array): string => Buffer.from(value).toString("hex");

async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "interop-"));
  t.teardown(() => rm(folder, { recursive: true }));
  return folder;
}
