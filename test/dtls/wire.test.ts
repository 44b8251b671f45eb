import test from "ava";
import fc from "fast-check";
import { decodeServerKeyExchange, encodeServerKeyExchange } from "#dtls/wire/server-key-exchange.js";
import { decodeClientKeyExchange, encodeClientKeyExchange } from "#dtls/wire/client-key-exchange.js";
import { ALERT_DESCRIPTIONS, type AlertDescription, decodeAlert, encodeAlert } from "#dtls/wire/alert.js";
import { decodeCertificate, encodeCertificate } from "#dtls/wire/certificate.js";
import { decodeCertificateRequest, encodeCertificateRequest } from "#dtls/wire/certificate-request.js";
import { decodeCertificateVerify, encodeCertificateVerify } from "#dtls/wire/certificate-verify.js";
import {
  decodeClientHello,
  encodeClientHello,
  RANDOM_AT,
  RANDOM_BYTES,
  readClientHelloParts,
} from "#dtls/wire/client-hello.js";
import { readClientHelloStart } from "#dtls/wire/client-hello-start.js";
import {
  decodeIdList,
  decodePointFormats,
  decodeServerName,
  encodeIdList,
  encodePointFormats,
  encodeServerName,
} from "#dtls/wire/extensions.js";
import { decodeFinished, encodeFinished } from "#dtls/wire/finished.js";
import { decodeHandshakeFragment, encodeHandshakeFragment } from "#dtls/wire/handshake-header.js";
import { decodeHelloVerifyRequest, encodeHelloVerifyRequest } from "#dtls/wire/hello-verify-request.js";
import { decodeRecordHeader, encodeRecordHeader } from "#dtls/wire/record.js";
import { decodeServerHello, encodeServerHello } from "#dtls/wire/server-hello.js";
import { DtlsError } from "#dtls/index.js";

const bytes = (maxLength: number, minLength = 0): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength, maxLength });
const uint16 = fc.integer({ min: 0, max: 0xffff });
const randoms = bytes(32, 32);
const extensions = fc.array(fc.tuple(uint16, bytes(40)), { maxLength: 6 }).map((entries) => new Map(entries));
const suites = fc.array(uint16, { minLength: 1, maxLength: 20 });

const clientHellos = fc.record({
  version: uint16,
  random: randoms,
  sessionId: bytes(32),
  cookie: bytes(255),
  cipherSuites: suites,
  compressionMethods: fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 4 }),
  extensions,
});
const serverHellos = fc.record({
  version: uint16,
  random: randoms,
  sessionId: bytes(32),
  cipherSuite: uint16,
  compressionMethod: fc.integer({ min: 0, max: 255 }),
  extensions,
});
const params = fc.record({ group: uint16, publicKey: bytes(133, 1) });
const signed = fc.record({ scheme: uint16, signature: bytes(100) });

/** Each codec: its values, encoder and decoder. */
const CODECS: readonly {
  readonly name: string;
  readonly roundTrip: fc.IProperty<unknown>;
  decode: (b: Uint8Array) => unknown;
}[] = [
  codec("ClientHello", clientHellos, encodeClientHello, decodeClientHello),
  codec("ServerHello", serverHellos, encodeServerHello, decodeServerHello),
  codec(
    "HelloVerifyRequest",
    fc.record({ version: uint16, cookie: bytes(255) }),
    encodeHelloVerifyRequest,
    decodeHelloVerifyRequest,
  ),
  codec("Certificate", fc.array(bytes(50), { maxLength: 4 }), encodeCertificate, decodeCertificate),
  codec(
    "CertificateRequest",
    fc.record({
      certificateTypes: fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 5 }),
      signatureSchemes: suites,
      certificateAuthorities: fc.array(bytes(40, 1), { maxLength: 3 }),
    }),
    encodeCertificateRequest,
    decodeCertificateRequest,
  ),
  codec("CertificateVerify", signed, encodeCertificateVerify, decodeCertificateVerify),
  codec("Finished", bytes(12, 12), encodeFinished, decodeFinished),
  codec("ServerKeyExchange psk", fc.record({ pskIdentityHint: bytes(50) }), encodeServerKeyExchange, (b) =>
    decodeServerKeyExchange(b, "psk"),
  ),
  codec(
    "ServerKeyExchange ecdhe_psk",
    fc.record({ pskIdentityHint: bytes(50), params }),
    encodeServerKeyExchange,
    (b) => decodeServerKeyExchange(b, "ecdhe_psk"),
  ),
  codec("ServerKeyExchange ecdhe_ecdsa", fc.record({ params, signature: signed }), encodeServerKeyExchange, (b) =>
    decodeServerKeyExchange(b, "ecdhe_ecdsa"),
  ),
  codec("ClientKeyExchange psk", fc.record({ pskIdentity: bytes(50) }), encodeClientKeyExchange, (b) =>
    decodeClientKeyExchange(b, "psk"),
  ),
  codec(
    "ClientKeyExchange ecdhe_psk",
    fc.record({ pskIdentity: bytes(50), publicKey: bytes(97, 1) }),
    encodeClientKeyExchange,
    (b) => decodeClientKeyExchange(b, "ecdhe_psk"),
  ),
  codec("ClientKeyExchange ecdhe_rsa", fc.record({ publicKey: bytes(97, 1) }), encodeClientKeyExchange, (b) =>
    decodeClientKeyExchange(b, "ecdhe_rsa"),
  ),
  codec("supported_groups", suites, (ids) => encodeIdList(ids), decodeIdList),
];

function codec<T>(
  name: string,
  values: fc.Arbitrary<T>,
  encode: (value: T) => Uint8Array,
  decode: (encoded: Uint8Array) => T,
): (typeof CODECS)[number] {
  const roundTrip = fc.property(values, (value) => {
    const encoded = encode(value);
    const again = decode(encoded);
    // Compared by what they encode to and by their own form, whatever the kinds of byte arrays.
    return Buffer.compare(encode(again), encoded) === 0 && plain(again) === plain(value);
  });
  return { name, roundTrip: roundTrip as fc.IProperty<unknown>, decode };
}

function plain(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    item instanceof Uint8Array
      ? Buffer.from(item).toString("hex")
      : item instanceof Map
        ? [...(item as Map<number, Uint8Array>)].map(([key, data]) => [key, Buffer.from(data).toString("hex")])
        : item,
  );
}

for (const { name, roundTrip, decode } of CODECS) {
  test(`${name}: what is encoded decodes to the same`, (t) => {
    fc.assert(roundTrip);
    t.pass();
  });

  test(`D43 ${name}: random, truncated and lengthened bytes give DTLS_DECODE_ERROR or a value, never anything else`, (t) => {
    fc.assert(
      fc.property(bytes(300), (random) => {
        try {
          decode(random);
        } catch (error) {
          return error instanceof DtlsError && ["DTLS_DECODE_ERROR", "DTLS_ILLEGAL_PARAMETER"].includes(error.code);
        }
        return true;
      }),
      { numRuns: 300 },
    );
    t.pass();
  });
}

test("D43 every truncation of a ClientHello, and a trailing byte, is refused", (t) => {
  fc.assert(
    fc.property(clientHellos, fc.nat(), (hello, cut) => {
      const encoded = encodeClientHello({ ...hello, extensions: new Map([[23, new Uint8Array(0)]]) });
      const withoutExtensions = encoded.length - 6;
      const end = cut % encoded.length;
      const short = end === withoutExtensions ? end - 1 : end;
      return refuses(encoded.subarray(0, short)) && refuses(Uint8Array.of(...encoded, 0));
    }),
  );
  t.pass();
});

test("D43 an odd-length suite list, an empty one, and an extension that occurs twice, are refused", (t) => {
  const head = [0xfe, 0xfd, ...new Uint8Array(32).fill(7), 0, 0];
  t.true(refuses(Uint8Array.of(...head, 0, 3, 0xc0, 0xa8, 0xc0, 1, 0)));
  // Also where what follows would do with the byte that is missing.
  t.true(refuses(Uint8Array.of(...head, 0, 3, 0xc0, 0xa8, 0xc0, 2, 1, 0)));
  t.true(refuses(Uint8Array.of(...head, 0, 0, 1, 0)));
  t.true(refuses(Uint8Array.of(...head, 0, 2, 0xc0, 0xa8, 0)));
  t.true(refuses(Uint8Array.of(...head, 0, 2, 0xc0, 0xa8, 1, 0, 0, 8, 0, 23, 0, 0, 0, 23, 0, 0)));
  t.false(refuses(Uint8Array.of(...head, 0, 2, 0xc0, 0xa8, 1, 0, 0, 4, 0, 23, 0, 0)));
  // What follows the extensions is none of them.
  t.true(refuses(Uint8Array.of(...head, 0, 2, 0xc0, 0xa8, 1, 0, 0, 4, 0, 23, 0, 0, 0, 35, 0, 0)));
});

function isTooShort(bytes: Uint8Array, from: number, end: number): boolean {
  try {
    readClientHelloParts(bytes, from, end);
    return false;
  } catch (error) {
    return error instanceof DtlsError && error.code === "DTLS_DECODE_ERROR";
  }
}

test("the start of a ClientHello is read from a first fragment that ends anywhere after the compression methods", (t) => {
  fc.assert(
    fc.property(clientHellos, fc.nat(), fc.nat(40), (hello, cut, before) => {
      const encoded = encodeClientHello(hello);
      const needed = encodeClientHello({ ...hello, extensions: new Map() }).length;
      const end = needed + (cut % (encoded.length - needed + 1));
      const datagram = Uint8Array.of(...new Uint8Array(before), ...encoded);
      const parts = readClientHelloParts(datagram, before, before + end);
      const cookieEnd = parts.cookieAt + parts.cookieBytes;
      const beforeCookie = parts.bytes.subarray(parts.from, parts.cookieAt - 1);
      const cookie = parts.bytes.subarray(parts.cookieAt, cookieEnd);
      const afterCookie = parts.bytes.subarray(cookieEnd, parts.to);
      const random = beforeCookie.subarray(RANDOM_AT, RANDOM_AT + RANDOM_BYTES);
      const joined = [...beforeCookie, cookie.length, ...cookie, ...afterCookie];
      return (
        plain([random, cookie]) === plain([hello.random, hello.cookie]) &&
        plain(joined) === plain([...encoded.subarray(0, needed)]) &&
        isTooShort(datagram, before, before + (cut % needed))
      );
    }),
  );
  t.pass();
});

test("random datagrams never make the reading of a ClientHello's start throw", (t) => {
  fc.assert(
    fc.property(bytes(120), fc.boolean(), (random, isFramed) => {
      const datagram = isFramed
        ? Uint8Array.of(22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, random.length, ...random)
        : random;
      return typeof readClientHelloStart(datagram) === "object";
    }),
  );
  t.pass();
});

test("a record header carries all 48 bits of the sequence number", (t) => {
  fc.assert(
    fc.property(uint16, fc.maxSafeInteger(), fc.integer({ min: 0, max: 200 }), (epoch, number, length) => {
      const sequenceNumber = Math.abs(number) % 2 ** 48;
      const header = { type: 22, version: 0xfefd, epoch, sequenceNumber, length } as const;
      const record = new Uint8Array(13 + length);
      encodeRecordHeader(header, record);
      return plain(decodeRecordHeader(record, 0)) === plain(header);
    }),
  );
  t.pass();
});

test("D32 a length past the datagram, an unknown type, a wrong version and more than 2^14 bytes are each named", (t) => {
  const record = (type: number, version: number, length: number, actual = length, epoch = 0): Uint8Array => {
    const bytesOf = new Uint8Array(13 + actual);
    encodeRecordHeader({ type: 22, version, epoch, sequenceNumber: 0, length }, bytesOf);
    bytesOf[0] = type;
    return bytesOf;
  };
  const dropOf = (datagram: Uint8Array): unknown => {
    const header = decodeRecordHeader(datagram, 0);
    return "drop" in header ? [header.drop, header.skipBytes] : header.length;
  };
  t.is(dropOf(record(22, 0xfefd, 20)), 20);
  t.deepEqual(dropOf(record(22, 0xfefd, 21, 20)), ["truncated-record", undefined]);
  t.deepEqual(dropOf(new Uint8Array(12)), ["truncated-record", undefined]);
  t.deepEqual(dropOf(record(24, 0xfefd, 20)), ["unknown-content-type", 33]);
  t.deepEqual(dropOf(record(0, 0xfefd, 20)), ["unknown-content-type", 33]);
  t.deepEqual(dropOf(record(22, 0x0303, 20)), ["wrong-version", 33]);
  t.is(dropOf(record(22, 0xfefd, 16384)), 16384);
  t.deepEqual(dropOf(record(22, 0xfefd, 16385)), ["record-too-long", 13 + 16385]);
  t.deepEqual(dropOf(record(23, 0xfefd, 16384 + 2049, undefined, 1)), ["record-too-long", 13 + 16384 + 2049]);
});

test("a handshake fragment decodes to what was encoded; one that leaves its message or its record does not", (t) => {
  fc.assert(
    fc.property(uint16, bytes(60), fc.nat(100), fc.nat(100), (messageSeq, fragment, before, after) => {
      const value = { type: 1, length: before + fragment.length + after, messageSeq, fragmentOffset: before, fragment };
      const encoded = encodeHandshakeFragment(value);
      const past = encodeHandshakeFragment({ ...value, length: before + fragment.length - 1 });
      return (
        plain(decodeHandshakeFragment(encoded, 0)) === plain(value) &&
        decodeHandshakeFragment(encoded.subarray(0, -1), 0) === undefined &&
        (before + fragment.length === 0 || decodeHandshakeFragment(past, 0) === undefined)
      );
    }),
  );
  t.pass();
});

test("alerts, server_name and ec_point_formats round-trip, and malformed ones are refused", (t) => {
  for (const description of Object.keys(ALERT_DESCRIPTIONS) as AlertDescription[]) {
    t.deepEqual(decodeAlert(encodeAlert("fatal", description)), { level: "fatal", description });
  }
  t.deepEqual(decodeAlert(Uint8Array.of(1, 200)), { level: "warning", description: 200 });
  for (const bad of [[], [1], [3, 0], [2, 40, 0]]) t.is(decodeAlert(Uint8Array.from(bad)), undefined);
  t.is(decodeServerName(encodeServerName("device.example")), "device.example");
  t.throws(() => decodeServerName(Uint8Array.of(0, 0)), { instanceOf: DtlsError });
  t.deepEqual(decodePointFormats(encodePointFormats()), [0]);
  t.throws(() => decodePointFormats(Uint8Array.of(0)), { instanceOf: DtlsError });
  t.throws(() => decodeIdList(Uint8Array.of(0, 3, 0, 1, 2)), { instanceOf: DtlsError });
});

function refuses(body: Uint8Array): boolean {
  try {
    decodeClientHello(body);
    return false;
  } catch (error) {
    return error instanceof DtlsError && error.code === "DTLS_DECODE_ERROR";
  }
}
