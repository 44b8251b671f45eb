import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, DtlsEndpoint, type DtlsSession, type SocketAddress, UdpSocket, WorkerSteering } from "#net/index.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const PSK = { identity: new TextEncoder().encode("device"), key: Uint8Array.from({ length: 16 }, (_, index) => index) };

/** Two processes' worth of endpoints that steer to each other, and a device behind an address that can be led to either. */
async function pair(t: ExecutionContext, maxStrangersPerSecond = 1000) {
  const folder = mkdtempSync(join(tmpdir(), "dpe-steering-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const worker = async (index: number) => {
    const steering = await WorkerSteering.open({ folder, index, count: 2, maxStrangersPerSecond });
    const socket = await UdpSocket.bind({ host: "127.0.0.1" });
    const heard: string[] = [];
    const onSession = (session: DtlsSession): void => {
      session.onmessage = (data) => {
        heard.push(new TextDecoder().decode(data));
        session.send(data);
      };
    };
    const endpoint = new DtlsEndpoint(
      socket,
      { server: { pskEnabled: true }, pskOf: () => PSK.key, steering },
      onSession,
    );
    t.teardown(() => endpoint.close());
    return { steering, endpoint, heard };
  };
  const [first, second] = [await worker(0), await worker(1)];

  let way: SocketAddress = first.endpoint.address;
  const outside = await UdpSocket.bind({ host: "127.0.0.1" });
  const inside = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => Promise.all([inside.close(), outside.close()]));
  let device: SocketAddress | undefined;
  inside.onDatagram = (datagram, from) => {
    device = { address: from.address, port: from.port };
    outside.send(datagram, way);
  };
  outside.onDatagram = (datagram) => device !== undefined && inside.send(datagram, device);
  const session = await connect({ host: "127.0.0.1", port: inside.address.port }, { psk: PSK });
  const echoed: string[] = [];
  session.onmessage = (data) => echoed.push(new TextDecoder().decode(data));
  t.teardown(() => session.close());
  await session.opened;
  const say = async (text: string): Promise<void> => {
    session.send(new TextEncoder().encode(text));
    await until(() => echoed.includes(text));
  };
  return { first, second, say, lead: (to: SocketAddress) => (way = to), folder };
}

/** A record that claims an identifier (RFC 9146 §4). */
function forged(owner: number): Uint8Array {
  const record = new Uint8Array(60).fill(7);
  record.set([25, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, owner]);
  return record;
}

test("a datagram that comes to another process is handed to the one that has the association, which answers itself", async (t) => {
  const { first, second, say, lead, folder } = await pair(t);
  await say("at the first");
  lead(second.endpoint.address);
  await say("at the second");
  t.deepEqual(first.heard, ["at the first", "at the second"]);
  t.deepEqual(second.heard, []);
  await until(() => second.steering.counters.forwarded > 0 && first.steering.counters.confirmed === 1);
  await say("known by now");
  t.is(first.steering.counters.confirmed, 1, "an address is confirmed once");
  t.is(first.steering.counters.received, second.steering.counters.forwarded);
  t.is(statSync(join(folder, "worker-0.sock")).mode & 0o777, 0o600);
});

test("a flood of forged identifiers is handed on within its bound, and does not keep a known address out", async (t) => {
  const { first, second, say, lead } = await pair(t, 20);
  lead(second.endpoint.address);
  await say("known");
  await until(() => first.steering.counters.confirmed === 1);
  const before = second.steering.counters.forwarded;
  const startedAt = performance.now();
  const flood = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => flood.close());
  for (let round = 0; round < 20; round++) {
    for (let index = 0; index < 50; index++) flood.send(forged(0), second.endpoint.address);
    await say(`beside the flood ${round}`);
  }
  await until(() => second.steering.counters.droppedStrangers > 0);
  const seconds = (performance.now() - startedAt) / 1000;
  const ofFlood = second.steering.counters.forwarded - before - 20;
  t.true(ofFlood <= 20 * (1 + seconds) + 1, `${ofFlood} in ${seconds} s`);
  t.is(first.heard.length, 21);
  t.is(first.steering.counters.confirmed, 1, "a forged identifier confirms nothing");
});

test("what names no process, and what was handed on already, goes no further", async (t) => {
  const { first, second } = await pair(t);
  const stranger = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => stranger.close());
  for (const owner of [1, 2, 255]) stranger.send(forged(owner), second.endpoint.address);
  await until(() => second.endpoint.dropped["unknown-connection-id"] === 3);
  t.is(second.steering.counters.forwarded, 0);
  stranger.send(forged(0), second.endpoint.address);
  await until(() => first.endpoint.dropped["unknown-connection-id"] === 1);
  t.is(first.steering.counters.forwarded, 0);
});

test("while the owner is away what is for it is lost, and it is found again when it is back", async (t) => {
  const { first, second, say, lead, folder } = await pair(t);
  lead(second.endpoint.address);
  await say("before");
  await first.steering.close();
  const stranger = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => stranger.close());
  stranger.send(forged(0), second.endpoint.address);
  await until(() => second.steering.counters.forwarded === 2);
  const again = await WorkerSteering.open({ folder, index: 0, count: 2 });
  t.teardown(() => again.close());
  const received: SocketAddress[] = [];
  again.onDatagram = (_datagram, from) => {
    received.push(from);
    return false;
  };
  await until(() => {
    stranger.send(forged(0), second.endpoint.address);
    return received.length > 0;
  });
  t.is(received[0]?.port, stranger.address.port);
});

test("frames come out of a stream as they went in, however it is cut", async (t) => {
  const { encodeSteeredFrame, SteeredFrameReader } = await import("../../src/net/steered-frame.js");
  const frames = Array.from({ length: 50 }, (_, index) => ({
    kind: (["stranger", "known", "confirmed"] as const)[index % 3] ?? "known",
    from: { address: index % 2 === 0 ? "127.0.0.1" : "2001:db8::1", port: 1000 + index },
    datagram: Buffer.alloc(index * 31, index),
  }));
  const stream = Buffer.concat(
    frames.flatMap(({ kind, from, datagram }) => encodeSteeredFrame(kind, from, datagram) ?? []),
  );
  for (const size of [1, 2, 7, 1000, stream.length]) {
    const out: unknown[] = [];
    const reader = new SteeredFrameReader((frame) => out.push({ ...frame, datagram: Buffer.from(frame.datagram) }));
    for (let at = 0; at < stream.length; at += size) reader.take(stream.subarray(at, at + size));
    t.deepEqual(out, frames);
  }
  t.is(encodeSteeredFrame("known", { address: "127.0.0.1", port: 1 }, new Uint8Array(65_530)), undefined);
  const reader = new SteeredFrameReader(() => t.fail("there is no frame"));
  reader.take(Buffer.of(0, 3, 9, 9, 9, 0, 4, 0, 0, 0, 200));
});
