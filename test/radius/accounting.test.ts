import { createHash, createHmac, randomBytes } from "node:crypto";
import { formatIpAddress, formatIpPrefix, isInPrefix, parseIpAddress, parseIpPrefix } from "#ip/index.js";
import {
  type AccountingEvent,
  type AccountingOptions,
  AccountingServer,
  decodePacket,
  RadiusError,
  type RadiusSource,
} from "#radius/index.js";
import test, { type ExecutionContext } from "ava";
import fc from "fast-check";

const SECRET = new TextEncoder().encode("xyzzy5461");
const NAS: RadiusSource = { address: "192.0.2.1", port: 1813 };
const TYPE = { start: 1, stop: 2, interim: 3, on: 7, off: 8 } as const;

type Value = string | number | Uint8Array;
const USER = 1;
const NAS_ADDRESS = 4;
const FRAMED = 8;
const CLASS = 25;
const NAS_IDENTIFIER = 32;
const PROXY_STATE = 33;
const DELAY = 41;
const SESSION = 44;
const INTERFACE_ID = 96;
const IPV6_PREFIX = 97;
const DELEGATED = 123;
const IPV6_ADDRESS = 168;

/** The library's encoder is not used: these are the bytes as RFC 2865 §5 and RFC 2866 §3 have them. */
function attribute(type: number, value: Value): Uint8Array {
  const bytes =
    typeof value === "string"
      ? new TextEncoder().encode(value)
      : typeof value === "number"
        ? Uint8Array.of(value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255)
        : value;
  return Uint8Array.of(type, bytes.length + 2, ...bytes);
}

let identifier = 0;
function accountingRequest(
  attributes: readonly (readonly [number, Value])[],
  options: { readonly secret?: Uint8Array; readonly code?: number; readonly sign?: boolean } = {},
): Uint8Array {
  const { secret = SECRET, code = 4, sign = false } = options;
  const body = Buffer.concat(attributes.map(([type, value]) => attribute(type, value)));
  const signature = sign ? attribute(80, new Uint8Array(16)) : new Uint8Array(0);
  const length = 20 + body.length + signature.length;
  identifier = (identifier + 1) % 256;
  const packet = Buffer.concat([
    Uint8Array.of(code, identifier, length >> 8, length & 255),
    new Uint8Array(16),
    body,
    signature,
  ]);
  if (sign) packet.set(createHmac("md5", secret).update(packet).digest(), length - 16);
  packet.set(createHash("md5").update(packet).update(secret).digest(), 4);
  return packet;
}

function prefixValue(text: string): Uint8Array {
  const prefix = parseIpPrefix(text)!;
  return Uint8Array.of(0, prefix.length, ...prefix.bytes.subarray(0, Math.ceil(prefix.length / 8)));
}

const at = (text: string): Uint8Array => parseIpAddress(text)!;

class Fixture {
  now = 1_000_000;
  readonly server: AccountingServer<string>;

  constructor(options: Partial<AccountingOptions<string>> = {}) {
    this.server = new AccountingServer({
      clients: [
        { address: parseIpPrefix("192.0.2.0/24")!, secret: SECRET },
        { address: parseIpPrefix("192.0.2.99")!, secret: new TextEncoder().encode("another") },
      ],
      identity: "User-Name",
      identify: (value) => (value.startsWith("no-") ? undefined : value),
      ...options,
    });
  }

  send(bytes: Uint8Array, from: RadiusSource = NAS): Uint8Array | undefined {
    return this.server.handleDatagram(bytes, from, this.now);
  }

  tell(
    status: keyof typeof TYPE,
    session: string,
    attributes: readonly (readonly [number, Value])[] = [],
    from: RadiusSource = NAS,
  ): AccountingEvent | undefined {
    const bytes = accountingRequest([
      [40, TYPE[status]],
      ...(session === "" ? [] : [[SESSION, session] as const]),
      ...attributes,
    ]);
    const answer = this.send(bytes, from);
    if (answer === undefined) return undefined;
    let last: AccountingEvent | undefined;
    for (let event = this.server.poll(); event !== undefined; event = this.server.poll()) last = event;
    return last;
  }

  at(address: string): string | undefined {
    return this.server.identityOf(address, this.now);
  }
}

const alice = [
  [USER, "alice"],
  [FRAMED, at("10.0.0.1")],
] as const;
const bob = [
  [USER, "bob"],
  [FRAMED, at("10.0.0.1")],
] as const;

test("addresses and prefixes are read, written in one form, and compared", (t) => {
  for (const [text, canonical] of [
    ["192.0.2.1", "192.0.2.1"],
    ["2001:DB8:0:0::1", "2001:db8::1"],
    ["::", "::"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8::192.0.2.1", "2001:db8::c000:201"],
    ["1::", "1::"],
  ] as const) {
    t.is(formatIpAddress(parseIpAddress(text)!), canonical);
  }
  for (const wrong of [
    "",
    "1.2.3",
    "1.2.3.4/33",
    "2001:db8::1/32",
    "fe80::1%eth0",
    "10.0.0.1/8",
    "x/8",
    "::/129",
    "1.2.3.4/",
  ])
    t.is(parseIpPrefix(wrong), undefined, wrong);
  t.is(formatIpPrefix(parseIpPrefix("2001:db8::/32")!), "2001:db8::/32");
  t.true(isInPrefix(at("10.1.2.3"), parseIpPrefix("10.0.0.0/8")!));
  t.true(isInPrefix(at("10.127.0.0"), parseIpPrefix("10.0.0.0/9")!));
  t.false(isInPrefix(at("10.128.0.0"), parseIpPrefix("10.0.0.0/9")!));
  t.false(isInPrefix(at("2001:db8::1"), parseIpPrefix("0.0.0.0/0")!));
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
      const address = formatIpAddress(bytes);
      t.is(formatIpAddress(parseIpAddress(address)!), address);
    }),
  );
});

test("an answer carries the Response Authenticator of RFC 2866 §3 and the Proxy-State of its request", (t) => {
  const fixture = new Fixture();
  const request = accountingRequest([[40, 1], [SESSION, "A1"], [PROXY_STATE, "one"], ...alice, [PROXY_STATE, "two"]]);
  const answer = fixture.send(request)!;
  t.is(answer[0], 5);
  t.is(answer[1], request[1]);
  t.deepEqual(
    decodePacket(answer).attributes.map(({ value }) => Buffer.from(value).toString()),
    ["one", "two"],
  );
  const expected = createHash("md5")
    .update(answer.subarray(0, 4))
    .update(request.subarray(4, 20))
    .update(answer.subarray(20))
    .update(SECRET)
    .digest();
  t.deepEqual(Buffer.from(answer.subarray(4, 20)), expected);
});

test("R06 an address is its session's user from Start to Stop", (t) => {
  const fixture = new Fixture();
  t.is(fixture.at("10.0.0.1"), undefined);
  t.like(fixture.tell("start", "A1", alice), {
    type: "accounting",
    outcome: { type: "open" },
    addresses: ["10.0.0.1"],
  });
  t.is(fixture.at("10.0.0.1"), "alice");
  t.is(fixture.at("::ffff:10.0.0.1"), "alice");
  t.is(fixture.at("10.0.0.2"), undefined);
  fixture.now += 1000;
  t.like(fixture.tell("stop", "A1"), { outcome: { type: "ended", sessions: 1 } });
  t.is(fixture.at("10.0.0.1"), undefined);
  t.is(fixture.server.openSessions, 0);
});

test("what is not authentic is met by silence, counted, and told once a second", (t) => {
  const fixture = new Fixture();
  const start = [[40, 1], [SESSION, "A1"], ...alice] as const;
  const signed = accountingRequest(start, { sign: true });
  const forged = Uint8Array.from(signed);
  forged[forged.length - 1]! ^= 1;
  // The Request Authenticator is made to fit, so that only the Message-Authenticator is wrong.
  forged.fill(0, 4, 20);
  forged.set(createHash("md5").update(forged).update(SECRET).digest(), 4);
  const tampered = accountingRequest(start);
  tampered[tampered.length - 1]! ^= 1;
  const silent: readonly [Uint8Array, RadiusSource, string][] = [
    [accountingRequest(start, { secret: new Uint8Array([1]) }), NAS, "bad-authenticator"],
    [tampered, NAS, "bad-authenticator"],
    [forged, NAS, "bad-authenticator"],
    [accountingRequest(start), { address: "198.51.100.1", port: 1 }, "unknown-client"],
    // A secret of its own for one source within the prefix.
    [accountingRequest(start), { address: "192.0.2.99", port: 1 }, "bad-authenticator"],
    [accountingRequest(start, { code: 1 }), NAS, "unexpected-code"],
    [accountingRequest([[SESSION, "A1"]]), NAS, "malformed"],
    [accountingRequest([[40, 1]]), NAS, "malformed"],
    [
      accountingRequest([
        [40, 1],
        [SESSION, "A1"],
        [FRAMED, "three"],
      ]),
      NAS,
      "malformed",
    ],
    [accountingRequest(start).subarray(0, 30), NAS, "malformed"],
  ];
  const before = { ...fixture.server.counters };
  for (const [bytes, from, reason] of silent) {
    t.is(fixture.send(bytes, from), undefined, reason);
    before[reason as keyof typeof before]++;
    t.deepEqual({ ...fixture.server.counters }, before);
  }
  const told: string[] = [];
  for (let event = fixture.server.poll(); event !== undefined; event = fixture.server.poll())
    told.push(event.type === "silent" ? event.reason : event.type);
  t.deepEqual(told.toSorted(), ["bad-authenticator", "malformed", "unexpected-code", "unknown-client"]);
  t.is(fixture.at("10.0.0.1"), undefined);
  t.truthy(fixture.send(signed), "a right Message-Authenticator is taken");
  t.truthy(
    fixture.send(Buffer.concat([accountingRequest([[40, 3], [SESSION, "A1"], ...alice]), Buffer.from("padding")])),
  );
  t.is(fixture.at("10.0.0.1"), "alice");
});

test("a repeat is answered by the same bytes and changes nothing, however often it comes", (t) => {
  const fixture = new Fixture();
  const request = accountingRequest([[40, 1], [SESSION, "A1"], ...alice]);
  const answer = fixture.send(request)!;
  t.is(fixture.send(request), answer);
  t.is(fixture.server.counters.duplicates, 1);
  t.is(fixture.server.counters.accepted, 1);
  // Sent anew by the NAS with another Acct-Delay-Time: the same event.
  fixture.now += 5000;
  fixture.tell("stop", "A1");
  for (const delay of [6, 7])
    t.like(fixture.tell("start", "A1", [...alice, [DELAY, delay]]), { outcome: { type: "ignored" } });
  t.is(fixture.at("10.0.0.1"), undefined);
});

test("records that come late or out of order change nothing", (t) => {
  const fixture = new Fixture();
  fixture.tell("start", "A1", alice);
  fixture.now += 60_000;
  // The address went to bob, while the Stop of alice's session is still on its way.
  fixture.tell("start", "B1", bob);
  t.is(fixture.at("10.0.0.1"), "bob");
  fixture.now += 10_000;
  fixture.tell("stop", "A1", [[DELAY, 20]]);
  t.is(fixture.at("10.0.0.1"), "bob");
  // A Start older than bob's does not take the address from him.
  fixture.tell("start", "C1", [
    [USER, "carol"],
    [FRAMED, at("10.0.0.1")],
    [DELAY, 30],
  ]);
  t.is(fixture.at("10.0.0.1"), "bob");
  // A Stop older than the Start of its session is of an earlier session with the same id.
  t.like(fixture.tell("stop", "B1", [[DELAY, 30]]), { outcome: { type: "ignored", reason: "late" } });
  t.is(fixture.at("10.0.0.1"), "bob");
  // A Stop before its own Start.
  fixture.tell("stop", "D1");
  fixture.tell("start", "D1", [
    [USER, "dave"],
    [FRAMED, at("10.0.0.4")],
    [DELAY, 2],
  ]);
  t.is(fixture.at("10.0.0.4"), undefined);
  fixture.now += 5000;
  fixture.tell("start", "D1", [
    [USER, "dave"],
    [FRAMED, at("10.0.0.4")],
  ]);
  t.is(fixture.at("10.0.0.4"), "dave");
  t.like(fixture.tell("start", "E1", [...alice, [DELAY, 601]]), { outcome: { type: "ignored", reason: "late" } });
});

test("an Interim-Update opens a session that was not known, and never one that was stopped", (t) => {
  const fixture = new Fixture();
  fixture.tell("interim", "A1", alice);
  t.is(fixture.at("10.0.0.1"), "alice");
  fixture.now += 1000;
  fixture.tell("interim", "A1", [[FRAMED, at("10.0.0.7")]]);
  t.is(fixture.at("10.0.0.7"), "alice", "what it does not tell stays");
  t.is(fixture.at("10.0.0.1"), undefined, "the new address is in place of the old one");
  fixture.tell("stop", "A1");
  fixture.now += 60_000;
  t.like(fixture.tell("interim", "A1", alice), { outcome: { type: "ignored", reason: "ended" } });
  t.is(fixture.at("10.0.0.1"), undefined);
});

test("two sessions that both go on with one address leave it without a user, until one of them ends", (t) => {
  const fixture = new Fixture();
  fixture.tell("start", "A1", alice);
  fixture.now += 1000;
  fixture.tell("start", "B1", bob);
  t.is(fixture.at("10.0.0.1"), "bob");
  fixture.now += 1000;
  t.like(fixture.tell("interim", "A1", alice), { outcome: { type: "open", isContested: true } });
  t.is(fixture.at("10.0.0.1"), undefined);
  fixture.tell("interim", "B1", bob);
  t.is(fixture.at("10.0.0.1"), undefined);
  fixture.tell("stop", "A1");
  t.is(fixture.at("10.0.0.1"), "bob");
});

test("Accounting-On and -Off end the sessions of their NAS and of no other", (t) => {
  for (const status of ["on", "off"] as const) {
    const fixture = new Fixture();
    const nas = (address: string) => [NAS_ADDRESS, at(address)] as const;
    fixture.tell("start", "1", [...alice, nas("192.0.2.7"), [NAS_IDENTIFIER, "seven"]]);
    fixture.tell("start", "1", [[USER, "bob"], [FRAMED, at("10.0.0.2")], nas("192.0.2.8")]);
    fixture.tell(
      "start",
      "1",
      [
        [USER, "eve"],
        [FRAMED, at("10.0.0.3")],
      ],
      { address: "192.0.2.99", port: 1 },
    );
    fixture.now += 1000;
    t.like(fixture.tell(status, "", [nas("192.0.2.7")]), { outcome: { type: "ended", sessions: 1 } });
    t.is(fixture.at("10.0.0.1"), undefined);
    t.is(fixture.at("10.0.0.2"), "bob");
    // What the NAS had sent before it went down.
    fixture.tell("start", "2", [...alice, nas("192.0.2.7"), [DELAY, 10]]);
    t.is(fixture.at("10.0.0.1"), undefined);
    fixture.now += 1000;
    fixture.tell("start", "1", [...alice, nas("192.0.2.7")]);
    t.is(fixture.at("10.0.0.1"), "alice");
  }
});

test("a session without Interim-Updates expires, and is known again with the next one", (t) => {
  const fixture = new Fixture({ limits: { sessionTimeoutMs: 60_000 } });
  fixture.tell("start", "A1", alice);
  fixture.now += 59_999;
  t.is(fixture.at("10.0.0.1"), "alice");
  fixture.now += 1;
  t.is(fixture.at("10.0.0.1"), undefined);
  fixture.server.sweep(fixture.now);
  t.is(fixture.server.openSessions, 0);
  fixture.tell("interim", "A1", alice);
  t.is(fixture.at("10.0.0.1"), "alice");
});

test("IPv6: a prefix, a prefix with interface identifier, an address, a delegated prefix; the longest match decides", (t) => {
  const fixture = new Fixture();
  const id = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 5);
  fixture.tell("start", "A", [
    [USER, "alice"],
    [IPV6_PREFIX, prefixValue("2001:db8:1::/64")],
  ]);
  fixture.tell("start", "B", [
    [USER, "bob"],
    [IPV6_PREFIX, prefixValue("2001:db8:2::/64")],
    [INTERFACE_ID, id],
  ]);
  fixture.tell("start", "C", [
    [USER, "carol"],
    [IPV6_ADDRESS, at("2001:db8:1::77")],
    [FRAMED, at("10.0.0.9")],
  ]);
  fixture.tell("start", "D", [
    [USER, "dave"],
    [DELEGATED, prefixValue("2001:db8:100::/48")],
  ]);
  t.is(fixture.at("2001:db8:1::1"), "alice");
  t.is(fixture.at("2001:db8:1:0:ffff::1"), "alice");
  t.is(fixture.at("2001:db8:2::5"), "bob");
  t.is(fixture.at("2001:db8:2::6"), undefined);
  t.is(fixture.at("2001:db8:1::77"), "carol");
  t.is(fixture.at("10.0.0.9"), "carol");
  t.is(fixture.at("2001:db8:100:abcd::1"), "dave");
  // An update of one family leaves the other as it is.
  fixture.now += 1;
  fixture.tell("interim", "C", [[IPV6_ADDRESS, at("2001:db8:1::78")]]);
  t.deepEqual([fixture.at("2001:db8:1::77"), fixture.at("10.0.0.9")], ["alice", "carol"]);
  // Too short to be one user's, and addresses that say that somebody else chooses.
  fixture.tell("start", "E", [
    [USER, "eve"],
    [DELEGATED, prefixValue("2001::/16")],
    [FRAMED, at("255.255.255.254")],
  ]);
  t.is(fixture.at("2001:ffff::1"), undefined);
  t.is(fixture.at("255.255.255.254"), undefined);
  const shared = new Fixture({ interfaceId: "prefix" });
  shared.tell("start", "B", [
    [USER, "bob"],
    [IPV6_PREFIX, prefixValue("2001:db8:2::/64")],
    [INTERFACE_ID, id],
  ]);
  t.is(shared.at("2001:db8:2::6"), "bob");
});

test("the user is identified by the attribute that was chosen, 3GPP's own included; what has the wrong form is nobody", (t) => {
  const vendor = Uint8Array.of(0, 0, 0x28, 0xaf, 1, 17, ...new TextEncoder().encode("262011234567890"));
  const attributes = [
    [CLASS, Uint8Array.of(0xff, 0x01)],
    [26, vendor],
    [31, "4917012345"],
    [89, "cui-1"],
  ] as const;
  for (const [identity, expected] of [
    ["User-Name", "alice"],
    ["Calling-Station-Id", "4917012345"],
    ["Chargeable-User-Identity", "cui-1"],
    ["Class", "ff01"],
    ["3GPP-IMSI", "262011234567890"],
    ["3GPP-IMEISV", undefined],
  ] as const) {
    const fixture = new Fixture({ identity });
    fixture.tell("start", "A", [...alice, ...attributes]);
    t.is(fixture.at("10.0.0.1"), expected, identity);
  }
  const fixture = new Fixture();
  t.like(
    fixture.tell("start", "A", [
      [USER, "no-nai"],
      [FRAMED, at("10.0.0.1")],
    ]),
    { isIdentityUsable: false },
  );
  t.is(fixture.at("10.0.0.1"), undefined);
});

test("all tables are bounded: a Start beyond them is not answered, ended sessions make way without coming back", (t) => {
  const fixture = new Fixture({
    limits: { maxSessions: 2, maxEndedSessions: 1, maxAnswers: 1, maxAddressesPerSession: 1 },
  });
  const user = (n: number) =>
    [
      [USER, `u${n}`],
      [FRAMED, at(`10.0.1.${n}`)],
      [FRAMED, at(`10.0.2.${n}`)],
    ] as const;
  for (const n of [1, 2]) t.truthy(fixture.tell("start", `S${n}`, user(n)));
  t.is(fixture.at("10.0.2.1"), undefined);
  t.is(fixture.tell("start", "S3", user(3)), undefined);
  t.is(fixture.server.counters.full, 1);
  t.is(fixture.at("10.0.1.3"), undefined);
  fixture.now += 2000;
  fixture.tell("stop", "S1");
  fixture.now += 2000;
  fixture.tell("stop", "S2");
  // S1's end is forgotten; its Start, told again, is older than that end.
  fixture.tell("start", "S1", [...user(1), [DELAY, 4]]);
  t.is(fixture.at("10.0.1.1"), undefined);
  fixture.now += 2000;
  t.truthy(fixture.tell("start", "S3", user(3)));
  t.is(fixture.at("10.0.1.3"), "u3");
});

function fails(t: ExecutionContext, bytes: Uint8Array): void {
  try {
    decodePacket(bytes);
  } catch (error) {
    t.true(error instanceof RadiusError);
  }
}

test("random bytes, authentic or not, never throw past the layer", (t) => {
  const fixture = new Fixture();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      fails(t, bytes);
      fixture.send(bytes);
    }),
  );
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 255 }), fc.uint8Array({ maxLength: 40 })), { maxLength: 12 }),
      fc.integer({ min: 0, max: 9 }),
      (attributes, status) => {
        fixture.now += 1000;
        fixture.send(accountingRequest([[40, status], [SESSION, randomBytes(2)], ...attributes]));
        while (fixture.server.poll() !== undefined);
        return true;
      },
    ),
  );
  t.true(fixture.server.counters.accepted > 0);
});
