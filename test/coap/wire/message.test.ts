import {
  type Block,
  CODE,
  CoapError,
  decodeBlock,
  decodeMessage,
  decodeUint,
  encodeBlock,
  encodeMessage,
  encodeText,
  encodeUint,
  formatCode,
  isCritical,
  isUnsafe,
  type Message,
  MESSAGE_TYPE,
  methodName,
  OPTION,
  Options,
} from "#coap/index.js";
import test from "ava";
import coapPacket from "coap-packet";
import fc from "fast-check";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

function errorCode(operation: () => unknown): string | undefined {
  try {
    operation();
    return undefined;
  } catch (error) {
    return error instanceof CoapError ? error.code : `not a CoapError: ${String(error)}`;
  }
}

const options = fc
  .array(fc.record({ number: fc.integer({ min: 0, max: 65_535 }), value: fc.uint8Array({ maxLength: 300 }) }), {
    maxLength: 8,
  })
  .map((list) => Options.of(list));

const messages: fc.Arbitrary<Message> = fc.record({
  type: fc.constantFrom(MESSAGE_TYPE.Confirmable, MESSAGE_TYPE.NonConfirmable),
  code: fc.constantFrom(...Object.values(CODE).filter((code) => code !== CODE.Empty)),
  messageId: fc.integer({ min: 0, max: 65_535 }),
  token: fc.uint8Array({ maxLength: 8 }),
  options,
  payload: fc.uint8Array({ maxLength: 64 }),
});

const plain = (message: Message): unknown => ({
  ...message,
  token: [...message.token],
  options: [...message.options].map(({ number, value }) => [number, [...value]]),
  payload: [...message.payload],
});

test("the messages of RFC 7252 Appendix A decode, and encode to the same bytes", (t) => {
  // Figure 16: CON GET /temperature, MID 0x7d34, and its piggybacked 2.05 "22.3 C".
  const request = hex("40 01 7d 34 bb 74 65 6d 70 65 72 61 74 75 72 65");
  const get = decodeMessage(request);
  t.like(get, { type: MESSAGE_TYPE.Confirmable, code: CODE.GET, messageId: 0x7d34 });
  t.deepEqual(get.options.uriPath, ["temperature"]);
  t.deepEqual(encodeMessage(get), request);
  const response = hex("60 45 7d 34 ff 32 32 2e 33 20 43");
  const content = decodeMessage(response);
  t.like(content, { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, messageId: 0x7d34 });
  t.is(text(content.payload), "22.3 C");
  t.deepEqual(encodeMessage(content), response);
  // Figure 17: with token 0x20.
  t.deepEqual([...decodeMessage(hex("41 01 7d 35 20 bb 74 65 6d 70 65 72 61 74 75 72 65")).token], [0x20]);
});

test("decode(encode(message)) is the message", (t) => {
  fc.assert(
    fc.property(messages, (message) => {
      t.deepEqual(plain(decodeMessage(encodeMessage(message))), plain(message));
    }),
    { numRuns: 300 },
  );
});

test("random and mutated bytes decode or fail with COAP_FORMAT_ERROR, nothing else", (t) => {
  const mutated = fc.tuple(messages, fc.nat(), fc.integer({ min: 0, max: 255 })).map(([message, index, byte]) => {
    const bytes = encodeMessage(message);
    bytes[index % bytes.length] = byte;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 64 }), mutated), (bytes) => {
      t.true([undefined, "COAP_FORMAT_ERROR"].includes(errorCode(() => decodeMessage(bytes))));
    }),
    { numRuns: 3000 },
  );
});

test("coap-packet reads the same fields from our bytes, and we from its", (t) => {
  fc.assert(
    fc.property(messages, (message) => {
      const theirs = coapPacket.parse(Buffer.from(encodeMessage(message)));
      t.is(theirs.code, formatCode(message.code));
      t.is(theirs.messageId, message.messageId);
      t.is(theirs.confirmable, message.type === MESSAGE_TYPE.Confirmable);
      t.deepEqual([...theirs.token], [...message.token]);
      t.deepEqual([...theirs.payload], [...message.payload]);
      t.deepEqual(
        theirs.options?.map(({ value }) => [...value]),
        [...message.options].map(({ value }) => [...value]),
      );
      const { options: theirOptions, ...rest } = theirs;
      t.deepEqual(plain(decodeMessage(coapPacket.generate({ ...rest, options: theirOptions }))), plain(message));
    }),
    { numRuns: 300 },
  );
});

test("what RFC 7252 §3 calls a message format error is one", (t) => {
  const faults: Readonly<Record<string, string>> = {
    "an empty datagram": "",
    "three bytes": "40 01 00",
    "version 0": "00 01 00 01",
    "version 2": "80 01 00 01",
    "token length 9": "49 01 00 01 01 02 03 04 05 06 07 08 09",
    "a token cut off": "44 01 00 01 01 02",
    "an Empty message with a token": "41 00 00 01 01",
    "an Empty message with a payload": "40 00 00 01 ff 01",
    "a Non-confirmable Empty message": "50 00 00 01",
    "a Reset with a code": "70 01 00 01",
    "an Acknowledgement with a request": "60 01 00 01",
    "a code of class 1": "40 20 00 01",
    "a code of class 7": "40 e0 00 01",
    "a payload marker with no payload": "40 01 00 01 ff",
    "option delta 15": "40 01 00 01 f0",
    "option length 15": "40 01 00 01 0f",
    "an option cut off": "40 01 00 01 b4 61 62",
    "an extended delta cut off": "40 01 00 01 d0",
    "a two-byte extended length cut off": "40 01 00 01 0e 01",
    "an option number above 65535": "40 01 00 01 e0 ff ff e0 ff ff",
  };
  for (const [fault, bytes] of Object.entries(faults))
    t.is(
      errorCode(() => decodeMessage(hex(bytes))),
      "COAP_FORMAT_ERROR",
      fault,
    );
});

test("what cannot be encoded is refused with COAP_INVALID_MESSAGE", (t) => {
  const message = decodeMessage(hex("40 01 00 01"));
  t.is(
    errorCode(() => encodeMessage({ ...message, token: new Uint8Array(9) })),
    "COAP_INVALID_MESSAGE",
  );
  t.is(
    errorCode(() => encodeMessage({ ...message, messageId: 65_536 })),
    "COAP_INVALID_MESSAGE",
  );
  t.is(
    errorCode(() => encodeUint(2 ** 32)),
    "COAP_INVALID_MESSAGE",
  );
  t.is(
    errorCode(() => encodeBlock({ number: 0, hasMore: false, sizeBytes: 100 })),
    "COAP_INVALID_MESSAGE",
  );
});

test("a text is encoded as UTF-8 whatever its length and letters, and is the same again in an option", (t) => {
  const texts = fc.oneof(fc.string({ maxLength: 80 }), fc.string({ unit: "binary", maxLength: 80 }));
  fc.assert(
    fc.property(texts, (given) => {
      t.deepEqual(encodeText(given), Uint8Array.from(Buffer.from(given, "utf8")));
      const strings = [given, "", given];
      t.deepEqual(Options.none.withAll(OPTION.UriQuery, strings).uriQuery, strings);
    }),
  );
  t.deepEqual(encodeText("a\ud800"), Uint8Array.of(0x61, 0xef, 0xbf, 0xbd));
});

test("uints take their shortest form, and block options the form of RFC 7959 §2.2", (t) => {
  t.deepEqual(
    [0, 1, 255, 256, 0xffff_ffff].map((number) => encodeUint(number).length),
    [0, 1, 1, 2, 4],
  );
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff_ffff }), (number) => {
      t.is(decodeUint(encodeUint(number)), number);
    }),
  );
  const block: Block = { number: 5, hasMore: true, sizeBytes: 64 };
  t.is(encodeBlock(block), 0x5a);
  t.deepEqual(decodeBlock(Uint8Array.of(0x5a)), block);
  const bert: Block = { number: 3, hasMore: false, sizeBytes: 1024, isBert: true };
  t.is(encodeBlock(bert), 0x37);
  t.deepEqual(decodeBlock(Uint8Array.of(0x37)), bert);
  t.is(
    errorCode(() => decodeBlock(new Uint8Array(4))),
    "COAP_BAD_OPTION",
  );
});

test("options are sorted, keep the order of repeats, and are changed only in copies", (t) => {
  const path = Options.none.withAll(OPTION.UriPath, ["dpe1", "reg", "ü"]);
  const all = path.with(OPTION.Accept, 112).withAll(OPTION.UriQuery, ["ep=pi", "lt=60"]).with(OPTION.Observe, 0);
  t.deepEqual(
    [...all].map(({ number }) => number),
    [6, 11, 11, 11, 15, 15, 17],
  );
  t.deepEqual(all.uriPath, ["dpe1", "reg", "ü"]);
  t.deepEqual(all.uriQuery, ["ep=pi", "lt=60"]);
  t.is(all.accept, 112);
  t.is(all.observe, 0);
  t.is(path.length, 3);
  t.is(all.without(OPTION.UriPath, OPTION.Accept).length, 3);
  t.is(all.contentFormat, undefined);
  t.deepEqual(all.withBlock2({ number: 1, hasMore: false, sizeBytes: 1024 }).block2, {
    number: 1,
    hasMore: false,
    sizeBytes: 1024,
  });
});

test("an option's class follows from its number, and a code's text from its byte", (t) => {
  t.true(isCritical(OPTION.UriPath));
  t.false(isCritical(OPTION.Observe));
  t.true(isUnsafe(OPTION.UriHost));
  t.false(isUnsafe(OPTION.ETag));
  t.is(formatCode(CODE.Content), "2.05");
  t.is(formatCode(CODE.TooManyRequests), "4.29");
  t.is(methodName(CODE.FETCH), "FETCH");
  t.is(methodName(CODE.Content), undefined);
});
