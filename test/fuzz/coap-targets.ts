import fc from "fast-check";
import { CborError, decodeCbor } from "#cbor/index.js";
import {
  BlockwiseServer,
  CoapError,
  CODE,
  decodeMessage,
  encodeMessage,
  Endpoint,
  type Message,
  MESSAGE_TYPE,
  OPTION,
  Options,
} from "#coap/index.js";
import { decodeFetchPack, decodePack, encodePack, SenmlError } from "#senml/index.js";
import { seededRandom } from "../dtls/pair.js";
import { mutate, mutations, type Mutation } from "./mutation.js";
import { type FuzzTarget, invariant } from "./target.js";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function message(fields: Partial<Message>): Uint8Array {
  const empty = { token: Uint8Array.of(1, 2), options: Options.none, payload: new Uint8Array(0) };
  return encodeMessage({ type: MESSAGE_TYPE.Confirmable, code: CODE.GET, messageId: 7, ...empty, ...fields });
}

const path = Options.none.withAll(OPTION.UriPath, ["dpe1", "reg"]);
const block = (number: number, hasMore: boolean) => path.withBlock1({ number, hasMore, sizeBytes: 64 });

/** Honest messages of every kind that an endpoint meets. */
export const COAP_SEEDS: readonly Uint8Array[] = [
  message({}),
  message({ options: path.with(OPTION.Observe, 0), messageId: 8 }),
  message({ options: path.withAll(OPTION.UriQuery, ["ep=pi-1", "lt=60"]), code: CODE.POST, payload: text("[{}]") }),
  message({ options: block(0, true), code: CODE.PUT, payload: new Uint8Array(64), messageId: 9 }),
  message({ options: block(1, true), code: CODE.PUT, payload: new Uint8Array(64), messageId: 10 }),
  message({ options: block(2, false), code: CODE.PUT, payload: new Uint8Array(10), messageId: 11 }),
  message({ options: path.withBlock2({ number: 3, hasMore: false, sizeBytes: 128 }), messageId: 12 }),
  message({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content, payload: text("22.5 C") }),
  message({ type: MESSAGE_TYPE.NonConfirmable, code: CODE.Content, options: Options.none.with(OPTION.Observe, 5) }),
  message({ type: MESSAGE_TYPE.NonConfirmable, options: Options.none.with(65_033, new Uint8Array(300)) }),
  Uint8Array.of(0x40, 0, 0, 9),
  Uint8Array.of(0x60, 0, 0, 9),
  Uint8Array.of(0x70, 0, 0, 9),
];

export interface SeedPlan {
  readonly seed: number;
  readonly mutations: readonly Mutation[];
}
export const seedPlan: fc.Arbitrary<SeedPlan> = fc.record({ seed: fc.nat(50), mutations });

const planned = (seeds: readonly Uint8Array[], { seed, mutations: plan }: SeedPlan): Uint8Array =>
  mutate(seeds[seed % seeds.length] ?? new Uint8Array(0), plan);

/** The codec: what it takes it gives back, and what it does not take is a COAP_FORMAT_ERROR. */
export const codecTarget: FuzzTarget<SeedPlan> = {
  name: "coap-codec",
  plans: seedPlan,
  run: (plan) => {
    const bytes = planned(COAP_SEEDS, plan);
    let decoded: Message;
    try {
      decoded = decodeMessage(bytes);
    } catch (error) {
      invariant(error instanceof CoapError && error.code === "COAP_FORMAT_ERROR", `threw ${String(error)}`);
      return error.message;
    }
    const again = decodeMessage(encodeMessage(decoded));
    invariant(fieldsOf(decoded) === fieldsOf(again), "decode(encode(message)) differs");
    return `type ${decoded.type} class ${decoded.code >> 5} options ${[...decoded.options].length}`;
  },
};

function fieldsOf({ type, code, messageId, token, options, payload }: Message): string {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  const list = [...options].map(({ number, value }) => `${number}=${hex(value)}`);
  return [type, code, messageId, hex(token), list.join(","), hex(payload)].join(" ");
}

interface EndpointPlan {
  readonly datagrams: readonly SeedPlan[];
  readonly stepMs: number;
}

/** An endpoint with a block-wise server, that answers everything and observes too: bounded, and never more than it says. */
export const endpointTarget: FuzzTarget<EndpointPlan> = {
  name: "coap-endpoint",
  plans: fc.record({ datagrams: fc.array(seedPlan, { minLength: 1, maxLength: 16 }), stepMs: fc.nat(40_000) }),
  run: ({ datagrams, stepMs }) => {
    const limits = { maxRecentMessagesPerPeer: 8, maxRecentMessages: 8, maxObservationsPerPeer: 2, maxObservations: 2 };
    const endpoint = new Endpoint({ random: seededRandom(1), limits });
    const bounds = { maxBodyBytes: 1024, blockBytes: 64, maxBufferedBytes: 4096 };
    const blockwise = new BlockwiseServer<object>(bounds);
    const peer = endpoint.openPeer();
    const own = endpoint.request(peer, { code: CODE.GET, options: path, payload: new Uint8Array(0) }, 0);
    let requests = 0;
    let now = 0;
    const drain = (): number => {
      let bytes = 0;
      for (let output = endpoint.poll(); output !== undefined; output = endpoint.poll()) {
        if (output.type === "datagram") bytes += output.bytes.length;
        if (output.type !== "request") continue;
        requests++;
        const { incoming } = output;
        const input = blockwise.receive(peer, incoming, now);
        const body = { code: CODE.Content, options: Options.none, payload: new Uint8Array(500) };
        const response = input.type === "answer" ? input.response : blockwise.send(peer, input.request, body, now);
        endpoint.respondObserved(incoming, response, now);
      }
      return bytes;
    };
    drain();
    for (const plan of datagrams) {
      endpoint.handleDatagram(peer, planned(COAP_SEEDS, plan), now);
      invariant(drain() <= MAX_ANSWER_BYTES, "one datagram brought more than an answer and an Acknowledgement");
      invariant(endpoint.recentMessages <= 8, `${endpoint.recentMessages} messages are remembered`);
      invariant(endpoint.observations <= 2, `${endpoint.observations} observations are kept`);
      invariant(blockwise.bufferedBytes <= bounds.maxBufferedBytes, `${blockwise.bufferedBytes} bytes of bodies`);
      now += stepMs;
      if ((endpoint.nextTimeout() ?? Infinity) <= now) endpoint.handleTimeout(now);
      drain();
    }
    endpoint.closePeer(peer, now);
    blockwise.closePeer(peer);
    drain();
    invariant(endpoint.recentMessages === 0 && endpoint.observations === 0, "a closed peer leaves something");
    invariant(blockwise.bufferedBytes === 0, "a closed peer leaves bodies");
    const { malformed, duplicates, rejected } = endpoint.counters;
    return `requests ${requests} malformed ${malformed} duplicates ${duplicates} rejected ${rejected} own ${own.state}`;
  },
};

const RECORDS = [
  { name: "temperature", unit: "Cel", value: 21.5, timeSeconds: 1_700_000_000 },
  { name: "model", value: "meter" },
  { name: "open", value: true },
  { name: "raw", value: Uint8Array.of(1, 2, 3) },
];
const PACKS = { cbor: encodePack(RECORDS, "cbor"), json: encodePack(RECORDS, "json") } as const;
const CBOR_SEEDS: readonly Uint8Array[] = [
  PACKS.cbor,
  // A map, an indefinite array, a decimal fraction, a bignum, nested arrays, a text string of indefinite length.
  ...["a2016161024101", "9f0102ff", "c48221196ab3", "c249010000000000000000", "8181818181f6", "7f61616162ff"].map(
    (hex) => Uint8Array.from(Buffer.from(hex, "hex")),
  ),
];

/** SenML packs and CBOR of any kind: values, or this project's own errors. */
export const senmlTarget: FuzzTarget<SeedPlan> = {
  name: "senml-cbor",
  plans: seedPlan,
  run: (plan) => {
    const isJson = plan.seed % 3 === 0;
    const bytes = isJson ? mutate(PACKS.json, plan.mutations) : planned(CBOR_SEEDS, plan);
    const format = isJson ? "json" : "cbor";
    const outcomes: string[] = [];
    for (const decode of [decodePack, decodeFetchPack] as const) {
      try {
        const records = decode(bytes, format, 1_700_000_000);
        invariant(records.length <= bytes.length, "more records than bytes");
        outcomes.push(`${records.length} records`);
      } catch (error) {
        invariant(error instanceof SenmlError, `threw ${String(error)}`);
        outcomes.push(error.code);
      }
    }
    try {
      decodeCbor(bytes);
      outcomes.push("cbor");
    } catch (error) {
      invariant(error instanceof CborError, `decodeCbor threw ${String(error)}`);
      outcomes.push(error.code);
    }
    return `${format} ${outcomes.join(", ")}`;
  },
};

/** A block of a response, its options, and an empty Acknowledgement; a request of ours that waited may go out with it. */
const MAX_ANSWER_BYTES = 400;
