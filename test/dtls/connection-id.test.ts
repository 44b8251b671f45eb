import { createDecipheriv } from "node:crypto";
import test from "ava";
import fc from "fast-check";
import { type ClientOptions, DTLS_DEFAULTS, type ServerOptions } from "#dtls/index.js";
import { NO_RECORD_LIMITS } from "#dtls/handshake/record-limits.js";
import { RecordLayer } from "#dtls/record-layer.js";
import { encodeInnerPlaintext, readInnerPlaintext } from "#dtls/wire/inner-plaintext.js";
import { CONTENT_TYPES, decodeRecordHeader, TLS12_CID } from "#dtls/wire/record.js";
import { VirtualLink } from "#testing/virtual-link.js";
import { makePair, type Pair, PSK, seededRandom } from "./pair.js";

const { applicationData, handshake } = CONTENT_TYPES;
const OWN = Uint8Array.of(0xc1, 0xd0, 0x01);

function connectedPair(client: ClientOptions = {}, server: ServerOptions = {}, seed = 1): Pair {
  const pair = makePair({
    client: { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"], ...client },
    server: { pskEnabled: true, ...server },
    seed,
  });
  const link = new VirtualLink({ seed });
  if (!link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2)) {
    throw new Error("not connected");
  }
  return pair;
}

/** The next datagram of one end; it is not delivered. */
function datagramOf(end: Pair["client"], data: number): Uint8Array {
  end.association?.send(Uint8Array.of(data));
  const datagram = end.pollDatagram(0);
  if (datagram === undefined) throw new Error("silent");
  return datagram;
}

function droppedBy({ association }: Pair["server"]): Readonly<Record<string, number>> {
  return { ...association?.counters.dropped };
}

/** A layer that reads records with OWN, and one that writes them. */
function layers(paddingBlockBytes = 1): { readonly reader: RecordLayer; readonly writer: RecordLayer } {
  const keyBlock = seededRandom(7)(40);
  const [reader, writer] = [new RecordLayer(), new RecordLayer()];
  reader.installKeys("AES_128_CCM_8", keyBlock, "server");
  writer.installKeys("AES_128_CCM_8", keyBlock, "client");
  reader.useConnectionIds(OWN, new Uint8Array(0), 1);
  writer.useConnectionIds(new Uint8Array(0), OWN, paddingBlockBytes);
  return { reader, writer };
}

function open(layer: RecordLayer, record: Uint8Array): Uint8Array | string {
  const header = decodeRecordHeader(record, 0, OWN.length);
  if ("drop" in header) return header.drop;
  return layer.open(header, record.subarray(header.type === TLS12_CID ? 13 + OWN.length : 13));
}

test("by default a server's identifier is in each record of the client, and none in the server's", (t) => {
  const pair = connectedPair();
  t.is(pair.server.association?.connectionId.length, 6);
  t.true(pair.server.association?.peer?.hasConnectionId);
  t.false(pair.client.association?.peer?.hasConnectionId);
  const fromClient = datagramOf(pair.client, 1);
  t.is(fromClient[0], TLS12_CID);
  t.deepEqual(fromClient.slice(11, 17), pair.server.association?.connectionId);
  const fromServer = datagramOf(pair.server, 2);
  t.is(fromServer[0], applicationData);
  pair.server.handleDatagram(fromClient, 0);
  pair.client.handleDatagram(fromServer, 0);
  t.deepEqual(pair.server.received, [Uint8Array.of(1)]);
  t.deepEqual(pair.client.received, [Uint8Array.of(2)]);
});

test("identifiers of any lengths on both sides, with padding, over a rough link", (t) => {
  for (const [seed, own, peers] of [
    [1, 1, 0],
    [2, 0, 255],
    [3, 20, 1],
    [4, 255, 255],
  ] as const) {
    const random = seededRandom(seed);
    const client: ClientOptions = { connectionId: () => random(own), paddingBlockBytes: 32, random };
    const server: ServerOptions = { connectionId: () => random(peers), paddingBlockBytes: 7, pskEnabled: true };
    const pair = makePair({ client: { psk: PSK, ...client }, server, seed });
    const link = new VirtualLink({ seed, loss: 0.2, reordering: 0.3, duplication: 0.2 });
    t.true(link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2));
    t.is(pair.client.association?.connectionId.length, own);
    t.is(pair.server.association?.connectionId.length, peers);
    for (let i = 0; i < 20; i++) {
      pair.client.association?.send(Uint8Array.of(i));
      pair.server.association?.send(Uint8Array.of(i, 0, 0));
    }
    link.run(pair.client, pair.server, () => false, 60_000);
    t.true(pair.server.received.length > 5 && pair.client.received.length > 5, `seed ${String(seed)}`);
    // Zeros at the end of the content are not taken for padding.
    for (const data of pair.client.received) t.is(data.length, 3);
    for (const data of pair.server.received) t.is(data.length, 1);
  }
});

test("either side alone can do without the extension", (t) => {
  for (const [client, server] of [
    [{ connectionId: false }, {}],
    [{}, { connectionId: false }],
    [{ connectionId: () => OWN }, { connectionId: false }],
  ] as const) {
    const pair = connectedPair(client, server);
    t.is(pair.client.association?.connectionId.length, 0);
    t.is(pair.server.association?.connectionId.length, 0);
    const datagram = datagramOf(pair.client, 1);
    t.is(datagram[0], applicationData);
    pair.server.handleDatagram(datagram, 0);
    t.is(pair.server.received.length, 1);
  }
});

test("the record is as RFC 9146 §4 and §5.3 have it, computed independently by node:crypto", (t) => {
  const { writer } = layers(16);
  const keyBlock = seededRandom(7)(40);
  const record = writer.seal(1, applicationData, Uint8Array.of(1, 2, 3));
  t.deepEqual([...record.subarray(0, 5)], [25, 0xfe, 0xfd, 0, 1]);
  t.deepEqual(record.slice(11, 14), OWN);
  t.is(((record[14] ?? 0) << 8) | (record[15] ?? 0), 8 + 16 + 8);
  const explicitNonce = record.subarray(16, 24);
  const nonce = Buffer.concat([keyBlock.subarray(32, 36), explicitNonce]);
  const additionalData = Buffer.concat([
    Buffer.alloc(8, 0xff),
    Buffer.of(25, OWN.length, 25, 0xfe, 0xfd),
    record.subarray(3, 11),
    OWN,
    Buffer.of(0, 16),
  ]);
  const decipher = createDecipheriv("aes-128-ccm", keyBlock.subarray(0, 16), nonce, { authTagLength: 8 });
  decipher.setAAD(additionalData, { plaintextLength: 16 }).setAuthTag(record.subarray(-8));
  const inner = decipher.update(record.subarray(24, -8));
  decipher.final();
  t.deepEqual([...inner], [1, 2, 3, applicationData, ...Array.from({ length: 12 }, () => 0)]);
});

test("inner plaintexts of any content and padding are read as they were written; any bytes are read safely", (t) => {
  const written = () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.integer({ min: 1, max: 256 }), (content, block) => {
        const inner = encodeInnerPlaintext(handshake, content, block);
        const read = readInnerPlaintext(inner);
        return inner.length % block === 0 && read?.type === handshake && read.length === content.length;
      }),
    );
  const anything = () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const read = readInnerPlaintext(bytes);
        return read === undefined || bytes[read.length] === read.type;
      }),
    );
  t.notThrows(written);
  t.notThrows(anything);
});

test("D54 only the newest authentic record says where the peer is: no replayed, older or forged one does", (t) => {
  const { client, server } = connectedPair();
  const [first, second, third] = [1, 2, 3].map((data) => datagramOf(client, data));
  const association = server.association;
  if (first === undefined || second === undefined || third === undefined || association === undefined) {
    return t.fail();
  }
  t.true(association.handleDatagram(second, 0));
  t.false(association.handleDatagram(second, 0), "replayed");
  t.false(association.handleDatagram(first, 0), "older");
  const forged = Uint8Array.from(third);
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  t.false(association.handleDatagram(forged, 0), "forged");
  t.true(association.handleDatagram(Buffer.concat([forged, third]), 0), "newest, after a forged one");
});

test("D55 a record without its identifier is dropped, whatever its type is made", (t) => {
  const { client, server } = connectedPair();
  const record = datagramOf(client, 1);
  const length = 6;
  for (const type of [applicationData, handshake, TLS12_CID]) {
    const stripped = Buffer.concat([Buffer.of(type), record.subarray(1, 11), record.subarray(11 + length)]);
    server.handleDatagram(stripped, 0);
  }
  t.is(server.received.length, 0);
  t.is(droppedBy(server)["connection-id-missing"], 2);
  server.handleDatagram(record, 0);
  t.is(server.received.length, 1);
});

test("D56 an unknown, short or corrupt identifier is dropped; so is one that nobody asked for", (t) => {
  const { client, server } = connectedPair();
  const record = datagramOf(client, 1);
  const corrupt = Uint8Array.from(record);
  corrupt[11] = (corrupt[11] ?? 0) ^ 1;
  server.handleDatagram(corrupt, 0);
  t.deepEqual(droppedBy(server), { "unknown-connection-id": 1 });
  server.handleDatagram(record.subarray(0, 15), 0);
  t.deepEqual(droppedBy(server), { "unknown-connection-id": 1, "truncated-record": 1 });
  client.handleDatagram(record, 0);
  t.is(client.association?.counters.dropped["unknown-connection-id"], 1);
  t.is(server.received.length + client.received.length, 0);
});

test("D56 an inner plaintext of zeros only, or of an unknown type, is dropped, and its number stays unused", (t) => {
  // The content ends the inner plaintext in the place of the type, which is 0 or unknown.
  const { reader, writer } = layers();
  const zeros = writer.seal(1, 0 as typeof applicationData, new Uint8Array(5));
  t.is(open(reader, zeros), "malformed-inner-plaintext");
  const unknown = writer.seal(1, 99 as typeof applicationData, new Uint8Array(5));
  t.is(open(reader, unknown), "malformed-inner-plaintext");
  t.deepEqual(open(reader, writer.seal(1, applicationData, Uint8Array.of(1))), Uint8Array.of(1));
});

test("D32 content that is longer than what we take is dropped, however it is padded", (t) => {
  for (const block of [1, 100]) {
    const { reader, writer } = layers(block);
    reader.limitRecords({ ...NO_RECORD_LIMITS, receiveProtectedBytes: 64 });
    t.is(open(reader, writer.seal(1, applicationData, new Uint8Array(65))), "record-too-long");
    t.is(open(reader, writer.seal(1, applicationData, new Uint8Array(2000))), "record-too-long");
    t.deepEqual(open(reader, writer.seal(1, applicationData, new Uint8Array(64))), new Uint8Array(64));
  }
});

test("the largest data fit in a datagram of the MTU, with identifier and padding", (t) => {
  const { client, server } = connectedPair({ paddingBlockBytes: 64 }, { connectionId: () => seededRandom(1)(20) });
  const bytes = client.association?.maxDataBytes ?? 0;
  client.association?.send(new Uint8Array(bytes));
  const datagram = client.pollDatagram(0) ?? new Uint8Array(0);
  t.true(datagram.length <= DTLS_DEFAULTS.mtuBytes - 48 && datagram.length > DTLS_DEFAULTS.mtuBytes - 48 - 64);
  server.handleDatagram(datagram, 0);
  t.is(server.received[0]?.length, bytes);
  t.throws(() => client.association?.send(new Uint8Array(bytes + 1)), { code: "DTLS_MESSAGE_TOO_LARGE" });
});

test("RFC 8449 §4: padding stays within what the peer takes, and leaves room for the content", (t) => {
  for (const paddingBlockBytes of [1, 33, 63, 64, 65, 128, 256]) {
    const limited = { connectionId: () => OWN, recordSizeLimitBytes: 64 };
    const { client, server } = connectedPair(limited, { paddingBlockBytes });
    const bytes = server.association?.maxDataBytes ?? 0;
    t.true(bytes >= 32, `${bytes} bytes beside padding to ${paddingBlockBytes}`);
    server.association?.send(new Uint8Array(bytes));
    const datagram = server.pollDatagram(0) ?? new Uint8Array(0);
    t.true(datagram.length <= 13 + OWN.length + 8 + 64 + 8);
    client.handleDatagram(datagram, 0);
    t.is(client.received[0]?.length, bytes);
  }
});

test("an identifier of the peer's that leaves no room in a datagram ends the handshake", (t) => {
  const pair = makePair({
    client: { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"], connectionId: () => seededRandom(2)(255) },
    server: { pskEnabled: true, mtuBytes: 340 },
  });
  new VirtualLink({ seed: 1 }).run(pair.client, pair.server, () => pair.server.closed !== undefined);
  t.is(pair.server.closed?.error?.code, "DTLS_ILLEGAL_PARAMETER");
});
