import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import { DiagnosticLines, printable } from "#bridge/diagnostics.js";
import { fcs } from "#bridge/fcs.js";
import { putOf, resourcesOf, statusOf } from "#bridge/firmware-properties.js";
import { BridgeError } from "#bridge/index.js";
import { checksumOf, JsonLinesDecoder } from "#bridge/json-lines.js";
import { encodeCoapFrame, encodeTextFrame, SlipmuxDecoder } from "#bridge/slipmux.js";
import { checkPort, openWire } from "#bridge/wire.js";
import { CODE, OPTION, Options } from "#coap/index.js";
import { encodeCbor } from "#cbor/index.js";
import { decodePack } from "#senml/index.js";
import { bytesOf, hexOf, randomOf, VECTORS } from "../firmware/frames.js";

function messagesIn(stream: Uint8Array): string[] {
  return new SlipmuxDecoder().push(stream).flatMap((frame) => (frame.type === "coap" ? [hexOf(frame.message)] : []));
}

test("the FCS is CRC-16/X.25", (t) => {
  t.is(fcs(new TextEncoder().encode("123456789")) ^ 0xffff, 0x906e);
  t.is(fcs(new TextEncoder().encode("coap is cool!")) ^ 0xffff, 0x2624);
  t.is(fcs(Uint8Array.of(0xa9)), 0x374c);
  t.is(fcs(bytesOf("3132333435363738396e90")), 0xf0b8);
});

for (const { what, message, frame } of VECTORS) {
  test(`${what} is framed and read as deployed implementations do`, (t) => {
    t.is(hexOf(encodeCoapFrame(bytesOf(message))), frame);
    t.deepEqual(messagesIn(bytesOf(frame)), [message]);
  });

  test(`every single-bit error and every truncation of ${what} is dropped, and the next frame is received`, (t) => {
    const good = bytesOf(frame);
    for (let bit = 0; bit < good.length * 8; bit++) {
      const bad = Uint8Array.from(good, (byte, index) => (index === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
      t.deepEqual(messagesIn(bad), [], `bit ${bit}`);
      t.deepEqual(messagesIn(Uint8Array.of(...bad, ...good)), [message], `bit ${bit}, then a good frame`);
    }
    for (let length = 0; length < good.length; length++) {
      t.deepEqual(messagesIn(good.subarray(0, length)), [], `the first ${length} bytes`);
      // Without its last byte it is ended by the END that the next one begins with.
      const isWhole = length === good.length - 1;
      const received = messagesIn(Uint8Array.of(...good.subarray(0, length), ...good));
      t.deepEqual(received, isWhole ? [message, message] : [message]);
      t.deepEqual(messagesIn(Uint8Array.of(...good.subarray(length + 1), ...good)), [message]);
    }
  });
}

test("frames come back from any chunks, with garbage before, between and inside", (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 4, maxLength: 80 }), { minLength: 1, maxLength: 6 }),
      fc.uint8Array({ maxLength: 40 }),
      fc.integer({ min: 1, max: 17 }),
      (messages, garbage, chunk) => {
        // Garbage of its own frame: without an END it is not the frame before or after.
        const noise = garbage.filter((byte) => byte !== 0xc0);
        const stream = messages.flatMap((message) => [...noise, ...encodeCoapFrame(message)]);
        const decoder = new SlipmuxDecoder();
        const received: string[] = [];
        for (let at = 0; at < stream.length; at += chunk)
          for (const frame of decoder.push(Uint8Array.from(stream.slice(at, at + chunk))))
            if (frame.type === "coap") received.push(hexOf(frame.message));
        t.deepEqual(received, messages.map(hexOf));
        const [first = new Uint8Array(0)] = messages;
        const whole = encodeCoapFrame(first);
        const broken = [...whole.subarray(0, 4), 0xdb, 0x41, ...noise, ...whole.subarray(4), ...whole];
        t.deepEqual(messagesIn(Uint8Array.from(broken)), [hexOf(first)]);
      },
    ),
    { numRuns: 200 },
  );
});

test("after a million random bytes the next good frame is received", (t) => {
  const decoder = new SlipmuxDecoder();
  const random = randomOf(20_261_124);
  const [vector] = VECTORS;
  let good = 0;
  for (let chunk = 0; chunk < 1000; chunk++) {
    decoder.push(Uint8Array.from({ length: 1000 }, () => random(256)));
    const received = decoder.push(bytesOf(vector?.frame ?? ""));
    if (received.some((frame) => frame.type === "coap" && hexOf(frame.message) === vector?.message)) good++;
  }
  t.is(good, 1000);
});

test("a frame that is too long is dropped, and so are IP packets and texts without an end", (t) => {
  const decoder = new SlipmuxDecoder(32);
  t.deepEqual(decoder.push(encodeCoapFrame(new Uint8Array(40).fill(1))), []);
  t.is(decoder.counters.dropped, 1);
  t.deepEqual(decoder.push(Uint8Array.of(0xc0, 0x45, 0, 0, 20, 0xc0, 0x60, 1, 0xc0)), []);
  t.is(decoder.counters.foreign, 2);
  const [text] = decoder.push(encodeTextFrame(new TextEncoder().encode("hello À")));
  t.is(text?.type === "text" ? new TextDecoder().decode(text.bytes) : undefined, "hello À");
});

test("diagnostics are made harmless, and no more than a few a second pass", (t) => {
  t.is(printable("\u001b[31mred\u0007\u202e"), "\\x1b[31mred\\x07\\u{202e}");
  t.is(printable("x".repeat(500)).length, 200);
  const lines = new DiagnosticLines(10);
  const passed = Array.from({ length: 100 }, (_, index) => lines.take(`line ${index}`, 0)).filter((line) => line);
  t.is(passed.length, 20);
  t.deepEqual(lines.take("later", 1000), { text: "later", suppressed: 80 });
});

test("JSON lines: short and long form, checksums, noise and text for the log", (t) => {
  const read = (text: string, checksum: "optional" | "required" = "optional") =>
    new JsonLinesDecoder({ checksum }).push(new TextEncoder().encode(text), 5);
  t.deepEqual(read('{"temperature":21.5,"button":false}\r\n'), [
    {
      type: "readings",
      readings: [
        { name: "temperature", value: 21.5, timeSeconds: 5 },
        { name: "button", value: false, timeSeconds: 5 },
      ],
    },
  ]);
  t.deepEqual(read('{"n":"temperature","u":"Cel","v":21.5}\n'), [
    { type: "readings", readings: [{ name: "temperature", unit: "Cel", value: 21.5, timeSeconds: 5 }] },
  ]);
  const line = '{"a":1}';
  const sum = checksumOf(new TextEncoder().encode(line)).toString(16).padStart(2, "0");
  t.is(read(`${line}*${sum}\n`, "required").length, 1);
  const wrong = (Number.parseInt(sum, 16) ^ 1).toString(16).padStart(2, "0");
  t.deepEqual(read(`${line}*${wrong}\n`), []);
  t.deepEqual(read(`${line}\n`, "required"), []);
  t.deepEqual(read("booting...\n"), [{ type: "text", text: "booting..." }]);
  for (const bad of ['{"a":1e999}', '{"a":"\\ud800"}', '{"n":"a","u":"\\ud800","v":1}'])
    t.deepEqual(read(`${bad}\n`), [], bad);
  for (const bad of ['{"a":}', '{"a":null}', '{"a":[1]}', '{"a b":1}', "[1]", '{"n":"a","v":1,"x":2}'])
    t.deepEqual(read(`${bad}\n`), [], bad);
  const decoder = new JsonLinesDecoder();
  t.deepEqual(decoder.push(new TextEncoder().encode(`{"a":"${"x".repeat(5000)}"}\n{"a":1}\n`), 5).length, 1);
  t.is(decoder.counters.dropped, 1);
});

test("random bytes never throw past the JSON lines and slipmux decoders", (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      new JsonLinesDecoder().push(bytes, 0);
      new SlipmuxDecoder().push(bytes);
    }),
    { numRuns: 500 },
  );
  t.pass();
});

test("a firmware's links, status and values are checked before they are used", (t) => {
  const answer = (payload: Uint8Array | string, code: number = CODE.Content) => ({
    code,
    options: Options.none.with(OPTION.ContentFormat, 40),
    payload: typeof payload === "string" ? new TextEncoder().encode(payload) : payload,
  });
  const { properties, collection, status } = resourcesOf(
    answer('</dpe>;rt="dpe.bridge",</p>;rt="dpe.p";ct=112,</p/a/b>;if="core.a";ct=112;u="V";obs,</x>;ct=112,</y>;ct=0'),
  );
  t.deepEqual(properties, [
    { name: "a/b", path: ["p", "a", "b"], unit: "V", isObservable: true, isWritable: true },
    { name: "x", path: ["x"], isObservable: false, isWritable: false },
  ]);
  t.deepEqual([collection, status], [["p"], ["dpe"]]);
  const codeOf = (call: () => unknown): string | undefined => {
    const error = t.throws(call);
    return error instanceof BridgeError ? error.code : undefined;
  };
  t.is(
    codeOf(() => resourcesOf(answer("<a"))),
    "BRIDGE_BAD_ANSWER",
  );
  t.is(
    codeOf(() => resourcesOf(answer("", CODE.NotFound))),
    "BRIDGE_REFUSED",
  );
  t.is(statusOf(answer(encodeCbor([1, 5, 4, 3, 2]))).observations, 4);
  t.is(
    codeOf(() => statusOf(answer(encodeCbor([2, 5, 4, 3, 2])))),
    "BRIDGE_BAD_ANSWER",
  );
  t.is(
    codeOf(() => statusOf(answer(encodeCbor([1, -5, 4, 3, 2])))),
    "BRIDGE_BAD_ANSWER",
  );
});

test("numbers for a firmware are integers or decimal fractions, exactly", (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 }),
      fc.integer({ min: -9, max: 4 }),
      (mantissa, power) => {
        const value = Number(`${mantissa}e${power}`);
        // SenML's reader wants a name, as a base name before.
        const { payload } = putOf(["p", "a"], value);
        const named = Uint8Array.of(0x81, 0xa2, 0x00, 0x61, 0x61, ...payload.subarray(2));
        t.is(decodePack(named, "cbor", 0)[0]?.value, value);
      },
    ),
    { numRuns: 300 },
  );
  t.throws(() => putOf(["p", "a"], Math.PI), { code: "BRIDGE_NOT_SUPPORTED" });
  t.throws(() => putOf(["p", "a"], Number.NaN), { code: "BRIDGE_NOT_SUPPORTED" });
});

test("ports are found by their id, and what is no port is refused", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "by-id-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, "target"), "");
  for (const name of ["usb-Arduino_Uno_1-if00", "usb-Arduino_Uno_2-if00", "usb-FTDI_3-if00"])
    symlinkSync(join(folder, "target"), join(folder, name));
  const options = { byIdFolder: folder };
  await t.throwsAsync(openWire("by-id:*Arduino*", options), { code: "BRIDGE_AMBIGUOUS_PORT" });
  await t.throwsAsync(openWire("by-id:*Nordic*", options), { code: "BRIDGE_NO_PORT" });
  // The file behind it is no serial port: found, and not opened.
  await t.throwsAsync(openWire("by-id:usb-FTDI*", options), { code: "BRIDGE_NO_PORT", message: /usb-FTDI_3-if00/ });
  await t.throwsAsync(openWire("/dev/not-there"), { code: "BRIDGE_NO_PORT" });
  await t.throwsAsync(openWire(`unix:${join(folder, "nobody")}`), { code: "BRIDGE_NO_PORT" });
  for (const bad of ["ttyACM0", "tcp:host", "tcp:host:0", "tcp:host:99999", "unix:", "by-id:", "http://x"])
    t.throws(() => checkPort(bad), { code: "BRIDGE_BAD_PORT" }, bad);
  for (const good of ["/dev/ttyACM0", "tcp:[::1]:4000", "tcp:host:1", "unix:/a", "by-id:*", "COM3"])
    t.notThrows(() => checkPort(good), good);
});
