import test from "ava";
import { ClientHandshake } from "#dtls/handshake/client-handshake.js";
import { generateKeyShare } from "#dtls/crypto/key-exchange.js";
import type { HandshakeChannel } from "#dtls/handshake/handshake-driver.js";
import { NO_RECORD_LIMITS } from "#dtls/handshake/record-limits.js";
import { ServerHandshake } from "#dtls/handshake/server-handshake.js";
import { resolveClientOptions, resolveServerOptions } from "#dtls/options.js";
import {
  Association,
  type ClientOptions,
  type DtlsErrorCode,
  DTLS_DEFAULTS,
  DtlsError,
  ServerGate,
  type ServerOptions,
} from "#dtls/index.js";
import { decodeClientHello, encodeClientHello } from "#dtls/wire/client-hello.js";
import { encodeApplicationProtocols } from "#dtls/wire/application-protocol.js";
import { encodeCertificate } from "#dtls/wire/certificate.js";
import { encodeCertificateType } from "#dtls/wire/certificate-type.js";
import { EXTENSION_TYPES } from "#dtls/wire/extensions.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "#dtls/wire/handshake-header.js";
import { encodeHelloVerifyRequest } from "#dtls/wire/hello-verify-request.js";
import { CONTENT_TYPES } from "#dtls/wire/record.js";
import { encodeMaxFragmentLength, encodeRecordSizeLimit } from "#dtls/wire/record-limits.js";
import { decodeServerHello, encodeServerHello } from "#dtls/wire/server-hello.js";
import { VirtualLink } from "#testing/virtual-link.js";
import { credential } from "./fixtures.js";
import { makePair, type Pair, PSK, seededRandom, TestEnd } from "./pair.js";
import {
  messageTypeOf,
  type OwnMessage,
  plainRecord,
  RogueEnd,
  splitRecords,
  type Tampering,
  wholeMessage,
} from "./rogue.js";

const T = HANDSHAKE_TYPES;
const MUTUAL: ServerOptions = { certificate: credential("p256"), clientCertificate: "require" };
/** Without connection identifiers and tickets, so that records and flights have the plain form; those with them have files of their own. */
const PSK_SERVER: ServerOptions = {
  pskEnabled: true,
  cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"],
  connectionId: false,
  sessionTickets: false,
};
const PSK_CLIENT: ClientOptions = { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] };

/** Our server against a client that breaks the protocol. */
function againstClient(
  tampering: Tampering,
  server: ServerOptions = PSK_SERVER,
  client: ClientOptions = PSK_CLIENT,
): { readonly rogue: RogueEnd; readonly end: TestEnd; readonly link: VirtualLink } {
  const rogue = new RogueEnd("client", new ClientHandshake(resolveClientOptions(client)), tampering);
  const end = new TestEnd({ gate: new ServerGate(server) });
  const link = new VirtualLink({ seed: 1 });
  link.run(rogue, end, () => false);
  return { rogue, end, link };
}

/** Our client against such a server. There is no gate, so no cookie. */
function againstServer(
  tampering: Tampering,
  server: ServerOptions = PSK_SERVER,
  client: ClientOptions = PSK_CLIENT,
): { readonly rogue: RogueEnd; readonly end: TestEnd; readonly link: VirtualLink } {
  const machine = new ServerHandshake(resolveServerOptions(server));
  const rogue = new RogueEnd("server", machine, tampering, { psk: PSK.key });
  const end = new TestEnd({ client: Association.connect(client, 0) });
  const link = new VirtualLink({ seed: 1 });
  link.run(end, rogue, () => false);
  return { rogue, end, link };
}

/** Leaves out the messages of a type. */
function without(...types: HandshakeType[]): Tampering {
  return {
    add: (message, channel) => {
      if (!(types as number[]).includes(message.type)) pass(message, channel);
    },
  };
}

/** Does `change` in place of the messages of a type. */
function changing(type: HandshakeType, change: (message: OwnMessage, channel: HandshakeChannel) => void): Tampering {
  return { add: (message, channel) => (message.type === type ? change(message, channel) : pass(message, channel)) };
}

function pass({ type, body, epoch }: OwnMessage, channel: HandshakeChannel): void {
  channel.add(type as HandshakeType, body, epoch);
}

function codeOf(end: TestEnd): DtlsErrorCode | undefined {
  return end.closed?.error?.code;
}

/** A handshake up to where one side's next datagram is `datagram`, not yet delivered. */
function upToClientsSecondFlight(pair: Pair): { readonly datagram: Uint8Array; readonly now: number } {
  const deliver = (from: TestEnd, to: TestEnd): void => {
    for (let bytes = from.pollDatagram(0); bytes !== undefined; bytes = from.pollDatagram(0))
      to.handleDatagram(bytes, 0);
  };
  deliver(pair.client, pair.server);
  deliver(pair.server, pair.client);
  deliver(pair.client, pair.server);
  deliver(pair.server, pair.client);
  const datagram = pair.client.pollDatagram(0);
  if (datagram === undefined) throw new Error("the client is silent");
  return { datagram, now: 0 };
}

function pskPair(): Pair {
  return makePair({ client: PSK_CLIENT, server: PSK_SERVER });
}

function connectedPair(): Pair {
  const pair = pskPair();
  const link = new VirtualLink({ seed: 1 });
  if (!link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2)) {
    throw new Error("not connected");
  }
  return pair;
}

test("a rogue that changes nothing connects, in both roles and with mutual certificates", (t) => {
  const client = againstClient({}, MUTUAL, { certificate: credential("client") });
  t.true(client.rogue.isConnected);
  t.is(client.end.connected, 1);
  const server = againstServer({}, MUTUAL, { certificate: credential("client") });
  t.true(server.rogue.isConnected);
  t.is(server.end.connected, 1);
});

test("D1 a Finished without ChangeCipherSpec never completes the handshake", (t) => {
  const { rogue, end } = againstClient({ changeCipherSpec: () => undefined });
  t.is(end.connected, 0);
  t.false(rogue.isConnected);
  t.is(codeOf(end), "DTLS_HANDSHAKE_TIMEOUT");
  const other = againstServer({ changeCipherSpec: () => undefined });
  t.is(other.end.connected, 0);
  t.is(codeOf(other.end), "DTLS_HANDSHAKE_TIMEOUT");
});

test("D2 D4 Finished, ChangeCipherSpec and ClientKeyExchange in any order complete, and only when all are there", (t) => {
  const orders = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ] as const;
  for (const order of orders) {
    const pair = pskPair();
    const { datagram, now } = upToClientsSecondFlight(pair);
    const records = splitRecords(datagram);
    t.deepEqual(
      records.map((record) => record[0]),
      [CONTENT_TYPES.handshake, CONTENT_TYPES.changeCipherSpec, CONTENT_TYPES.handshake],
    );
    for (const index of order) {
      t.is(pair.server.connected, 0);
      pair.server.handleDatagram(records[index]!, now);
    }
    t.is(pair.server.connected, 1, order.join());
  }
});

test("D1 a Finished in the clear is dropped, however right or forged, and the protected one completes", (t) => {
  const inTheClear = changing(T.finished, ({ body }, channel) => channel.add(T.finished, body, 0));
  for (const { end } of [againstClient(inTheClear), againstServer(inTheClear)]) {
    t.is(end.connected, 0);
    t.is(codeOf(end), "DTLS_HANDSHAKE_TIMEOUT");
  }
  for (const before of [0, 1, 2]) {
    for (const type of [T.finished, T.certificate]) {
      const pair = pskPair();
      const { datagram, now } = upToClientsSecondFlight(pair);
      const records = splitRecords(datagram);
      for (const record of records.slice(0, before)) pair.server.handleDatagram(record, now);
      const forged = wholeMessage(type, 3, new Uint8Array(12));
      pair.server.handleDatagram(plainRecord(CONTENT_TYPES.handshake, forged), now);
      for (const record of records.slice(before)) pair.server.handleDatagram(record, now);
      t.is(pair.server.connected, 1, `${String(type)} after ${String(before)}`);
    }
  }
});

test("D3 a ChangeCipherSpec before the hellos is dropped, by the gate and by a client", (t) => {
  const gate = new ServerGate(PSK_SERVER);
  const changeCipherSpec = plainRecord(CONTENT_TYPES.changeCipherSpec, Uint8Array.of(1));
  t.deepEqual(gate.handleDatagram(changeCipherSpec, Uint8Array.of(1), 0), {
    type: "drop",
    reason: "not-a-client-hello",
  });
  const pair = pskPair();
  pair.client.handleDatagram(changeCipherSpec, 0);
  t.is(pair.client.association?.counters.dropped["unexpected-change-cipher-spec"], 1);
  const link = new VirtualLink({ seed: 1 });
  t.true(link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2));
});

test("D5 several ChangeCipherSpecs make one step of the epoch", (t) => {
  for (const count of [2, 5]) {
    const { rogue, end, link } = againstClient({
      changeCipherSpec: (channel) => {
        for (let i = 0; i < count; i++) channel.addChangeCipherSpec();
      },
    });
    t.true(rogue.isConnected);
    t.is(end.connected, 1);
    t.is(end.association?.counters.dropped["unexpected-change-cipher-spec"], count - 1);
    rogue.send(1, CONTENT_TYPES.applicationData, Uint8Array.of(7));
    link.run(rogue, end, () => false);
    t.deepEqual(end.received, [Uint8Array.of(7)]);
  }
});

test("D6 a ChangeCipherSpec after the handshake is dropped, forged or authentic", (t) => {
  const { rogue, end, link } = againstClient({});
  rogue.send(0, CONTENT_TYPES.changeCipherSpec, Uint8Array.of(1));
  rogue.send(1, CONTENT_TYPES.changeCipherSpec, Uint8Array.of(1));
  rogue.send(1, CONTENT_TYPES.applicationData, Uint8Array.of(7));
  link.run(rogue, end, () => false);
  t.is(end.association?.state, "connected");
  t.is(end.association?.counters.dropped["plaintext-not-allowed"], 1);
  t.is(end.association?.counters.dropped["unexpected-change-cipher-spec"], 1);
  t.deepEqual(end.received, [Uint8Array.of(7)]);
});

test("D7 a required client certificate that is empty, or a message left out, aborts", (t) => {
  const empty = againstClient({}, MUTUAL, {});
  t.is(codeOf(empty.end), "DTLS_CLIENT_CERTIFICATE_REQUIRED");
  t.deepEqual(empty.rogue.alerts, [{ level: "fatal", description: "handshake_failure" }]);
  const omitted = againstClient(without(T.certificate, T.certificate_verify), MUTUAL, {
    certificate: credential("client"),
  });
  t.is(codeOf(omitted.end), "DTLS_UNEXPECTED_MESSAGE");
});

test("a requested client certificate may be declined", (t) => {
  const { rogue, end } = againstClient({}, { ...MUTUAL, clientCertificate: "request" }, {});
  t.true(rogue.isConnected);
  t.is(end.association?.peer?.certificates, undefined);
});

test("D8 a certificate without CertificateVerify aborts", (t) => {
  const { rogue, end } = againstClient(without(T.certificate_verify), MUTUAL, { certificate: credential("client") });
  t.is(codeOf(end), "DTLS_UNEXPECTED_MESSAGE");
  t.false(rogue.isConnected);
});

test("D9 CertificateVerify after ChangeCipherSpec, so under the new keys, aborts", (t) => {
  const { end } = againstClient(
    {
      add: (message, channel) => {
        if (message.type === T.certificate_verify) {
          channel.addChangeCipherSpec();
          channel.add(T.certificate_verify, message.body, 1);
        } else pass(message, channel);
      },
      changeCipherSpec: () => undefined,
    },
    MUTUAL,
    { certificate: credential("client") },
  );
  t.is(codeOf(end), "DTLS_UNEXPECTED_MESSAGE");
});

test("D10 ClientKeyExchange before Certificate, or after CertificateVerify, aborts", (t) => {
  const swapped = (first: HandshakeType, second: HandshakeType): Tampering => {
    let kept: OwnMessage | undefined;
    return {
      add: (message, channel) => {
        if (message.type === first) kept = message;
        else pass(message, channel);
        if (message.type === second && kept !== undefined) pass(kept, channel);
      },
    };
  };
  const client = { certificate: credential("client") };
  // The Certificate comes after the ClientKeyExchange; the keys are those of this order.
  t.is(
    codeOf(againstClient(swapped(T.certificate, T.client_key_exchange), MUTUAL, client).end),
    "DTLS_UNEXPECTED_MESSAGE",
  );
  t.is(
    codeOf(againstClient(swapped(T.client_key_exchange, T.certificate_verify), MUTUAL, client).end),
    "DTLS_UNEXPECTED_MESSAGE",
  );
});

test("D11 CertificateVerify with a wrong signature, or by a scheme not offered, aborts", (t) => {
  const client = { certificate: credential("client") };
  const wrong = changing(T.certificate_verify, ({ body }, channel) => {
    const forged = Uint8Array.from(body);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    channel.add(T.certificate_verify, forged);
  });
  const bad = againstClient(wrong, MUTUAL, client);
  t.is(codeOf(bad.end), "DTLS_BAD_SIGNATURE");
  t.deepEqual(bad.rogue.alerts, [{ level: "fatal", description: "decrypt_error" }]);
  for (const scheme of [0x0203, 0x0603, 0x0503]) {
    const other = changing(T.certificate_verify, ({ body }, channel) => {
      channel.add(T.certificate_verify, Uint8Array.of(scheme >> 8, scheme & 0xff, ...body.subarray(2)));
    });
    const server: ServerOptions = { ...MUTUAL, signatureSchemes: ["ecdsa_secp256r1_sha256"] };
    t.is(codeOf(againstClient(other, server, client).end), "DTLS_ILLEGAL_PARAMETER");
  }
});

test("D12 a ServerKeyExchange that is missing, wrongly signed, or signed by a scheme not offered, aborts", (t) => {
  const server: ServerOptions = { certificate: credential("p256") };
  t.is(codeOf(againstServer(without(T.server_key_exchange), server, {}).end), "DTLS_UNEXPECTED_MESSAGE");
  const ecdhePsk = { ...PSK_SERVER, cipherSuites: ["TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256"] as const };
  const missing = againstServer(without(T.server_key_exchange), ecdhePsk, { psk: PSK });
  t.is(codeOf(missing.end), "DTLS_UNEXPECTED_MESSAGE");
  const forged = changing(T.server_key_exchange, ({ body }, channel) => {
    const copy = Uint8Array.from(body);
    copy[copy.length - 1] = (copy.at(-1) ?? 0) ^ 1;
    channel.add(T.server_key_exchange, copy);
  });
  t.is(codeOf(againstServer(forged, server, {}).end), "DTLS_BAD_SIGNATURE");
  // A server that ignores signature_algorithms: SHA-1, which nobody offers, and one that this client does not.
  const client: ClientOptions = { signatureSchemes: ["ecdsa_secp256r1_sha256"] };
  for (const scheme of [0x0203, 0x0503]) {
    const disallowed = changing(T.server_key_exchange, ({ body }, channel) => {
      const at = 4 + (body[3] ?? 0);
      const copy = Uint8Array.from(body);
      copy.set([scheme >> 8, scheme & 0xff], at);
      channel.add(T.server_key_exchange, copy);
    });
    t.is(codeOf(againstServer(disallowed, server, client).end), "DTLS_ILLEGAL_PARAMETER");
  }
});

test("D12 a ServerKeyExchange with a group that was not offered aborts, also where nothing signs it", (t) => {
  const server: ServerOptions = { ...PSK_SERVER, cipherSuites: ["TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256"] };
  const share = generateKeyShare("secp384r1").publicKey;
  const other = changing(T.server_key_exchange, (_, channel) => {
    channel.add(T.server_key_exchange, Uint8Array.of(0, 0, 3, 0, 24, share.length, ...share));
  });
  t.is(codeOf(againstServer(other, server, { psk: PSK, groups: ["secp256r1"] }).end), "DTLS_ILLEGAL_PARAMETER");
});

test("D13 a ServerKeyExchange before the ServerHello aborts", (t) => {
  const early = changing(T.server_hello, (message, channel) => {
    channel.add(T.server_key_exchange, Uint8Array.of(0, 0));
    pass(message, channel);
  });
  t.is(codeOf(againstServer(early).end), "DTLS_UNEXPECTED_MESSAGE");
});

test("D14 two Certificates, or two CertificateRequests, abort", (t) => {
  const twice = (type: HandshakeType): Tampering =>
    changing(type, (message, channel) => {
      pass(message, channel);
      pass(message, channel);
    });
  const client = { certificate: credential("client") };
  t.is(codeOf(againstServer(twice(T.certificate), MUTUAL, client).end), "DTLS_UNEXPECTED_MESSAGE");
  t.is(codeOf(againstServer(twice(T.certificate_request), MUTUAL, client).end), "DTLS_UNEXPECTED_MESSAGE");
  t.is(codeOf(againstClient(twice(T.certificate), MUTUAL, client).end), "DTLS_UNEXPECTED_MESSAGE");
});

test("D15 HelloVerifyRequest after ServerHello, or a second ServerHello, never starts the handshake again", (t) => {
  const afterHello = (type: HandshakeType, body: (hello: Uint8Array) => Uint8Array): Tampering =>
    changing(T.server_hello, (message, channel) => {
      pass(message, channel);
      channel.add(type, body(message.body));
    });
  const verify = afterHello(T.hello_verify_request, () =>
    encodeHelloVerifyRequest({ version: 0xfeff, cookie: Uint8Array.of(1) }),
  );
  const second = afterHello(T.server_hello, (hello) =>
    encodeServerHello({ ...decodeServerHello(hello), cipherSuite: 0xc0a4 }),
  );
  for (const tampering of [verify, second]) {
    const { end, rogue } = againstServer(tampering, PSK_SERVER, { psk: PSK });
    t.is(codeOf(end), "DTLS_UNEXPECTED_MESSAGE");
    t.is(rogue.received.filter(({ message }) => message === T.client_hello).length, 1);
  }
});

test("a server that takes none of its own cookies is given up after three", (t) => {
  const client = new TestEnd({ client: Association.connect(PSK_CLIENT, 0) });
  for (let messageSeq = 0; messageSeq < 5; messageSeq++) {
    const body = encodeHelloVerifyRequest({ version: 0xfeff, cookie: Uint8Array.of(messageSeq) });
    client.handleDatagram(
      plainRecord(CONTENT_TYPES.handshake, wholeMessage(T.hello_verify_request, messageSeq, body)),
      0,
    );
  }
  t.is(codeOf(client), "DTLS_UNEXPECTED_MESSAGE");
});

test("D16 after the handshake a Finished with a new message_seq is dropped; the old one brings the flight again", (t) => {
  const { rogue, end, link } = againstClient({});
  const finishedAt = rogue.received.length;
  rogue.sendMessage(1, T.finished, 4, new Uint8Array(12));
  rogue.sendMessage(1, T.finished, 9, new Uint8Array(12));
  link.run(rogue, end, () => false);
  t.is(rogue.received.length, finishedAt);
  t.is(end.association?.counters.dropped["unexpected-message"], 2);
  rogue.sendMessage(1, T.finished, 3, new Uint8Array(12));
  link.run(rogue, end, () => false);
  t.deepEqual(
    rogue.received.slice(finishedAt).map(({ epoch, type }) => [epoch, type]),
    [
      [0, CONTENT_TYPES.changeCipherSpec],
      [1, CONTENT_TYPES.handshake],
    ],
  );
  // Data show that the client has the flight, which is not kept any more.
  const before = rogue.received.length;
  rogue.send(1, CONTENT_TYPES.applicationData, Uint8Array.of(1));
  rogue.sendMessage(1, T.finished, 3, new Uint8Array(12));
  link.run(rogue, end, () => false);
  t.is(rogue.received.length, before);
});

test("D17 ClientHello in epoch 1, or HelloRequest, gets a warning no_renegotiation, and the association lives on", (t) => {
  const client = againstClient({});
  client.rogue.sendMessage(1, T.client_hello, 3, new Uint8Array(60));
  client.link.run(client.rogue, client.end, () => false);
  t.deepEqual(client.rogue.alerts, [{ level: "warning", description: "no_renegotiation" }]);
  t.is(client.end.association?.state, "connected");
  const server = againstServer({});
  server.rogue.sendMessage(1, T.hello_request, 9, new Uint8Array(0));
  server.rogue.send(1, CONTENT_TYPES.applicationData, Uint8Array.of(1));
  server.link.run(server.end, server.rogue, () => false);
  t.deepEqual(server.rogue.alerts, [{ level: "warning", description: "no_renegotiation" }]);
  t.deepEqual(server.end.received, [Uint8Array.of(1)]);
});

test("a path_challenge without the extension is dropped, and not answered", (t) => {
  const { rogue, end, link } = againstClient({});
  const before = rogue.received.length;
  rogue.send(1, CONTENT_TYPES.returnRoutabilityCheck, Uint8Array.of(0, 1, 2, 3, 4, 5, 6, 7, 8));
  link.run(rogue, end, () => false);
  t.is(rogue.received.length, before);
  t.is(end.association?.counters.dropped["unexpected-path-message"], 1);
});

test("D17 a HelloRequest during the handshake is dropped, and the handshake completes", (t) => {
  for (let messageSeq = 0; messageSeq < 3; messageSeq++) {
    const pair = pskPair();
    const helloRequest = wholeMessage(T.hello_request, messageSeq, new Uint8Array(0));
    pair.client.handleDatagram(plainRecord(CONTENT_TYPES.handshake, helloRequest), 0);
    t.is(pair.client.association?.counters.dropped["unexpected-message"], 1);
    const link = new VirtualLink({ seed: 1 });
    t.true(link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2));
  }
});

test("D18 after close_notify, and after a fatal alert, everything is refused", (t) => {
  const { rogue, end, link } = againstClient({});
  rogue.send(1, CONTENT_TYPES.alert, Uint8Array.of(1, 0));
  rogue.send(1, CONTENT_TYPES.applicationData, Uint8Array.of(1));
  link.run(rogue, end, () => false);
  t.deepEqual(end.received, []);
  t.is(end.closed?.error, undefined);
  t.deepEqual(end.closed?.alert, { sent: false, received: true, level: "warning", description: "close_notify" });
  t.deepEqual(rogue.alerts, [{ level: "warning", description: "close_notify" }]);
  t.is(end.association?.counters.dropped.closed, 1);
  t.is(end.association?.state, "closed");
  const error = t.throws(() => end.association?.send(Uint8Array.of(1)), { instanceOf: DtlsError });
  t.is(error?.code, "DTLS_CLOSED");

  const pair = pskPair();
  const { datagram } = upToClientsSecondFlight(pair);
  pair.server.handleDatagram(plainRecord(CONTENT_TYPES.alert, Uint8Array.of(2, 40)), 0);
  pair.server.handleTimeout(1000);
  t.is(codeOf(pair.server), "DTLS_ALERT_RECEIVED");
  t.is(pair.server.closed?.error?.receivedAlert, "handshake_failure");
  pair.server.association?.handleDatagram(datagram, 0);
  t.is(pair.server.association?.poll(), undefined);
  t.is(pair.server.connected, 0);
});

test("D21 application data in epoch 0 are never delivered, before or after the handshake", (t) => {
  const pair = pskPair();
  const data = plainRecord(CONTENT_TYPES.applicationData, Uint8Array.of(1, 2, 3));
  pair.client.handleDatagram(data, 0);
  const { datagram } = upToClientsSecondFlight(pair);
  pair.server.handleDatagram(data, 0);
  pair.server.handleDatagram(datagram, 0);
  t.is(pair.server.connected, 1);
  pair.server.handleDatagram(data, 0);
  t.deepEqual([...pair.client.received, ...pair.server.received], []);
  t.is(pair.server.association?.counters.dropped["plaintext-not-allowed"], 2);
});

test("D22 plaintext handshake messages marked as epoch 1 are dropped, before and after the keys", (t) => {
  const pair = pskPair();
  const { datagram } = upToClientsSecondFlight(pair);
  const forged = [T.client_hello, T.client_key_exchange].map((type) =>
    plainRecord(CONTENT_TYPES.handshake, wholeMessage(type, 2, new Uint8Array(40)), { epoch: 1, sequenceNumber: 7 }),
  );
  for (const record of forged) pair.server.handleDatagram(record, 0);
  pair.server.handleDatagram(datagram, 0);
  t.is(pair.server.connected, 1);
  for (const record of forged) pair.server.handleDatagram(record, 0);
  t.is(pair.server.association?.counters.dropped["bad-mac"], 4);
  t.is(pair.server.association?.state, "connected");
});

test("D23 records of future epochs, with huge sequence numbers, change nothing", (t) => {
  const pair = connectedPair();
  for (const epoch of [1, 2, 3, 0xffff]) {
    const forged = plainRecord(CONTENT_TYPES.applicationData, new Uint8Array(40), {
      epoch,
      sequenceNumber: 2 ** 48 - 2,
    });
    pair.server.handleDatagram(forged, 0);
  }
  t.is(pair.server.association?.counters.dropped["unexpected-epoch"], 3);
  pair.client.association?.send(Uint8Array.of(5));
  pair.server.handleDatagram(pair.client.pollDatagram(0) ?? new Uint8Array(0), 0);
  t.deepEqual(pair.server.received, [Uint8Array.of(5)]);
});

test("D24 D42 a flood before the handshake ends is held to its caps, and the honest handshake completes", (t) => {
  const pair = makePair({ client: PSK_CLIENT, server: { ...PSK_SERVER, maxEarlyRecordBytes: 4096 } });
  const { datagram } = upToClientsSecondFlight(pair);
  for (let i = 0; i < 2000; i++) {
    const body = new Uint8Array(2000).fill(i);
    pair.server.handleDatagram(plainRecord(CONTENT_TYPES.applicationData, body, { epoch: 1, sequenceNumber: i }), 0);
    const later = { type: 11, messageSeq: 3 + (i % 6) };
    pair.server.handleDatagram(
      plainRecord(CONTENT_TYPES.handshake, wholeMessage(later.type, later.messageSeq, body)),
      0,
    );
  }
  const dropped = pair.server.association?.counters.dropped;
  t.true((dropped?.["early-record-limit"] ?? 0) >= 1998);
  t.true((dropped?.["reassembly-limit"] ?? 0) >= 600);
  // One of the forged messages took the message_seq of Finished; the authentic one prevails.
  pair.server.handleDatagram(datagram, 0);
  t.is(pair.server.connected, 1);
});

test("D28 a repeated last flight has its ChangeCipherSpec in epoch 0 and its Finished under the keys of epoch 1", (t) => {
  const pair = pskPair();
  const { datagram } = upToClientsSecondFlight(pair);
  pair.server.handleDatagram(datagram, 0);
  const lost = pair.server.pollDatagram(0);
  t.truthy(lost);
  pair.client.handleTimeout(1000);
  const repeated = pair.client.pollDatagram(1000);
  pair.server.handleDatagram(repeated ?? new Uint8Array(0), 1000);
  const again = pair.server.pollDatagram(1000);
  t.deepEqual(
    splitRecords(again ?? new Uint8Array(0)).map((record) => [record[4], record[0]]),
    [
      [0, CONTENT_TYPES.changeCipherSpec],
      [1, CONTENT_TYPES.handshake],
    ],
  );
  pair.client.handleDatagram(again ?? new Uint8Array(0), 1000);
  t.is(pair.client.connected, 1);
  t.is(pair.server.connected, 1);
});

test("D27 no record of either side repeats an epoch and sequence number, retransmissions included", (t) => {
  for (let seed = 1; seed <= 5; seed++) {
    const pair = makePair({
      seed,
      client: { ...PSK_CLIENT, maxRetransmissions: 40, maxRetransmitMs: 4000, handshakeTimeoutMs: 400_000 },
      server: { ...PSK_SERVER, maxRetransmissions: 40, maxRetransmitMs: 4000, handshakeTimeoutMs: 400_000 },
    });
    const link = new VirtualLink({ seed, loss: 0.5 });
    t.true(link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2));
    t.true((pair.client.association?.counters.retransmissions ?? 0) > 0);
    // HelloVerifyRequests are stateless, and have the numbers of their ClientHellos.
    const isVerify = (record: Uint8Array): boolean => messageTypeOf(record) === T.hello_verify_request;
    for (const end of [pair.client, pair.server]) {
      const numbers = end.sent
        .flatMap(splitRecords)
        .filter((record) => !isVerify(record))
        .map((record) => Buffer.from(record.subarray(3, 11)).toString("hex"));
      t.is(new Set(numbers).size, numbers.length);
    }
  }
});

test("D29 100,000 records with a bad MAC are dropped and counted, without an alert", (t) => {
  const pair = connectedPair();
  const forged = plainRecord(CONTENT_TYPES.applicationData, new Uint8Array(40), { epoch: 1, sequenceNumber: 50 });
  const association = pair.server.association;
  for (let i = 0; i < 100_000; i++) {
    forged[30] = i;
    association?.handleDatagram(forged, i * 2);
  }
  t.is(association?.poll(), undefined);
  t.is(association?.counters.dropped["bad-mac"], 100_000);
  t.is(association?.state, "connected");
});

test("of forged records at once only so many are opened in a second; the next second starts anew", (t) => {
  const pair = makePair({ client: PSK_CLIENT, server: { ...PSK_SERVER, maxMacFailuresPerSecond: 10 } });
  new VirtualLink({ seed: 1 }).run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2);
  const forged = plainRecord(CONTENT_TYPES.applicationData, new Uint8Array(40), { epoch: 1, sequenceNumber: 50 });
  const { client, server } = pair;
  for (let i = 0; i < 100; i++) server.handleDatagram(forged, 5000);
  t.like(server.association?.counters.dropped, { "bad-mac": 10, "mac-failure-limit": 90 });
  client.association?.send(Uint8Array.of(1));
  const good = client.pollDatagram(5000) ?? new Uint8Array(0);
  server.handleDatagram(good, 5999);
  t.is(server.received.length, 0);
  server.handleDatagram(good, 6000);
  t.is(server.received.length, 1);
});

test("D31 after bad records in a datagram the good one is processed", (t) => {
  const pair = connectedPair();
  pair.client.association?.send(Uint8Array.of(5));
  const good = pair.client.pollDatagram(0) ?? new Uint8Array(0);
  const bad = [
    plainRecord(99, new Uint8Array(10)),
    plainRecord(CONTENT_TYPES.applicationData, new Uint8Array(40), { epoch: 1, sequenceNumber: 9 }),
    plainRecord(CONTENT_TYPES.applicationData, new Uint8Array(3), { epoch: 1, sequenceNumber: 9 }),
    plainRecord(CONTENT_TYPES.handshake, new Uint8Array(3), { version: 0x0303 }),
  ];
  pair.server.handleDatagram(Buffer.concat([...bad, good, Uint8Array.of(1, 2, 3)]), 0);
  t.deepEqual(pair.server.received, [Uint8Array.of(5)]);
  t.deepEqual(pair.server.association?.counters.dropped, {
    "unknown-content-type": 1,
    "bad-mac": 1,
    "record-too-short": 1,
    "wrong-version": 1,
    "truncated-record": 1,
  });
});

test("D33 a spoofed plaintext alert on an established association is ignored", (t) => {
  const pair = connectedPair();
  for (const alert of [Uint8Array.of(2, 40), Uint8Array.of(1, 0)]) {
    pair.server.handleDatagram(plainRecord(CONTENT_TYPES.alert, alert), 0);
    pair.client.handleDatagram(plainRecord(CONTENT_TYPES.alert, alert), 0);
  }
  t.is(pair.server.association?.state, "connected");
  t.is(pair.client.association?.state, "connected");
});

test("D34 a spoofed plaintext alert after the peer's ChangeCipherSpec is ignored, and its Finished completes", (t) => {
  const pair = pskPair();
  const { datagram, now } = upToClientsSecondFlight(pair);
  const [keyExchange, changeCipherSpec, finished] = splitRecords(datagram);
  for (const record of [keyExchange, changeCipherSpec]) pair.server.handleDatagram(record ?? t.fail(), now);
  pair.server.handleDatagram(plainRecord(CONTENT_TYPES.alert, Uint8Array.of(2, 40)), now);
  t.is(pair.server.association?.counters.dropped["ignored-alert"], 1);
  pair.server.handleDatagram(finished ?? t.fail(), now);
  t.is(pair.server.connected, 1);
});

test("D32 a protected record of another version, or longer than what we take, is dropped", (t) => {
  const { rogue, end, link } = againstClient(
    {},
    { ...PSK_SERVER, recordSizeLimitBytes: 64 },
    {
      ...PSK_CLIENT,
      recordSizeLimitBytes: 1000,
    },
  );
  t.true(rogue.isConnected);
  rogue.records.limitRecords(NO_RECORD_LIMITS);
  const [tooLong, old] = [65, 1].map((size) =>
    rogue.records.seal(1, CONTENT_TYPES.applicationData, new Uint8Array(size)),
  );
  end.handleDatagram(tooLong ?? t.fail(), link.now);
  t.deepEqual(end.association?.counters.dropped, { "record-too-long": 1 });
  const changed = Uint8Array.from(old ?? t.fail());
  changed[2] = 0xff;
  end.handleDatagram(changed, link.now);
  t.deepEqual(end.association?.counters.dropped, { "record-too-long": 1, "wrong-version": 1 });
  t.is(end.received.length, 0);
  end.handleDatagram(rogue.records.seal(1, CONTENT_TYPES.applicationData, new Uint8Array(64)), link.now);
  t.is(end.received.length, 1);
});

test("D35 data that race ahead of Finished are delivered after it, and no more of them are held than the cap", (t) => {
  const pair = pskPair();
  const { datagram } = upToClientsSecondFlight(pair);
  pair.server.handleDatagram(datagram, 0);
  t.is(pair.server.connected, 1);
  const last = pair.server.pollDatagram(0) ?? new Uint8Array(0);
  const count = 50;
  const data: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    pair.server.association?.send(new Uint8Array(100).fill(i));
    data.push(pair.server.pollDatagram(0) ?? new Uint8Array(0));
  }
  for (const record of data) pair.client.handleDatagram(record, 0);
  t.deepEqual(pair.client.received, []);
  pair.client.handleDatagram(last, 0);
  t.is(pair.client.connected, 1);
  t.true(pair.client.received.length >= 20 && pair.client.received.length < 30, String(pair.client.received.length));
  t.deepEqual(pair.client.received[0], new Uint8Array(100).fill(0));
});

test("an alert in the clear, which anybody can forge, ends neither side's handshake where that goes on", (t) => {
  for (const body of [Uint8Array.of(2, 115), Uint8Array.of(2, 40), Uint8Array.of(1, 0)]) {
    const alert = plainRecord(CONTENT_TYPES.alert, body);
    for (let datagrams = 0; datagrams < 6; datagrams++) {
      const pair = pskPair();
      const link = new VirtualLink({ seed: 1, latencyMs: 50 });
      const sent = (): number => pair.client.sent.length + pair.server.sent.length;
      link.run(pair.client, pair.server, () => sent() >= datagrams);
      pair.client.handleDatagram(alert, link.now);
      pair.server.handleDatagram(alert, link.now);
      t.true(
        link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2, 3000),
        `after ${datagrams} datagrams`,
      );
      t.is(pair.client.closed, undefined);
    }
  }
});

test("an alert in the clear is believed when the peer takes no further step within a second", (t) => {
  const pair = pskPair();
  pair.client.pollDatagram(0);
  pair.client.handleDatagram(plainRecord(CONTENT_TYPES.alert, Uint8Array.of(2, 115)), 300);
  t.is(pair.client.nextTimeout(), 1000);
  pair.client.handleTimeout(1000);
  t.is(pair.client.closed, undefined);
  t.truthy(pair.client.pollDatagram(1000), "its flight is sent again meanwhile");
  t.is(pair.client.nextTimeout(), 1300);
  pair.client.handleTimeout(1300);
  t.is(pair.client.closed?.error?.receivedAlert, "unknown_psk_identity");
  t.deepEqual(pair.client.closed?.alert, {
    sent: false,
    received: true,
    level: "fatal",
    description: "unknown_psk_identity",
  });
});

test("D36 D37 D38 fragments that contradict one another, or a message of 16 MiB, abort this handshake", (t) => {
  const cases: [DtlsErrorCode, Uint8Array[]][] = [
    ["DTLS_ILLEGAL_PARAMETER", [fragment(16, 40, 0, 4), fragment(16, 41, 4, 4)]],
    ["DTLS_ILLEGAL_PARAMETER", [fragment(16, 40, 0, 4), fragment(11, 40, 4, 4)]],
    // A whole message does not take the place of pieces that are held.
    ["DTLS_ILLEGAL_PARAMETER", [fragment(16, 40, 0, 4), fragment(11, 40, 0, 40)]],
    ["DTLS_REASSEMBLY_LIMIT", [fragment(16, 0xffffff, 0, 1)]],
    ["DTLS_DECODE_ERROR", [fragment(16, 4, 0, 4)]],
  ];
  for (const [code, fragments] of cases) {
    const pair = pskPair();
    upToClientsSecondFlight(pair);
    for (const bytes of fragments) pair.server.handleDatagram(plainRecord(CONTENT_TYPES.handshake, bytes), 0);
    t.is(codeOf(pair.server), code);
  }
  const small = makePair({ client: PSK_CLIENT, server: { ...PSK_SERVER, maxReassemblyBytes: 200 } });
  upToClientsSecondFlight(small);
  small.server.handleDatagram(plainRecord(CONTENT_TYPES.handshake, fragment(16, 201, 0, 201)), 0);
  t.is(codeOf(small.server), "DTLS_REASSEMBLY_LIMIT", "also in one piece");
});

test("D40 a fragment whose offset and length pass its message's end is dropped", (t) => {
  const pair = pskPair();
  const { datagram } = upToClientsSecondFlight(pair);
  pair.server.handleDatagram(plainRecord(CONTENT_TYPES.handshake, fragment(16, 10, 8, 4)), 0);
  t.is(pair.server.association?.counters.dropped["malformed-fragment"], 1);
  pair.server.handleDatagram(datagram, 0);
  t.is(pair.server.connected, 1);
});

test("D44 a HelloVerifyRequest whose cookie passes its end aborts; one of 255 bytes is echoed", (t) => {
  const long = new TestEnd({ client: Association.connect(PSK_CLIENT, 0) });
  long.pollDatagram(0);
  const body = encodeHelloVerifyRequest({ version: 0xfeff, cookie: new Uint8Array(255).fill(3) });
  long.handleDatagram(plainRecord(CONTENT_TYPES.handshake, wholeMessage(T.hello_verify_request, 0, body)), 0);
  const hello = long.pollDatagram(0)?.subarray(25) ?? new Uint8Array(0);
  t.is(decodeClientHello(hello).cookie.length, 255);
  const malformed = new TestEnd({ client: Association.connect(PSK_CLIENT, 0) });
  const short = body.subarray(0, 100);
  malformed.handleDatagram(plainRecord(CONTENT_TYPES.handshake, wholeMessage(T.hello_verify_request, 0, short)), 0);
  t.is(codeOf(malformed), "DTLS_DECODE_ERROR");
});

test("D58 an unknown identity and a wrong key bring the same messages and alert; the causes are told here", (t) => {
  const run = (identity: string, key: string): { end: TestEnd; rogue: RogueEnd; sizes: number[] } => {
    const psk = { identity: Uint8Array.from(Buffer.from(identity)), key: Uint8Array.from(Buffer.from(key)) };
    const { rogue, end } = againstClient({}, PSK_SERVER, { ...PSK_CLIENT, psk });
    return { end, rogue, sizes: end.sent.map((datagram) => datagram.length) };
  };
  const unknown = run("device-2", "secret-key-00001");
  const wrong = run("device-1", "secret-key-00002");
  t.deepEqual(unknown.sizes, wrong.sizes);
  t.deepEqual(unknown.rogue.received, wrong.rogue.received);
  t.deepEqual(unknown.rogue.alerts, [{ level: "fatal", description: "decrypt_error" }]);
  t.deepEqual(wrong.rogue.alerts, unknown.rogue.alerts);
  t.is(codeOf(unknown.end), "DTLS_UNKNOWN_PSK_IDENTITY");
  t.is(codeOf(wrong.end), "DTLS_WRONG_PSK");
});

test("a client with a wrong key hears of it within a second, by name", (t) => {
  const pair = makePair({ client: { ...PSK_CLIENT, psk: { ...PSK, key: Uint8Array.of(1) } }, server: PSK_SERVER });
  const link = new VirtualLink({ seed: 1 });
  link.run(pair.client, pair.server, () => pair.client.closed !== undefined);
  t.true(link.now < 1100);
  t.is(codeOf(pair.client), "DTLS_ALERT_RECEIVED");
  t.is(pair.client.closed?.error?.receivedAlert, "decrypt_error");
  t.is(codeOf(pair.server), "DTLS_WRONG_PSK");
});

test("D58 until its Finished no client hears whether its identity is known; a guess at what stands for the key is none", (t) => {
  const psk = { identity: Uint8Array.from(Buffer.from("device-2")), key: new Uint8Array(16).fill(7) };
  // The key in the place of an unknown one is random: here the client knows it.
  const server = { ...PSK_SERVER, random: (size: number) => new Uint8Array(size).fill(7) };
  const pair = makePair({ client: { ...PSK_CLIENT, psk }, server });
  const { datagram, now } = upToClientsSecondFlight(pair);
  const [keyExchange, changeCipherSpec, finished] = splitRecords(datagram);
  for (const record of [keyExchange, changeCipherSpec]) {
    pair.server.handleDatagram(record ?? t.fail(), now);
    t.is(pair.server.pollDatagram(now), undefined);
    t.is(pair.server.association?.state, "handshaking");
  }
  pair.server.handleDatagram(finished ?? t.fail(), now);
  t.is(codeOf(pair.server), "DTLS_UNKNOWN_PSK_IDENTITY");
  t.is(pair.server.connected, 0);
});

test("D59 a key lookup that never answers times out; answers that come twice, late or for another identity are harmless", (t) => {
  const silent = makePair({ client: PSK_CLIENT, server: PSK_SERVER, serverAnswers: { isSilent: true } });
  const link = new VirtualLink({ seed: 1 });
  link.run(silent.client, silent.server, () => false);
  t.is(codeOf(silent.server), "DTLS_HANDSHAKE_TIMEOUT");
  t.is(silent.server.questions.length, 1, "the client's retransmissions do not ask again");
  silent.server.association?.answerPsk(PSK.identity, PSK.key, link.now);
  t.is(silent.server.association?.poll(), undefined);

  const slow = makePair({ client: PSK_CLIENT, server: PSK_SERVER, serverAnswers: { isSilent: true } });
  const slowLink = new VirtualLink({ seed: 1 });
  slowLink.run(slow.client, slow.server, () => slowLink.now > 8000, 9000);
  const server = slow.server.association;
  server?.answerPsk(Uint8Array.of(1), PSK.key, slowLink.now);
  server?.answerPeerCertificate({ ok: false, alert: "bad_certificate", reason: "unasked" }, slowLink.now);
  t.is(server?.state, "handshaking");
  server?.answerPsk(PSK.identity, PSK.key, slowLink.now);
  server?.answerPsk(PSK.identity, Uint8Array.of(9), slowLink.now);
  t.true(slowLink.run(slow.client, slow.server, () => slow.client.connected + slow.server.connected === 2));
  server?.answerPsk(PSK.identity, undefined, slowLink.now);
  t.is(server?.state, "connected");
});

test("D59 a certificate verdict may come late, twice or never", (t) => {
  const make = (): Pair => makePair({ server: { certificate: credential("p256") }, clientAnswers: { isSilent: true } });
  const never = make();
  const link = new VirtualLink({ seed: 1 });
  link.run(never.client, never.server, () => false);
  t.is(codeOf(never.client), "DTLS_HANDSHAKE_TIMEOUT");
  const late = make();
  const lateLink = new VirtualLink({ seed: 1 });
  lateLink.run(late.client, late.server, () => lateLink.now > 8000, 9000);
  t.is(late.client.questions.length, 1);
  late.client.association?.answerPeerCertificate({ ok: true }, lateLink.now);
  late.client.association?.answerPeerCertificate({ ok: false, alert: "unknown_ca", reason: "second" }, lateLink.now);
  t.true(lateLink.run(late.client, late.server, () => late.client.connected + late.server.connected === 2));
  late.client.association?.answerPeerCertificate({ ok: false, alert: "unknown_ca", reason: "third" }, lateLink.now);
  t.is(late.client.association?.state, "connected");
});

test("a certificate that is refused ends the handshake with the verdict's alert, on both sides", (t) => {
  const verdict = { ok: false, alert: "unknown_ca", reason: "not ours" } as const;
  for (const refuser of ["client", "server"] as const) {
    const pair = makePair({
      client: { certificate: credential("client") },
      server: MUTUAL,
      ...(refuser === "client" ? { clientAnswers: { verdict } } : { serverAnswers: { verdict } }),
    });
    const link = new VirtualLink({ seed: 1 });
    link.run(pair.client, pair.server, () => pair.client.closed !== undefined && pair.server.closed !== undefined);
    const other = refuser === "client" ? pair.server : pair.client;
    t.is(codeOf(pair[refuser]), "DTLS_CERTIFICATE_REFUSED");
    t.is(other.closed?.error?.receivedAlert, "unknown_ca");
  }
});

test("D60 a ClientHello with an all-zero random is never sent, and bad key shares abort", (t) => {
  const error = t.throws(() => Association.connect({ ...PSK_CLIENT, random: (size) => new Uint8Array(size) }, 0), {
    instanceOf: DtlsError,
  });
  t.is(error?.code, "DTLS_BAD_OPTION");
  const pair = makePair({ client: PSK_CLIENT, server: PSK_SERVER });
  pair.client.handleTimeout(1000);
  const hellos = [pair.client.pollDatagram(0), pair.client.pollDatagram(0)];
  const randoms = hellos.map((bytes) => Buffer.from(bytes?.subarray(27, 59) ?? []).toString("hex"));
  t.is(randoms[0], randoms[1]);
  t.notRegex(randoms[0] ?? "", /^0*$/);
  for (const [group, bytes] of [
    ["secp256r1", 65],
    ["x25519", 32],
  ] as const) {
    const zero = changing(T.client_key_exchange, (_, channel) => {
      channel.add(T.client_key_exchange, Uint8Array.of(bytes, ...new Uint8Array(bytes)));
    });
    const { end, rogue } = againstClient(zero, { certificate: credential("p256"), groups: [group] }, {});
    t.is(codeOf(end), "DTLS_BAD_KEY_SHARE");
    t.deepEqual(rogue.alerts, [{ level: "fatal", description: "illegal_parameter" }]);
  }
});

test("D61 a server takes no CBC suite, no compression, no version below 1.2 and no renegotiation", (t) => {
  const hello = (
    change: (hello: ReturnType<typeof decodeClientHello>) => ReturnType<typeof decodeClientHello>,
  ): Tampering =>
    changing(T.client_hello, ({ body }, channel) => {
      channel.add(T.client_hello, encodeClientHello(change(decodeClientHello(body))));
    });
  const cases: [DtlsErrorCode, Tampering, string][] = [
    [
      "DTLS_NO_COMMON_SUITE",
      hello((h) => ({ ...h, cipherSuites: [0x008c, 0xc037, 0x002f, 0x0000] })),
      "handshake_failure",
    ],
    ["DTLS_ILLEGAL_PARAMETER", hello((h) => ({ ...h, compressionMethods: [1] })), "illegal_parameter"],
    ["DTLS_PROTOCOL_VERSION", hello((h) => ({ ...h, version: 0xfeff })), "protocol_version"],
    [
      "DTLS_INSECURE_RENEGOTIATION",
      hello((h) => ({
        ...h,
        extensions: new Map([...h.extensions, [EXTENSION_TYPES.renegotiation_info, Uint8Array.of(1, 2)]]),
      })),
      "handshake_failure",
    ],
    [
      "DTLS_DECODE_ERROR",
      hello((h) => ({ ...h, extensions: new Map([[EXTENSION_TYPES.server_name, Uint8Array.of(9)]]) })),
      "decode_error",
    ],
  ];
  for (const [code, tampering, description] of cases) {
    const { end, rogue } = againstClient(tampering);
    t.is(codeOf(end), code);
    t.deepEqual(rogue.alerts, [{ level: "fatal", description }]);
  }
});

test("D61 a client takes no suite, version, compression or extension that it did not offer", (t) => {
  const hello = (
    change: (h: ReturnType<typeof decodeServerHello>) => ReturnType<typeof decodeServerHello>,
  ): Tampering =>
    changing(T.server_hello, ({ body }, channel) => {
      channel.add(T.server_hello, encodeServerHello(change(decodeServerHello(body))));
    });
  const cases: [DtlsErrorCode, Tampering][] = [
    ["DTLS_ILLEGAL_PARAMETER", hello((h) => ({ ...h, cipherSuite: 0x008c }))],
    ["DTLS_ILLEGAL_PARAMETER", hello((h) => ({ ...h, cipherSuite: 0xc0a4 }))],
    ["DTLS_ILLEGAL_PARAMETER", hello((h) => ({ ...h, compressionMethod: 1 }))],
    ["DTLS_PROTOCOL_VERSION", hello((h) => ({ ...h, version: 0xfeff }))],
    ["DTLS_UNSUPPORTED_EXTENSION", hello((h) => ({ ...h, extensions: new Map([[16, new Uint8Array(0)]]) }))],
    ["DTLS_INSECURE_RENEGOTIATION", hello((h) => ({ ...h, extensions: new Map([[0xff01, Uint8Array.of(1, 1)]]) }))],
  ];
  for (const [code, tampering] of cases) t.is(codeOf(againstServer(tampering).end), code);
});

test("a client takes no answer to an extension beside what it offered", (t) => {
  const answers = (...extensions: [keyof typeof EXTENSION_TYPES, Uint8Array][]): Tampering =>
    changing(T.server_hello, ({ body }, channel) => {
      const hello = decodeServerHello(body);
      const all = new Map(hello.extensions);
      for (const [name, data] of extensions) all.set(EXTENSION_TYPES[name], data);
      channel.add(T.server_hello, encodeServerHello({ ...hello, extensions: all }));
    });
  const alpn = "application_layer_protocol_negotiation";
  const cases: [Tampering, ClientOptions][] = [
    [answers([alpn, encodeApplicationProtocols(["h2"])]), { applicationProtocols: ["coap"] }],
    [answers([alpn, encodeApplicationProtocols(["coap", "co"])]), { applicationProtocols: ["coap", "co"] }],
    [answers(["max_fragment_length", encodeMaxFragmentLength(1024)]), { maxFragmentLengthBytes: 512 }],
    [
      answers(["max_fragment_length", encodeMaxFragmentLength(512)], ["record_size_limit", encodeRecordSizeLimit(512)]),
      { maxFragmentLengthBytes: 512, recordSizeLimitBytes: 512 },
    ],
    [
      answers(["server_certificate_type", encodeCertificateType("X.509")]),
      {
        cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8", "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"],
        peerCertificateTypes: ["RawPublicKey"],
      },
    ],
  ];
  for (const [tampering, client] of cases) {
    const { end } = againstServer(tampering, PSK_SERVER, { ...PSK_CLIENT, ...client });
    t.is(codeOf(end), "DTLS_ILLEGAL_PARAMETER", JSON.stringify(client));
  }
});

test("a peer without the extended master secret connects, unless it is required", (t) => {
  const noExtension = changing(T.client_hello, ({ body }, channel) => {
    const hello = decodeClientHello(body);
    const extensions = new Map(
      [...hello.extensions].filter(([type]) => type !== EXTENSION_TYPES.extended_master_secret),
    );
    channel.add(T.client_hello, encodeClientHello({ ...hello, extensions }));
  });
  const { rogue, end } = againstClient(noExtension);
  t.true(rogue.isConnected);
  t.false(end.association?.peer?.extendedMasterSecret);
  const required = againstClient(noExtension, { ...PSK_SERVER, requireExtendedMasterSecret: true });
  t.is(codeOf(required.end), "DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
  const noAnswer = changing(T.server_hello, ({ body }, channel) => {
    channel.add(T.server_hello, encodeServerHello({ ...decodeServerHello(body), extensions: new Map() }));
  });
  const client = againstServer(noAnswer, PSK_SERVER, { ...PSK_CLIENT, requireExtendedMasterSecret: true });
  t.is(codeOf(client.end), "DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
});

test("renegotiation_info is answered when the client signals it, by the extension or by the SCSV", (t) => {
  const signalled = (suites: number[], hasExtension: boolean): boolean => {
    let answered = false;
    const rogue = changing(T.client_hello, ({ body }, channel) => {
      const hello = decodeClientHello(body);
      const extensions = new Map([...hello.extensions].filter(([type]) => hasExtension || type !== 0xff01));
      channel.add(T.client_hello, encodeClientHello({ ...hello, cipherSuites: suites, extensions }));
    });
    const { end } = againstClient(rogue);
    for (const record of end.sent.flatMap(splitRecords)) {
      if (messageTypeOf(record) === T.server_hello)
        answered = decodeServerHello(record.subarray(25)).extensions.has(0xff01);
    }
    return answered;
  };
  t.true(signalled([0xc0a8], true));
  t.true(signalled([0xc0a8, 0x00ff], false));
  t.false(signalled([0xc0a8], false));
});

test("a Finished that does not match aborts with decrypt_error", (t) => {
  const wrong = changing(T.finished, (_, channel) => channel.add(T.finished, new Uint8Array(12), 1));
  const server = againstClient(wrong);
  t.is(codeOf(server.end), "DTLS_WRONG_PSK");
  t.deepEqual(server.rogue.alerts, [{ level: "fatal", description: "decrypt_error" }]);
  t.is(codeOf(againstServer(wrong).end), "DTLS_BAD_FINISHED");
});

test("the suite is the first of the server's order that its credentials and the client's offer allow", (t) => {
  const chosen = (client: ClientOptions, server: ServerOptions): string | undefined => {
    const pair = makePair({ client, server });
    const link = new VirtualLink({ seed: 1 });
    link.run(pair.client, pair.server, () => pair.client.connected === 1 || pair.client.closed !== undefined);
    return pair.client.association?.peer?.suite ?? codeOf(pair.server);
  };
  const rsa: ServerOptions = { certificate: credential("rsa"), pskEnabled: true };
  t.is(chosen({ psk: PSK }, rsa), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
  t.is(
    chosen({ psk: PSK, cipherSuites: ["TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", "TLS_PSK_WITH_AES_128_CCM"] }, rsa),
    "TLS_PSK_WITH_AES_128_CCM",
  );
  t.is(
    chosen({ psk: PSK, groups: ["x25519"] }, { certificate: credential("p256"), pskEnabled: true }),
    "TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256",
  );
  t.is(
    chosen({ groups: ["secp384r1"] }, { certificate: credential("rsa"), groups: ["x25519"] }),
    "DTLS_NO_COMMON_SUITE",
  );
  t.is(chosen({ signatureSchemes: ["ed25519"] }, { certificate: credential("rsa") }), "DTLS_NO_COMMON_SIGNATURE");
  t.is(chosen({}, PSK_SERVER), "DTLS_NO_COMMON_SUITE");
  for (const group of ["secp256r1", "x25519", "secp384r1"] as const) {
    t.is(chosen({ groups: [group] }, { certificate: credential("rsa") }), "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
  }
});

test("close and abort end both sides, during and after the handshake", (t) => {
  const pair = connectedPair();
  pair.client.association?.close();
  t.is(pair.client.association?.state, "closing");
  pair.server.handleDatagram(pair.client.pollDatagram(0) ?? new Uint8Array(0), 0);
  t.is(pair.client.association?.state, "closed");
  t.is(pair.server.closed?.error, undefined);
  t.is(pair.server.association?.state, "closed");

  const aborted = connectedPair();
  aborted.server.association?.abort("internal_error", "out of paper");
  aborted.client.handleDatagram(aborted.server.pollDatagram(0) ?? new Uint8Array(0), 0);
  t.is(codeOf(aborted.server), "DTLS_ABORTED");
  t.is(aborted.client.closed?.error?.receivedAlert, "internal_error");

  const early = pskPair();
  upToClientsSecondFlight(early);
  early.server.association?.close();
  for (let bytes = early.server.pollDatagram(0); bytes !== undefined; bytes = early.server.pollDatagram(0)) {
    early.client.handleDatagram(bytes, 0);
  }
  early.client.handleTimeout(1000);
  t.is(codeOf(early.client), "DTLS_ALERT_RECEIVED");
  t.is(early.client.closed?.error?.receivedAlert, "close_notify");
});

test("send refuses what is too long, too early or too late, by code", (t) => {
  const pair = pskPair();
  const code = (run: () => void): string | undefined => t.throws(run, { instanceOf: DtlsError })?.code;
  t.is(
    code(() => pair.client.association?.send(Uint8Array.of(1))),
    "DTLS_NOT_CONNECTED",
  );
  const connected = connectedPair();
  const most = connected.client.association?.maxDataBytes ?? 0;
  connected.client.association?.send(new Uint8Array(most));
  t.is(connected.client.pollDatagram(0)?.length, 1280 - 48);
  t.is(
    code(() => connected.client.association?.send(new Uint8Array(most + 1))),
    "DTLS_MESSAGE_TOO_LARGE",
  );
});

test("options that cannot work are refused by name", (t) => {
  const cases: (() => unknown)[] = [
    () => new ServerGate({}),
    () => new ServerGate({ ...PSK_SERVER, mtuBytes: 100 }),
    () => new ServerGate({ ...PSK_SERVER, cookieLifetimeMs: 0 }),
    () => new ServerGate({ certificate: { ...credential("p256"), chain: [] } }),
    () => Association.connect({ cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] }, 0),
    () => Association.connect({ psk: { identity: Uint8Array.of(1), key: new Uint8Array(0) } }, 0),
    () => Association.connect({ initialRetransmitMs: 0 }, 0),
    // No number would be no limit.
    () => Association.connect({ ...PSK_CLIENT, maxEarlyRecordBytes: NaN }, 0),
    () => Association.connect({ ...PSK_CLIENT, maxRetransmissions: -1 }, 0),
    () => new ServerGate({ ...PSK_SERVER, maxReassemblyBytes: NaN }),
  ];
  for (const run of cases) t.is(t.throws(run, { instanceOf: DtlsError })?.code, "DTLS_BAD_OPTION");
});

test("an option that is undefined has its default, whatever it is", (t) => {
  const undefinedAll = Object.fromEntries(Object.keys(DTLS_DEFAULTS).map((name) => [name, undefined]));
  const both = { ...undefinedAll, connectionId: undefined, sharedKeys: undefined, session: undefined };
  t.deepEqual(
    { ...resolveClientOptions({ ...both, psk: PSK } as unknown as ClientOptions), connectionId: undefined },
    { ...DTLS_DEFAULTS, psk: PSK, connectionId: undefined },
  );
  const server = resolveServerOptions({ ...both, pskEnabled: true } as unknown as ServerOptions);
  t.like(server, { ...DTLS_DEFAULTS, pskEnabled: true });
  t.is(server.connectionId === false ? 0 : server.connectionId().length, 6);
});

test("a lone client sends its ClientHello again at doubling intervals, then gives up", (t) => {
  const options = { ...PSK_CLIENT, maxRetransmitMs: 5000, maxRetransmissions: 5, random: seededRandom(3) };
  const client = new TestEnd({ client: Association.connect(options, 0) });
  const times: number[] = [];
  for (let next = client.nextTimeout(); next !== undefined; next = client.nextTimeout()) {
    times.push(next);
    client.handleTimeout(next);
  }
  t.deepEqual(times, [1000, 3000, 7000, 12_000, 17_000, 22_000]);
  t.is(codeOf(client), "DTLS_HANDSHAKE_TIMEOUT");
  t.is(client.association?.counters.retransmissions, 5);
});

test("a client whose large flights are lost goes down to datagrams of 528 bytes", (t) => {
  const pair = makePair({
    client: { certificate: credential("rsa"), handshakeTimeoutMs: 300_000 },
    server: { certificate: credential("rsa"), clientCertificate: "require", handshakeTimeoutMs: 300_000 },
  });
  const link = new VirtualLink({ seed: 1, mtu: 600 });
  t.true(link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2));
  t.true(link.counts.oversized > 0);
});

test("wrong certificates for the suite, and certificates that do not parse, are refused", (t) => {
  const replaced = (chain: readonly Uint8Array[]): Tampering =>
    changing(T.certificate, (_, channel) => channel.add(T.certificate, encodeCertificate(chain)));
  const server: ServerOptions = { certificate: credential("p256") };
  t.is(codeOf(againstServer(replaced(credential("rsa").chain), server, {}).end), "DTLS_UNSUPPORTED_CERTIFICATE");
  t.is(codeOf(againstServer(replaced([Uint8Array.of(1, 2, 3)]), server, {}).end), "DTLS_BAD_CERTIFICATE");
  t.is(codeOf(againstServer(replaced([]), server, {}).end), "DTLS_DECODE_ERROR");
  t.is(codeOf(againstServer(replaced(credential("p384").chain), server, {}).end), "DTLS_BAD_SIGNATURE");
  const client = { certificate: credential("client") };
  t.is(codeOf(againstClient(replaced([Uint8Array.of(48)]), MUTUAL, client).end), "DTLS_BAD_CERTIFICATE");
  t.is(codeOf(againstClient(replaced(credential("p256").chain), MUTUAL, client).end), "DTLS_BAD_SIGNATURE");
});

function fragment(type: number, length: number, offset: number, size: number): Uint8Array {
  const bytes = new Uint8Array(12 + size);
  bytes.set([type, length >> 16, length >> 8, length, 0, 2, offset >> 16, offset >> 8, offset, 0, 0, size]);
  return bytes;
}
