import {
  type Allocate,
  CODE,
  encodeMessage,
  Endpoint,
  type Exchange,
  getRequest,
  MESSAGE_TYPE,
  NO_PAYLOAD,
  OPTION,
  Options,
  SHORT_MESSAGE_BYTES,
} from "#coap/index.js";
import { VirtualLink } from "#testing/virtual-link.js";
import test from "ava";
import fc from "fast-check";
import { bytes, content, Host, path, text } from "./host.js";

test("a Confirmable request is answered by a piggybacked response, and its duplicate by the same bytes", (t) => {
  const server = new Host(1);
  server.answer = (incoming, now) => server.endpoint.respond(incoming, content("21"), now);
  server.receive({ messageId: 7, token: Uint8Array.of(9) });
  const first = server.sent();
  t.like(first, { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, messageId: 7 });
  t.deepEqual([...(first?.token ?? [])], [9]);
  server.receive({ messageId: 7, token: Uint8Array.of(9) }, 240_000);
  t.deepEqual(server.sent(), first);
  t.is(server.requests.length, 1);
  t.is(server.endpoint.counters.duplicates, 1);
  // RFC 7252 §4.8.2: after EXCHANGE_LIFETIME of 247 s the messageId may be used anew.
  server.receive({ messageId: 7 }, 247_001);
  t.is(server.requests.length, 2);
});

test("a duplicate is answered by the very bytes of the reply, whatever they are and however many", (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300, size: "max" }), fc.uint8Array({ maxLength: 8 }), (payload, token) => {
      const server = new Host(1);
      server.answer = (incoming, now) =>
        server.endpoint.respond(incoming, { code: CODE.Content, options: Options.none, payload }, now);
      server.receive({ messageId: 7, token });
      const first = server.pollDatagram(0);
      const kept = server.endpoint.recentReplyBytes;
      server.receive({ messageId: 7, token }, 240_000);
      t.deepEqual(server.pollDatagram(240_000), first);
      return first !== undefined && first.length > payload.length && kept === first.length;
    }),
  );
});

/** As a transport's memory may be: where one short message was, the next one is. */
function sharedMemory(): { readonly allocate: Allocate; readonly overwrite: () => void } {
  const shared = new Uint8Array(SHORT_MESSAGE_BYTES);
  return {
    allocate: (length) => (length > SHORT_MESSAGE_BYTES ? new Uint8Array(length) : shared.subarray(0, length)),
    overwrite: () => void shared.fill(0xee),
  };
}

test("of many replies each is its own duplicates', though what they were sent from is overwritten", (t) => {
  const arrival = fc.record({ peer: fc.nat(2), size: fc.oneof(fc.nat(20), fc.nat(100)) });
  const limit = fc.constantFrom(1, 2, 5, 400);
  const isKept = fc.property(limit, fc.array(arrival, { minLength: 300, maxLength: 900 }), (ofPeer, arrivals) => {
    const { allocate, overwrite } = sharedMemory();
    const endpoint = new Endpoint({
      random: (size) => new Uint8Array(size),
      allocate,
      limits: { maxRecentMessagesPerPeer: ofPeer },
    });
    const peers = Array.from({ length: 3 }, () => endpoint.openPeer());
    const receive = (peer: number, messageId: number, size: number): string | undefined => {
      const get = { type: MESSAGE_TYPE.Confirmable, code: CODE.GET, token: NO_PAYLOAD, options: Options.none };
      endpoint.handleDatagram(peers[peer]!, encodeMessage({ ...get, messageId, payload: NO_PAYLOAD }), 0);
      for (let output = endpoint.poll(); output !== undefined; output = endpoint.poll()) {
        if (output.type === "request") {
          const payload = Uint8Array.from({ length: size }, (_, index) => messageId + index);
          endpoint.respond(output.incoming, { code: CODE.Content, options: Options.none, payload }, 0);
        } else if (output.type === "datagram") {
          const sent = Buffer.from(output.bytes).toString("hex");
          overwrite();
          return sent;
        }
      }
      return undefined;
    };
    const replies = arrivals.map(({ peer, size }, index) => receive(peer, index, size));
    const remembered = arrivals.flatMap(({ peer }, index) => {
      const later = arrivals.slice(index + 1).filter((one) => one.peer === peer).length;
      return later < ofPeer ? [index] : [];
    });
    t.is(endpoint.recentMessages, remembered.length);
    for (const index of remembered) if (receive(arrivals[index]!.peer, index, 0) !== replies[index]) return false;
    t.is(endpoint.counters.duplicates, remembered.length);
    for (const peer of peers) endpoint.closePeer(peer, 0);
    t.is(endpoint.recentMessages, 0);
    t.is(endpoint.recentReplyBytes, 0);
    return true;
  });
  fc.assert(isKept, { numRuns: 40 });
});

test("a message is sent again as it was, though what it was sent from is overwritten", (t) => {
  for (const payload of ["short", "long".repeat(50)]) {
    const { allocate, overwrite } = sharedMemory();
    const client = new Host(1, { allocate });
    client.endpoint.request(client.peer, { ...getRequest(path("a")), code: CODE.PUT, payload: bytes(payload) }, 0);
    const first = Buffer.from(client.pollDatagram(0)!).toString("hex");
    overwrite();
    client.handleTimeout(client.nextTimeout()!);
    t.is(Buffer.from(client.pollDatagram(0)!).toString("hex"), first);
  }
});

test("a slow application gets an empty Acknowledgement sent, then its separate Confirmable response", (t) => {
  const server = new Host(1);
  server.receive({ messageId: 7, token: Uint8Array.of(9) });
  t.is(server.sent(), undefined);
  t.is(server.nextTimeout(), 500);
  server.handleTimeout(500);
  t.like(server.sent(), { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: 7 });
  server.receive({ messageId: 7, token: Uint8Array.of(9) }, 600);
  t.like(server.sent(), { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: 7 });
  const [incoming] = server.requests;
  server.endpoint.respond(incoming!, content("late"), 700);
  const response = server.sent();
  t.like(response, { type: MESSAGE_TYPE.Confirmable, code: CODE.Content });
  server.endpoint.respond(incoming!, content("twice"), 800);
  t.is(server.sent(), undefined);
  server.receive({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: response!.messageId }, 900);
  server.handleTimeout(20_000);
  t.is(server.sent(), undefined);
});

test("a Non-confirmable request is answered Non-confirmable, and its duplicate is dropped", (t) => {
  const server = new Host(1);
  server.answer = (incoming, now) => server.endpoint.respond(incoming, content("21"), now);
  for (let time = 0; time < 2; time++) server.receive({ type: MESSAGE_TYPE.NonConfirmable, messageId: 7 });
  t.like(server.sent(), { type: MESSAGE_TYPE.NonConfirmable, code: CODE.Content });
  t.is(server.sent(), undefined);
});

test("a ping and a malformed Confirmable message are answered by Reset, other noise by silence", (t) => {
  const host = new Host(1);
  host.receive({ code: CODE.Empty, messageId: 5 });
  t.like(host.sent(), { type: MESSAGE_TYPE.Reset, messageId: 5 });
  host.handleDatagram(Uint8Array.of(0x40, 0x01, 0x00, 0x06, 0xff), 0);
  t.like(host.sent(), { type: MESSAGE_TYPE.Reset, messageId: 6 });
  host.handleDatagram(Uint8Array.of(0x50, 0x01, 0x00, 0x06, 0xff), 0);
  host.handleDatagram(Uint8Array.of(0xff), 0);
  host.receive({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, messageId: 99 });
  host.receive({ type: MESSAGE_TYPE.Reset, code: CODE.Empty, messageId: 99 });
  t.is(host.sent(), undefined);
  t.is(host.endpoint.counters.malformed, 3);
});

test("an unknown critical option is refused with 4.02, an unknown elective one is left out", (t) => {
  const server = new Host(1, {
    optionFormats: [{ number: 65_033, name: "Digest-Authorization", format: "opaque", minLength: 1, maxLength: 4 }],
  });
  server.receive({ messageId: 1, options: path("a").with(9, "x") });
  t.like(server.sent(), { type: MESSAGE_TYPE.Acknowledgement, code: CODE.BadOption, messageId: 1 });
  server.receive({ messageId: 2, options: path("a").with(65_033, new Uint8Array(5)) });
  t.like(server.sent(), { code: CODE.BadOption, messageId: 2 });
  server.receive({
    messageId: 3,
    options: Options.none.withAll(OPTION.Accept, [new Uint8Array(0), new Uint8Array(0)]),
  });
  t.like(server.sent(), { code: CODE.BadOption, messageId: 3 });
  server.receive({ type: MESSAGE_TYPE.NonConfirmable, messageId: 4, options: path("a").with(9, "x") });
  t.is(server.sent(), undefined);
  t.is(server.requests.length, 0);
  server.receive({
    messageId: 5,
    options: path("a").with(65_000, "x").with(65_033, "ok").with(OPTION.MaxAge, new Uint8Array(5)),
  });
  t.deepEqual(
    [...server.requests[0]!.options].map(({ number }) => number),
    [OPTION.UriPath, 65_033],
  );
});

test("a request is retransmitted with doubling time-outs, four times, then fails", (t) => {
  const client = new Host(3);
  client.endpoint.request(client.peer, getRequest(path("a")), 0);
  const times: number[] = [];
  const messageIds = new Set<number | undefined>([client.sent()?.messageId]);
  for (let at = client.nextTimeout(); at !== undefined && client.failures.length === 0; at = client.nextTimeout()) {
    client.handleTimeout(at);
    times.push(at);
    const again = client.sent(at);
    if (again !== undefined) messageIds.add(again.messageId);
  }
  t.deepEqual(client.failures, ["COAP_TIMEOUT"]);
  t.is(messageIds.size, 1);
  const [first = 0] = times;
  t.true(first >= 2000 && first <= 3000);
  t.deepEqual(
    times.map((at) => Math.round(at / first)),
    [1, 3, 7, 15, 31],
  );
  t.true(client.endpoint.isIdle(client.peer));
});

test("an acknowledged request whose response never comes fails by time-out, not never", (t) => {
  const client = new Host(3);
  client.endpoint.request(client.peer, getRequest(), 0);
  const request = client.sent();
  client.receive({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: request!.messageId }, 10);
  const at = client.nextTimeout();
  t.is(at, 10 + 93_000);
  client.handleTimeout(at!);
  t.deepEqual(client.failures, ["COAP_TIMEOUT"]);
});

test("NSTART keeps further requests waiting, within a bound", (t) => {
  const client = new Host(3, { limits: { maxQueuedRequestsPerPeer: 1 } });
  for (const name of ["a", "b", "c"]) client.endpoint.request(client.peer, getRequest(path(name)), 0);
  const first = client.sent();
  t.is(client.sent(), undefined);
  t.deepEqual(client.failures, ["COAP_LIMIT_REACHED"]);
  client.receive({
    type: MESSAGE_TYPE.Acknowledgement,
    code: CODE.Content,
    messageId: first!.messageId,
    token: first!.token,
  });
  t.deepEqual(client.sent()?.options.uriPath, ["b"]);
});

test("a response counts only from its peer, with its token, and with its messageId when piggybacked", (t) => {
  const client = new Host(3);
  client.endpoint.request(client.peer, getRequest(), 0);
  const request = client.sent()!;
  const answer = {
    type: MESSAGE_TYPE.Acknowledgement,
    code: CODE.Content,
    messageId: request.messageId,
    token: request.token,
  };
  client.receive({ ...answer, token: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) });
  client.receive({ ...answer, messageId: request.messageId ^ 1 });
  t.deepEqual(client.responses, []);
  client.receive({ ...answer, payload: bytes("yes") });
  client.receive({ ...answer, payload: bytes("again") });
  t.deepEqual(client.responses, ["yes"]);
});

test("RFC 9175 §4.2: tokens that count are as short as may be, none comes twice, and an observation keeps its own", (t) => {
  const client = new Host(3);
  const peer = client.endpoint.openPeer({ countsTokens: true });
  const tokens: string[] = [];
  for (let count = 1; count <= 257; count++) {
    const exchange = client.endpoint.request(peer, getRequest(), 0);
    tokens.push(Buffer.from(client.sent()?.token ?? []).toString("hex"));
    client.endpoint.cancel(exchange, 0);
  }
  t.deepEqual([tokens[0], tokens[254], tokens[255], tokens[256]], ["01", "ff", "0100", "0101"]);
  t.is(new Set(tokens).size, 257);
  const random = client.endpoint.openPeer();
  client.endpoint.request(random, getRequest(), 0);
  t.is(client.sent()?.token.length, 8);
});

test("a Confirmable response is acknowledged, its duplicate too; one that nobody waits for gets a Reset", (t) => {
  const client = new Host(3);
  client.endpoint.request(client.peer, getRequest(), 0);
  const { token } = client.sent()!;
  for (let time = 0; time < 2; time++)
    client.receive({ code: CODE.Content, messageId: 70, token, payload: bytes("x") });
  client.receive({ code: CODE.Content, messageId: 71, token });
  t.like(client.sent(), { type: MESSAGE_TYPE.Acknowledgement, messageId: 70 });
  t.like(client.sent(), { type: MESSAGE_TYPE.Acknowledgement, messageId: 70 });
  t.like(client.sent(), { type: MESSAGE_TYPE.Reset, messageId: 71 });
  t.deepEqual(client.responses, ["x"]);
});

test("a response with an unknown critical option fails its exchange", (t) => {
  const client = new Host(3);
  client.endpoint.request(client.peer, getRequest(), 0);
  const { token, messageId } = client.sent()!;
  client.receive({
    type: MESSAGE_TYPE.Acknowledgement,
    code: CODE.Content,
    messageId,
    token,
    options: Options.none.with(65_033, "x"),
  });
  t.deepEqual(client.failures, ["COAP_BAD_OPTION"]);
});

test("a Reset fails a request, closing the peer fails all of them", (t) => {
  const client = new Host(3);
  client.endpoint.request(client.peer, getRequest(), 0);
  const { messageId } = client.sent()!;
  client.receive({ type: MESSAGE_TYPE.Reset, code: CODE.Empty, messageId });
  client.endpoint.request(client.peer, getRequest(), 0);
  client.endpoint.request(client.peer, getRequest(), 0);
  client.drain(0);
  client.endpoint.closePeer(client.peer, 1);
  client.endpoint.request(client.peer, getRequest(), 2);
  client.drain(2);
  t.deepEqual(client.failures, ["COAP_RESET", "COAP_PEER_CLOSED", "COAP_PEER_CLOSED", "COAP_PEER_CLOSED"]);
});

function observing(seed = 5): {
  readonly client: Host;
  readonly server: Host;
  readonly link: VirtualLink;
  readonly exchange: Exchange;
} {
  const client = new Host(seed);
  const server = new Host(seed + 1);
  const link = new VirtualLink({ seed });
  server.answer = (incoming, now) => {
    if (incoming.isObserve) server.endpoint.respondObserved(incoming, content("0"), now);
    else server.endpoint.respond(incoming, content("plain"), now);
  };
  const exchange = client.endpoint.request(client.peer, getRequest(path("t").with(OPTION.Observe, 0)), 0);
  link.run(client, server, () => client.responses.length === 1);
  return { client, server, link, exchange };
}

test("an observation delivers notifications in order until it is cancelled", (t) => {
  const { client, server, link, exchange } = observing();
  t.is(server.endpoint.observations, 1);
  const [incoming] = server.requests;
  for (const value of ["1", "2"]) {
    server.endpoint.notify(incoming!, content(value), link.now);
    link.run(client, server, () => client.notifications.at(-1) === value);
  }
  t.deepEqual(client.notifications, ["1", "2"]);
  client.endpoint.cancel(exchange, link.now);
  link.run(client, server, () => server.ended.length === 1 && exchange.state === "ended");
  t.deepEqual(server.ended, ["cancelled"]);
  t.is(server.endpoint.observations, 0);
  server.endpoint.notify(incoming!, content("3"), link.now);
  t.is(server.sent(), undefined);
});

test("a newer notification takes the place of one in transit (RFC 7641 §4.5.2)", (t) => {
  const { server } = observing();
  const [incoming] = server.requests;
  for (const value of ["1", "2", "3"]) server.endpoint.notify(incoming!, content(value), 1000);
  const first = server.sent(1000);
  t.is(text(first!.payload), "1");
  t.is(server.sent(1000), undefined);
  server.receive({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: first!.messageId }, 1100);
  t.is(text(server.sent(1100)!.payload), "3");
  t.is(server.sent(1100), undefined);
});

test("an observer that answers Reset, or nothing at all, is forgotten", (t) => {
  for (const cause of ["reset", "timeout"]) {
    const { server } = observing();
    server.endpoint.notify(server.requests[0]!, content("1"), 1000);
    const notification = server.sent(1000);
    if (cause === "reset") {
      server.receive({ type: MESSAGE_TYPE.Reset, code: CODE.Empty, messageId: notification!.messageId }, 1100);
    } else {
      for (let at = server.nextTimeout(); at !== undefined && server.ended.length === 0; at = server.nextTimeout()) {
        server.handleTimeout(at);
      }
    }
    t.deepEqual(server.ended, [cause]);
    t.is(server.endpoint.observations, 0);
  }
});

test("a reordered notification is dropped, one after 128 s is taken (RFC 7641 §3.4)", (t) => {
  const { client, exchange } = observing();
  const notification = (sequence: number, value: string, now: number, messageId: number): void =>
    client.receive(
      {
        type: MESSAGE_TYPE.NonConfirmable,
        code: CODE.Content,
        messageId,
        token: exchange.token,
        options: Options.none.with(OPTION.Observe, sequence),
        payload: bytes(value),
      },
      now,
    );
  notification(5, "5", 1000, 1);
  notification(4, "4", 1001, 2);
  notification(5, "5 again", 1002, 3);
  notification(4, "4 much later", 130_000, 4);
  notification(2 ** 24 - 1, "before the wrap", 130_001, 5);
  t.deepEqual(client.notifications, ["5", "4 much later"]);
});

test("observations are bounded per peer; one past the bound is answered plainly", (t) => {
  const server = new Host(1, { limits: { maxObservationsPerPeer: 2 } });
  const accepted: boolean[] = [];
  server.answer = (incoming, now) => accepted.push(server.endpoint.respondObserved(incoming, content("x"), now));
  for (let token = 1; token <= 3; token++) {
    server.receive({ messageId: token, token: Uint8Array.of(token), options: path("t").with(OPTION.Observe, 0) });
  }
  t.deepEqual(accepted, [true, true, false]);
  t.deepEqual(
    [server.sent(), server.sent(), server.sent()].map((message) => message?.options.observe),
    [1, 2, undefined],
  );
  server.endpoint.closePeer(server.peer, 1);
  server.drain(1);
  t.deepEqual(server.ended, ["peer-closed", "peer-closed"]);
});

test("memory of received messages is bounded, and freed after their lifetime", (t) => {
  const server = new Host(1, { limits: { maxRecentMessagesPerPeer: 8 } });
  server.answer = (incoming, now) => server.endpoint.respond(incoming, content("x"), now);
  for (let messageId = 0; messageId < 100; messageId++) server.receive({ messageId });
  t.is(server.peer.recent?.size, 8);
  server.handleTimeout(300_000);
  t.true(server.endpoint.isIdle(server.peer));
  t.is(server.nextTimeout(), undefined);
});

test("what is a duplicate is what a plain list of the messages tells, whatever their messageIds have in common", (t) => {
  const arrival = fc.record({
    peer: fc.nat(1),
    // Alike in their last bits; a few come again, in their lifetime and after it.
    messageId: fc.oneof(fc.constantFrom(1, 3, 65, 129, 257, 0xffff), fc.nat(40)),
    isConfirmable: fc.boolean(),
    afterMs: fc.constantFrom(0, 1, 1000, 100_000),
    isSwept: fc.boolean(),
  });
  const limit = fc.constantFrom(1, 2, 5, 16, 200);
  const isAsModelled = fc.property(limit, limit, fc.array(arrival, { maxLength: 120 }), (ofPeer, ofAll, arrivals) => {
    const endpoint = new Endpoint({
      random: (size) => new Uint8Array(size),
      limits: { maxRecentMessagesPerPeer: ofPeer, maxRecentMessages: ofAll },
    });
    const peers = [endpoint.openPeer(), endpoint.openPeer()];
    let listed: { readonly peer: number; readonly messageId: number; readonly expiresAt: number }[] = [];
    let now = 0;
    let duplicates = 0;
    for (const { peer, messageId, isConfirmable, afterMs, isSwept } of arrivals) {
      now += afterMs;
      if (isSwept) endpoint.handleTimeout(now);
      const type = isConfirmable ? MESSAGE_TYPE.Confirmable : MESSAGE_TYPE.NonConfirmable;
      const empty = { token: NO_PAYLOAD, options: Options.none, payload: NO_PAYLOAD };
      endpoint.handleDatagram(peers[peer]!, encodeMessage({ type, code: CODE.GET, messageId, ...empty }), now);
      const isListed = listed.some((one) => one.peer === peer && one.messageId === messageId && one.expiresAt > now);
      if (isListed) {
        duplicates++;
      } else {
        listed.push({ peer, messageId, expiresAt: now + (isConfirmable ? 247_000 : 145_000) });
        const own = listed.filter((one) => one.peer === peer);
        if (own.length > ofPeer) listed = listed.filter((one) => one !== own[0]);
        listed = listed.slice(-ofAll);
      }
      t.is(endpoint.counters.duplicates, duplicates);
      t.true(endpoint.recentMessages <= Math.min(ofAll, 2 * ofPeer));
    }
    endpoint.handleTimeout(now + 247_001);
    endpoint.handleTimeout(now + 253_000);
    t.true(endpoint.isIdle(peers[0]!) && endpoint.isIdle(peers[1]!));
    t.is(endpoint.recentMessages, 0);
  });
  fc.assert(isAsModelled, { numRuns: 300 });
});

test("on a bad link every request is handled exactly once and answered, and observations converge", (t) => {
  for (let seed = 1; seed <= 8; seed++) {
    const client = new Host(seed, {
      parameters: { maxRetransmit: 12, nstart: 4, reregistrationDelayMs: Infinity },
      limits: { maxRecentMessagesPerPeer: 256 },
    });
    const server = new Host(seed + 100, {
      parameters: { maxRetransmit: 12 },
      limits: { maxRecentMessagesPerPeer: 256 },
    });
    const link = new VirtualLink({ seed, loss: 0.3, reordering: 0.3, duplication: 0.2 });
    const handled: string[] = [];
    server.answer = (incoming, now) => {
      handled.push(incoming.options.uriPath.join("/"));
      if (incoming.isObserve) server.endpoint.respondObserved(incoming, content("start"), now);
      else server.endpoint.respond(incoming, content(`re ${incoming.options.uriPath[0]}`), now);
    };
    const names = Array.from({ length: 40 }, (_, index) => `r${index}`);
    for (const name of names) client.endpoint.request(client.peer, getRequest(path(name)), 0);
    client.endpoint.request(client.peer, getRequest(path("observed").with(OPTION.Observe, 0)), 0);
    t.true(
      link.run(client, server, () => client.responses.length === names.length + 1, 3_600_000),
      `seed ${seed}: ${client.failures.join()}`,
    );
    t.deepEqual(handled.toSorted(), [...names, "observed"].toSorted(), `seed ${seed}`);
    t.deepEqual(
      client.responses.toSorted(),
      [...names.map((name) => `re ${name}`), "start"].toSorted(),
      `seed ${seed}`,
    );
    const observed = server.requests.find((incoming) => incoming.isObserve);
    for (let value = 1; value <= 10; value++) server.endpoint.notify(observed!, content(`v${value}`), link.now);
    t.true(
      link.run(client, server, () => client.notifications.at(-1) === "v10", 3_600_000),
      `seed ${seed}`,
    );
  }
});
