import { CODE, CoapError, Endpoint, getRequest, MESSAGE_TYPE, type RoundTripEstimation } from "#coap/index.js";
import { VirtualLink } from "#testing/virtual-link.js";
import test from "ava";
import { content, Host, path } from "./exchange/host.js";

test("CoCoA: the first time-out follows the peer's round-trip times, and backs off by its own factor", (t) => {
  const client = new Host(4, { parameters: { roundTripEstimation: "cocoa", ackRandomFactor: 1 } });
  const ask = (now: number): number => {
    client.endpoint.request(client.peer, { code: CODE.GET, options: path("x"), payload: new Uint8Array(0) }, now);
    const sent = client.sent(now);
    const timeout = client.nextTimeout();
    t.true(timeout !== undefined);
    client.receive(
      { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, messageId: sent!.messageId, token: sent!.token },
      now + 100,
    );
    return (timeout ?? 0) - now;
  };
  t.is(ask(0), 2000);
  const timeouts = Array.from({ length: 8 }, (_, index) => ask((index + 1) * 1000));
  t.true(timeouts.every((timeout, index) => index === 0 || timeout < (timeouts[index - 1] ?? 0)));
  t.true((timeouts.at(-1) ?? 0) < 400, "it comes near to the 100 ms that an answer takes");
  // Below 1 s a retransmission waits three times as long as the transmission before it.
  const late = client.endpoint.request(client.peer, getRequest(path("x")), 10_000);
  const first = (client.nextTimeout() ?? 0) - 10_000;
  client.handleTimeout(10_000 + first);
  t.true(Math.abs((client.nextTimeout() ?? 0) - (10_000 + 4 * first)) < 0.001);
  client.endpoint.cancel(late, 20_000);
  while (client.sent(20_000) !== undefined);
  // Nothing measured for long: back toward the default.
  t.true(ask(400_000) > first);
});

/** Chance at its least: time-outs are RTO + SRTT/4. */
const fasor = (): Host =>
  new Host(1, { random: (size) => new Uint8Array(size), parameters: { roundTripEstimation: "fasor" } });

/** An exchange that begins at `startMs` and is answered `answerMs` later; its time-outs until then, the last one cut short. */
function exchange(client: Host, startMs: number, answerMs: number): number[] {
  client.endpoint.request(client.peer, getRequest(path("x")), startMs);
  const sent = client.sent(startMs);
  const timeouts: number[] = [];
  for (let last = startMs, at = client.nextTimeout(); at !== undefined; last = at, at = client.nextTimeout()) {
    timeouts.push(Math.round((at - last) * 10) / 10);
    if (at > startMs + answerMs) break;
    client.handleTimeout(at);
    client.sent(at);
  }
  client.receive(
    { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, messageId: sent!.messageId, token: sent!.token },
    startMs + answerMs,
  );
  return timeouts;
}

test("FASOR §4.1: the fast time-out begins at 2 s, follows what is measured beyond doubt, and is spread by the round-trip time", (t) => {
  const client = fasor();
  // 2 s and a quarter of 2/3 s; then doubling.
  t.deepEqual(exchange(client, 0, 1000), [2166.7]);
  // The first measurement: SRTT = R, RTTVAR = R/8, RTO = 1.5 R.
  t.deepEqual(exchange(client, 10_000, 2000), [1750, 3500]);
  // What took two transmissions is no measurement: RTO stays.
  t.is(exchange(client, 20_000, 1000)[0], 1750);
  // RTTVAR = 3/4 of 125 (still the first), with no deviation; SRTT = 1000; RTO = 1000 + 4 × 93.75.
  t.is(exchange(client, 30_000, 2600)[0], 1625);
  const spread = new Host(1, {
    random: (size) => new Uint8Array(size).fill(255),
    parameters: { roundTripEstimation: "fasor" },
  });
  t.is(exchange(spread, 0, 1000)[0], 2666.7, "2 s and all of 2/3 s");
  t.is(exchange(spread, 10_000, 1000)[0], 2500, "RTO + SRTT");
});

test("FASOR §4.3: fast, then fast-slow-fast, then slow-fast, until a first transmission is answered", (t) => {
  const client = fasor();
  t.is(exchange(client, 0, 1000)[0], 2166.7);
  // Fast: F, 2F, 4F, 8F.
  t.deepEqual(exchange(client, 100_000, 20_000), [1750, 3500, 7000, 14_000]);
  // Fast-slow-fast: F, max(S, 2F), 2F, 4F; S is 1.5 times all of the time before.
  t.deepEqual(exchange(client, 200_000, 36_000), [1750, 30_000, 3500, 7000]);
  // Slow-fast: S, F, 2F, 4F; and again, by the newer S.
  t.deepEqual(exchange(client, 300_000, 56_000), [54_000, 1750, 3500]);
  t.deepEqual(exchange(client, 500_000, 62_000), [60_000, 1750, 3500], "S is bounded by a minute");
  // An answer to the first transmission: fast again. RTTVAR = 3/4 of 125 + 1/4 of 40 s, SRTT = 6 s, RTO = SRTT + 4 RTTVAR.
  t.deepEqual(exchange(client, 700_000, 41_000), [60_000]);
  t.is(exchange(client, 800_000, 1000)[0], 46_375 + 1500);
  const short = fasor();
  t.is(exchange(short, 0, 1000)[0], 2166.7);
  exchange(short, 10_000, 2000);
  t.deepEqual(exchange(short, 20_000, 6000), [1750, 3500, 3500], "S is 3 s: 2F is longer");
});

test("FASOR: four retransmissions are over before a peer forgets the first transmission, whatever was measured", (t) => {
  const client = fasor();
  for (let index = 0; index < 6; index++) exchange(client, index * 1e6, 59_000);
  client.endpoint.request(client.peer, getRequest(path("x")), 1e9);
  client.sent(1e9);
  let last = 1e9;
  let count = 0;
  for (let at = client.nextTimeout(); at !== undefined; at = client.nextTimeout()) {
    client.handleTimeout(at);
    if (client.sent(at) === undefined) break;
    last = at;
    count++;
  }
  t.is(count, 4);
  t.true(last - 1e9 <= 240_000, `${last - 1e9} ms`);
  t.deepEqual(client.failures, ["COAP_TIMEOUT"]);
});

/** Requests one after the other over a link; what it took, and what was sent although it had arrived. */
function overLink(roundTripEstimation: RoundTripEstimation, link: VirtualLink, exchanges: number): Outcome {
  const client = new Host(2, { parameters: { roundTripEstimation } });
  const server = answering(3);
  for (let index = 0; index < exchanges; index++) {
    const done = client.responses.length + client.failures.length;
    client.endpoint.request(client.peer, getRequest(path("x")), link.now);
    link.run(client, server, () => client.responses.length + client.failures.length > done, 1e9);
  }
  return {
    seconds: Math.round(link.now / 1000),
    failed: client.failures.length,
    needless: server.endpoint.counters.duplicates,
  };
}

/**
 * Many clients that ask one after the other without a pause, through one narrow place, where each datagram takes `eachMs`
 * after those before it: it loses nothing, and all that is sent twice makes the others wait.
 */
function throughBottleneck(
  roundTripEstimation: RoundTripEstimation,
  clients: number,
  exchanges: number,
  eachMs: number,
): Outcome {
  const hosts = Array.from(
    { length: clients },
    (_, index) => new Host(100 + index, { parameters: { roundTripEstimation } }),
  );
  const servers = hosts.map((_, index) => answering(1000 + index));
  const flight: { readonly at: number; readonly to: Host; readonly bytes: Uint8Array }[] = [];
  let now = 0;
  let freeAt = 0;
  const doneOf = ({ responses, failures }: Host): number => responses.length + failures.length;
  const asked = hosts.map(() => 0);
  const proceed = (): void => {
    for (const [index, host] of hosts.entries()) {
      if (doneOf(host) === asked[index] && doneOf(host) < exchanges) {
        host.endpoint.request(host.peer, getRequest(path("x")), now);
        asked[index] = doneOf(host) + 1;
      }
      for (let bytes = host.pollDatagram(now); bytes !== undefined; bytes = host.pollDatagram(now)) {
        freeAt = Math.max(freeAt, now) + eachMs;
        flight.push({ at: freeAt, to: servers[index]!, bytes });
      }
      const server = servers[index]!;
      for (let bytes = server.pollDatagram(now); bytes !== undefined; bytes = server.pollDatagram(now))
        flight.push({ at: now + 50, to: host, bytes });
    }
  };
  for (proceed(); hosts.some((host) => doneOf(host) < exchanges); proceed()) {
    const datagramAt = Math.min(...flight.map(({ at }) => at));
    const timerAt = Math.min(...hosts.map((host) => host.nextTimeout() ?? Infinity));
    now = Math.max(now, Math.min(datagramAt, timerAt));
    for (const datagram of flight.filter(({ at }) => at <= now)) {
      flight.splice(flight.indexOf(datagram), 1);
      datagram.to.handleDatagram(datagram.bytes, now);
    }
    for (const host of hosts) if ((host.nextTimeout() ?? Infinity) <= now) host.handleTimeout(now);
  }
  const sum = (of: (host: Host) => number, all: readonly Host[]): number =>
    all.reduce((total, host) => total + of(host), 0);
  return {
    seconds: Math.round(now / 1000),
    failed: sum(({ failures }) => failures.length, hosts),
    needless: sum(({ endpoint }) => endpoint.counters.duplicates, servers),
  };
}

interface Outcome {
  readonly seconds: number;
  readonly failed: number;
  /** Transmissions of what had arrived already. */
  readonly needless: number;
}

function answering(seed: number): Host {
  const server = new Host(seed);
  server.answer = (incoming, now) => server.endpoint.respond(incoming, content("."), now);
  return server;
}

test("time-outs by RFC 7252, CoCoA and FASOR over links that lose, and through a narrow place: what is the best of each", (t) => {
  const ways = {
    "0.2 s, loses 20 %": (estimation: RoundTripEstimation): Outcome =>
      overLink(estimation, new VirtualLink({ seed: 11, latencyMs: 100, loss: 0.2 }), 200),
    "20 s, loses 5 %": (estimation: RoundTripEstimation): Outcome =>
      overLink(estimation, new VirtualLink({ seed: 11, latencyMs: 10_000, loss: 0.05 }), 200),
    "60 clients, 10 datagrams/s": (estimation: RoundTripEstimation): Outcome =>
      throughBottleneck(estimation, 60, 20, 100),
  };
  const run = (name: keyof typeof ways) => {
    const [none, cocoa, fasor] = [ways[name]("none"), ways[name]("cocoa"), ways[name]("fasor")];
    t.log(name, JSON.stringify({ none, cocoa, fasor }));
    return { none, cocoa, fasor };
  };
  const lossy = run("0.2 s, loses 20 %");
  t.true(3 * lossy.fasor.seconds < lossy.none.seconds && lossy.fasor.seconds < lossy.cocoa.seconds);
  const far = run("20 s, loses 5 %");
  t.true(far.none.needless > 400, "each is sent again before its answer can have come");
  t.true(far.cocoa.needless < 40 && far.fasor.needless < 40);
  const narrow = run("60 clients, 10 datagrams/s");
  t.true(3 * narrow.fasor.seconds < narrow.none.seconds && narrow.fasor.seconds < narrow.cocoa.seconds);
  t.true(1.5 * narrow.fasor.needless < narrow.cocoa.needless && 5 * narrow.cocoa.needless < narrow.none.needless);
});

test("RFC 7252 §4.8.1: parameters that synchronize or make no sense are refused", (t) => {
  const made = (parameters: Record<string, unknown>): string => {
    try {
      new Endpoint({ random: (size) => new Uint8Array(size), parameters });
      return "made";
    } catch (error) {
      return error instanceof CoapError ? error.code : String(error);
    }
  };
  t.is(made({ ackRandomFactor: 1 }), "made");
  for (const bad of [
    { ackRandomFactor: 0.9 },
    { ackTimeoutMs: 0 },
    { nstart: 0 },
    { maxRetransmit: -1 },
    { roundTripEstimation: "reno" },
  ])
    t.is(made(bad), "COAP_INVALID_MESSAGE", JSON.stringify(bad));
});
