import test from "ava";
import {
  Association,
  type ClientOptions,
  type DatagramSource,
  DTLS_DEFAULTS,
  ServerGate,
  type ServerOptions,
} from "#dtls/index.js";
import { PathValidation } from "#dtls/path-validation.js";
import { decodeClientHello } from "#dtls/wire/client-hello.js";
import { CONTENT_TYPES, TLS12_CID } from "#dtls/wire/record.js";
import { decodeReturnRoutabilityCheck, encodeReturnRoutabilityCheck } from "#dtls/wire/return-routability-check.js";
import { VirtualLink } from "#testing/virtual-link.js";
import { makePair, type Pair, PSK, type TestEnd } from "./pair.js";

const CCM: ClientOptions = { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] };

function connectedPair(client: ClientOptions = {}, server: ServerOptions = {}): Pair {
  const pair = makePair({ client: { ...CCM, ...client }, server: { pskEnabled: true, ...server } });
  const link = new VirtualLink({ seed: 1 });
  if (!link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2)) {
    throw new Error("not connected");
  }
  return pair;
}

function associationOf({ association }: TestEnd): Association {
  if (association === undefined) throw new Error("no association");
  return association;
}

/** What an end sends now, by where to. */
function sentBy(end: TestEnd): { readonly peer: Uint8Array[]; readonly candidate: Uint8Array[]; source: Uint8Array[] } {
  const sent = { peer: [] as Uint8Array[], candidate: [] as Uint8Array[], source: [] as Uint8Array[] };
  for (let bytes = end.pollDatagram(0); bytes !== undefined; bytes = end.pollDatagram(0)) {
    sent[end.sentElsewhere.get(bytes) ?? "peer"].push(bytes);
  }
  return sent;
}

function only(datagrams: readonly Uint8Array[]): Uint8Array {
  const [datagram, ...more] = datagrams;
  if (datagram === undefined || more.length > 0) throw new Error(`${String(datagrams.length)} datagrams`);
  return datagram;
}

/** A record of the client's data, not delivered. */
function recordOf(client: TestEnd, length = 20): Uint8Array {
  associationOf(client).send(new Uint8Array(length).fill(7));
  return only(sentBy(client).peer);
}

function deliver(end: TestEnd, datagram: Uint8Array, now: number, source: DatagramSource): void {
  associationOf(end).handleDatagram(datagram, now, source);
  end.drain(now);
}

function sizeOf(datagrams: readonly Uint8Array[]): number {
  return datagrams.reduce((sum, { length }) => sum + length, 0);
}

test("the extension is agreed on only where both sides want it, and with connection identifiers (RFC 9853 §3)", (t) => {
  for (const [client, server, isAgreed] of [
    [{}, {}, true],
    [{ returnRoutabilityCheck: "enhanced" }, { returnRoutabilityCheck: "basic" }, true],
    [{ returnRoutabilityCheck: "none" }, {}, false],
    [{}, { returnRoutabilityCheck: "none" }, false],
    [{ connectionId: false }, {}, false],
    [{}, { connectionId: false }, false],
  ] as const) {
    const pair = connectedPair(client, server);
    t.is(associationOf(pair.client).peer?.returnRoutabilityCheck, isAgreed, JSON.stringify([client, server]));
    t.is(associationOf(pair.server).peer?.returnRoutabilityCheck, isAgreed);
  }
  const hello = (options: ClientOptions): Uint8Array | undefined => {
    const output = Association.connect({ ...CCM, ...options }, 0).poll();
    if (output?.type !== "datagram") throw new Error("no ClientHello");
    return decodeClientHello(output.bytes.subarray(25)).extensions.get(61);
  };
  t.deepEqual(hello({}), new Uint8Array(0));
  t.is(hello({ connectionId: false }), undefined, "never without connection_id");
});

test("the message is as RFC 9853 §4 has it; what is no message, or of another type, is ignored", (t) => {
  const cookie = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  for (const [number, type] of (["path_challenge", "path_response", "path_drop"] as const).entries()) {
    const bytes = encodeReturnRoutabilityCheck({ type, cookie });
    t.deepEqual([...bytes], [number, ...cookie]);
    t.deepEqual(decodeReturnRoutabilityCheck(bytes), { type, cookie });
    t.is(decodeReturnRoutabilityCheck(bytes.subarray(0, 8)), undefined);
    t.is(decodeReturnRoutabilityCheck(Uint8Array.of(...bytes, 0)), undefined);
  }
  t.is(decodeReturnRoutabilityCheck(Uint8Array.of(3, ...cookie)), undefined);
  t.is(decodeReturnRoutabilityCheck(new Uint8Array(0)), undefined);
});

test("a peer at a new address is asked there, and is there when it has answered", (t) => {
  const { client, server } = connectedPair();
  deliver(server, recordOf(client), 0, "elsewhere");
  t.deepEqual(server.paths, ["path-candidate"]);
  t.is(server.received.length, 1, "its data count at once");
  const challenge = only(sentBy(server).candidate);
  t.is(challenge[0], CONTENT_TYPES.returnRoutabilityCheck, "27, in the direction without an identifier");
  deliver(client, challenge, 0, "peer");
  const response = only(sentBy(client).peer);
  t.is(response[0], TLS12_CID);
  deliver(server, response, 0, "candidate");
  t.deepEqual(server.paths, ["path-candidate", "path-validated"]);
  associationOf(server).send(new Uint8Array(1000));
  t.is(sentBy(server).peer.length, 1);
  t.is(associationOf(server).nextTimeout(), undefined);
});

test("a small answer need not wait; a large one does, and leaves in order when the address is validated", (t) => {
  const { client, server } = connectedPair();
  deliver(server, recordOf(client), 0, "elsewhere");
  const challenge = only(sentBy(server).candidate);
  associationOf(server).send(Uint8Array.of(1));
  t.is(sentBy(server).candidate.length, 1);
  for (const data of [2, 3]) associationOf(server).send(new Uint8Array(900).fill(data));
  t.deepEqual(sentBy(server), { peer: [], candidate: [], source: [] });
  deliver(client, challenge, 0, "peer");
  deliver(server, only(sentBy(client).peer), 0, "candidate");
  for (const datagram of sentBy(server).peer) client.handleDatagram(datagram, 0);
  t.deepEqual(
    client.received.map(([first]) => first),
    [2, 3],
  );
});

test("a record handed on from a spoofed address brings its victim at most three times its bytes, and moves nothing", (t) => {
  for (const returnRoutabilityCheck of ["basic", "enhanced"] as const) {
    const { client, server } = connectedPair({}, { returnRoutabilityCheck });
    let fromVictim = 0;
    let toVictim = 0;
    const atOld: Uint8Array[] = [];
    const collect = (): void => {
      const { candidate, source, peer } = sentBy(server);
      toVictim += sizeOf(candidate) + sizeOf(source);
      atOld.push(...peer);
    };
    for (let now = 0; now < 60_000; now += 500) {
      associationOf(server).handleTimeout(now);
      collect();
      if (now % 2500 === 0) {
        const record = recordOf(client);
        fromVictim += record.length;
        deliver(server, record, now, server.paths.at(-1) === "path-candidate" ? "candidate" : "elsewhere");
        for (let i = 0; i < 5; i++) associationOf(server).send(new Uint8Array(40 + 200 * i));
        collect();
      }
      t.true(toVictim <= 3 * fromVictim, `${String(toVictim)} bytes for ${String(fromVictim)}`);
    }
    t.true(toVictim > fromVictim, "small answers do go there");
    t.false(server.paths.includes("path-validated"));
    t.true(server.paths.includes("path-refused"));
    t.true(sizeOf(atOld) > 10_000, "the large answers went to the address that is proved");
  }
});

test("the peer that is heard at its own address again is there, and what waited is sent to it", (t) => {
  const { client, server } = connectedPair();
  const [first, second] = [recordOf(client), recordOf(client)];
  deliver(server, first, 0, "elsewhere");
  associationOf(server).send(new Uint8Array(900));
  sentBy(server);
  deliver(server, second, 0, "peer");
  t.deepEqual(server.paths, ["path-candidate", "path-refused"]);
  t.is(only(sentBy(server).peer).length > 900, true);
});

test("an answer counts only with the cookie, once, and from the candidate itself", (t) => {
  const { client, server } = connectedPair();
  deliver(server, recordOf(client), 0, "elsewhere");
  const challenge = only(sentBy(server).candidate);
  // Handed on to the peer, which answers truly, from where it is.
  deliver(client, challenge, 0, "peer");
  const [response] = sentBy(client).peer;
  if (response === undefined) return t.fail();
  deliver(server, response, 0, "elsewhere");
  deliver(server, response, 0, "candidate");
  const { dropped } = associationOf(server).counters;
  t.is(dropped["unexpected-path-message"], 1);
  t.is(dropped["replayed"], 1);
  t.deepEqual(server.paths, ["path-candidate"]);
  // The challenge itself is answered once.
  deliver(client, challenge, 0, "peer");
  t.is(sentBy(client).peer.length, 0);
});

test("nobody is asked by answers: without a question, or without the extension, they are dropped", (t) => {
  const asked = connectedPair();
  deliver(asked.server, recordOf(asked.client), 0, "elsewhere");
  const challenge = only(sentBy(asked.server).candidate);
  deliver(asked.client, challenge, 0, "peer");
  const response = only(sentBy(asked.client).peer);
  deliver(asked.server, recordOf(asked.client), 0, "peer");
  deliver(asked.server, response, 0, "candidate");
  t.is(associationOf(asked.server).counters.dropped["unexpected-path-message"], 1, "the question is over");

  const moved = connectedPair({ returnRoutabilityCheck: "none" });
  deliver(moved.server, recordOf(moved.client), 0, "elsewhere");
  t.deepEqual(moved.server.paths, ["peer-moved"]);
  associationOf(moved.server).send(new Uint8Array(1000));
  t.is(sentBy(moved.server).peer.length, 1);
});

test("a challenge is answered at once, once, where it came from, and by as many bytes", (t) => {
  const own = Uint8Array.of(1, 2, 3, 4);
  const { client, server } = connectedPair({ connectionId: () => own }, { connectionId: () => own });
  deliver(server, recordOf(client), 0, "elsewhere");
  const challenge = only(sentBy(server).candidate);
  deliver(client, challenge, 0, "elsewhere");
  const { source, peer, candidate } = sentBy(client);
  t.is(only(source).length, challenge.length);
  t.is(peer.length + candidate.length, 0);
  t.deepEqual(client.paths, [], "a question moves nobody");
});

test("challenges are sent once a second, each with its own cookie, until the time is over", (t) => {
  const { client, server } = connectedPair();
  deliver(server, recordOf(client, 200), 0, "elsewhere");
  const challenges = [only(sentBy(server).candidate)];
  const at: number[] = [];
  for (let now = associationOf(server).nextTimeout(); now !== undefined; now = associationOf(server).nextTimeout()) {
    at.push(now);
    associationOf(server).handleTimeout(now);
    challenges.push(...sentBy(server).candidate);
  }
  t.deepEqual(at, [1000, 2000, 3000, 4000, 5000]);
  t.is(challenges.length, 5);
  t.deepEqual(server.paths, ["path-candidate", "path-refused"]);
  const answers = challenges.map((challenge) => {
    deliver(client, challenge, 0, "peer");
    return only(sentBy(client).peer);
  });
  const late = answers.at(-1) ?? new Uint8Array(0);
  deliver(server, late, 5001, "elsewhere");
  t.deepEqual(server.paths, ["path-candidate", "path-refused"], "too late, and no new question");
  deliver(server, recordOf(client), 6000, "elsewhere");
  t.is(server.paths.at(-1), "path-candidate", "the next record begins anew");
});

test("enhanced: who hands records on faster gets no session, as the peer answers at its old address", (t) => {
  const { client, server } = connectedPair({}, { returnRoutabilityCheck: "enhanced" });
  deliver(server, recordOf(client), 0, "elsewhere");
  const { peer, candidate } = sentBy(server);
  t.is(candidate.length, 0);
  deliver(client, only(peer), 0, "peer");
  // Even the answer is handed on faster.
  deliver(server, only(sentBy(client).peer), 0, "candidate");
  t.deepEqual(server.paths, ["path-candidate", "path-refused"]);
});

test("enhanced: an old address that is silent has the new one asked", (t) => {
  const silent = connectedPair({}, { returnRoutabilityCheck: "enhanced", pathValidationTimeoutMs: 1000 });
  deliver(silent.server, recordOf(silent.client), 0, "elsewhere");
  t.is(sentBy(silent.server).peer.length, 1);
  associationOf(silent.server).handleTimeout(1000);
  const challenge = only(sentBy(silent.server).candidate);
  deliver(silent.client, challenge, 1100, "peer");
  deliver(silent.server, only(sentBy(silent.client).peer), 1200, "candidate");
  t.deepEqual(silent.server.paths, ["path-candidate", "path-validated"]);
});

test("enhanced: so does one that the peer has given up, and only by the cookie that it was sent", (t) => {
  const path = new PathValidation({ ...DTLS_DEFAULTS, returnRoutabilityCheck: "enhanced" }, 0);
  const { to, cookie } = path.challenge(0);
  t.is(to, "old");
  t.is(path.handleAnswer({ type: "path_drop", cookie: new Uint8Array(8) }, false, 1), undefined);
  t.is(path.handleAnswer({ type: "path_drop", cookie }, false, 1), "challenge");
  const next = path.challenge(1);
  t.is(next.to, "new");
  t.notDeepEqual(next.cookie, cookie);
  t.is(path.handleAnswer({ type: "path_response", cookie }, true, 2), undefined, "the cookie of the other address");
  t.is(path.handleAnswer({ type: "path_drop", cookie: next.cookie }, true, 2), undefined);
  t.is(path.handleAnswer({ type: "path_response", cookie: next.cookie }, true, 2), "validated");
});

test("what waits for a validation is bounded in bytes, and the rest is dropped and counted", (t) => {
  const { client, server } = connectedPair({}, { maxHeldPathBytes: 2000 });
  deliver(server, recordOf(client), 0, "elsewhere");
  for (let i = 0; i < 10; i++) associationOf(server).send(new Uint8Array(900));
  t.is(associationOf(server).counters.dropped["path-hold-limit"], 8);
  associationOf(server).handleTimeout(5000);
  t.is(sentBy(server).peer.length, 2);
});

test("a restored association checks new addresses as before, by the options of now", (t) => {
  for (const [returnRoutabilityCheck, expected] of [
    ["basic", "path-candidate"],
    ["none", "peer-moved"],
  ] as const) {
    const { client, server } = connectedPair();
    const state = associationOf(server).suspend();
    const gate = new ServerGate({ pskEnabled: true, returnRoutabilityCheck });
    server.association = gate.restore(state, 0);
    t.true(server.association.peer?.returnRoutabilityCheck);
    deliver(server, recordOf(client), 0, "elsewhere");
    t.deepEqual(server.paths, [expected]);
  }
});
