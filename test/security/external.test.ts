import { CODE, OPTION, Options } from "#coap/index.js";
import { encodeCbor } from "#cbor/index.js";
import { BINDING_OPTION, IDENTITY_FORM_NUMBER, type IdentityForm } from "#dpe/index.js";
import {
  type AssociationFacts,
  authErrorOf,
  type ClientAuthentication,
  decodeSubscriberIdentity,
  encodeSubscriberIdentity,
  type ExternalIdentities,
  formatSubscriberIdentity,
  parseSubscriberIdentity,
  SecurityError,
  ServerGuard,
  type Subscriber,
  subscriberIdentity,
  Subscribers,
} from "#security/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import test from "ava";
import fc from "fast-check";

const ALICE: Subscriber = { name: "alice", identities: [parseSubscriberIdentity("imsi:001010123456789")] };
const PROXY: Subscriber = { name: "proxy", certificateNames: ["proxy.example"] };
const IDENTITY = subscriberIdentity("imsi", "001010123456789");

/** 192.0.2.7 is alice by RADIUS; 192.0.2.9 is a proxy. */
const EXTERNAL: ExternalIdentities = {
  ofAddress: (address) =>
    address === "192.0.2.7"
      ? IDENTITY
      : address === "192.0.2.8"
        ? subscriberIdentity("msisdn", "49151000000")
        : undefined,
  mayInsert: ({ address }) => address === "192.0.2.9",
};

function judge(
  from: string,
  inserted?: Uint8Array,
  clientAuthentication: readonly ClientAuthentication[] = ["external"],
  facts: Partial<AssociationFacts> = {},
) {
  const random = new SeededRandom(1);
  const guard = new ServerGuard(
    "dpe1",
    { connection: "none", clientAuthentication },
    { subscribers: new Subscribers([ALICE, PROXY]), external: EXTERNAL, random: (size) => random.bytes(size) },
  );
  let options = Options.none.withAll(OPTION.UriPath, ["dpe1", "reg"]);
  if (inserted !== undefined) options = options.with(BINDING_OPTION.SubscriberIdentity, inserted);
  const message = { code: CODE.POST, options, payload: new Uint8Array(0) };
  const judgement = guard.judge(message, { connection: "none", address: from, ...facts }, 0);
  return judgement.type === "accept"
    ? `${judgement.mode}: ${judgement.subscriber?.name ?? "nobody"}`
    : (authErrorOf(judgement.response) ?? `${judgement.response.code}`);
}

test("R06 R14 the subscriber is who the network says is at the address", (t) => {
  t.is(judge("192.0.2.7"), "external: alice");
  t.is(judge("192.0.2.8"), "not-authorized", "known to the network, but no subscriber");
  t.is(judge("192.0.2.10"), "credentials-required");
  t.is(judge("192.0.2.7", undefined, ["none"]), "none: nobody", "an identity nobody asked for changes nothing");
});

test("R14 an identity is taken from a proxy that may insert, from others refused whatever the policy", (t) => {
  const inserted = encodeSubscriberIdentity(IDENTITY);
  t.is(judge("192.0.2.9", inserted), "external: alice");
  t.is(judge("192.0.2.10", inserted), "untrusted-identity");
  t.is(judge("192.0.2.7", inserted), "untrusted-identity", "even where the network says the same");
  t.is(judge("192.0.2.10", inserted, ["none"]), "untrusted-identity");
  t.is(judge("192.0.2.9", encodeSubscriberIdentity(subscriberIdentity("opaque", "who"))), "not-authorized");
});

test("what a proxy's own connection proves never authenticates a client behind it", (t) => {
  const facts: Partial<AssociationFacts> = {
    connection: "dtls",
    certificate: PROXY,
    psk: PROXY,
    rawPublicKey: PROXY,
    digestSubscriber: PROXY,
  };
  const modes = ["certificate", "psk", "rawPublicKey", "external"] as const;
  t.is(judge("192.0.2.9", undefined, modes, facts), "credentials-required");
  t.is(judge("192.0.2.9", encodeSubscriberIdentity(IDENTITY), modes, facts), "external: alice");
  t.is(judge("192.0.2.10", undefined, modes, facts), "certificate: proxy");
});

test("identities are compared in one canonical form, and each form is checked", (t) => {
  const canonical = (text: string): string => formatSubscriberIdentity(parseSubscriberIdentity(text));
  t.is(canonical("msisdn:+4915112345"), "msisdn:4915112345");
  t.is(canonical("ip:2001:0DB8::0:1"), "ip:2001:db8::1");
  t.is(canonical("ip:::ffff:192.0.2.1"), "ip:192.0.2.1");
  t.is(canonical("nai:Alice@Example.NET"), "nai:Alice@example.net");
  t.is(canonical("opaque:a:b c"), "opaque:a:b c");
  for (const text of [
    "",
    "imsi",
    "imei:1",
    "imsi:12345",
    "imsi:12345678901234567",
    "imsi:00101012345678x",
    "msisdn:++491511234",
    "ip:fe80::1%eth0",
    "ip:192.0.2.256",
    "nai:a@b@c",
    "nai:@",
    "nai:",
    "nai:a@.b",
    "opaque:",
    "opaque:\n",
    `opaque:${"x".repeat(129)}`,
    "toString:x",
  ])
    t.is(
      t.throws(() => parseSubscriberIdentity(text), { instanceOf: SecurityError }, text).code,
      "SECURITY_BAD_IDENTITY",
    );
});

test("Subscriber-Identity keeps what it says, and a malformed one is 4.00, never an exception or an acceptance", (t) => {
  const forms = Object.keys(IDENTITY_FORM_NUMBER) as IdentityForm[];
  const sample: Record<IdentityForm, string> = {
    msisdn: "49151",
    imsi: "001010123456789",
    nai: "a@b",
    ip: "::1",
    opaque: "ü",
  };
  for (const form of forms) {
    const identity = subscriberIdentity(form, sample[form]);
    t.deepEqual(decodeSubscriberIdentity(encodeSubscriberIdentity(identity)), identity);
  }
  const malformed = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 40 }),
    fc.tuple(fc.anything(), fc.anything()).map(([form, value]) => encodable([form, value])),
    fc.tuple(fc.constantFrom(1, 2, 3, 4, 5), fc.anything()).map(([form, value]) => encodable([form, value])),
    fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 5 }).map((list) => encodable(list)),
  );
  fc.assert(
    fc.property(malformed, (option) => {
      let decoded;
      try {
        decoded = decodeSubscriberIdentity(option);
      } catch (error) {
        t.is((error as SecurityError).code, "SECURITY_BAD_OPTION");
        t.is(judge("192.0.2.9", option), String(CODE.BadRequest));
        return;
      }
      t.deepEqual(subscriberIdentity(decoded.form, decoded.value), decoded);
      t.is(judge("192.0.2.9", option), "not-authorized");
    }),
    { numRuns: 500 },
  );
});

/** As CBOR where it can be; what cannot travel stands for nothing. */
function encodable(value: unknown): Uint8Array {
  try {
    return encodeCbor(value);
  } catch {
    return Uint8Array.of(0xf7);
  }
}
