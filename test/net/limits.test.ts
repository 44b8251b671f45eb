import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Options } from "#coap/index.js";
import {
  CoapEndpoint,
  connect,
  DtlsEndpoint,
  type DtlsSession,
  ENDPOINT_DEFAULTS,
  type EndpointDropReason,
  type EndpointOptions,
  FileAssociationStore,
  listen,
  UdpSocket,
} from "#net/index.js";
import { resolveLimits } from "#net/endpoint-options.js";
import { credential } from "../dtls/fixtures.js";
import { freePort } from "#testing/free-port.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const KEY = bytes("0123456789abcdef");
const PSK = { psk: { identity: bytes("alice"), key: KEY }, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] } as const;

async function serve(t: ExecutionContext, options: EndpointOptions) {
  const drops: EndpointDropReason[] = [];
  const sessions: DtlsSession[] = [];
  const endpoint = await listen((session) => sessions.push(session), {
    host: "127.0.0.1",
    server: { pskEnabled: true },
    pskOf: () => KEY,
    onDrop: (reason) => drops.push(reason),
    ...options,
  });
  t.teardown(() => endpoint.close());
  const open = async (): Promise<DtlsSession> => {
    const session = await connect({ host: "127.0.0.1", port: endpoint.address.port }, PSK);
    t.teardown(() => session.close());
    return session;
  };
  return { endpoint, sessions, drops, open };
}

test("handshakes are limited in all and for each address; those over it are dropped by name, and the slots come back", async (t) => {
  for (const [limit, reason] of [
    [{ maxHandshakes: 1 }, "too-many-handshakes"],
    [{ maxHandshakesPerAddress: 1 }, "too-many-handshakes-of-address"],
  ] as const) {
    const answers: ((key: Uint8Array) => void)[] = [];
    const { endpoint, drops, open } = await serve(t, {
      ...limit,
      pskOf: () => new Promise((resolve) => answers.push(resolve)),
    });
    const first = await open();
    await until(() => answers.length === 1);
    const second = await open();
    await until(() => drops.includes(reason));
    t.is(endpoint.handshakeCount, 1);
    t.is(endpoint.dropped[reason], drops.filter((one) => one === reason).length);
    answers[0]?.(KEY);
    await first.opened;
    // It asks again by itself.
    await until(() => answers.length === 2);
    answers[1]?.(KEY);
    await second.opened;
    t.is(endpoint.sessionCount, 2);
    await endpoint.close();
  }
});

test("a full endpoint drops new peers while its sessions are in use, and lets a stale one make way", async (t) => {
  const busy = await serve(t, { maxSessions: 2 });
  await Promise.all([(await busy.open()).opened, (await busy.open()).opened]);
  await busy.open();
  await until(() => busy.drops.includes("too-many-sessions"));
  t.is(busy.endpoint.sessionCount, 2);

  const stale = await serve(t, { maxSessions: 2, staleAfterMs: 0 });
  const first = await stale.open();
  await first.opened;
  await (
    await stale.open()
  ).opened;
  await (
    await stale.open()
  ).opened;
  t.is(await first.closed, undefined, "with a close_notify");
  t.is(stale.endpoint.sessionCount, 2);
  t.deepEqual(
    stale.drops.filter((reason) => reason.startsWith("too-many")),
    [],
  );
});

for (const limit of ["maxSessions", "maxSessionsPerAddress"] as const) {
  test(`a session whose peer speaks on another makes way, unless it is heard again (${limit})`, async (t) => {
    const { endpoint, sessions, open } = await serve(t, { [limit]: 2 });
    const opened = async () => {
      const session = await open();
      await session.opened;
      return session;
    };
    const [first, second] = [await opened(), await opened()];
    sessions[0]?.supersede();
    sessions[1]?.supersede();
    await new Promise<void>((resolve) => {
      if (sessions[0] !== undefined) sessions[0].onmessage = () => resolve();
      first.send(Uint8Array.of(1));
    });
    await opened();
    t.is(await second.closed, undefined, "with a close_notify");
    t.is(endpoint.sessionCount, 2);
    t.is(first.state, "connected");
  });
}

test("sessions are limited for each address, and a silent one is closed after its time", async (t) => {
  const { drops, open } = await serve(t, { maxSessionsPerAddress: 1 });
  await (
    await open()
  ).opened;
  await open();
  await until(() => drops.includes("too-many-sessions-of-address"));
  const idle = await serve(t, { idleTimeoutMs: 20 });
  const session = await idle.open();
  await session.opened;
  t.is(await session.closed, undefined);
  await until(() => idle.endpoint.sessionCount === 0);
});

test("an address that begins handshake after handshake has one at a time, and what it gave up is gone", async (t) => {
  const { endpoint } = await serve(t, { pskOf: () => new Promise(() => undefined) });
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => socket.close());
  const remote = { address: "127.0.0.1", port: endpoint.address.port };
  const failed: unknown[] = [];
  for (let i = 0; i < 5; i++) {
    const session = new DtlsEndpoint(socket, {}).connect(remote, PSK);
    const before = socket.counters.received;
    // HelloVerifyRequest, then the server's flight.
    await until(() => socket.counters.received >= before + 2);
    session.closed.catch((error: unknown) => failed.push(error));
    session.abandon();
    t.true(endpoint.handshakeCount <= 1);
  }
  t.is(endpoint.handshakeCount, 1);
});

test("identifiers that few bytes have room for go to one session each; without a free one the handshake fails by name", async (t) => {
  let next = 0;
  const failed: unknown[] = [];
  const { endpoint, sessions, open } = await serve(t, {
    // Each comes again and again, and there are three.
    server: { pskEnabled: true, connectionId: () => Uint8Array.of(next++ % 3) },
    onHandshakeFailed: (_, error) => failed.push(error?.code),
  });
  const clients = [await open(), await open(), await open()];
  for (const client of clients) {
    await client.opened;
    next = 0;
  }
  await until(() => sessions.length === 3);
  t.deepEqual(new Set(sessions.map(({ connectionId }) => connectionId[0])), new Set([0, 1, 2]));
  for (const session of sessions) session.onmessage = (data) => session.send(data);
  for (const [index, client] of clients.entries()) {
    const answer = new Promise<Uint8Array>((resolve) => (client.onmessage = resolve));
    client.send(Uint8Array.of(index));
    t.deepEqual(await answer, Uint8Array.of(index));
  }
  const fourth = await open();
  await until(() => failed.length > 0);
  t.is(failed[0], "DTLS_BAD_OPTION");
  t.is(fourth.state, "handshaking", "it is told nothing");
  t.is(endpoint.sessionCount, 3);
});

test("of two handshakes at once that were given the same identifier, the second ends, and the first has it", async (t) => {
  const answers: ((key: Uint8Array) => void)[] = [];
  const failed: unknown[] = [];
  const { endpoint, open } = await serve(t, {
    server: { pskEnabled: true, connectionId: () => Uint8Array.of(1) },
    pskOf: () => new Promise((resolve) => answers.push(resolve)),
    onHandshakeFailed: (_, error) => failed.push(error?.code),
  });
  const clients = [await open(), await open()];
  await until(() => answers.length === 2);
  for (const answer of answers) answer(KEY);
  await until(() => failed.length === 1 && endpoint.sessionCount === 1);
  t.deepEqual(failed, ["DTLS_ABORTED"]);
  t.is(endpoint.handshakeCount, 0);
  await until(() => clients.filter(({ state }) => state === "closed").length === 1);
  const left = clients.find(({ state }) => state !== "closed");
  await left?.opened;
  const [session] = endpoint.sessions;
  const heard = new Promise<Uint8Array>((resolve) => {
    if (session !== undefined) session.onmessage = resolve;
  });
  left?.send(Uint8Array.of(9));
  t.deepEqual(await heard, Uint8Array.of(9));
});

test("D53 a ClientHello with its cookie that is replayed at an open session begins nothing", async (t) => {
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  const endpoint = new DtlsEndpoint(socket, { server: { pskEnabled: true }, pskOf: () => KEY });
  t.teardown(() => endpoint.close());
  const { onDatagram } = socket;
  const hellos: Parameters<NonNullable<typeof onDatagram>>[] = [];
  socket.onDatagram = (datagram, from) => {
    if (datagram[0] === 22 && datagram[13] === 1) hellos.push([Uint8Array.from(datagram), { ...from }]);
    onDatagram?.(datagram, from);
  };
  const session = await connect({ host: "127.0.0.1", port: endpoint.address.port }, PSK);
  t.teardown(() => session.close());
  await session.opened;
  t.is(hellos.length, 2);
  const { sent } = socket.counters;
  for (const [datagram, from] of hellos) onDatagram?.(datagram, from);
  t.is(endpoint.handshakeCount, 0);
  t.is(socket.counters.sent, sent, "nor is it answered");
});

test("without a verifier no certificate and no raw public key is trusted", async (t) => {
  const certificate = credential("p256");
  const { privateKey } = certificate;
  const cases = [
    [{ certificate }, {}],
    [{ rawPublicKey: { privateKey } }, { peerCertificateTypes: ["RawPublicKey"] }],
  ] as const;
  for (const [server, client] of cases) {
    const { endpoint } = await serve(t, { server });
    const session = await connect({ host: "127.0.0.1", port: endpoint.address.port }, client);
    await t.throwsAsync(session.opened, { code: "DTLS_CERTIFICATE_REFUSED" });
  }
});

test("above a threshold a cookie is demanded; below it the handshake is a round trip shorter", async (t) => {
  const { endpoint, open } = await serve(t, { cookiesAboveHandshakes: 1 });
  const session = await open();
  await session.opened;
  // ClientHello and the second flight: no second ClientHello.
  t.is(session.stats.recordsOut, 4);
  t.is(endpoint.sessionCount, 1);
  const always = await serve(t, {});
  const other = await always.open();
  await other.opened;
  t.is(other.stats.recordsOut, 5);
});

test("what sessions drop is counted by reason at the endpoint, and told of with the address", async (t) => {
  const seen: string[] = [];
  const { endpoint, sessions, open } = await serve(t, {
    onDrop: (reason, { port }) => seen.push(`${reason} ${String(port)}`),
  });
  const session = await open();
  await session.opened;
  await until(() => sessions.length === 1);
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => socket.close());
  const id = sessions[0]?.connectionId ?? bytes("");
  const head = Buffer.concat([Buffer.of(25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 1, 0), id, Buffer.of(0, 30)]);
  socket.send(Buffer.concat([head, Buffer.alloc(30)]), { address: "127.0.0.1", port: endpoint.address.port });
  await until(() => endpoint.dropped["bad-mac"] === 1);
  t.true(seen.includes(`bad-mac ${String(socket.address.port)}`));
  t.is(sessions[0]?.stats.dropped["bad-mac"], 1);
});

test("what a client's session drops, and what comes to who serves nobody, is counted at the endpoint too", async (t) => {
  const own: string[] = [];
  const { endpoint, sessions } = await serve(t, {
    server: { pskEnabled: true, onDrop: (one) => own.push(one) },
  });
  const remote = { address: "127.0.0.1", port: endpoint.address.port };
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  const seen: string[] = [];
  const client = new DtlsEndpoint(socket, { onDrop: (reason, { port }) => seen.push(`${reason} ${String(port)}`) });
  t.teardown(() => client.close());
  const told: string[] = [];
  const session = client.connect(remote, { ...PSK, onDrop: (reason) => told.push(reason) });
  await session.opened;
  const forged = Buffer.alloc(13 + 30);
  forged.set([23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 30]);
  socket.onDatagram?.(forged, remote);
  socket.onDatagram?.(forged, { address: "127.0.0.1", port: 5 });
  t.deepEqual(client.dropped, { "bad-mac": 1, "not-serving": 1 });
  t.deepEqual(seen, [`bad-mac ${String(remote.port)}`, "not-serving 5"]);
  t.deepEqual(told, ["bad-mac"]);
  await until(() => sessions.length === 1);
  const id = sessions[0]?.connectionId ?? bytes("");
  const head = Buffer.concat([Buffer.of(25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 1, 0), id, Buffer.of(0, 30)]);
  socket.send(Buffer.concat([head, Buffer.alloc(30)]), remote);
  await until(() => endpoint.dropped["bad-mac"] === 1);
  t.deepEqual(own, ["bad-mac"], "an onDrop of the server's options takes no counter away");
});

test("a limit that is no number is refused by name, and the port and the store are free again; undefined is the default", async (t) => {
  const at = mkdtempSync(join(tmpdir(), "dpe-limits-"));
  t.teardown(() => rmSync(at, { recursive: true }));
  const port = await freePort();
  for (const bad of [{ maxSessions: NaN }, { maxHandshakes: -1 }, { idleTimeoutMs: 0 }, { server: {} }]) {
    const associations = FileAssociationStore.open(join(at, "associations"));
    const options = { host: "127.0.0.1", port, server: { pskEnabled: true }, associations, ...bad };
    await t.throwsAsync(
      listen(() => undefined, options),
      { code: "DTLS_BAD_OPTION" },
      JSON.stringify(bad),
    );
  }
  const names = Object.keys(ENDPOINT_DEFAULTS).map((name) => [name, undefined]);
  t.deepEqual(resolveLimits(Object.fromEntries(names) as object), ENDPOINT_DEFAULTS);
  const { open } = await serve(t, { port } as EndpointOptions);
  await (
    await open()
  ).opened;
});

test("a datagram that says it came from port 0 is answered nowhere, and harms nobody", async (t) => {
  const from = { address: "127.0.0.1", port: 0 };
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  const plain = new CoapEndpoint({ onRequest: () => ({ code: 0x45, options: Options.none, payload: bytes("here") }) });
  t.teardown(() => plain.close());
  plain.addSocket(socket);
  socket.onDatagram?.(Uint8Array.of(0x40, 1, 0, 1), from);
  t.deepEqual(socket.counters, { sent: 0, received: 0, errors: 1 });
  const client = await UdpSocket.bind({ host: "127.0.0.1" });
  const answer = new Promise<Uint8Array>((resolve) => (client.onDatagram = resolve));
  client.send(Uint8Array.of(0x40, 1, 0, 2), socket.address);
  t.is(new TextDecoder().decode((await answer).subarray(-4)), "here", "others are served");
  await client.close();

  const hello = await clientHello();
  const dtls = await UdpSocket.bind({ host: "127.0.0.1" });
  const endpoint = new DtlsEndpoint(dtls, { server: { pskEnabled: true } });
  t.teardown(() => endpoint.close());
  dtls.onDatagram?.(hello, from);
  t.deepEqual(dtls.counters, { sent: 0, received: 0, errors: 1 });
});

/** As a client's socket sends it. */
async function clientHello(): Promise<Uint8Array> {
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  const sent = new Promise<Uint8Array>((resolve) => (socket.onDatagram = resolve));
  const session = await connect({ host: "127.0.0.1", port: socket.address.port }, PSK);
  const hello = await sent;
  await Promise.all([session.close(), socket.close()]);
  return hello;
}
