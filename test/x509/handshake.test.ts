import { connect, type DtlsSession, type EndpointOptions, listen } from "#net/index.js";
import {
  decodePemCertificates,
  issueThrowawayCredentials,
  loadCredentials,
  type ThrowawayAuthority,
  type ThrowawayCredentials,
  type Verdict,
  verifyPeerCertificates,
} from "#x509/index.js";
import test, { type ExecutionContext } from "ava";

const NOW_MS = Date.UTC(2026, 5, 15, 12);
const DAY_MS = 86_400_000;
const HOST = "127.0.0.1";

const serverCredentials = (atMs = NOW_MS): Promise<ThrowawayCredentials> =>
  issueThrowawayCredentials({ commonName: "server", purpose: "serverAuth", atMs, ip: [HOST] });

const clientCredentials = (atMs = NOW_MS): Promise<ThrowawayCredentials> =>
  issueThrowawayCredentials({ commonName: "alice", purpose: "clientAuth", atMs });

const credentialsOf = ({ certificatePem, privateKeyPem }: ThrowawayCredentials) =>
  loadCredentials(certificatePem, privateKeyPem);

/** The `verify` of one end, and the verdicts that it gave. */
function verifier(purpose: "serverAuth" | "clientAuth", authority: ThrowawayAuthority, address?: string) {
  const verdicts: Verdict[] = [];
  const verify = async (chain: readonly Uint8Array[]): Promise<Verdict> => {
    const verdict = await verifyPeerCertificates(chain, {
      anchors: decodePemCertificates(authority.certificatePem),
      purpose,
      atMs: NOW_MS,
      ...(address === undefined ? {} : { name: { type: "ip", address } as const }),
    });
    verdicts.push(verdict);
    return verdict;
  };
  return { verify, verdicts };
}

/** A server that echoes, and the first failure of a handshake with it. */
async function echoServer(t: ExecutionContext, options: Omit<Parameters<typeof listen>[1], "host" | "port">) {
  let tell: (failure: Parameters<NonNullable<EndpointOptions["onHandshakeFailed"]>>[1]) => void = () => undefined;
  const failed = new Promise<Parameters<typeof tell>[0]>((resolve) => (tell = resolve));
  const endpoint = await listen((session) => (session.onmessage = (data) => session.send(data)), {
    ...options,
    host: HOST,
    port: 0,
    onHandshakeFailed: (_remote, error) => tell(error),
  });
  t.teardown(() => endpoint.close());
  return { endpoint, failed, remote: { host: HOST, port: endpoint.address.port } };
}

async function echo(session: DtlsSession, text: string): Promise<string> {
  const echoed = new Promise<Uint8Array>((resolve) => (session.onmessage = resolve));
  session.send(new TextEncoder().encode(text));
  return new TextDecoder().decode(await echoed);
}

test("a server's certificate that is verified to its anchor and address opens a session", async (t) => {
  const issued = await serverCredentials();
  const { remote } = await echoServer(t, { server: { certificate: credentialsOf(issued) } });
  const { verify, verdicts } = verifier("serverAuth", issued.authority, HOST);
  const session = await connect(remote, { verify });
  await session.opened;
  t.is(await echo(session, "hello"), "hello");
  t.like(verdicts, { length: 1, 0: { ok: true, commonName: "server" } });
  await session.close();
});

test("D63 an expired certificate of a server ends the handshake, and the server is told why", async (t) => {
  const issued = await serverCredentials(NOW_MS - 100 * DAY_MS);
  const { endpoint, failed, remote } = await echoServer(t, { server: { certificate: credentialsOf(issued) } });
  const { verify, verdicts } = verifier("serverAuth", issued.authority, HOST);
  const session = await connect(remote, { verify });
  await t.throwsAsync(session.opened, { code: "DTLS_CERTIFICATE_REFUSED" });
  t.like(verdicts, { length: 1, 0: { ok: false, cause: "expired" } });
  t.is((await failed)?.receivedAlert, "certificate_expired");
  t.is(endpoint.sessionCount, 0);
});

test("both ends verify each other, and the server learns whom the client's certificate names", async (t) => {
  const [issued, client] = await Promise.all([serverCredentials(), clientCredentials()]);
  const ofClient = verifier("clientAuth", client.authority);
  const { endpoint, remote } = await echoServer(t, {
    server: { certificate: credentialsOf(issued), clientCertificate: "require" },
    verify: ofClient.verify,
  });
  const ofServer = verifier("serverAuth", issued.authority, HOST);
  const session = await connect(remote, { certificate: credentialsOf(client), verify: ofServer.verify });
  await session.opened;
  t.is(await echo(session, "hello"), "hello");
  t.is(endpoint.sessionCount, 1);
  t.like(ofClient.verdicts, { length: 1, 0: { ok: true, commonName: "alice" } });
  t.like(ofServer.verdicts, { length: 1, 0: { ok: true, commonName: "server" } });
  await session.close();
});

test("D63 an expired certificate of a client ends the handshake, and the client is told why", async (t) => {
  const [issued, client] = await Promise.all([serverCredentials(), clientCredentials(NOW_MS - 100 * DAY_MS)]);
  const ofClient = verifier("clientAuth", client.authority);
  const { failed, remote } = await echoServer(t, {
    server: { certificate: credentialsOf(issued), clientCertificate: "require" },
    verify: ofClient.verify,
  });
  const { verify } = verifier("serverAuth", issued.authority, HOST);
  const session = await connect(remote, { certificate: credentialsOf(client), verify });
  await t.throwsAsync(session.opened);
  t.is((await session.closed)?.receivedAlert, "certificate_expired");
  t.is((await failed)?.code, "DTLS_CERTIFICATE_REFUSED");
  t.like(ofClient.verdicts, { length: 1, 0: { ok: false, cause: "expired" } });
});

test("a client without the certificate that is required gets no session", async (t) => {
  const issued = await serverCredentials();
  const { endpoint, failed, remote } = await echoServer(t, {
    server: { certificate: credentialsOf(issued), clientCertificate: "require" },
    verify: () => t.fail("there is nothing to verify") as never,
  });
  const { verify } = verifier("serverAuth", issued.authority, HOST);
  const session = await connect(remote, { verify });
  await t.throwsAsync(session.opened);
  t.is((await failed)?.code, "DTLS_CLIENT_CERTIFICATE_REQUIRED");
  t.is(endpoint.sessionCount, 0);
});
