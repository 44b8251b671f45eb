import test from "ava";
import coapPacket, { type ParsedPacket } from "coap-packet";
import { CoapError, decodeMessage, type Message, MESSAGE_TYPE } from "#coap/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import { COAP_SEEDS } from "./coap-targets.js";
import { mutate, type Mutation } from "./mutation.js";

/*
 * Our codec against the npm package coap-packet: the same messages taken, with the same fields. What it takes and we do not
 * has to be one of LAXITIES, which are judged here from the bytes alone; what we take has none of them.
 */
const runs = Number(process.env["DPE_DIFFERENTIAL_RUNS"] ?? "20000");

/** What coap-packet takes and RFC 7252 forbids. */
const LAXITIES: readonly { readonly what: string; readonly holds: (bytes: Uint8Array) => boolean }[] = [
  {
    what: "§3: token lengths 9 to 15 are a message format error (coap-packet takes those of RFC 8974)",
    holds: (bytes) => tokenLength(bytes) > 8,
  },
  { what: "§3: the token is longer than the message", holds: (bytes) => bytes.length < 4 + tokenLength(bytes) },
  { what: "§3: an option's value ends after the message", holds: (bytes) => walk(bytes).isCut },
  { what: "§3: a payload marker without a payload", holds: (bytes) => walk(bytes).hasBareMarker },
  { what: "§12.2: an option number is at most 65535", holds: (bytes) => walk(bytes).highest > 0xffff },
  { what: "§4.3, table 1: an Empty message is never Non-confirmable", holds: (b) => b[1] === 0 && typeOf(b) === 1 },
  { what: "§4.2: a Reset is always Empty", holds: (bytes) => typeOf(bytes) === 3 && bytes[1] !== 0 },
  {
    what: "§4.2, table 1: an Acknowledgement carries no request",
    holds: (bytes) => typeOf(bytes) === 2 && classOf(bytes) === 0 && bytes[1] !== 0,
  },
  { what: "§3: the code classes 1, 6 and 7 are reserved", holds: (bytes) => [1, 6, 7].includes(classOf(bytes)) },
  {
    what: "§3: a code of class 3 has no meaning yet, so none of the response classes",
    holds: (bytes) => classOf(bytes) === 3,
  },
];

const typeOf = (bytes: Uint8Array): number => ((bytes[0] ?? 0) >> 4) & 3;
const classOf = (bytes: Uint8Array): number => (bytes[1] ?? 0) >> 5;
const tokenLength = (bytes: Uint8Array): number => (bytes[0] ?? 0) & 15;

/** The options, read by the text of §3.1 alone. */
function walk(bytes: Uint8Array): { isCut: boolean; hasBareMarker: boolean; highest: number } {
  const extended = (nibble: number): number => {
    if (nibble === 13) return 13 + (bytes[at++] ?? 0);
    if (nibble !== 14) return nibble;
    at += 2;
    return 269 + ((bytes[at - 2] ?? 0) << 8) + (bytes[at - 1] ?? 0);
  };
  let number = 0;
  let at = 4 + tokenLength(bytes);
  if (at > bytes.length) return { isCut: false, hasBareMarker: false, highest: 0 };
  while (at < bytes.length) {
    const head = bytes[at++] ?? 0;
    if (head === 0xff) return { isCut: false, hasBareMarker: at === bytes.length, highest: number };
    number += extended(head >> 4);
    const valueLength = extended(head & 15);
    at += valueLength;
  }
  return { isCut: at > bytes.length, hasBareMarker: false, highest: number };
}

/** The registry by coap-packet's names. */
const NUMBERS: Readonly<Record<string, number>> = {
  "If-Match": 1,
  "Uri-Host": 3,
  ETag: 4,
  "If-None-Match": 5,
  Observe: 6,
  "Uri-Port": 7,
  "Location-Path": 8,
  OSCORE: 9,
  "Uri-Path": 11,
  "Content-Format": 12,
  "Max-Age": 14,
  "Uri-Query": 15,
  "Hop-Limit": 16,
  Accept: 17,
  "Q-Block1": 19,
  "Location-Query": 20,
  Block2: 23,
  Block1: 27,
  Size2: 28,
  "Q-Block2": 31,
  "Proxy-Uri": 35,
  "Proxy-Scheme": 39,
  Size1: 60,
  "No-Response": 258,
  "OCF-Accept-Content-Format-Version": 2049,
  "OCF-Content-Format-Version": 2053,
};

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function ours(bytes: Uint8Array): string | undefined {
  let message: Message;
  try {
    message = decodeMessage(bytes);
  } catch (error) {
    if (error instanceof CoapError && error.code === "COAP_FORMAT_ERROR") return undefined;
    throw error;
  }
  const { type, code, messageId, token, options, payload } = message;
  const list = [...options].map(({ number, value }) => `${number}=${hex(value)}`);
  return [type, code, messageId, hex(token), list.join(","), hex(payload)].join(" ");
}

function theirs(bytes: Uint8Array): string | undefined {
  let packet: ParsedPacket;
  try {
    packet = coapPacket.parse(Buffer.from(bytes));
  } catch {
    return undefined;
  }
  const { Confirmable, NonConfirmable, Acknowledgement, Reset } = MESSAGE_TYPE;
  const type = packet.confirmable ? Confirmable : packet.ack ? Acknowledgement : packet.reset ? Reset : NonConfirmable;
  const [codeClass = 0, detail = 0] = packet.code.split(".").map(Number);
  const list = packet.options.map(({ name, value }) => `${NUMBERS[name] ?? Number(name)}=${hex(value)}`);
  const fields = [type, codeClass * 32 + detail, packet.messageId, hex(packet.token), list.join(",")];
  return [...fields, hex(packet.payload)].join(" ");
}

/** Undefined when both agree, or the difference is explained. */
function differenceOf(bytes: Uint8Array): string | undefined {
  const [own, other] = [ours(bytes), theirs(bytes)];
  const laxity = LAXITIES.find(({ holds }) => holds(bytes));
  if (own === undefined && other === undefined) return undefined;
  if (own === undefined) return laxity === undefined ? `${hex(bytes)}: only coap-packet takes it` : undefined;
  if (laxity !== undefined) return `${hex(bytes)}: taken against ${laxity.what}`;
  return own === other ? undefined : `${hex(bytes)}: ours ${own}, theirs ${other}`;
}

const OPS = ["flip", "set", "cut", "truncate", "insert", "repeat", "extreme"] as const satisfies Mutation["op"][];

function messageBy(random: SeededRandom): Uint8Array {
  if (random.chance(0.2)) return random.bytes(random.below(40));
  if (random.chance(0.25)) {
    // Random after a header that is right.
    return Uint8Array.of(0x40 | (random.below(4) << 4) | random.below(9), ...random.bytes(3 + random.below(60)));
  }
  const plan = Array.from({ length: random.below(4) }, (): Mutation => {
    const op = OPS[random.below(OPS.length)] ?? "flip";
    return { op, at: random.below(0x10000), value: random.below(256), count: 1 + random.below(20) };
  });
  return mutate(COAP_SEEDS[random.below(COAP_SEEDS.length)] ?? new Uint8Array(0), plan);
}

test("our codec and coap-packet take the same messages with the same fields, but for what RFC 7252 forbids", (t) => {
  t.timeout(600_000);
  const seed = Number(process.env["DPE_FUZZ_SEED"] ?? "1");
  const random = new SeededRandom(seed);
  const counts = { taken: 0, refused: 0 };
  const differences: string[] = [];
  for (let run = 0; run < runs && differences.length < 10; run++) {
    const bytes = messageBy(random);
    const difference = differenceOf(bytes);
    if (difference !== undefined) differences.push(difference);
    if (ours(bytes) === undefined) counts.refused++;
    else counts.taken++;
  }
  t.deepEqual(differences, []);
  t.true(counts.taken > runs / 10 && counts.refused > runs / 10);
  if (runs > 100_000) t.log(`${runs} messages, seed ${seed}: ${counts.taken} taken, ${counts.refused} refused by us`);
});

/** A message for each of LAXITIES, in their order. */
const PINNED: readonly string[] = [
  "49010001010203040506070809",
  "48010001010203",
  "40010001bb6465",
  "40010001ff",
  "40010001e0ffffe0ffff",
  "50000001",
  "70450001",
  "60010001",
  "40e10001",
  "40610001",
];

test("what coap-packet takes against RFC 7252 is refused here, each kind by itself", (t) => {
  t.is(PINNED.length, LAXITIES.length);
  for (const [index, { what, holds }] of LAXITIES.entries()) {
    const bytes = Uint8Array.from(Buffer.from(PINNED[index] ?? "", "hex"));
    t.true(holds(bytes), what);
    t.is(LAXITIES.filter((laxity) => laxity.holds(bytes)).length, 1, what);
    t.not(theirs(bytes), undefined, what);
    t.is(ours(bytes), undefined, what);
  }
});
