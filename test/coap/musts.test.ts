import {
  BlockwiseServer,
  BlockwiseTransfer,
  CODE,
  CoapError,
  getRequest,
  MESSAGE_TYPE,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import test from "ava";
import { bytes, content, Host, path, text } from "./exchange/host.js";

const NONE = new Uint8Array(0);
const zeros = (length: number): Uint8Array => new Uint8Array(length);
/** Options with one of this number and value, or several. */
const having = (number: number, ...values: Uint8Array[]): Options =>
  Options.of(values.map((value) => ({ number, value })));

/** A server that answers everything by what it got. */
function echoing(seed: number): Host {
  const server = new Host(seed, { applicationOptions: [OPTION.IfMatch, OPTION.IfNoneMatch] });
  server.answer = (incoming, now) => server.endpoint.respond(incoming, content(text(incoming.payload)), now);
  return server;
}

/** The registry of RFC 7252 §5.10 and what the later RFCs add: least and greatest length in bytes. */
const LENGTHS: readonly (readonly [string, number, number, number])[] = [
  ["If-Match", OPTION.IfMatch, 0, 8],
  ["Uri-Host", OPTION.UriHost, 1, 255],
  ["ETag", OPTION.ETag, 1, 8],
  ["If-None-Match", OPTION.IfNoneMatch, 0, 0],
  ["Observe", OPTION.Observe, 0, 3],
  ["Uri-Port", OPTION.UriPort, 0, 2],
  ["Uri-Path", OPTION.UriPath, 0, 255],
  ["Content-Format", OPTION.ContentFormat, 0, 2],
  ["Uri-Query", OPTION.UriQuery, 0, 255],
  ["Accept", OPTION.Accept, 0, 2],
  ["Block2", OPTION.Block2, 0, 3],
  ["Block1", OPTION.Block1, 0, 3],
  ["Size2", OPTION.Size2, 0, 4],
  ["Size1", OPTION.Size1, 0, 4],
  ["Echo", OPTION.Echo, 1, 40],
  ["No-Response", OPTION.NoResponse, 0, 1],
  ["Request-Tag", OPTION.RequestTag, 0, 8],
];

test("RFC 7252 §5.4.3: every option of the registry has its lengths; beyond them it is as unknown", (t) => {
  const server = echoing(1);
  let messageId = 0;
  const send = (options: Options): { readonly code: number | undefined; readonly isThere: boolean } => {
    const before = server.requests.length;
    server.receive({ messageId: messageId++, options });
    const [{ number } = { number: -1 }] = options;
    return {
      code: server.sent()?.code,
      isThere: server.requests.length > before && server.requests.at(-1)?.options.has(number) === true,
    };
  };
  for (const [name, number, least, greatest] of LENGTHS) {
    for (const length of [least, greatest])
      t.like(send(having(number, zeros(length))), { code: CODE.Content, isThere: true }, `${name}, ${length}`);
    for (const length of [least - 1, greatest + 1].filter((one) => one >= 0)) {
      const expected = number % 2 === 1 ? CODE.BadOption : CODE.Content;
      t.like(send(having(number, zeros(length))), { code: expected, isThere: false }, `${name}, ${length}`);
    }
  }
});

test("RFC 7252 §5.4.5: what may be there once is there once; a further critical one is 4.02", (t) => {
  const server = echoing(2);
  const once = [
    ["Uri-Host", OPTION.UriHost],
    ["Observe", OPTION.Observe],
    ["Uri-Port", OPTION.UriPort],
    ["Content-Format", OPTION.ContentFormat],
    ["Accept", OPTION.Accept],
    ["Block1", OPTION.Block1],
    ["Block2", OPTION.Block2],
    ["Size1", OPTION.Size1],
    ["Echo", OPTION.Echo],
    ["No-Response", OPTION.NoResponse],
  ] as const;
  let messageId = 0;
  for (const [name, number] of once) {
    server.receive({ messageId: messageId++, options: having(number, Uint8Array.of(1), Uint8Array.of(2)) });
    const code = server.sent()?.code;
    if (number % 2 === 1) t.is(code, CODE.BadOption, name);
    else t.deepEqual(server.requests.at(-1)?.options.getAll(number), [Uint8Array.of(1)], name);
  }
  for (const number of [OPTION.IfMatch, OPTION.ETag, OPTION.UriPath, OPTION.UriQuery, OPTION.RequestTag]) {
    server.receive({ messageId: messageId++, options: having(number, Uint8Array.of(1), Uint8Array.of(2)) });
    t.is(server.requests.at(-1)?.options.getAll(number).length, 2);
  }
});

test("RFC 7252 §5.4: an option of the other kind of message is as unknown; a response has one ETag", (t) => {
  const server = echoing(3);
  server.receive({ messageId: 1, options: having(OPTION.MaxAge, Uint8Array.of(9)) });
  server.receive({ messageId: 2, options: having(OPTION.LocationPath, bytes("x")) });
  t.deepEqual(
    server.requests.map(({ options }) => options.length),
    [0, 0],
  );
  const outcome = (options: Options): string => {
    const client = new Host(4);
    const exchange = client.endpoint.request(client.peer, getRequest(path("x")), 0);
    const sent = client.sent();
    let seen = "";
    client.receive({
      type: MESSAGE_TYPE.Acknowledgement,
      code: CODE.Content,
      messageId: sent!.messageId,
      token: exchange.token,
      options,
    });
    seen = client.failures[0] ?? `${client.responses.length}`;
    return seen;
  };
  t.is(outcome(having(OPTION.UriPath, bytes("x"))), "COAP_BAD_OPTION");
  t.is(outcome(having(OPTION.ProxyScheme, bytes("x"))), "COAP_BAD_OPTION");
  t.is(outcome(having(OPTION.RequestTag, bytes("x"))), "1", "RFC 9175 §3.4: left out");
  t.is(outcome(having(OPTION.ETag, bytes("a"), bytes("b"))), "1");
  // RFC 7252 §5.10.7: 128 to 140 may say more of the location.
  t.is(outcome(Options.none.with(OPTION.LocationPath, "x").with(132, "y")), "COAP_BAD_OPTION");
  t.is(outcome(Options.none.with(132, "y")), "1");
});

test("RFC 7252 §5.10.1: a segment of dots is no segment of a path", (t) => {
  const server = echoing(5);
  for (const [messageId, segment] of [".", ".."].entries()) {
    server.receive({ messageId, options: path("a", segment, "b") });
    t.is(server.sent()?.code, CODE.BadOption);
  }
  server.receive({ messageId: 9, options: path("...", ".a", "") });
  t.is(server.sent()?.code, CODE.Content);
});

test("RFC 7252 §5.7.2: who is no proxy says so, to a Non-confirmable request too", (t) => {
  const server = echoing(6);
  server.receive({ type: MESSAGE_TYPE.NonConfirmable, options: having(OPTION.ProxyUri, bytes("coap://h/")) });
  t.like(server.sent(), { type: MESSAGE_TYPE.NonConfirmable, code: CODE.ProxyingNotSupported });
  server.receive({ messageId: 2, options: having(OPTION.ProxyScheme, bytes("coap")) });
  t.is(server.sent()?.code, CODE.ProxyingNotSupported);
  t.is(server.requests.length, 0);
});

test("RFC 7252 §5.5: a payload of GET, DELETE and 2.03 is ignored", (t) => {
  const server = echoing(7);
  for (const [messageId, code] of [CODE.GET, CODE.DELETE].entries()) {
    server.receive({ messageId, code, payload: bytes("ignore me") });
    t.is(server.sent()?.payload.length, 0);
  }
  server.receive({ messageId: 8, code: CODE.FETCH, payload: bytes("read me") });
  t.is(text(server.sent()?.payload ?? NONE), "read me");
  const client = new Host(8);
  const { token } = client.endpoint.request(client.peer, getRequest(path("x")), 0);
  const messageId = client.sent()!.messageId;
  client.receive({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Valid, messageId, token, payload: bytes("no") });
  t.deepEqual(client.responses, [""]);
});

test("RFC 8768 §3: a Hop-Limit of 0, or above 255, is answered 4.00", (t) => {
  const server = echoing(9);
  const codes = [zeros(0), zeros(1), Uint8Array.of(1, 0), Uint8Array.of(1), Uint8Array.of(255)].map(
    (value, messageId) => {
      server.receive({ messageId, options: having(OPTION.HopLimit, value) });
      return server.sent()?.code;
    },
  );
  t.deepEqual(codes, [CODE.BadRequest, CODE.BadRequest, CODE.BadRequest, CODE.Content, CODE.Content]);
});

test("RFC 7641 §2: Observe has a meaning in GET and FETCH only, to begin and to end", (t) => {
  const server = new Host(10);
  server.answer = (incoming, now) => {
    server.endpoint.respondObserved(incoming, content("0"), now);
  };
  const token = Uint8Array.of(7);
  server.receive({ messageId: 1, code: CODE.POST, token, options: Options.none.with(OPTION.Observe, 0) });
  t.is(server.endpoint.observations, 0);
  server.receive({ messageId: 2, token, options: Options.none.with(OPTION.Observe, 0) });
  server.receive({ messageId: 3, code: CODE.POST, token, options: Options.none.with(OPTION.Observe, 1) });
  t.is(server.endpoint.observations, 1);
  server.receive({ messageId: 4, token, options: Options.none.with(OPTION.Observe, 1) });
  t.is(server.endpoint.observations, 0);
  t.deepEqual(server.ended, ["cancelled"]);
});

test("RFC 7641 §4.5 and §7: Confirmable notifications once a day and every twenty, to a doubtful address the first too", (t) => {
  const server = new Host(11);
  let allowance = Infinity;
  server.answer = (incoming, now) => {
    server.endpoint.respondObserved(incoming, content("0"), now, allowance);
  };
  const register = (messageId: number): void => {
    server.receive({
      type: MESSAGE_TYPE.NonConfirmable,
      messageId,
      token: Uint8Array.of(messageId),
      options: Options.none.with(OPTION.Observe, 0),
    });
    server.sent();
  };
  const notify = (now: number): number | undefined => {
    server.endpoint.notify(server.requests.at(-1)!, content("n"), now);
    const sent = server.sent(now);
    if (sent?.type === MESSAGE_TYPE.Confirmable)
      server.receive({ type: MESSAGE_TYPE.Acknowledgement, code: CODE.Empty, messageId: sent.messageId }, now);
    return sent?.type;
  };
  register(1);
  const types = Array.from({ length: 22 }, (_, index) => notify(1000 + index));
  t.deepEqual(
    types.flatMap((type, index) => (type === MESSAGE_TYPE.Confirmable ? [index] : [])),
    [20],
  );
  t.is(notify(24 * 3600 * 1000), MESSAGE_TYPE.NonConfirmable);
  t.is(notify(24 * 3600 * 1000 + 2000), MESSAGE_TYPE.Confirmable, "a day after the last acknowledgement");
  allowance = 136;
  register(2);
  t.is(notify(2e8), MESSAGE_TYPE.Confirmable);
  t.is(notify(2e8 + 1), MESSAGE_TYPE.NonConfirmable, "it has answered");
});

const PEER = {};
const block1 = (number: number, hasMore: boolean, options: Options): RequestMessage => ({
  code: CODE.PUT,
  options: options.withBlock1({ number, hasMore, sizeBytes: 16 }),
  payload: zeros(16),
});

test("RFC 7959 §2.10: If-None-Match goes with the first block only, and holds for the whole body", (t) => {
  const conditional = path("x").with(OPTION.IfNoneMatch, NONE);
  const server = new BlockwiseServer<object>({ blockBytes: 16 });
  const transfer = new BlockwiseTransfer(
    { code: CODE.PUT, options: conditional, payload: zeros(48) },
    { blockBytes: 16 },
  );
  const sent: boolean[] = [];
  let whole: RequestMessage | undefined;
  for (let response: ResponseMessage | undefined; response === undefined;) {
    const message = transfer.next();
    sent.push(message.options.has(OPTION.IfNoneMatch));
    const input = server.receive(PEER, message, 0);
    if (input.type === "whole") whole = input.request;
    const answer = { code: CODE.Changed, options: Options.none, payload: NONE };
    response = transfer.handleResponse(
      input.type === "answer" ? input.response : server.send(PEER, message, answer, 0),
    );
  }
  t.deepEqual(sent, [true, false, false]);
  t.is(whole?.payload.length, 48);
  t.true(whole?.options.has(OPTION.IfNoneMatch), "the handler is to check it");
  // A client that says it with each block means the same; one that never says it is not taken to.
  server.receive(PEER, block1(0, true, conditional), 0);
  const again = server.receive(PEER, block1(1, false, conditional), 0);
  t.true(again.type === "whole" && again.request.options.has(OPTION.IfNoneMatch));
  server.receive(PEER, block1(0, true, path("x")), 0);
  const plain = server.receive(PEER, block1(1, false, path("x")), 0);
  t.true(plain.type === "whole" && !plain.request.options.has(OPTION.IfNoneMatch));
});

test("RFC 7959 §2.2: size exponent 7 is answered 4.00 on datagrams, and no client takes it there", (t) => {
  const server = new BlockwiseServer<object>();
  for (const number of [OPTION.Block1, OPTION.Block2]) {
    const input = server.receive(PEER, { code: CODE.GET, options: having(number, Uint8Array.of(7)), payload: NONE }, 0);
    t.true(input.type === "answer" && input.response.code === CODE.BadRequest);
  }
  const both = having(OPTION.Block1, Uint8Array.of(6)).with(OPTION.Block2, Uint8Array.of(7));
  const input = server.receive(PEER, { code: CODE.POST, options: both, payload: NONE }, 0);
  t.true(input.type === "answer" && input.response.code === CODE.BadRequest);
  const transfer = new BlockwiseTransfer(getRequest(path("x")));
  transfer.next();
  const bert = { code: CODE.Content, options: having(OPTION.Block2, Uint8Array.of(0x0f)), payload: zeros(1024) };
  const error = t.throws(() => transfer.handleResponse(bert), { instanceOf: CoapError });
  t.is(error?.code, "COAP_BLOCK_MISMATCH");
});

test("RFC 7959 §2.2, §4: the M bit of a Block2 in a request is ignored, and who asks for the size by 0 is told it", (t) => {
  const server = new BlockwiseServer<object>();
  const response = (length: number) => ({ code: CODE.Content, options: Options.none, payload: zeros(length) });
  const request = getRequest(path("x").withBlock2({ number: 0, hasMore: true, sizeBytes: 64 }));
  t.is(server.receive(PEER, request, 0).type, "whole");
  t.deepEqual(server.send(PEER, request, response(100), 0).options.block2, { number: 0, hasMore: true, sizeBytes: 64 });
  const later = server.receive(PEER, getRequest(path("x").withBlock2({ number: 1, hasMore: true, sizeBytes: 64 })), 0);
  t.true(later.type === "answer" && later.response.payload.length === 36);
  const asking = getRequest(path("y").with(OPTION.Size2, 0));
  t.is(server.send(PEER, asking, response(100), 0).options.size2, 100);
  t.is(server.send(PEER, getRequest(path("y")), response(100), 0).options.size2, undefined);
});

test("RFC 9175 §3: bodies are told apart by all their Request-Tags in order, none and an empty one too", (t) => {
  const server = new BlockwiseServer<object>({ maxTransfersPerPeer: 10 });
  const tags: readonly (readonly string[])[] = [
    [],
    [""],
    ["a"],
    ["a", "b"],
    ["b", "a"],
    ["ab"],
    ["", ""],
    ["a 292", "b"],
    ["a", "292 b"],
  ];
  const fill = (index: number): Uint8Array => zeros(16).fill(index);
  const message = (index: number, number: number): RequestMessage => ({
    ...block1(number, number < 1, path("x").withAll(OPTION.RequestTag, tags[index] ?? [])),
    payload: fill(index),
  });
  for (const index of tags.keys()) {
    const input = server.receive(PEER, message(index, 0), 0);
    t.true(input.type === "answer" && input.response.code === CODE.Continue);
  }
  for (const index of tags.keys()) {
    const input = server.receive(PEER, message(index, 1), 0);
    t.true(input.type === "whole" && input.request.payload.every((byte) => byte === index), `${index}`);
  }
});
