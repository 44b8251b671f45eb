import {
  BlockwiseServer,
  type BlockwiseServerOptions,
  BlockwiseTransfer,
  type BlockwiseTransferOptions,
  CODE,
  CoapError,
  decodeLinks,
  encodeLinks,
  getRequest,
  OPTION,
  Options,
  type RequestMessage,
  type ResponseMessage,
} from "#coap/index.js";
import test from "ava";
import fc from "fast-check";
import { SeededRandom } from "#sim/seeded-random.js";

const path = (...segments: string[]): Options => Options.none.withAll(OPTION.UriPath, segments);
const PEER = { name: "peer" };
const NONE = new Uint8Array(0);

function errorCode(operation: () => unknown): string | undefined {
  try {
    operation();
    return undefined;
  } catch (error) {
    return error instanceof CoapError ? error.code : `not a CoapError: ${String(error)}`;
  }
}

/** Runs a whole request through both halves; the handler sees whole requests only. */
function run(
  server: BlockwiseServer<object>,
  request: RequestMessage,
  handler: (request: RequestMessage) => ResponseMessage,
  options: Partial<BlockwiseTransferOptions> = {},
): { readonly response: ResponseMessage; readonly messages: readonly RequestMessage[] } {
  const transfer = new BlockwiseTransfer(request, options);
  const messages: RequestMessage[] = [];
  for (let response: ResponseMessage | undefined; ;) {
    const message = transfer.next();
    messages.push(message);
    const input = server.receive(PEER, message, 0);
    const answer = input.type === "answer" ? input.response : server.send(PEER, message, handler(input.request), 0);
    response = transfer.handleResponse(answer);
    if (response !== undefined) return { response, messages };
  }
}

test("bodies of every size go both ways unchanged, whatever block sizes the sides prefer", (t) => {
  const size = fc.constantFrom(16, 32, 64, 256, 1024);
  fc.assert(
    fc.property(fc.nat(3000), fc.nat(3000), size, size, (up, down, clientBlock, serverBlock) => {
      const random = new SeededRandom(up * 31 + down);
      const [sent, wanted] = [random.bytes(up), random.bytes(down)];
      const server = new BlockwiseServer<object>({ blockBytes: serverBlock });
      let handled = 0;
      const { response, messages } = run(
        server,
        { code: CODE.POST, options: path("x").with(OPTION.ContentFormat, 112), payload: sent },
        (request) => {
          handled++;
          t.deepEqual(request.payload, sent);
          t.is(request.options.contentFormat, 112);
          return { code: CODE.Changed, options: Options.none.with(OPTION.ContentFormat, 60), payload: wanted };
        },
        { blockBytes: clientBlock },
      );
      t.is(handled, 1);
      t.is(response.code, CODE.Changed);
      t.deepEqual(response.payload, wanted);
      t.deepEqual(
        [...response.options].map(({ number }) => number),
        [OPTION.ContentFormat],
      );
      t.true(messages.every(({ payload }) => payload.length <= clientBlock));
    }),
    { numRuns: 150 },
  );
});

test("the server's smaller blocks are taken up from the first answer on (RFC 7959 §2.3)", (t) => {
  const server = new BlockwiseServer<object>({ blockBytes: 32 });
  const { messages } = run(
    server,
    { code: CODE.PUT, options: path("x"), payload: new Uint8Array(160) },
    () => ({
      code: CODE.Changed,
      options: Options.none,
      payload: NONE,
    }),
    { blockBytes: 64 },
  );
  t.deepEqual(
    messages.map(({ options }) => [options.block1?.number, options.block1?.sizeBytes, options.block1?.hasMore]),
    [
      [0, 64, true],
      [2, 32, true],
      [3, 32, true],
      [4, 32, false],
    ],
  );
  t.is(messages[0]?.options.uint(OPTION.Size1), 160);
  t.is(server.bufferedBytes, 0);
});

test("a missing, foreign or out-of-order block is answered 4.08", (t) => {
  const server = new BlockwiseServer<object>();
  const block = (number: number, hasMore: boolean, options = path("x")): RequestMessage => ({
    code: CODE.PUT,
    options: options.withBlock1({ number, hasMore, sizeBytes: 16 }),
    payload: new Uint8Array(16),
  });
  const codeOf = (request: RequestMessage, peer: object = PEER, now = 0): number | string => {
    const input = server.receive(peer, request, now);
    return input.type === "answer" ? input.response.code : "whole";
  };
  t.is(codeOf(block(1, true)), CODE.RequestEntityIncomplete);
  t.is(codeOf(block(0, true)), CODE.Continue);
  t.is(codeOf(block(2, true)), CODE.RequestEntityIncomplete);
  t.is(codeOf(block(0, true)), CODE.Continue);
  t.is(codeOf(block(1, false), { name: "another" }), CODE.RequestEntityIncomplete);
  t.is(codeOf(block(1, false, path("y"))), CODE.RequestEntityIncomplete);
  t.is(codeOf(block(1, false, path("x").with(OPTION.RequestTag, Uint8Array.of(1)))), CODE.RequestEntityIncomplete);
  t.is(codeOf(block(1, false)), "whole");
  t.is(codeOf(block(0, true)), CODE.Continue);
  t.is(codeOf(block(1, false), PEER, 247_000), CODE.RequestEntityIncomplete);
  t.is(codeOf({ ...block(0, true), payload: new Uint8Array(15) }), CODE.BadRequest);
  t.is(codeOf({ ...getRequest(path("x").with(OPTION.Block2, Uint8Array.of(7))) }), CODE.BadRequest);
  t.is(server.bufferedBytes, 0);
});

test("options named as outside the operation may differ from block to block", (t) => {
  const server = new BlockwiseServer<object>({ optionsOutsideOperation: [65_033] });
  for (const number of [0, 1]) {
    const options = path("x")
      .with(65_033, Uint8Array.of(number))
      .withBlock1({ number, hasMore: number === 0, sizeBytes: 16 });
    const input = server.receive(PEER, { code: CODE.PUT, options, payload: new Uint8Array(16) }, 0);
    t.is(input.type, number === 0 ? "answer" : "whole");
  }
});

test("memory for bodies is bounded per peer and in all, and freed in time", (t) => {
  const limits: Partial<BlockwiseServerOptions> = { maxBodyBytes: 64, maxTransfersPerPeer: 2, maxBufferedBytes: 1700 };
  const server = new BlockwiseServer<object>(limits);
  const begin = (name: string, peer: object = PEER): ResponseMessage | undefined => {
    const options = path(name).withBlock1({ number: 0, hasMore: true, sizeBytes: 32 });
    const input = server.receive(peer, { code: CODE.PUT, options, payload: new Uint8Array(32) }, 0);
    return input.type === "answer" ? input.response : undefined;
  };
  for (const name of ["a", "b", "c"]) t.is(begin(name)?.code, CODE.Continue);
  // What is kept beside a body counts too: small ones are no way around the bound.
  const each = server.bufferedBytes / 2;
  t.true(each > 500 && each < 600, `${each} bytes`);
  t.is(begin("d", { name: "second" })?.code, CODE.Continue);
  t.is(begin("e", { name: "third" })?.code, CODE.ServiceUnavailable);
  const tooLong = path("a").with(OPTION.Size1, 65).withBlock1({ number: 0, hasMore: true, sizeBytes: 32 });
  const refused = server.receive(PEER, { code: CODE.PUT, options: tooLong, payload: new Uint8Array(32) }, 0);
  t.is(refused.type === "answer" ? refused.response.code : 0, CODE.RequestEntityTooLarge);
  t.is(refused.type === "answer" ? refused.response.options.uint(OPTION.Size1) : 0, 64);
  server.closePeer(PEER);
  t.is(server.bufferedBytes, each);
  server.sweep(247_000);
  t.is(server.bufferedBytes, 0);
});

test("a representation that changes between blocks is read anew, never mixed (RFC 7959 §2.4)", (t) => {
  const version = (etag: number): ResponseMessage => ({
    code: CODE.Content,
    options: Options.none.with(OPTION.ETag, Uint8Array.of(etag)),
    payload: new Uint8Array(100).fill(etag),
  });
  const transfer = new BlockwiseTransfer(getRequest(path("x")));
  const servers = [1, 2].map(() => new BlockwiseServer<object>({ blockBytes: 32 }));
  let count = 0;
  for (let response: ResponseMessage | undefined; ;) {
    const etag = count++ < 2 ? 1 : 2;
    const message = transfer.next();
    const server = servers[etag - 1]!;
    const input = server.receive(PEER, message, 0);
    response = transfer.handleResponse(
      input.type === "answer" ? input.response : server.send(PEER, message, version(etag), 0),
    );
    if (response === undefined) continue;
    t.deepEqual(response.payload, version(2).payload);
    break;
  }
  t.is(count, 2 + 1 + 4);
});

test("a client refuses blocks that do not fit together, and bodies past its bound", (t) => {
  const block = (number: number, hasMore: boolean, length = 16): ResponseMessage => ({
    code: CODE.Content,
    options: Options.none.withBlock2({ number, hasMore, sizeBytes: 16 }),
    payload: new Uint8Array(length),
  });
  const after = (...responses: ResponseMessage[]): string | undefined =>
    errorCode(() => {
      const transfer = new BlockwiseTransfer(getRequest(), { maxBodyBytes: 40 });
      for (const response of responses) {
        transfer.next();
        transfer.handleResponse(response);
      }
    });
  t.is(after(block(1, true)), "COAP_BLOCK_MISMATCH");
  t.is(after(block(0, true), block(2, true)), "COAP_BLOCK_MISMATCH");
  t.is(after(block(0, true, 15)), "COAP_BLOCK_MISMATCH");
  t.is(after(block(0, true), { ...block(1, true), options: Options.none }), "COAP_BLOCK_MISMATCH");
  t.is(after({ code: CODE.Continue, options: Options.none, payload: NONE }), "COAP_BLOCK_MISMATCH");
  t.is(after(block(0, true), block(1, true), block(2, true)), "COAP_BODY_TOO_LARGE");
  t.is(after(block(0, true), block(1, true), block(2, false, 8)), undefined);
  t.is(
    errorCode(() => new BlockwiseTransfer(getRequest(), { blockBytes: 100 })),
    "COAP_INVALID_MESSAGE",
  );
});

test("link format is read as RFC 6690 §5 writes it, and written back", (t) => {
  const text = '</sensors>;ct=40;title="Sensor Index",</sensors/temp>;rt="temperature-c";if="sensor";obs';
  const links = decodeLinks(text);
  t.deepEqual(links, [
    { target: "/sensors", attributes: { ct: "40", title: "Sensor Index" } },
    { target: "/sensors/temp", attributes: { rt: "temperature-c", if: "sensor", obs: true } },
  ]);
  t.is(encodeLinks(links), text);
  t.deepEqual(decodeLinks(encodeLinks([{ target: "/a", attributes: { title: 'a "b" \\ ,;' } }])), [
    { target: "/a", attributes: { title: 'a "b" \\ ,;' } },
  ]);
  t.deepEqual(decodeLinks(""), []);
  for (const bad of ["<a", "</a>;", "</a>x", '</a>;t="', "</a>,"]) {
    t.is(
      errorCode(() => decodeLinks(bad)),
      "COAP_FORMAT_ERROR",
      bad,
    );
  }
});
