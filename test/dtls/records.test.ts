import { randomBytes } from "node:crypto";
import test from "ava";
import fc from "fast-check";
import { EarlyRecords } from "#dtls/early-records.js";
import { type HandshakeMessage, Reassembly } from "#dtls/handshake/reassembly.js";
import { Transcript } from "#dtls/handshake/transcript.js";
import { RecordLayer } from "#dtls/record-layer.js";
import { ReplayWindow } from "#dtls/replay-window.js";
import { DtlsError } from "#dtls/index.js";
import type { HandshakeFragment } from "#dtls/wire/handshake-header.js";
import { CONTENT_TYPES, decodeRecordHeader, MAX_SEQUENCE_NUMBER, RECORD_HEADER_BYTES } from "#dtls/wire/record.js";

const { applicationData, handshake } = CONTENT_TYPES;

function layers(aead: "AES_128_CCM_8" | "AES_128_CCM" | "AES_128_GCM"): { client: RecordLayer; server: RecordLayer } {
  const keyBlock = randomBytes(40);
  const [client, server] = [new RecordLayer(), new RecordLayer()];
  client.installKeys(aead, Uint8Array.from(keyBlock), "client");
  server.installKeys(aead, Uint8Array.from(keyBlock), "server");
  return { client, server };
}

function open(layer: RecordLayer, record: Uint8Array): Uint8Array | string {
  const header = decodeRecordHeader(record, 0);
  if ("drop" in header) throw new Error(header.drop);
  return layer.open(header, record.subarray(RECORD_HEADER_BYTES));
}

function sequenceNumberOf(record: Uint8Array): number {
  const header = decodeRecordHeader(record, 0);
  return "drop" in header ? NaN : header.sequenceNumber;
}

function fragmentOf(body: Uint8Array, from: number, to: number, messageSeq = 0, type = 11): HandshakeFragment {
  return { type, length: body.length, messageSeq, fragmentOffset: from, fragment: body.subarray(from, to) };
}

test("each AEAD carries data both ways, and its own direction cannot open them", (t) => {
  for (const aead of ["AES_128_CCM_8", "AES_128_CCM", "AES_128_GCM"] as const) {
    const { client, server } = layers(aead);
    const record = client.seal(1, applicationData, Uint8Array.of(1, 2, 3));
    t.is(record.length, client.overheadBytes(1) + 3);
    t.is(open(client, record), "bad-mac");
    t.deepEqual(open(server, record), Uint8Array.of(1, 2, 3));
    t.deepEqual(open(client, server.seal(1, handshake, new Uint8Array(0))), new Uint8Array(0));
  }
});

test("keys are wiped when nothing more is to be sealed or opened", (t) => {
  const keyBlock = Uint8Array.from(randomBytes(40));
  const layer = new RecordLayer();
  layer.installKeys("AES_128_CCM", keyBlock, "server");
  layer.seal(1, applicationData, Uint8Array.of(1));
  layer.release();
  t.deepEqual(keyBlock, new Uint8Array(40));
  t.false(layer.hasKeys);
});

test("D25 the window takes each number once, to 63 behind the newest and not to 64, in any order", (t) => {
  const window = new ReplayWindow();
  window.mark(100);
  t.false(window.isFresh(100));
  t.true(window.isFresh(101));
  t.true(window.isFresh(37), "63 behind");
  t.false(window.isFresh(36), "64 behind");
  window.mark(37);
  t.false(window.isFresh(37));
  t.true(window.isFresh(38));
  window.mark(101);
  t.false(window.isFresh(37), "now 64 behind");
  t.true(window.isFresh(38));
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(200), fc.nat(100_000)), { maxLength: 200 }), (numbers) => {
      const tested = new ReplayWindow();
      const seen = new Set<number>();
      let newest = -1;
      for (const number of numbers) {
        const expected = !seen.has(number) && newest - number < 64;
        if (tested.isFresh(number) !== expected) return false;
        if (!expected) continue;
        tested.mark(number);
        seen.add(number);
        newest = Math.max(newest, number);
      }
      return true;
    }),
  );
});

test("D25 a record that comes twice, or 64 behind, is dropped as replayed; one 63 behind is taken", (t) => {
  const { client, server } = layers("AES_128_CCM_8");
  const records = Array.from({ length: 66 }, (_, i) => client.seal(1, applicationData, Uint8Array.of(i)));
  t.deepEqual(open(server, records[64]!), Uint8Array.of(64));
  t.is(open(server, records[64]!), "replayed");
  t.is(open(server, records[0]!), "replayed");
  t.deepEqual(open(server, records[1]!), Uint8Array.of(1));
  t.deepEqual(open(server, records[65]!), Uint8Array.of(65));
  t.is(open(server, records[1]!), "replayed");
});

test("D23 a forged huge sequence number does not move the replay window", (t) => {
  const { client, server } = layers("AES_128_CCM_8");
  const forged = client.seal(1, applicationData, Uint8Array.of(9));
  forged.fill(0xff, 5, 11);
  t.is(open(server, forged), "bad-mac");
  t.deepEqual(open(server, client.seal(1, applicationData, Uint8Array.of(1))), Uint8Array.of(1));
});

test("D26 the number 2^48-1 is never sent: sealing refuses, again and again", (t) => {
  const layer = new RecordLayer(MAX_SEQUENCE_NUMBER - 1);
  t.is(sequenceNumberOf(layer.seal(0, handshake, new Uint8Array(1))), MAX_SEQUENCE_NUMBER - 1);
  for (let i = 0; i < 3; i++) {
    const error = t.throws(() => layer.seal(0, handshake, new Uint8Array(1)), { instanceOf: DtlsError });
    t.is(error?.code, "DTLS_SEQUENCE_EXHAUSTED");
  }
});

test("D27 a million records have a million nonces", (t) => {
  const { client } = layers("AES_128_CCM_8");
  const plaintext = Uint8Array.of(1);
  for (let expected = 0; expected < 1_000_000; expected++) {
    const record = client.seal(1, applicationData, plaintext);
    // Epoch ‖ sequence number, in the header and as explicit nonce.
    const view = new DataView(record.buffer, record.byteOffset);
    const nonce = view.getUint16(RECORD_HEADER_BYTES) * 2 ** 48 + view.getUint16(15) * 2 ** 32 + view.getUint32(17);
    if (nonce !== 2 ** 48 + expected || view.getUint32(7) !== view.getUint32(17)) t.fail(`record ${String(expected)}`);
  }
  t.pass();
});

test("D30 a protected record shorter than its explicit nonce and tag is dropped", (t) => {
  const { client, server } = layers("AES_128_CCM_8");
  const record = client.seal(1, applicationData, new Uint8Array(0));
  for (let length = 0; length < 16; length++) {
    const short = record.slice(0, RECORD_HEADER_BYTES + length);
    short[12] = length;
    t.is(open(server, short), "record-too-short");
  }
  t.deepEqual(open(server, record), new Uint8Array(0));
});

test("D40 fragments that overlap, repeat and come in any order give the message", (t) => {
  const cut = fc.tuple(fc.nat(200), fc.nat(200));
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.array(cut, { maxLength: 12 }), (body, cuts) => {
      const reassembly = new Reassembly(8192);
      for (const [a, b] of cuts) {
        const [from, to] = [Math.min(a, b) % body.length, Math.max(a, b) % (body.length + 1)];
        if (to > from) reassembly.add(fragmentOf(body, from, to));
      }
      reassembly.add(fragmentOf(body, Math.floor(body.length / 2), body.length));
      reassembly.add(fragmentOf(body, 0, Math.floor(body.length / 2) + 1));
      return Buffer.compare(reassembly.peek()?.body ?? new Uint8Array(0), body) === 0;
    }),
  );
  t.pass();
});

test("D36 fragments that disagree on the length of their message are illegal", (t) => {
  const reassembly = new Reassembly(8192);
  reassembly.add(fragmentOf(new Uint8Array(20), 0, 5));
  const error = t.throws(() => reassembly.add(fragmentOf(new Uint8Array(21), 5, 10)), { instanceOf: DtlsError });
  t.is(error?.code, "DTLS_ILLEGAL_PARAMETER");
});

test("D37 one message_seq with two types is illegal; messages are told apart by message_seq", (t) => {
  const reassembly = new Reassembly(8192);
  reassembly.add(fragmentOf(new Uint8Array(20), 0, 5, 0, 11));
  t.is(reassembly.add(fragmentOf(new Uint8Array(30), 0, 5, 1, 11)), undefined);
  const error = t.throws(() => reassembly.add(fragmentOf(new Uint8Array(20), 5, 10, 0, 12)), { instanceOf: DtlsError });
  t.is(error?.code, "DTLS_ILLEGAL_PARAMETER");
});

test("D38 a message of 16 MiB in a fragment of one byte allocates nothing: it is refused, or dropped when not next", (t) => {
  const reassembly = new Reassembly(8192);
  const huge = (messageSeq: number): HandshakeFragment => ({
    type: 11,
    length: 0xffffff,
    messageSeq,
    fragmentOffset: 0,
    fragment: Uint8Array.of(1),
  });
  const before = process.memoryUsage().arrayBuffers;
  t.is(reassembly.add(huge(3)), "reassembly-limit");
  const error = t.throws(() => reassembly.add(huge(0)), { instanceOf: DtlsError });
  t.is(error?.code, "DTLS_REASSEMBLY_LIMIT");
  t.is(error?.fault, "local-limit");
  t.true(process.memoryUsage().arrayBuffers - before < 1_000_000);
});

test("D38 what is held is capped, tiny fragments and verified ones included, and the next message still gets through", (t) => {
  const reassembly = new Reassembly(8192);
  const body = new Uint8Array(8192);
  // A server's peer without a certificate has keys for verified records, whoever it is.
  for (const isVerified of [false, true]) {
    const drops = { limit: 0, held: 0 };
    for (let messageSeq = 1; messageSeq < 10; messageSeq++) {
      for (let at = 0; at < 8192; at += 2) {
        if (reassembly.add(fragmentOf(body, at, at + 1, messageSeq), isVerified) === undefined) drops.held++;
        else drops.limit++;
      }
    }
    t.true(drops.held < 200, String(drops.held));
    t.true(drops.limit > 30_000);
  }
  t.is(reassembly.add(fragmentOf(body, 0, 1)), undefined);
  for (let at = 0; at < 8192; at += 1024) t.is(reassembly.add(fragmentOf(body, at, at + 1024)), undefined);
  t.is(reassembly.peek()?.body.length, 8192);
});

test("what came in a verified record prevails over what did not, whichever comes first", (t) => {
  const [finished, forged] = [Uint8Array.of(1, 2, 3), new Uint8Array(9)];
  for (const isForgedFirst of [false, true]) {
    const reassembly = new Reassembly(8192);
    if (isForgedFirst) t.is(reassembly.add(fragmentOf(forged, 0, 4)), undefined);
    t.is(reassembly.add(fragmentOf(finished, 0, 2, 0, 20), true), undefined);
    t.is(reassembly.add(fragmentOf(forged, 4, 9)), "unexpected-message");
    t.is(reassembly.add(fragmentOf(finished, 2, 3, 0, 20), true), undefined);
    t.deepEqual(reassembly.peek(), { type: 20, messageSeq: 0, body: finished, isVerified: true });
  }
});

test("D39 fragments of no length hold nothing; a message of no length is whole by one", (t) => {
  const reassembly = new Reassembly(8192);
  for (let i = 0; i < 1000; i++) t.is(reassembly.add(fragmentOf(new Uint8Array(20), 10, 10)), "malformed-fragment");
  t.is(reassembly.peek(), undefined);
  t.is(reassembly.add(fragmentOf(new Uint8Array(0), 0, 0, 0, 14)), undefined);
  t.deepEqual(reassembly.peek(), { type: 14, messageSeq: 0, body: new Uint8Array(0), isVerified: false });
});

test("messages come out in order, once each, and old or far ones are dropped", (t) => {
  const reassembly = new Reassembly(8192);
  const body = Uint8Array.of(1, 2, 3);
  t.is(reassembly.add(fragmentOf(body, 0, 3, 1)), undefined);
  t.is(reassembly.peek(), undefined);
  t.is(reassembly.add(fragmentOf(body, 0, 3, 0)), undefined);
  t.is(reassembly.peek()?.messageSeq, 0);
  reassembly.advance();
  t.is(reassembly.peek()?.messageSeq, 1);
  reassembly.advance();
  t.is(reassembly.add(fragmentOf(body, 0, 3, 1)), "duplicate-message");
  t.is(reassembly.add(fragmentOf(body, 0, 3, 500)), "reassembly-limit");
});

test("D24 records held early are capped in bytes, and each is held once", (t) => {
  const early = new EarlyRecords(1000);
  const record = randomBytes(100);
  for (let i = 0; i < 1000; i++) t.true(early.holdSealed(record));
  t.is(early.takeSealed().length, 1);
  let held = 0;
  for (let i = 0; i < 1000; i++) if (early.holdSealed(randomBytes(100))) held++;
  t.is(held, 6);
  t.false(early.holdData(randomBytes(100)));
  t.is(early.takeSealed().length, 6);
  t.true(early.holdData(randomBytes(900)));
  t.is(early.takeData().length, 1);
});

test("a transcript that was released has nothing more to do with the one that has its array now", (t) => {
  const message = (body: Uint8Array): HandshakeMessage => ({ type: 1, messageSeq: 0, body });
  const bodies = [10, 400, 511, 2000].map((size) => randomBytes(size));
  for (const body of bodies) {
    const first = new Transcript();
    first.add(message(body));
    const expected = Uint8Array.from(first.bytes());
    first.release();
    first.release();
    t.is(first.bytes().length, 0);
    const [second, third] = [new Transcript(), new Transcript()];
    second.add(message(body));
    third.add(message(randomBytes(300)));
    first.add(message(randomBytes(300)));
    t.deepEqual(Uint8Array.from(second.bytes()), expected);
    t.is(second.bytesBeforeLast().length, 0);
  }
});
