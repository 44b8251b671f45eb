import { createPublicKey, generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SharedKeys } from "#dtls/index.js";
import { connect, type DtlsSession, type EndpointOptions, listen } from "#net/index.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { until } from "#testing/until.js";
import type { ExecutionContext } from "ava";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const KEY = "0123456789abcdef";
const KEY_HEX = Buffer.from(KEY).toString("hex");
const SUITES = { cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] } as const;
const PSK = { psk: { identity: bytes("alice"), key: bytes(KEY) }, ...SUITES };
const OPENSSL_PSK = ["-dtls1_2", "-psk", KEY_HEX, "-cipher", "PSK-AES128-CCM8:@SECLEVEL=0"] as const;
const GNUTLS_PSK = "NONE:+VERS-DTLS1.2:+PSK:+AES-128-CCM-8:+AEAD:+SIGN-ALL:+COMP-NULL:+GROUP-ALL";
const GNUTLS_RAW =
  "NONE:+VERS-DTLS1.2:+ECDHE-ECDSA:+AES-128-CCM-8:+AEAD:+SIGN-ALL:+COMP-NULL:+GROUP-ALL:+CTYPE-CLI-RAWPK:+CTYPE-SRV-RAWPK";

function folder(t: ExecutionContext): string {
  const made = mkdtempSync(join(tmpdir(), "dpe-features-"));
  t.teardown(() => rmSync(made, { recursive: true }));
  return made;
}

/** Our server; sessions come in order, each answered with what it sent. */
async function serve(t: ExecutionContext, options: EndpointOptions) {
  const sessions: DtlsSession[] = [];
  const endpoint = await listen(
    (session) => {
      session.onmessage = (data) => session.send(data);
      sessions.push(session);
    },
    { host: "127.0.0.1", server: { pskEnabled: true }, pskOf: () => bytes(KEY), ...options },
  );
  t.teardown(() => endpoint.close());
  const nth = (index: number): Promise<DtlsSession> => until(() => sessions[index]);
  return { port: endpoint.address.port, nth };
}

/** One after the other, the second with the session of the first, if there is one. */
async function resumptionWith(port: number): Promise<readonly (boolean | undefined)[]> {
  const first = await connect({ host: "127.0.0.1", port }, PSK);
  await first.opened;
  const session = first.resumption;
  if (session === undefined) throw new Error("the server offered no session");
  await first.close();
  const second = await connect({ host: "127.0.0.1", port }, { ...PSK, session });
  await second.opened;
  await second.close();
  return [first.peer?.isResumed, second.peer?.isResumed];
}

testWith("openssl", "our client resumes a session with openssl s_server, by ticket and by identifier", async (t) => {
  for (const more of [[], ["-no_ticket"]]) {
    const port = await freePort();
    const server = PeerProcess.start(t, "openssl", [
      "s_server",
      "-accept",
      `127.0.0.1:${port}`,
      "-nocert",
      ...OPENSSL_PSK,
      ...more,
    ]);
    await server.printed("ACCEPT");
    t.deepEqual(await resumptionWith(port), [false, true], more.join());
    await server.end();
  }
});

testWith("openssl", "openssl s_client resumes a session with our server, by ticket", async (t) => {
  const { port, nth } = await serve(t, {});
  const file = join(folder(t), "session");
  for (const [index, use] of [
    ["-sess_out", file],
    ["-sess_in", file],
  ].entries()) {
    const client = PeerProcess.start(t, "openssl", [
      "s_client",
      "-connect",
      `127.0.0.1:${port}`,
      "-psk_identity",
      "alice",
      ...OPENSSL_PSK,
      ...use,
    ]);
    const session = await nth(index);
    t.is(session.peer?.isResumed, index === 1);
    await client.printed(index === 1 ? "Reused, " : "New, ");
    client.write("hello\n");
    await client.printed("hello");
    client.write("Q\n");
    await session.closed;
    await client.end();
  }
});

testWith("openssl", "openssl s_client takes the ticket that our server renews at resumption", async (t) => {
  const secret = new Uint8Array(32).fill(3);
  const file = join(folder(t), "session");
  const tickets: string[] = [];
  // The second process has the same secret, and a clock that is a minute ahead.
  for (const [aheadMs, use] of [
    [0, ["-sess_out", file]],
    [60_000, ["-sess_in", file]],
  ] as const) {
    const sharedKeys = new SharedKeys(secret, performance.timeOrigin + aheadMs);
    const { port, nth } = await serve(t, { server: { pskEnabled: true, sharedKeys, sessionLifetimeSeconds: 100 } });
    const client = PeerProcess.start(t, "openssl", [
      "s_client",
      "-connect",
      `127.0.0.1:${port}`,
      "-psk_identity",
      "alice",
      ...OPENSSL_PSK,
      ...use,
    ]);
    const session = await nth(0);
    t.is(session.peer?.isResumed, aheadMs > 0);
    await client.printed("Start Time");
    tickets.push(/TLS session ticket:\s+0000 - ([0-9a-f -]+)/.exec(client.output)?.[1] ?? "none");
    client.write("hello\n");
    await client.printed("hello");
    client.write("Q\n");
    await session.closed;
    await client.end();
  }
  t.false(tickets.includes("none"));
  t.not(tickets[0], tickets[1]);
});

testWith("openssl", "exported keying material equals that of openssl s_client and s_server", async (t) => {
  const label = ["-keymatexport", "EXPORTER-dpe-test", "-keymatexportlen", "40"];
  const materialOf = (output: string): string => /Keying material: ([0-9A-F]+)/.exec(output)?.[1]?.toLowerCase() ?? "";
  const ours = (session: DtlsSession): string =>
    Buffer.from(session.exportKeyingMaterial("EXPORTER-dpe-test", 40)).toString("hex");
  const { port, nth } = await serve(t, { server: { pskEnabled: true, exporter: true } });
  const client = PeerProcess.start(t, "openssl", [
    "s_client",
    "-connect",
    `127.0.0.1:${port}`,
    "-psk_identity",
    "alice",
    ...OPENSSL_PSK,
    ...label,
  ]);
  await client.printed("Verify return code");
  const session = await nth(0);
  t.is(materialOf(client.output), ours(session));
  t.is(ours(session).length, 80);

  const serverPort = await freePort();
  const server = PeerProcess.start(t, "openssl", [
    "s_server",
    "-accept",
    `127.0.0.1:${serverPort}`,
    "-nocert",
    ...OPENSSL_PSK,
    ...label,
  ]);
  await server.printed("ACCEPT");
  const toServer = await connect({ host: "127.0.0.1", port: serverPort }, { ...PSK, exporter: true });
  await toServer.opened;
  await server.printed("Keying material: ");
  t.is(materialOf(server.output), ours(toServer));
  await toServer.close();
});

testWith(
  "openssl",
  "server_name, ALPN and max_fragment_length are agreed on with openssl s_client and s_server",
  async (t) => {
    t.timeout(60_000);
    const { port, nth } = await serve(t, { server: { pskEnabled: true, applicationProtocols: ["coap"] } });
    const to = ["s_client", "-connect", `127.0.0.1:${port}`, "-psk_identity", "alice", ...OPENSSL_PSK];
    const asked = ["-servername", "dev.example", "-alpn", "h2,coap", "-maxfraglen", "512"];
    const client = PeerProcess.start(t, "openssl", [...to, ...asked]);
    await client.printed("ALPN protocol: coap");
    const session = await nth(0);
    t.like(session.peer, { serverName: "dev.example", applicationProtocol: "coap" });
    t.is(session.maxDataBytes, 512);
    client.write(`${"x".repeat(400)}\n`);
    await client.printed("x".repeat(400));
    await client.end();
    const refused = PeerProcess.start(t, "openssl", [...to, "-alpn", "h2"]);
    await refused.printed("no application protocol");

    const serverPort = await freePort();
    const server = PeerProcess.start(t, "openssl", [
      "s_server",
      "-accept",
      `127.0.0.1:${serverPort}`,
      "-nocert",
      ...OPENSSL_PSK,
      "-alpn",
      "coap",
    ]);
    await server.printed("ACCEPT");
    const offers = { serverName: "dev.example", applicationProtocols: ["coap"], maxFragmentLengthBytes: 512 } as const;
    const toServer = await connect({ host: "127.0.0.1", port: serverPort }, { ...PSK, ...offers });
    await toServer.opened;
    t.is(toServer.peer?.applicationProtocol, "coap");
    t.is(toServer.maxDataBytes, 512);
    const heard = new Promise<Uint8Array>((resolve) => (toServer.onmessage = resolve));
    server.write(`${"y".repeat(300)}\n`);
    t.is((await heard).length, 301);
    await toServer.close();
  },
);

testWith("gnutls", "gnutls-cli agrees on record_size_limit with our server", async (t) => {
  t.timeout(60_000);
  const { port, nth } = await serve(t, { server: { pskEnabled: true, recordSizeLimitBytes: 700 } });
  const psk = ["--pskusername", "alice", "--pskkey", KEY_HEX, "--priority", GNUTLS_PSK];
  const at = ["--udp", "--recordsize", "600", "--port", String(port), "127.0.0.1"];
  const client = PeerProcess.start(t, "gnutls-cli", [...psk, ...at]);
  const session = await nth(0);
  t.is(session.maxDataBytes, 600);
  await client.printed("Simple Client Mode");
  client.write(`${"z".repeat(500)}\n`);
  await client.printed("z".repeat(500));
});

testWith("gnutls", "gnutls-cli resumes a session with our server", async (t) => {
  const { port, nth } = await serve(t, {});
  const client = PeerProcess.start(t, "gnutls-cli", [
    "--udp",
    "--resume",
    "--pskusername",
    "alice",
    "--pskkey",
    KEY_HEX,
    "--priority",
    GNUTLS_PSK,
    "--port",
    String(port),
    "127.0.0.1",
  ]);
  t.false((await nth(0)).peer?.isResumed);
  t.true((await nth(1)).peer?.isResumed);
  await client.printed("This is a resumed session");
});

testWith("gnutls", "our client resumes a session with gnutls-serv", async (t) => {
  const port = await freePort();
  const passwords = join(folder(t), "psk");
  writeFileSync(passwords, `alice:${KEY_HEX}\n`);
  const server = PeerProcess.start(t, "gnutls-serv", [
    "--udp",
    "--echo",
    "--pskpasswd",
    passwords,
    "--priority",
    GNUTLS_PSK,
    "--port",
    String(port),
  ]);
  await server.printed("done");
  t.deepEqual(await resumptionWith(port), [false, true]);
});

/** A key pair as PEM files, and its SubjectPublicKeyInfo. */
function keyFiles(t: ExecutionContext) {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const at = folder(t);
  writeFileSync(join(at, "key.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
  writeFileSync(join(at, "public.pem"), publicKey.export({ type: "spki", format: "pem" }));
  const spki = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  return { privateKey, spki, options: ["--rawpkkeyfile", join(at, "key.pem"), "--rawpkfile", join(at, "public.pem")] };
}

testWith("gnutls", "raw public keys both ways with gnutls-serv and gnutls-cli", async (t) => {
  const own = keyFiles(t);
  const theirs = keyFiles(t);
  const seen: string[] = [];
  const verifyRawPublicKey = (spki: Uint8Array) => {
    seen.push(Buffer.from(spki).toString("hex"));
    return { ok: true } as const;
  };
  const suites = {
    cipherSuites: ["TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"],
    rawPublicKey: { privateKey: own.privateKey },
  } as const;
  const port = await freePort();
  const server = PeerProcess.start(t, "gnutls-serv", [
    "--udp",
    "--echo",
    "--require-client-cert",

    ...theirs.options,
    "--priority",
    GNUTLS_RAW,
    "--port",
    String(port),
  ]);
  await server.printed("done");
  const session = await connect({ host: "127.0.0.1", port }, { ...suites, verifyRawPublicKey });
  t.deepEqual(Buffer.from((await session.opened).rawPublicKey ?? []), theirs.spki);
  const echoed = new Promise<Uint8Array>((resolve) => (session.onmessage = resolve));
  session.send(bytes("hello\n"));
  t.deepEqual(Buffer.from(await echoed), Buffer.from("hello\n"));
  await session.close();

  const ours = await serve(t, { server: { ...suites, clientCertificate: "require" }, verifyRawPublicKey });
  const client = PeerProcess.start(t, "gnutls-cli", [
    "--udp",
    "--insecure",
    ...theirs.options,
    "--priority",
    GNUTLS_RAW,
    "--port",
    String(ours.port),
    "127.0.0.1",
  ]);
  t.deepEqual(Buffer.from((await ours.nth(0)).peer?.rawPublicKey ?? []), theirs.spki);
  client.write("hello\n");
  await client.printed("hello");
  t.deepEqual(new Set(seen), new Set([theirs.spki.toString("hex")]));
});
