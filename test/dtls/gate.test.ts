import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import test from "ava";
import { Association, type ClientOptions, type GateAnswer, ServerGate, type ServerOptions } from "#dtls/index.js";
import { decodeClientHello, encodeClientHello } from "#dtls/wire/client-hello.js";
import { HANDSHAKE_TYPES } from "#dtls/wire/handshake-header.js";
import { decodeHelloVerifyRequest } from "#dtls/wire/hello-verify-request.js";
import { CONTENT_TYPES, decodeRecordHeader } from "#dtls/wire/record.js";
import { VirtualLink } from "#testing/virtual-link.js";
import { ADDRESS, makePair, type Pair, PSK, TestEnd } from "./pair.js";
import { messageTypeOf, plainRecord, splitRecords, wholeMessage } from "./rogue.js";

const CLIENT: ClientOptions = { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] };
const SERVER: ServerOptions = { pskEnabled: true, cookieLifetimeMs: 30_000 };
const OTHER_ADDRESS = Uint8Array.of(192, 0, 2, 1, 0x16, 0x35);

/** A ClientHello without a cookie, and the same with the cookie that `gate` gives for it. */
function hellos(gate: ServerGate, now = 0): { readonly first: Uint8Array; readonly second: Uint8Array } {
  const client = new TestEnd({ client: Association.connect(CLIENT, now) });
  const first = client.pollDatagram(now) ?? new Uint8Array(0);
  const answer = gate.handleDatagram(first, ADDRESS, now);
  if (answer.type !== "reply") throw new Error(answer.type);
  client.handleDatagram(answer.bytes, now);
  return { first, second: client.pollDatagram(now) ?? new Uint8Array(0) };
}

/** The same ClientHello, changed. */
function changed(
  datagram: Uint8Array,
  change: (hello: ReturnType<typeof decodeClientHello>) => ReturnType<typeof decodeClientHello>,
): Uint8Array {
  const body = encodeClientHello(change(decodeClientHello(datagram.subarray(25))));
  return plainRecord(CONTENT_TYPES.handshake, wholeMessage(HANDSHAKE_TYPES.client_hello, datagram[18] ?? 0, body), {
    sequenceNumber: datagram[10] ?? 0,
  });
}

function isVerifyRequest(answer: GateAnswer): boolean {
  return answer.type === "reply" && messageTypeOf(answer.bytes) === HANDSHAKE_TYPES.hello_verify_request;
}

function connect(pair: Pair, link = new VirtualLink({ seed: 1 })): boolean {
  return link.run(pair.client, pair.server, () => pair.client.connected === 1 && pair.server.connected === 1);
}

function heapBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

test("a ClientHello with the cookie is accepted, and one without it gets one", (t) => {
  const gate = new ServerGate(SERVER);
  const { first, second } = hellos(gate);
  t.true(isVerifyRequest(gate.handleDatagram(first, ADDRESS, 0)));
  const answer = gate.handleDatagram(second, ADDRESS, 0);
  t.is(answer.type, "accept");
  if (answer.type === "accept") t.is(answer.association.state, "handshaking");
});

test("D45 a flood of spoofed ClientHellos leaves nothing behind, and each answer is no longer than its question", (t) => {
  const gate = new ServerGate(SERVER);
  const { first } = hellos(gate);
  const spoofed = Uint8Array.from(first);
  const address = new Uint8Array(6);
  const flood = (count: number): void => {
    for (let i = 0; i < count; i++) {
      new DataView(address.buffer).setUint32(0, i);
      spoofed[30] = i;
      const answer = gate.handleDatagram(spoofed, address, i / 1000);
      if (answer.type !== "reply" || answer.bytes.length > spoofed.length) t.fail();
    }
  };
  flood(1000);
  const before = heapBytes();
  flood(process.env["DPE_SCALE"] === "1" ? 1_000_000 : 50_000);
  const grown = heapBytes() - before;
  t.log(`${String(grown)} bytes of heap more`);
  t.true(grown < 1_000_000);
});

test("D45 the shortest ClientHello that there can be is longer than its answer", (t) => {
  const gate = new ServerGate(SERVER);
  // As short as can be: no extensions, one suite. 67 bytes, where the answer has 49.
  const hello = {
    ...decodeClientHello(hellos(gate).first.subarray(25)),
    extensions: new Map(),
    cipherSuites: [0xc0a8],
  };
  const whole = plainRecord(
    CONTENT_TYPES.handshake,
    wholeMessage(HANDSHAKE_TYPES.client_hello, 0, encodeClientHello(hello)),
  );
  const answer = gate.handleDatagram(whole, ADDRESS, 0);
  t.is(answer.type, "reply");
  if (answer.type === "reply") t.true(answer.bytes.length <= whole.length);
});

test("D46 a cookie of another address or port, for other parameters, or expired, gets a new HelloVerifyRequest", (t) => {
  const gate = new ServerGate(SERVER);
  const { second } = hellos(gate);
  t.true(isVerifyRequest(gate.handleDatagram(second, OTHER_ADDRESS, 0)));
  t.true(isVerifyRequest(gate.handleDatagram(second, ADDRESS.subarray(0, 5), 0)));
  const others = [
    changed(second, (hello) => ({ ...hello, random: Uint8Array.from(hello.random, (byte) => byte ^ 1) })),
    changed(second, (hello) => ({ ...hello, cipherSuites: [...hello.cipherSuites, 0xc0a4] })),
    changed(second, (hello) => ({ ...hello, cipherSuites: hello.cipherSuites.map((suite) => suite ^ 1) })),
    changed(second, (hello) => ({ ...hello, compressionMethods: [1] })),
    changed(second, (hello) => ({ ...hello, sessionId: Uint8Array.of(1) })),
    changed(second, (hello) => ({ ...hello, compressionMethods: [0, 1] })),
    changed(second, (hello) => ({ ...hello, version: 0xfefc })),
  ];
  for (const other of others) t.true(isVerifyRequest(gate.handleDatagram(other, ADDRESS, 0)));
  t.is(
    gate.handleDatagram(
      changed(second, (hello) => hello),
      ADDRESS,
      0,
    ).type,
    "accept",
  );
  t.is(gate.handleDatagram(second, ADDRESS, 45_000).type, "accept", "the key before is still good");
  t.true(isVerifyRequest(gate.handleDatagram(second, ADDRESS, 60_001)));
  const idle = new ServerGate(SERVER);
  const old = hellos(idle).second;
  t.true(isVerifyRequest(idle.handleDatagram(old, ADDRESS, 10_000_000)), "however long nothing came");
});

test("D46 a client whose cookie expired on the way is given another, and connects", (t) => {
  const pair = makePair({ client: { ...CLIENT, maxRetransmissions: 20 }, server: { ...SERVER, cookieLifetimeMs: 15 } });
  const link = new VirtualLink({ seed: 1, latencyMs: 20 });
  // A round trip takes 40 ms, a cookie lives at most 30: all are refused, and the client gives up by name.
  t.false(connect(pair, link));
  t.is(pair.client.closed?.error?.code, "DTLS_UNEXPECTED_MESSAGE");
  const slow = makePair({ client: CLIENT, server: SERVER });
  const first = slow.client.pollDatagram(0) ?? new Uint8Array(0);
  slow.server.handleDatagram(first, 0);
  slow.client.handleDatagram(slow.server.pollDatagram(0) ?? new Uint8Array(0), 0);
  const late = slow.client.pollDatagram(0) ?? new Uint8Array(0);
  slow.server.handleDatagram(late, 100_000);
  const again = slow.server.pollDatagram(100_000) ?? new Uint8Array(0);
  t.is(messageTypeOf(again), HANDSHAKE_TYPES.hello_verify_request);
  slow.client.handleDatagram(again, 20);
  const resumed = new VirtualLink({ seed: 1 });
  resumed.now = 100_000;
  slow.server.handleDatagram(slow.client.pollDatagram(20) ?? new Uint8Array(0), 100_000);
  t.is(slow.server.association?.state, "handshaking");
  const answer = slow.server.pollDatagram(100_000) ?? new Uint8Array(0);
  slow.client.handleDatagram(answer, 30);
  slow.server.handleDatagram(slow.client.pollDatagram(30) ?? new Uint8Array(0), 100_001);
  slow.client.handleDatagram(slow.server.pollDatagram(100_001) ?? new Uint8Array(0), 40);
  t.is(slow.client.connected + slow.server.connected, 2);
});

test("D44 D47 a garbage cookie starts no handshake, nor one longer than any of ours: its client is given one anew", (t) => {
  const gate = new ServerGate(SERVER);
  const { second } = hellos(gate);
  for (const length of [...Array(22).keys(), 255].slice(1)) {
    const garbage = changed(second, (hello) => ({ ...hello, cookie: new Uint8Array(length).fill(length) }));
    t.true(isVerifyRequest(gate.handleDatagram(garbage, ADDRESS, 0)));
  }
  const flipped = changed(second, (hello) => ({
    ...hello,
    cookie: hello.cookie.map((byte, i) => (i === 20 ? byte ^ 1 : byte)),
  }));
  t.true(isVerifyRequest(gate.handleDatagram(flipped, ADDRESS, 0)));
});

test("D48 HelloVerifyRequest has the record and message numbers of its ClientHello; when it is lost the repeat proceeds", (t) => {
  const pair = makePair({ client: CLIENT, server: SERVER });
  t.truthy(pair.client.pollDatagram(0));
  pair.client.handleTimeout(1000);
  const repeat = pair.client.pollDatagram(1000) ?? new Uint8Array(0);
  pair.server.handleDatagram(repeat, 1000);
  const verify = pair.server.pollDatagram(1000) ?? new Uint8Array(0);
  const header = decodeRecordHeader(verify, 0);
  t.is("drop" in header ? undefined : header.sequenceNumber, 1);
  t.is(verify[18], 0);
  t.is(decodeHelloVerifyRequest(verify.subarray(25)).version, 0xfeff);
  pair.client.handleDatagram(verify, 1000);
  const link = new VirtualLink({ seed: 1 });
  link.now = 1000;
  t.true(connect(pair, link));
  // The server goes on from the record number of the ClientHello it accepted (RFC 6347 §4.2.1).
  const serverHello = pair.server.sent.flatMap(splitRecords).find((record) => messageTypeOf(record) === 2);
  t.is(serverHello?.[10], 2);
});

test("D34 D49 a new handshake at a living address, and its failure, leave the old association as it is until the new is done", (t) => {
  const gate = new ServerGate(SERVER);
  const old: Pair = {
    client: new TestEnd({ client: Association.connect(CLIENT, 0) }),
    server: new TestEnd({ gate }, {}),
  };
  t.true(connect(old));
  const works = (value: number): void => {
    old.client.association?.send(Uint8Array.of(value));
    old.server.handleDatagram(old.client.pollDatagram(0) ?? new Uint8Array(0), 0);
    t.deepEqual(old.server.received.at(-1), Uint8Array.of(value));
  };
  const { second } = hellos(gate, 100);
  t.false(old.server.association?.beganWith(second));
  const answer = gate.handleDatagram(second, ADDRESS, 100);
  if (answer.type !== "accept") throw new Error(answer.type);
  old.server.association?.handleDatagram(second, 100);
  works(1);
  const alert = plainRecord(CONTENT_TYPES.alert, Uint8Array.of(2, 40));
  answer.association.handleDatagram(alert, 100);
  old.server.handleDatagram(alert, 100);
  answer.association.handleTimeout(1100);
  t.is(answer.association.state, "closing");
  works(2);
});

test("D50 a racing ClientHello with NULL suites does not kill the honest handshake", (t) => {
  const pair = makePair({ client: CLIENT, server: SERVER });
  const link = new VirtualLink({ seed: 1 });
  link.run(pair.client, pair.server, () => pair.server.association !== undefined);
  const honest = pair.client.sent.at(-1) ?? new Uint8Array(0);
  const racing = changed(honest, (hello) => ({
    ...hello,
    random: new Uint8Array(32).fill(9),
    cipherSuites: [0, 1, 2],
  }));
  pair.server.handleDatagram(racing, link.now);
  t.is(pair.server.association?.counters.dropped["unexpected-message"], 1);
  t.true(connect(pair, link));
});

test("D51 D41 thousands of handshakes that fail, with messages queued, leave nothing behind", (t) => {
  const gate = new ServerGate(SERVER);
  const { second } = hellos(gate);
  const queued = plainRecord(CONTENT_TYPES.handshake, wholeMessage(20, 4, new Uint8Array(4000)));
  const later = plainRecord(CONTENT_TYPES.handshake, wholeMessage(11, 4, new Uint8Array(4000)));
  const kept: Association[] = [];
  const fail = (count: number): void => {
    for (let i = 0; i < count; i++) {
      const answer = gate.handleDatagram(second, ADDRESS, 0);
      if (answer.type !== "accept") throw new Error(answer.type);
      const { association } = answer;
      association.handleDatagram(queued, 0);
      association.handleDatagram(later, 0);
      association.handleDatagram(plainRecord(CONTENT_TYPES.alert, Uint8Array.of(2, 40)), 0);
      association.handleTimeout(1000);
      while (association.poll() !== undefined);
      if (association.nextTimeout() !== undefined || association.state !== "closed") t.fail();
      kept.push(association);
    }
  };
  fail(500);
  const before = heapBytes();
  fail(10_000);
  // Even while the ends are still held on to, the 4 kB that were queued in each are not.
  t.true((heapBytes() - before) / 10_000 < 2500, String((heapBytes() - before) / 10_000));
  kept.length = 0;
  t.true(heapBytes() - before < 2_000_000);
});

test("D41 messages still queued when the handshake completes are freed", (t) => {
  const pairs: Pair[] = [];
  const run = (count: number, isQueued: boolean): number => {
    const before = heapBytes();
    for (let i = 0; i < count; i++) {
      const pair = makePair({ client: CLIENT, server: SERVER, seed: i });
      const link = new VirtualLink({ seed: 1 });
      link.run(pair.client, pair.server, () => pair.server.association !== undefined);
      if (isQueued) {
        const later = plainRecord(CONTENT_TYPES.handshake, wholeMessage(11, 5, new Uint8Array(7000)));
        pair.server.handleDatagram(later, link.now);
        t.is(pair.server.association?.counters.dropped["reassembly-limit"], undefined);
      }
      if (!connect(pair, link)) t.fail();
      pairs.push(pair);
    }
    return (heapBytes() - before) / count;
  };
  run(20, true);
  const [plain, queued] = [run(100, false), run(100, true)];
  t.true(queued - plain < 4000, `${String(plain)} without, ${String(queued)} with`);
});

test("D52 a stalled handshake ends at its timeout, by name, and asks for no further time", (t) => {
  const gate = new ServerGate({ ...SERVER, handshakeTimeoutMs: 5000 });
  const { second } = hellos(gate);
  const answer = gate.handleDatagram(second, ADDRESS, 0);
  if (answer.type !== "accept") throw new Error(answer.type);
  const { association } = answer;
  let last = 0;
  for (let next = association.nextTimeout(); next !== undefined; next = association.nextTimeout()) {
    last = next;
    association.handleTimeout(next);
  }
  t.is(last, 5000);
  const outputs = Array.from({ length: 10 }, () => association.poll()).filter((output) => output !== undefined);
  const closed = outputs.at(-1);
  t.is(closed?.type === "closed" ? closed.error?.code : undefined, "DTLS_HANDSHAKE_TIMEOUT");
  t.is(association.state, "closed");
});

test("D53 an old ClientHello replayed after the handshake is known for what it is, and brings no flight", (t) => {
  const pair = makePair({ client: CLIENT, server: SERVER });
  t.true(connect(pair));
  const hello = pair.client.sent[1] ?? new Uint8Array(0);
  t.is(messageTypeOf(hello), HANDSHAKE_TYPES.client_hello);
  t.true(pair.server.association?.beganWith(hello));
  pair.server.association?.handleDatagram(hello, 100);
  t.is(pair.server.association?.poll(), undefined);
  t.false(pair.client.association?.beganWith(hello));
});

test("what begins like a ClientHello and is none is dropped by the gate, each for its reason", (t) => {
  const gate = new ServerGate(SERVER);
  const { first } = hellos(gate);
  const body = first.subarray(25);
  const message = (type: number, bytes: Uint8Array): Uint8Array =>
    plainRecord(CONTENT_TYPES.handshake, wholeMessage(type, 0, bytes));
  for (const [datagram, reason] of [
    [message(HANDSHAKE_TYPES.client_hello, body.subarray(0, 30)), "malformed-client-hello"],
    [message(HANDSHAKE_TYPES.client_hello, new Uint8Array(0)), "malformed-client-hello"],
    [message(HANDSHAKE_TYPES.finished, body), "not-a-client-hello"],
    [plainRecord(CONTENT_TYPES.returnRoutabilityCheck, new Uint8Array(9)), "not-a-client-hello"],
    [plainRecord(CONTENT_TYPES.handshake, body.subarray(0, 5)), "malformed-fragment"],
    [first.subarray(0, 12), "truncated-record"],
  ] as const) {
    const answer = gate.handleDatagram(datagram, ADDRESS, 0);
    t.deepEqual(answer, { type: "drop", reason });
  }
});

test("alerts that are none, or only warn, end no handshake; each drop is told as it is counted", (t) => {
  const told: string[] = [];
  const pair = makePair({ client: { ...CLIENT, onDrop: (reason) => told.push(reason) }, server: SERVER });
  const { client } = pair;
  for (const alert of [Uint8Array.of(2), Uint8Array.of(3, 40), Uint8Array.of(2, 40, 0)]) {
    client.handleDatagram(plainRecord(CONTENT_TYPES.alert, alert), 0);
  }
  client.handleDatagram(plainRecord(CONTENT_TYPES.alert, Uint8Array.of(1, 90)), 0);
  client.handleDatagram(plainRecord(CONTENT_TYPES.returnRoutabilityCheck, new Uint8Array(9)), 0);
  t.deepEqual(client.association?.counters.dropped, {
    "malformed-alert": 3,
    "ignored-alert": 1,
    "plaintext-not-allowed": 1,
  });
  t.is(told.length, 5);
  t.true(connect(pair));
});

test("a ClientHello in fragments is verified by its first one, and taken when it is whole", (t) => {
  const serverName = `${"long.".repeat(40)}example`;
  const pair = makePair({ client: { ...CLIENT, mtuBytes: 200, serverName }, server: SERVER });
  t.true(connect(pair));
  t.true(pair.server.gateDrops.includes("fragmented-client-hello"));
  t.is(pair.server.association?.peer?.serverName, serverName);
  t.true(pair.client.sent.length > 4);
});

test("the client's repeated second ClientHello brings the server's flight again, but not in quick succession", (t) => {
  const pair = makePair({ client: CLIENT, server: SERVER });
  const link = new VirtualLink({ seed: 1 });
  link.run(pair.client, pair.server, () => pair.server.association !== undefined);
  while (pair.server.pollDatagram(link.now) !== undefined);
  const hello = pair.client.sent.at(-1) ?? new Uint8Array(0);
  for (let i = 0; i < 100; i++) pair.server.handleDatagram(hello, link.now + i);
  t.is(pair.server.pollDatagram(link.now), undefined);
  pair.server.handleDatagram(hello, link.now + 600);
  t.is(messageTypeOf(pair.server.pollDatagram(link.now) ?? new Uint8Array(0)), HANDSHAKE_TYPES.server_hello);
  t.is(pair.server.association?.counters.retransmissions, 1);
});

test("D26 an association whose record numbers run out closes, and says so", (t) => {
  const gate = new ServerGate(SERVER);
  const { second } = hellos(gate);
  const last = Uint8Array.from(second);
  last.fill(0xff, 5, 11);
  const answer = gate.handleDatagram(last, ADDRESS, 0);
  if (answer.type !== "accept") throw new Error(answer.type);
  const output = answer.association.poll();
  t.is(output?.type === "closed" ? output.error?.code : undefined, "DTLS_SEQUENCE_EXHAUSTED");
});
