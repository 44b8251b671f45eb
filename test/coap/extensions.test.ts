import {
  CODE,
  CoapError,
  conditionalAttributesOf,
  decodeLinks,
  decodeProblemDetails,
  encodeProblemDetails,
  filterLinks,
  MESSAGE_TYPE,
  NO_RESPONSE_AT_ALL,
  NotificationGate,
  OPTION,
  type Options,
  type ProblemDetails,
} from "#coap/index.js";
import { encodeCbor } from "#cbor/index.js";
import test from "ava";
import fc from "fast-check";
import { content, Host, path } from "./exchange/host.js";

const noResponse = (value: number): Options => path("log").with(OPTION.NoResponse, value);

test("RFC 7967 §2: a response of a class that is not wanted is left out, and a Confirmable request acknowledged", (t) => {
  const server = new Host(1);
  server.answer = (incoming, now) => server.endpoint.respond(incoming, content("stored"), now);
  server.receive({ type: MESSAGE_TYPE.NonConfirmable, messageId: 1, options: noResponse(2) });
  t.is(server.sent(), undefined);
  server.receive({ messageId: 2, options: noResponse(2) });
  t.like(server.sent(), { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: 2 });
  server.receive({ messageId: 2, options: noResponse(2) }, 100);
  t.like(server.sent(), { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: 2 }, "a duplicate");
  server.receive({ messageId: 3, options: noResponse(8 + 16) });
  t.like(server.sent(), { type: MESSAGE_TYPE.Acknowledgement, code: CODE.Content }, "only errors are unwanted");
  server.answer = (incoming, now) => server.endpoint.respond(incoming, { ...content(""), code: CODE.NotFound }, now);
  server.receive({ type: MESSAGE_TYPE.NonConfirmable, messageId: 4, options: noResponse(2) });
  t.is(server.sent()?.code, CODE.NotFound);
});

test("RFC 7967: a request that wants no response is over when it is acknowledged, or sent when it is Non-confirmable", (t) => {
  const client = new Host(2);
  const message = { code: CODE.POST, options: noResponse(NO_RESPONSE_AT_ALL), payload: new Uint8Array(0) };
  client.endpoint.request(client.peer, message, 0);
  const sent = client.sent();
  t.deepEqual(client.responses, []);
  client.receive({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: sent!.messageId });
  t.deepEqual(client.responses, [""]);
  client.endpoint.request(client.peer, { ...message, isConfirmable: false }, 0);
  t.like(client.sent(), { type: MESSAGE_TYPE.NonConfirmable });
  t.deepEqual(client.responses, ["", ""]);
  // It holds its place within NSTART for a while: a sender that hears nothing is not to send as fast as it can.
  client.endpoint.request(client.peer, { ...message, isConfirmable: false }, 1);
  t.is(client.sent(1), undefined);
  client.handleTimeout(3000);
  t.like(client.sent(3000), { type: MESSAGE_TYPE.NonConfirmable });
});

test("RFC 7252 §4.7: a peer that leaves requests unanswered is sent no more than PROBING_RATE until it is heard", (t) => {
  const client = new Host(3);
  const message = { code: CODE.POST, options: path("x"), payload: new Uint8Array(100), isConfirmable: false };
  const sentAt: number[] = [];
  for (let index = 0; index < 6; index++) client.endpoint.request(client.peer, message, 0);
  const run = (until: number): void => {
    for (let now = client.nextTimeout(); now !== undefined && now <= until; now = client.nextTimeout()) {
      client.handleTimeout(now);
      while (client.sent(now) !== undefined) sentAt.push(now);
    }
  };
  while (client.sent(0) !== undefined) sentAt.push(0);
  run(10_000);
  t.deepEqual(sentAt, [0, 3000, 6000]);
  run(121_500);
  t.is(sentAt.length, 4, "a request of some 115 bytes in 115 seconds");
  client.receive({ type: MESSAGE_TYPE.Reset, code: CODE.Empty, messageId: 0xffff }, 121_500);
  run(300_000);
  t.true(sentAt.length >= 6);
});

test("RFC 6690 §4.1: links are selected by target and attributes, by parts of values and by their beginning", (t) => {
  const links = decodeLinks(
    '</sensors/temp>;rt="temperature-c sensor";if="sensor";obs,</sensors/light>;rt="light-lux";ct=40,</act>;if="actuator"',
  );
  const targets = (...query: string[]): string[] => filterLinks(links, query).map(({ target }) => target);
  t.is(targets().length, 3);
  t.deepEqual(targets("rt=sensor"), ["/sensors/temp"]);
  t.deepEqual(targets("rt=light-lux"), ["/sensors/light"]);
  t.deepEqual(targets("rt=light*"), ["/sensors/light"]);
  t.deepEqual(targets("rt=light"), []);
  t.deepEqual(targets("href=/sensors*"), ["/sensors/temp", "/sensors/light"]);
  t.deepEqual(targets("href=/act"), ["/act"]);
  t.deepEqual(targets("href=/sensors*", "if=sensor"), ["/sensors/temp"]);
  t.deepEqual(targets("obs"), ["/sensors/temp"]);
  t.deepEqual(targets("ct=40"), ["/sensors/light"]);
  t.deepEqual(targets("constructor=x"), []);
  // §3: of rt, if and sz, and here of any attribute, the first counts.
  t.deepEqual(decodeLinks('</a>;rt="first";rt="second";sz=1;sz=2')[0]?.attributes, { rt: "first", sz: "1" });
});

test("RFC 9290 §2: problem details are read as they were written, with detail, language and entries of others", (t) => {
  const problem: ProblemDetails = {
    title: "out of memory",
    detail: { text: "كل شيء", language: "ar", isRightToLeft: true },
    instance: "/log/17",
    responseCode: CODE.ServiceUnavailable,
    baseUri: "coap://example.com/",
    baseLanguage: "en",
    isBaseRightToLeft: false,
    entries: new Map<number | string, unknown>([
      [3, new Map([[0, 5]])],
      ["tag:example.com,2026:memory", new Map([[0, 1024]])],
    ]),
  };
  t.deepEqual(decodeProblemDetails(encodeProblemDetails(problem)), problem);
  t.deepEqual(decodeProblemDetails(encodeProblemDetails({})), {});
  t.is(
    codeOf(() => encodeProblemDetails({ entries: new Map([[-1, "title"]]) })),
    "COAP_INVALID_MESSAGE",
  );
  // The example of RFC 9290 §2, figure 2.
  const example = Uint8Array.from(Buffer.from("a220781a69742773206120636f6e6365707475616c2070726f626c656d2184", "hex"));
  t.is(
    codeOf(() => decodeProblemDetails(example)),
    "COAP_FORMAT_ERROR",
    "cut off",
  );
  t.deepEqual(decodeProblemDetails(Uint8Array.of(0xa1, 0x20, 0x05)), {}, "a title that is no text is left out");
  for (const value of [5, new Map()])
    t.is(
      codeOf(() => encodeProblemDetails({ entries: new Map([[3, value]]) })),
      "COAP_INVALID_MESSAGE",
    );
  // §2.2, §3: what is not known is kept, and what is not as it must be is left out; the rest is read.
  const odd = encodeCbor(
    new Map<number | string, unknown>([
      [-1, "title"],
      [-4, 300],
      [-6, "not a language tag"],
      [-99, "a standard entry of later"],
      [7, "no map"],
      ["tag:example.com,2026:x", new Map()],
      [8, new Map([["unknown", [1, 2]]])],
    ]),
  );
  t.deepEqual(decodeProblemDetails(odd), {
    title: "title",
    entries: new Map<number, unknown>([
      [-99, "a standard entry of later"],
      [8, new Map([["unknown", [1, 2]]])],
    ]),
  });
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const code = codeOf(() => decodeProblemDetails(bytes));
        return code === "none" || code === "COAP_FORMAT_ERROR";
      }),
    ),
  );
});

test("conditional attributes are read from the query, and refused where they make no sense", (t) => {
  t.is(conditionalAttributesOf(["x=1"]), undefined);
  t.deepEqual(conditionalAttributesOf(["c.pmin=5", "c.pmax=60", "c.gt=21.5", "c.lt=-3", "c.st=1e-1"]), {
    pminSeconds: 5,
    pmaxSeconds: 60,
    greaterThan: 21.5,
    lessThan: -3,
    step: 0.1,
  });
  for (const query of [["c.pmin=0"], ["c.pmin=a"], ["c.pmin"], ["c.st=-1"], ["c.gt=1", "c.gt=2"], ["c.unknown=1"]])
    t.is(
      codeOf(() => conditionalAttributesOf(query)),
      "COAP_FORMAT_ERROR",
      query.join("&"),
    );
  t.is(
    codeOf(() => conditionalAttributesOf(["c.pmin=9", "c.pmax=8"])),
    "COAP_FORMAT_ERROR",
  );
});

test("conditional attributes: pmin holds a change back, pmax tells an unchanged state", (t) => {
  const gate = new NotificationGate({ pminSeconds: 10, pmaxSeconds: 60 }, 1, 0);
  t.false(gate.change(2, 1000));
  t.is(gate.nextTimeout(), 10_000);
  t.false(gate.change(3, 2000));
  t.true(gate.handleTimeout(10_000));
  t.is(gate.nextTimeout(), 70_000);
  t.true(gate.change(4, 25_000));
  t.false(gate.handleTimeout(70_000));
  t.true(gate.handleTimeout(85_000));
});

test("conditional attributes: limits are told when they are crossed either way, steps from the last value told", (t) => {
  const limits = new NotificationGate({ greaterThan: 30, lessThan: 10 }, 20, 0);
  t.deepEqual(
    [25, 31, 35, 30, 29, 9, 5, 10, 11].map((value, index) => limits.change(value, index)),
    [false, true, false, true, false, true, false, true, false],
  );
  const steps = new NotificationGate({ step: 5 }, 20, 0);
  t.deepEqual(
    [22, 24, 25, 29, 31, 26].map((value, index) => steps.change(value, index)),
    [false, false, true, false, true, true],
  );
  const held = new NotificationGate({ step: 5, pminSeconds: 10 }, 20, 0);
  t.false(held.change(26, 1000));
  t.false(held.change(21, 2000), "back before pmin: nothing to tell");
  t.is(held.nextTimeout(), undefined);
});

function codeOf(operation: () => unknown): string {
  try {
    operation();
    return "none";
  } catch (error) {
    return error instanceof CoapError ? error.code : String(error);
  }
}
