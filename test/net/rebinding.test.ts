import { CODE, OPTION, Options, type RequestMessage } from "#coap/index.js";
import { type CoapConnection, CoapEndpoint, connect, listen, UdpSocket } from "#net/index.js";
import { NatRelay } from "#testing/nat-relay.js";
import { until } from "#testing/until.js";
import test from "ava";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const KEY = bytes("0123456789abcdef");
const LOOPBACK = { host: "127.0.0.1", port: 0 };
const DEVICES = 1000;
/** At once; more would only overflow the buffers of one machine's loopback. */
const AT_ONCE = 50;

async function eachInTurns<T>(items: readonly T[], work: (item: T, index: number) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += AT_ONCE) {
    await Promise.all(items.slice(at, at + AT_ONCE).map((item, index) => work(item, at + index)));
  }
}

function report(value: number): RequestMessage {
  return { code: CODE.POST, options: Options.none.withAll(OPTION.UriPath, ["report"]), payload: bytes(String(value)) };
}

test("1,000 devices change their ports behind a NAT: no handshake, no report lost, and both sides still ask", async (t) => {
  const reports = new Map<string, number>();
  const connections: CoapConnection[] = [];
  let moved = 0;
  const server = new CoapEndpoint({
    onRequest: (request) => {
      const value = new TextDecoder().decode(request.payload);
      reports.set(value, (reports.get(value) ?? 0) + 1);
      return { code: CODE.Changed, options: Options.none, payload: new Uint8Array(0) };
    },
  });
  const endpoint = await listen((session) => connections.push(server.addSession(session)), {
    ...LOOPBACK,
    receiveBufferBytes: 8 * 1024 * 1024,
    server: { pskEnabled: true },
    pskOf: () => KEY,
    onAddressChanged: () => moved++,
  });
  const relay = await NatRelay.start(endpoint.address);
  const client = new CoapEndpoint({
    onRequest: () => ({ code: CODE.Content, options: Options.none, payload: bytes("here") }),
  });
  const devices: CoapConnection[] = [];
  t.teardown(async () => {
    await Promise.all(devices.map((device) => device.close()));
    await client.close();
    await server.close();
    await endpoint.close();
    await relay.close();
  });
  await eachInTurns(Array.from({ length: DEVICES }), async () => {
    const psk = { identity: bytes("fleet"), key: KEY };
    const session = await connect(
      { host: "127.0.0.1", port: relay.address.port },
      { psk, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] },
    );
    await session.opened;
    devices.push(client.addSession(session));
  });
  await eachInTurns(devices, async (device, index) => {
    t.is((await device.request(report(index))).code, CODE.Changed);
  });
  t.is(connections.length, DEVICES);

  await relay.rebind();
  await eachInTurns(devices, async (device, index) => {
    t.is((await device.request(report(DEVICES + index))).code, CODE.Changed);
  });
  t.is(relay.bindingCount, DEVICES);
  // The last of them still answer whether they receive there (RFC 9853).
  await until(() => moved >= DEVICES);
  t.is(moved, DEVICES);
  t.is(reports.size, 2 * DEVICES);
  t.deepEqual(new Set(reports.values()), new Set([1]));
  t.is(connections.length, DEVICES, "no handshake");
  t.is(endpoint.sessionCount, DEVICES);
  t.is(endpoint.handshakeCount, 0);
  await eachInTurns(connections.slice(0, 100), async (connection) => {
    const answer = await connection.request({ code: CODE.GET, options: Options.none, payload: new Uint8Array(0) });
    t.is(new TextDecoder().decode(answer.payload), "here");
  });
});

test("without identifiers a changed address loses the session; with them a forged datagram moves nothing", async (t) => {
  const heard: string[] = [];
  for (const connectionId of [false, undefined] as const) {
    const endpoint = await listen(
      (session) => (session.onmessage = (data) => heard.push(new TextDecoder().decode(data))),
      {
        ...LOOPBACK,
        server: { pskEnabled: true, ...(connectionId === undefined ? {} : { connectionId }) },
        pskOf: () => KEY,
      },
    );
    const socket = await UdpSocket.bind(LOOPBACK);
    const relay = await NatRelay.start(endpoint.address);
    const session = await connect(
      { host: "127.0.0.1", port: relay.address.port },
      { psk: { identity: bytes("fleet"), key: KEY } },
    );
    await session.opened;
    await relay.rebind();
    session.send(bytes(connectionId === undefined ? "with" : "without"));
    await until(() =>
      connectionId === undefined ? heard.includes("with") : endpoint.dropped["not-a-client-hello"] !== undefined,
    );
    const [served] = endpoint.sessions;
    const before = served?.remoteAddress;
    // Another's datagram with the right identifier, and no authentic record.
    const forged = Buffer.concat([
      Buffer.of(25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 1, 0),
      served?.connectionId ?? bytes(""),
    ]);
    const record = Buffer.concat([forged, Buffer.of(0, 30), Buffer.alloc(30)]);
    socket.send(record, endpoint.address);
    const drops = (): number => served?.stats.dropped["bad-mac"] ?? endpoint.dropped["unknown-connection-id"] ?? 0;
    await until(() => drops() > 0);
    t.is(served?.remoteAddress, before);
    await session.close();
    await endpoint.close();
    await Promise.all([relay.close(), socket.close()]);
  }
  t.deepEqual(heard, ["with"]);
});

test("a record that is handed on from another address brings no flood there, and its peer keeps the session", async (t) => {
  const refused: number[] = [];
  const endpoint = await listen((session) => (session.onmessage = () => session.send(new Uint8Array(1000))), {
    ...LOOPBACK,
    server: { pskEnabled: true, pathValidationTimeoutMs: 100 },
    pskOf: () => KEY,
    onAddressRefused: (_session, candidate) => refused.push(candidate.port),
  });
  const [victim, relay] = await Promise.all([UdpSocket.bind(LOOPBACK), UdpSocket.bind(LOOPBACK)]);
  let deviceAddress = LOOPBACK as unknown as { address: string; port: number };
  let isHijacked = false;
  let victimSent = 0;
  let victimReceived = 0;
  victim.onDatagram = (datagram) => (victimReceived += datagram.length);
  relay.onDatagram = (datagram, from) => {
    const copy = Uint8Array.from(datagram);
    if (from.port === endpoint.address.port) return relay.send(copy, deviceAddress);
    deviceAddress = { address: from.address, port: from.port };
    if (!isHijacked) return relay.send(copy, endpoint.address);
    victimSent += copy.length;
    victim.send(copy, endpoint.address);
  };
  const session = await connect(
    { host: "127.0.0.1", port: relay.address.port },
    { psk: { identity: bytes("fleet"), key: KEY } },
  );
  let answers = 0;
  session.onmessage = () => answers++;
  await session.opened;
  isHijacked = true;
  session.send(bytes("ask"));
  await until(() => refused.length > 0 && answers > 0);
  t.deepEqual(refused, [victim.address.port]);
  t.true(victimReceived > 0 && victimReceived <= 3 * victimSent, `${String(victimReceived)} for ${String(victimSent)}`);
  const [served] = endpoint.sessions;
  t.is(served?.remoteAddress.port, relay.address.port);
  isHijacked = false;
  session.send(bytes("again"));
  await until(() => answers >= 2);
  t.is(served?.remoteAddress.port, relay.address.port);
  await session.close();
  await endpoint.close();
  await Promise.all([relay.close(), victim.close()]);
});
