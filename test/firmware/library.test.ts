import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import { encodeCoapFrame, encodeTextFrame, SlipmuxDecoder } from "#bridge/slipmux.js";
import { decodeMessage, encodeMessage, type Message, type MessageType, Options } from "#coap/index.js";
import { fetchOf, putOf } from "#bridge/firmware-properties.js";
import { getOf } from "#bridge/firmware-session.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { built } from "./build.js";
import { bytesOf, hexOf, randomOf, VECTORS } from "./frames.js";

/** The C codecs' answers to lines, all in one run. */
async function askC(lines: readonly string[]): Promise<string[]> {
  const { folder } = await built("codec");
  const { status, stdout, stderr } = spawnSync(join(folder, "codec"), {
    input: lines.map((line) => `${line}\n`).join(""),
    encoding: "utf8",
    maxBuffer: 64 << 20,
  });
  if (status !== 0) throw new Error(`the C codecs ended with ${status}: ${stderr}`);
  return stdout.trimEnd().split("\n");
}

function inHex(bytes: Uint8Array): string {
  return bytes.length === 0 ? "-" : hexOf(bytes);
}

/** A message as the C codecs print and take it. */
function line({ type, code, messageId, token, options, payload }: Message): string {
  const list = Array.from({ length: options.length }, (_, index) => {
    const number = options.numberAt(index);
    const before = Array.from({ length: index }, (_unused, at) => options.numberAt(at)).filter(
      (other) => other === number,
    );
    return ` ${number}:${inHex(options.getAll(number)[before.length] ?? new Uint8Array(0))}`;
  });
  return `${type} ${code} ${messageId} ${inHex(token)}${list.join("")} ${inHex(payload)}`;
}

function randomMessage(random: (limit: number) => number): Message {
  const bytes = (limit: number): Uint8Array => Uint8Array.from({ length: random(limit) }, () => random(256));
  let options = Options.none;
  for (let count = random(6); count > 0; count--) {
    const number = [1, 4, 6, 11, 12, 15, 23, 60, 258, 270, 65_000][random(11)] ?? 11;
    options = options.withAll(number, [...options.getAll(number), bytes(random(20) === 0 ? 300 : 16)]);
  }
  return {
    type: random(2) as MessageType,
    code: [1, 2, 3, 5, 0x45, 0x84][random(6)] ?? 1,
    messageId: random(65_536),
    token: bytes(9),
    options,
    payload: bytes(80),
  };
}

const SEED = 20_261_124;

testWith("firmware-cc", "the C and TypeScript codecs agree on random messages, both ways", async (t) => {
  const random = randomOf(SEED);
  const messages = Array.from({ length: 500 }, () => randomMessage(random));
  const encoded = messages.map((message) => encodeMessage(message));
  const answers = await askC([
    ...encoded.map((bytes) => `read ${hexOf(bytes)}`),
    ...messages.map((message) => `write ${line(message)}`),
    ...encoded.map((bytes) => `frame ${hexOf(bytes)}`),
    ...encoded.map((bytes) => `text ${hexOf(bytes)}`),
  ]);
  const { length } = messages;
  messages.forEach((message, index) => {
    const bytes = encoded[index] ?? new Uint8Array(0);
    t.is(answers[index], line(message), `read ${index} of seed ${SEED}`);
    t.is(answers[length + index], hexOf(bytes), `write ${index} of seed ${SEED}`);
    t.is(line(decodeMessage(bytesOf(answers[length + index] ?? ""))), line(message));
    t.is(answers[2 * length + index], hexOf(encodeCoapFrame(bytes)), `frame ${index} of seed ${SEED}`);
    t.is(answers[3 * length + index], hexOf(encodeTextFrame(bytes)), `text ${index} of seed ${SEED}`);
  });
});

testWith("firmware-cc", "what TypeScript takes of damaged messages and streams, C takes alike", async (t) => {
  const random = randomOf(SEED + 1);
  const damaged = Array.from({ length: 500 }, () => {
    const bytes = encodeMessage(randomMessage(random));
    return bytes
      .map((byte) => (random(20) === 0 ? random(256) : byte))
      .subarray(0, random(4) === 0 ? random(bytes.length) : undefined);
  });
  const streams = Array.from({ length: 100 }, () =>
    Uint8Array.from(
      Array.from({ length: 6 }, () => {
        const frame = encodeCoapFrame(encodeMessage(randomMessage(random)));
        const noise = Array.from({ length: random(12) }, () => [0xc0, 0xdb, 0xa9, 0x0a, random(256)][random(5)] ?? 0);
        return [...noise, ...frame].map((byte) => (random(150) === 0 ? random(256) : byte));
      }).flat(),
    ),
  );
  const answers = await askC([
    ...damaged.map((bytes) => `read ${hexOf(bytes)}`),
    ...streams.map((stream) => `decode ${hexOf(stream)}`),
  ]);
  damaged.forEach((bytes, index) => {
    let expected: string;
    try {
      expected = line(decodeMessage(bytes));
    } catch {
      // Stricter than C: also on codes that are no request's or response's, which the C server answers for itself.
      return;
    }
    t.is(answers[index], expected, `damaged ${index} of seed ${SEED + 1}`);
  });
  streams.forEach((stream, index) => {
    const received = new SlipmuxDecoder()
      .push(stream)
      .flatMap((frame) => (frame.type === "coap" ? [hexOf(frame.message)] : []));
    t.deepEqual((answers[damaged.length + index] ?? "").split(" ").slice(0, -2), received, `stream ${index}`);
  });
});

testWith(
  "firmware-cc",
  "in C too: the vectors, each single-bit error and truncation, a million random bytes",
  async (t) => {
    const lines: string[] = [];
    const expected: (readonly string[])[] = [];
    const expectOf = (stream: Uint8Array, messages: readonly string[]): void => {
      lines.push(`decode ${hexOf(stream)}`);
      expected.push(messages);
    };
    for (const { message, frame } of VECTORS) {
      const good = bytesOf(frame);
      expectOf(good, [message]);
      for (let bit = 0; bit < good.length * 8; bit++) {
        const bad = good.map((byte, index) => (index === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
        expectOf(Uint8Array.of(...bad, ...good), [message]);
      }
      for (let length = 1; length < good.length - 1; length++) {
        expectOf(Uint8Array.of(...good.subarray(0, length), ...good), [message]);
        expectOf(Uint8Array.of(...good.subarray(length), ...good), [message]);
      }
    }
    const random = randomOf(SEED + 2);
    const [{ message, frame }] = VECTORS as [(typeof VECTORS)[number]];
    for (let chunk = 0; chunk < 20; chunk++)
      lines.push(`decode ${hexOf(Uint8Array.from({ length: 50_000 }, () => random(256)))}${frame}`);
    const answers = await askC(lines);
    expected.forEach((messages, index) => {
      t.deepEqual((answers[index] ?? "").split(" ").slice(0, -2), messages, lines[index]);
    });
    const afterNoise = answers.slice(expected.length);
    t.is(afterNoise.length, 20);
    for (const answer of afterNoise) t.is(answer.split(" ").at(-3), message);
  },
);

testWith("firmware-cc", "a long value is read to its end through the smallest message buffer", async (t) => {
  // An array of one map of two pairs, "long" and the text.
  t.deepEqual(await askC(["long 20", "long 5000", "long 60000"]), ["30 69", "5012 69", "60012 69"]);
});

testWith("firmware-cc", "the C library has no warning, and gcc's analyzer finds nothing", async (t) => {
  await t.notThrowsAsync(built("analyze"));
});

testWith(
  "cortex-m3",
  "on a Cortex-M3 it takes at most 6 kB of code and 1 kB of memory, and of libc memcpy and memset only",
  async (t) => {
    const { output } = await built("size");
    const figure = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(output)?.[1]);
    t.log(output.trim().replaceAll("\n", ", "));
    t.true(figure("code") > 1000 && figure("code") <= 6 * 1024);
    t.true(figure("ram") > 256 && figure("ram") <= 1024);
    for (const [, needed] of output.matchAll(/^needs (\w+)$/gm))
      t.true(["memcpy", "memset"].includes(needed ?? ""), needed);
  },
);

/** A chunk of the fuzzer's input: a message that is given its FCS. */
function messageChunk(message: Uint8Array): Uint8Array {
  return Uint8Array.of(1, message.length, ...message);
}

function writeSeeds(folder: string): void {
  const token = new Uint8Array(8).fill(7);
  const requests = [
    getOf([".well-known", "core"]),
    getOf(["dpe"]),
    getOf(["p"]),
    { ...getOf(["p", "b"]), options: getOf(["p", "b"]).options.with(6, 0) },
    fetchOf(["p"], ["a", "d/b", "z"]),
    putOf(["p", "c"], 1.5),
    putOf(["p", "g"], "text"),
    putOf(["p", "k"], true),
  ];
  const chunks = requests.map(({ code, options, payload }, index) =>
    messageChunk(encodeMessage({ type: 0, code, messageId: index, token, options, payload })),
  );
  mkdirSync(folder, { recursive: true });
  chunks.forEach((chunk, index) => writeFileSync(join(folder, `seed-${index}`), Uint8Array.of(160, ...chunk)));
  const observed = Uint8Array.of(160, ...(chunks[3] ?? []), 3, 4, 250, 250, 250, 250);
  writeFileSync(join(folder, "seed-observed"), observed);
}

async function fuzz(t: ExecutionContext, bound: string): Promise<void> {
  const { folder } = await built("fuzz");
  const corpus = join(folder, "corpus");
  writeSeeds(corpus);
  const options = [bound, "-max_len=700", "-timeout=10", `-artifact_prefix=${folder}/`, corpus];
  const output = await PeerProcess.run(t, join(folder, "fuzz"), options);
  const runs = Number(/Done (\d+) runs/.exec(output)?.[1]);
  t.log(`${runs} inputs, ${readdirSync(corpus).length} kept for their coverage`);
  t.true(runs >= 1000);
}

// DPE_FUZZ_SECONDS=600 npx ava dist/test/firmware/library.test.js is the long run.
const FUZZ_SECONDS = Number(process.env["DPE_FUZZ_SECONDS"] ?? 0);
testWith("libfuzzer", "libFuzzer finds nothing in the C library, under the sanitizers", async (t) => {
  t.timeout((FUZZ_SECONDS + 120) * 1000);
  await fuzz(t, FUZZ_SECONDS > 0 ? `-max_total_time=${FUZZ_SECONDS}` : "-runs=5000");
});
