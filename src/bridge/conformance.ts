import {
  CODE,
  CONTENT_FORMAT,
  encodeBlock,
  formatCode,
  type Message,
  MESSAGE_TYPE,
  NO_PAYLOAD,
  OPTION,
  Options,
} from "#coap/index.js";
import { messageOf } from "#errors/index.js";
import {
  fetchOf,
  type FirmwareProperty,
  type FirmwareResources,
  readingsOf,
  resourcesOf,
  statusOf,
} from "./firmware-properties.js";
import { RawLink } from "./raw-link.js";
import { encodeCoapFrame } from "./slipmux.js";
import type { Wire } from "./wire.js";

/**
 * Judges a firmware by what this gateway needs of it, rule by rule. Only reads, and sends what must be refused: no property
 * is set. `onVerdict` is called with each rule as it is judged.
 */
export async function checkFirmware(
  wire: Wire,
  onVerdict: (verdict: Verdict) => void = () => undefined,
): Promise<readonly Verdict[]> {
  const link = new RawLink(wire);
  const verdicts: Verdict[] = [];
  const found: Found = { link, resources: { properties: [], collection: undefined, status: undefined } };
  for (const { rule, source, judge } of RULES) {
    link.clear();
    const outcome = await judge(found);
    const verdict: Verdict = { rule, source, ...outcome };
    verdicts.push(verdict);
    onVerdict(verdict);
    if (verdict.result === "failed" && rule === FIRST_RULE) break;
  }
  return verdicts;
}

export interface Verdict {
  readonly rule: string;
  /** The document and section that asks for it. */
  readonly source: string;
  /** Skipped: the firmware has nothing that it applies to. */
  readonly result: "passed" | "failed" | "skipped";
  /** Why it failed or was skipped. */
  readonly why?: string;
}

interface Found {
  readonly link: RawLink;
  /** As `.well-known/core` gave them; empty before that rule. */
  resources: FirmwareResources;
}

type Outcome = Pick<Verdict, "result" | "why">;

interface Rule {
  readonly rule: string;
  readonly source: string;
  readonly judge: (found: Found) => Promise<Outcome>;
}

const passed: Outcome = { result: "passed" };
const failed = (why: string): Outcome => ({ result: "failed", why });
const skipped = (why: string): Outcome => ({ result: "skipped", why });

/** Passed where the answer has this code. */
function expectCode(answer: Message | undefined, ...codes: readonly number[]): Outcome {
  if (answer === undefined) return failed("no answer");
  if (codes.includes(answer.code)) return passed;
  return failed(`${formatCode(answer.code)} instead of ${codes.map(formatCode).join(" or ")}`);
}

const FIRST_RULE = "answers GET /.well-known/core with 2.05 and links";
const CORE: Options = Options.none.withAll(OPTION.UriPath, [".well-known", "core"]);

function pathOf({ path }: Pick<FirmwareProperty, "path">): Options {
  return Options.none.withAll(OPTION.UriPath, path);
}

const RULES: readonly Rule[] = [
  {
    rule: FIRST_RULE,
    source: "RFC 6690 §4",
    judge: async (found) => {
      const answer = await found.link.ask(found.link.next(CODE.GET, CORE));
      if (answer === undefined) return failed("no answer: is the rate right, and the firmware running?");
      const whole = await wholeOf(found, answer);
      if (whole === undefined) return failed("its blocks do not make a whole");
      try {
        found.resources = resourcesOf({ ...answer, payload: whole });
      } catch (error) {
        return failed(messageOf(error));
      }
      const format = answer.options.contentFormat;
      if (format !== CONTENT_FORMAT["application/link-format"]) return failed(`content-format ${format}, not 40`);
      return found.resources.properties.length > 0 ? passed : failed("no link has ct=112, SenML-CBOR");
    },
  },
  {
    rule: "answers a ping by Reset",
    source: "RFC 7252 §4.3",
    judge: async ({ link }) => {
      const ping: Message = { ...link.next(CODE.Empty), token: NO_PAYLOAD };
      link.send(ping);
      const answer = await link.receive((message) => message.messageId === ping.messageId);
      if (answer === undefined) return failed("no answer");
      return answer.type === MESSAGE_TYPE.Reset ? passed : failed("answered, but not by Reset");
    },
  },
  {
    rule: "drops a frame whose FCS is wrong",
    source: "slipmux, CoAP frames",
    judge: ({ link }) => expectSilence(link, (frame) => damaged(frame, frame.length - 6, 0x01)),
  },
  {
    rule: "drops a frame that is cut off, and takes the next one",
    source: "slipmux, RFC 1055",
    judge: async ({ link }) => {
      const request = link.next(CODE.GET, CORE);
      const cut = encodeCoapFrame(Uint8Array.of(0x40, 1, 0, 1, 0xb1, 0x70)).subarray(0, 6);
      link.sendBytes(cut);
      return expectCode(await link.ask(request), CODE.Content);
    },
  },
  {
    rule: "takes an ESC before an END as the end of a frame that is dropped",
    source: "slipmux, aborted frames",
    judge: async ({ link }) => {
      link.sendBytes(Uint8Array.of(0xc0, 0xa9, 0x40, 0x01, 0xdb, 0xc0));
      return expectCode(await link.ask(link.next(CODE.GET, CORE)), CODE.Content);
    },
  },
  {
    rule: "takes a frame after garbage, text and IP packets",
    source: "slipmux, frame types",
    judge: async ({ link }) => {
      link.sendBytes(
        Uint8Array.of(0xff, 0x00, 0x55, 0xaa, 0xc0, 0x0a, 0x68, 0x69, 0xc0, 0x45, 0x00, 0xc0, 0x60, 0xc0, 0x7e),
      );
      return expectCode(await link.ask(link.next(CODE.GET, CORE)), CODE.Content);
    },
  },
  {
    rule: "answers with the token of the request, also one of none and of 8 bytes",
    source: "RFC 7252 §5.3.1",
    judge: async ({ link }) => {
      for (const token of [NO_PAYLOAD, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)]) {
        const outcome = expectCode(await link.ask({ ...link.next(CODE.GET, CORE), token }), CODE.Content);
        if (outcome.result !== "passed") return failed(`with ${token.length} bytes: ${outcome.why}`);
      }
      return passed;
    },
  },
  {
    rule: "answers a duplicate again, with the same messageId",
    source: "RFC 7252 §4.5",
    judge: async ({ link }) => {
      const request = link.next(CODE.GET, CORE);
      const first = await link.ask(request);
      const second = await link.ask(request);
      if (first === undefined || second === undefined) return failed("no answer");
      return first.code === second.code ? passed : failed(`${formatCode(second.code)} after ${formatCode(first.code)}`);
    },
  },
  {
    rule: "answers a Non-confirmable request",
    source: "RFC 7252 §5.2.3",
    judge: async ({ link }) =>
      expectCode(await link.ask({ ...link.next(CODE.GET, CORE), type: MESSAGE_TYPE.NonConfirmable }), CODE.Content),
  },
  {
    rule: "answers a path that it does not have with 4.04",
    source: "RFC 7252 §5.8.1",
    judge: async ({ link }) =>
      expectCode(await link.ask(link.next(CODE.GET, pathOf({ path: ["not", "there"] }))), CODE.NotFound),
  },
  {
    rule: "refuses a critical option that it does not know with 4.02",
    source: "RFC 7252 §5.4.1",
    judge: async ({ link }) =>
      expectCode(await link.ask(link.next(CODE.GET, CORE.with(65_001, Uint8Array.of(1)))), CODE.BadOption),
  },
  {
    rule: "passes over an elective option that it does not know",
    source: "RFC 7252 §5.4.1",
    judge: async ({ link }) =>
      expectCode(await link.ask(link.next(CODE.GET, CORE.with(65_000, Uint8Array.of(1)))), CODE.Content),
  },
  {
    rule: "never answers a malformed message as if it were one",
    source: "RFC 7252 §4.2",
    judge: async ({ link }) => {
      // A token length of 9 is reserved.
      link.sendBytes(encodeCoapFrame(Uint8Array.of(0x49, 1, 0x77, 0x77, 1, 2, 3, 4, 5, 6, 7, 8, 9)));
      const answer = await link.receive(
        (message) => message.messageId === 0x7777 && message.type !== MESSAGE_TYPE.Reset,
      );
      return answer === undefined ? passed : failed(`it answered ${formatCode(answer.code)}`);
    },
  },
  {
    rule: "gives its links in blocks of 16 bytes where that is asked for",
    source: "RFC 7959 §2.4",
    judge: async (found) => {
      const request = found.link.next(
        CODE.GET,
        CORE.with(OPTION.Block2, encodeBlock({ number: 0, hasMore: false, sizeBytes: 16 })),
      );
      const answer = await found.link.ask(request);
      if (answer === undefined) return failed("no answer");
      if (answer.payload.length > 16) return failed(`a block of ${answer.payload.length} bytes`);
      const whole = await wholeOf(found, answer);
      const plain = await found.link.ask(found.link.next(CODE.GET, CORE));
      const expected = plain === undefined ? undefined : await wholeOf(found, plain);
      if (whole === undefined || expected === undefined) return failed("its blocks do not make a whole");
      return Buffer.compare(whole, expected) === 0 ? passed : failed("the blocks are not what comes at once");
    },
  },
  {
    rule: "gives each property as one record of SenML-CBOR",
    source: "RFC 8428 §6",
    judge: async ({ link, resources }) => {
      for (const { name, path } of resources.properties) {
        const answer = await link.ask(link.next(CODE.GET, pathOf({ path })));
        if (answer === undefined) return failed(`${name}: no answer`);
        // No value at present.
        if (answer.code === CODE.ServiceUnavailable) continue;
        try {
          const readings = readingsOf(answer, name, Date.now() / 1000);
          if (readings.length === 0) return failed(`${name}: an empty pack`);
        } catch (error) {
          return failed(messageOf(error));
        }
        const format = answer.options.contentFormat;
        if (format !== CONTENT_FORMAT["application/senml+cbor"])
          return failed(`${name}: content-format ${format}, not 112`);
      }
      return passed;
    },
  },
  {
    rule: "answers 4.06 where a format is asked for that it does not have",
    source: "RFC 7252 §5.10.4",
    judge: async ({ link, resources }) => {
      const [property] = resources.properties;
      if (property === undefined) return skipped("no property");
      const accepting = pathOf(property).with(OPTION.Accept, CONTENT_FORMAT["application/xml"]);
      return expectCode(await link.ask(link.next(CODE.GET, accepting)), CODE.NotAcceptable);
    },
  },
  {
    rule: "answers DELETE of a property with 4.05",
    source: "RFC 7252 §5.8",
    judge: async ({ link, resources }) => {
      const [property] = resources.properties;
      if (property === undefined) return skipped("no property");
      return expectCode(await link.ask(link.next(CODE.DELETE, pathOf(property))), CODE.MethodNotAllowed);
    },
  },
  {
    rule: "refuses PUT of a property that only reads",
    source: "RFC 7252 §5.8.3",
    judge: async ({ link, resources }) => {
      const property = resources.properties.find(({ isWritable }) => !isWritable);
      if (property === undefined) return skipped("all properties are writable");
      const options = pathOf(property).with(OPTION.ContentFormat, CONTENT_FORMAT["application/senml+cbor"]);
      const answer = await link.ask(link.next(CODE.PUT, options, Uint8Array.of(0x81, 0xa1, 0x02, 0x00)));
      return expectCode(answer, CODE.MethodNotAllowed, CODE.Forbidden);
    },
  },
  {
    rule: "refuses to set a property from what is no SenML, or of another format",
    source: "RFC 7252 §5.9.2",
    judge: async ({ link, resources }) => {
      const property = resources.properties.find(({ isWritable }) => isWritable);
      if (property === undefined) return skipped("no property is writable");
      const senml = pathOf(property).with(OPTION.ContentFormat, CONTENT_FORMAT["application/senml+cbor"]);
      const junk = expectCode(await link.ask(link.next(CODE.PUT, senml, Uint8Array.of(0xff, 0x00))), CODE.BadRequest);
      if (junk.result !== "passed") return junk;
      const xml = pathOf(property).with(OPTION.ContentFormat, CONTENT_FORMAT["application/xml"]);
      return expectCode(await link.ask(link.next(CODE.PUT, xml, Uint8Array.of(0x3c))), CODE.UnsupportedContentFormat);
    },
  },
  {
    rule: "confirms an observation by the Observe option, and its end by leaving it out",
    source: "RFC 7641 §4.1",
    judge: async ({ link, resources }) => {
      const observable = resources.properties.filter(({ isObservable }) => isObservable);
      if (observable.length === 0) return skipped("no property is observable");
      for (const property of observable) {
        const request = link.next(CODE.GET, pathOf(property).with(OPTION.Observe, 0));
        const answer = await link.ask(request);
        if (answer?.code === CODE.ServiceUnavailable) continue;
        const outcome = expectCode(answer, CODE.Content);
        if (outcome.result !== "passed") return failed(`${property.name}: ${outcome.why}`);
        const hasBegun = answer?.options.has(OPTION.Observe) === true;
        const end = { ...link.next(CODE.GET, pathOf(property).with(OPTION.Observe, 1)), token: request.token };
        const ended = await link.ask(end);
        if (!hasBegun) return failed(`${property.name}: no Observe option, though its link has obs`);
        if (ended === undefined || ended.options.has(OPTION.Observe))
          return failed(`${property.name}: it does not end`);
      }
      return passed;
    },
  },
  {
    rule: "gives by FETCH the properties that are named, and no others",
    source: "RFC 8790 §3.1",
    judge: async ({ link, resources }) => {
      const { collection, properties } = resources;
      if (collection === undefined) return skipped("no link has rt=dpe.p");
      const names = properties.slice(0, 2).map(({ name }) => name);
      const { code, options, payload } = fetchOf(collection, names);
      const answer = await link.ask(link.next(code, options, payload));
      const outcome = expectCode(answer, CODE.Content);
      if (answer === undefined || outcome.result !== "passed") return outcome;
      try {
        const others = readingsOf(answer, "FETCH", Date.now() / 1000).filter(({ name }) => !names.includes(name));
        return others.length === 0 ? passed : failed(`it gave ${others.map(({ name }) => name).join(", ")} besides`);
      } catch (error) {
        return failed(messageOf(error));
      }
    },
  },
  {
    rule: "tells of itself at /dpe",
    source: "firmware-bridge",
    judge: async ({ link, resources: { status } }) => {
      if (status === undefined) return skipped("no link has rt=dpe.bridge: a restart is noticed late");
      const answer = await link.ask(link.next(CODE.GET, pathOf({ path: status })));
      if (answer === undefined) return failed("no answer");
      try {
        statusOf(answer);
        return passed;
      } catch (error) {
        return failed(messageOf(error));
      }
    },
  },
];

/** Sends a changed frame of a request that would be answered. */
async function expectSilence(link: RawLink, change: (frame: Uint8Array) => Uint8Array): Promise<Outcome> {
  // Without bytes that would be escaped, so that the place of the change is known.
  const message = Uint8Array.of(0x41, CODE.GET, 0x12, 0x35, 0x21, 0xb4, 0x6e, 0x6f, 0x6e, 0x65);
  link.sendBytes(change(encodeCoapFrame(message)));
  const answer = await link.receive(({ messageId }) => messageId === 0x1235);
  return answer === undefined ? passed : failed(`it answered ${formatCode(answer.code)}`);
}

function damaged(frame: Uint8Array, at: number, bits: number): Uint8Array {
  return frame.map((byte, index) => (index === at ? byte ^ bits : byte));
}

/** The whole of what a first block begins; undefined where a block is missing. */
async function wholeOf({ link }: Found, first: Message): Promise<Uint8Array | undefined> {
  const parts = [first.payload];
  let block = first.options.block2;
  for (let number = (block?.number ?? 0) + 1; block?.hasMore === true && number < MAX_BLOCKS; number++) {
    const { sizeBytes } = block;
    const next = await link.ask(
      link.next(CODE.GET, CORE.with(OPTION.Block2, encodeBlock({ number, hasMore: false, sizeBytes }))),
    );
    if (next?.code !== CODE.Content || next.options.block2?.number !== number) return undefined;
    parts.push(next.payload);
    block = next.options.block2;
  }
  return block?.hasMore === true ? undefined : Buffer.concat(parts);
}

const MAX_BLOCKS = 1024;
