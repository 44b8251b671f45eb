import test from "ava";
import { CIPHER_SUITES, type CipherSuiteName, type ClientOptions, type ServerOptions } from "#dtls/index.js";
import { type LinkConditions, VirtualLink } from "#testing/virtual-link.js";
import { credential } from "./fixtures.js";
import { makePair, type Pair, PSK } from "./pair.js";

const SUITES = Object.keys(CIPHER_SUITES) as CipherSuiteName[];
const SEEDS = [1, 2, 3, 4, 5];
const ROUGH: Partial<LinkConditions> = { loss: 0.3, reordering: 0.3, duplication: 0.2, mtu: 256 };
/** Long enough for every seed, with timers that double less far. */
const PATIENT = { mtuBytes: 256, maxRetransmissions: 60, maxRetransmitMs: 8000, handshakeTimeoutMs: 500_000 };

function usesPsk(suite: CipherSuiteName): boolean {
  return suite.includes("PSK");
}

function optionsFor(suite: CipherSuiteName): { client: ClientOptions; server: ServerOptions } {
  const server: ServerOptions = usesPsk(suite)
    ? { pskEnabled: true, pskIdentityHint: Uint8Array.of(104) }
    : { certificate: credential(suite.includes("RSA") ? "rsa" : "p256") };
  const client: ClientOptions = usesPsk(suite) ? { psk: PSK } : {};
  return { client: { cipherSuites: [suite], ...client }, server: { cipherSuites: [suite], ...server } };
}

function connect(pair: Pair, link: VirtualLink): boolean {
  return link.run(pair.client, pair.server, () => pair.client.connected === 1 && pair.server.connected === 1);
}

/** Sends `count` messages each way, one at a time, and says whether all that arrived is right. */
function exchange(pair: Pair, link: VirtualLink, count: number): boolean {
  for (let i = 0; i < count; i++) {
    pair.client.association?.send(message("to server", i));
    pair.server.association?.send(message("to client", i));
  }
  link.run(pair.client, pair.server, () => false, 60_000);
  const expected = (text: string): Set<string> =>
    new Set(Array.from({ length: count }, (_, i) => hex(message(text, i))));
  const isRight = (received: readonly Uint8Array[], text: string): boolean => {
    const allowed = expected(text);
    const got = received.map(hex);
    return new Set(got).size === got.length && got.every((item) => allowed.has(item));
  };
  return isRight(pair.server.received, "to server") && isRight(pair.client.received, "to client");
}

function message(text: string, index: number): Uint8Array {
  return Uint8Array.from(Buffer.from(`${text} ${String(index)}`));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

for (const suite of SUITES) {
  test(`${suite} connects over a perfect link in two round trips, and carries data both ways`, (t) => {
    const link = new VirtualLink({ seed: 1 });
    const pair = makePair(optionsFor(suite));
    t.true(connect(pair, link));
    t.is(pair.client.association?.peer?.suite, suite);
    t.true(pair.server.association?.peer?.extendedMasterSecret);
    t.true(link.now <= 60);
    t.true(exchange(pair, link, 20));
    t.is(pair.server.received.length, 20);
    t.is(pair.client.received.length, 20);
    t.is(pair.client.association?.counters.retransmissions, 0);
  });

  test(`${suite} connects under loss, reordering, duplication and an MTU of 256, and carries data`, (t) => {
    for (const seed of SEEDS) {
      const link = new VirtualLink({ seed, ...ROUGH });
      const { client, server } = optionsFor(suite);
      const pair = makePair({ seed, client: { ...client, ...PATIENT }, server: { ...server, ...PATIENT } });
      t.true(connect(pair, link), `seed ${String(seed)}`);
      t.true(exchange(pair, link, 20), `seed ${String(seed)}`);
      t.true(pair.server.received.length > 0 && pair.client.received.length > 0, `seed ${String(seed)}`);
      t.is(link.counts.oversized, 0);
    }
  });
}

const GROUPS = ["secp256r1", "x25519", "secp384r1"] as const;

for (const group of GROUPS) {
  test(`each ECDHE suite connects by ${group} under loss, reordering, duplication and an MTU of 256`, (t) => {
    for (const suite of SUITES.filter((name) => name.includes("ECDHE"))) {
      const seed = 6;
      const link = new VirtualLink({ seed, ...ROUGH });
      const { client, server } = optionsFor(suite);
      const pair = makePair({
        seed,
        // The curve of the certificate's key has to be among the client's as well (RFC 8422 §5.1.1).
        client: { ...client, ...PATIENT, groups: GROUPS },
        server: { ...server, ...PATIENT, groups: [group] },
      });
      t.true(connect(pair, link), `${suite}, seed ${String(seed)}`);
      t.is(pair.client.association?.peer?.suite, suite);
    }
  });
}

for (const name of ["p256", "p384", "rsa", "ed25519"] as const) {
  test(`mutual certificates of kind ${name} connect under loss, reordering, duplication and an MTU of 256`, (t) => {
    for (const seed of SEEDS) {
      const link = new VirtualLink({ seed, ...ROUGH });
      const pair = makePair({
        seed,
        client: { certificate: credential(name), ...PATIENT },
        server: { certificate: credential(name), clientCertificate: "require", ...PATIENT },
      });
      t.true(
        connect(pair, link),
        `seed ${String(seed)}: ${String(pair.client.closed?.error ?? pair.server.closed?.error)}`,
      );
      t.deepEqual(pair.server.association?.peer?.certificates, credential(name).chain);
      t.deepEqual(pair.client.association?.peer?.certificates, credential(name).chain);
      t.true(exchange(pair, link, 10), `seed ${String(seed)}`);
    }
  });
}

test("on a link that flips bits, wrong data are never delivered", (t) => {
  let connected = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const suite = SUITES[seed % SUITES.length] ?? "TLS_PSK_WITH_AES_128_CCM_8";
    const link = new VirtualLink({ seed, corruption: 0.2, duplication: 0.1 });
    const pair = makePair({ seed, ...optionsFor(suite) });
    if (!connect(pair, link)) continue;
    connected++;
    t.true(exchange(pair, link, 50), `seed ${String(seed)}`);
  }
  t.true(connected > 10);
});
