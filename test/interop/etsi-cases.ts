import { CODE, formatCode, type Message, MESSAGE_TYPE, OPTION } from "#coap/index.js";
import type { ExecutionContext } from "ava";

/** A case of the ETSI CoAP plugtests: what the client is told to do, and what must then be seen between the two. */
export interface EtsiCase {
  readonly id: string;
  readonly what: string;
  readonly steps: readonly Step[];
  readonly check: (t: ExecutionContext, seen: Seen) => void;
}

/** One request, in words that each client under test can carry out. */
export interface Step {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  readonly path: string;
  readonly query?: string;
  readonly payload?: string;
  readonly isNon?: boolean;
  readonly token?: string;
  /** Number and hex. */
  readonly options?: readonly (readonly [number, string])[];
  readonly blockBytes?: number;
  readonly observeSeconds?: number;
}

/** The messages between a client and a server, in the order in which they passed. */
export class Seen {
  readonly #messages: readonly Message[];
  readonly #fromClient: ReadonlySet<Message>;

  constructor(messages: readonly Message[], fromClient: ReadonlySet<Message>) {
    this.#messages = messages;
    this.#fromClient = fromClient;
  }

  /** Requests, without repetitions. */
  get requests(): Message[] {
    return this.#unique((message) => this.#fromClient.has(message) && message.code > 0 && message.code < 0x20);
  }

  get responses(): Message[] {
    return this.#unique((message) => !this.#fromClient.has(message) && message.code >= 0x40);
  }

  /** Empty messages of the client: Acknowledgements and Resets. */
  get clientEmpties(): Message[] {
    return this.#unique((message) => this.#fromClient.has(message) && message.code === CODE.Empty);
  }

  get serverEmpties(): Message[] {
    return this.#unique((message) => !this.#fromClient.has(message) && message.code === CODE.Empty);
  }

  #unique(isWanted: (message: Message) => boolean): Message[] {
    const found = new Map<string, Message>();
    for (const message of this.#messages)
      if (isWanted(message) && !found.has(`${message.type} ${message.messageId}`))
        found.set(`${message.type} ${message.messageId}`, message);
    return [...found.values()];
  }
}

const { Confirmable, NonConfirmable, Acknowledgement, Reset } = MESSAGE_TYPE;
const text = (payload: Uint8Array): string => new TextDecoder().decode(payload);
const LARGE = "x".repeat(1280);

function simple(id: string, what: string, step: Step, code: string): EtsiCase {
  const type = step.isNon === true ? NonConfirmable : Confirmable;
  return {
    id,
    what,
    steps: [step],
    check: (t, seen) => {
      const [request] = seen.requests;
      const [response] = seen.responses;
      t.like(request, { type, code: CODE[step.method] });
      t.is(formatCode(response?.code ?? 0), code);
      t.deepEqual(response?.token, request?.token);
      if (step.isNon === true) t.is(response?.type, NonConfirmable);
      else t.like(response, { type: Acknowledgement, messageId: request?.messageId });
      if (step.method === "GET") t.true((response?.payload.length ?? 0) > 0);
      if (step.payload !== undefined) t.is(text(request?.payload ?? new Uint8Array(0)), step.payload);
    },
  };
}

function separate(id: string, what: string, step: Step): EtsiCase {
  return {
    id,
    what,
    steps: [step],
    check: (t, seen) => {
      const [request] = seen.requests;
      const [response] = seen.responses;
      if (step.isNon === true) {
        t.is(response?.type, NonConfirmable);
      } else {
        t.true(
          seen.serverEmpties.some((empty) => empty.type === Acknowledgement && empty.messageId === request?.messageId),
        );
        t.is(response?.type, Confirmable);
        t.true(
          seen.clientEmpties.some((empty) => empty.type === Acknowledgement && empty.messageId === response?.messageId),
        );
      }
      t.deepEqual(response?.token, request?.token);
      t.is(response?.code, CODE.Content);
    },
  };
}

function links(id: string, query: string | undefined, expected: readonly string[]): EtsiCase {
  return {
    id,
    what: `discovery${query === undefined ? "" : ` by ${query}`}`,
    steps: [{ method: "GET", path: "/.well-known/core", ...(query === undefined ? {} : { query }) }],
    check: (t, seen) => {
      const body = seen.responses.map(({ payload }) => text(payload)).join("");
      t.is(seen.responses[0]?.options.contentFormat, 40);
      for (const target of expected) t.true(body.includes(`<${target}>`), `${target} in ${body}`);
      if (query !== undefined) t.is((body.match(/</g) ?? []).length, expected.length, body);
    },
  };
}

const bodyOf = (messages: readonly Message[]): string => messages.map(({ payload }) => text(payload)).join("");

export const ETSI_CASES: readonly EtsiCase[] = [
  simple("CORE_01", "CON GET", { method: "GET", path: "/test" }, "2.05"),
  simple("CORE_03", "CON PUT", { method: "PUT", path: "/test", payload: "new" }, "2.04"),
  simple("CORE_04", "CON POST", { method: "POST", path: "/test", payload: "more" }, "2.01"),
  simple("CORE_02", "CON DELETE", { method: "DELETE", path: "/test" }, "2.02"),
  simple("CORE_05", "NON GET", { method: "GET", path: "/test", isNon: true }, "2.05"),
  simple("CORE_07", "NON PUT", { method: "PUT", path: "/test", payload: "new", isNon: true }, "2.04"),
  simple("CORE_08", "NON POST", { method: "POST", path: "/test", payload: "more", isNon: true }, "2.01"),
  simple("CORE_06", "NON DELETE", { method: "DELETE", path: "/test", isNon: true }, "2.02"),
  separate("CORE_09", "a separate response", { method: "GET", path: "/separate" }),
  simple("CORE_10", "GET with a Token", { method: "GET", path: "/test", token: "abcd" }, "2.05"),
  separate("CORE_11", "a separate response with a Token", { method: "GET", path: "/separate", token: "abcd" }),
  separate("CORE_17", "a separate response to NON", { method: "GET", path: "/separate", isNon: true }),
  {
    id: "CORE_13",
    what: "several Uri-Path options",
    steps: [{ method: "GET", path: "/seg1/seg2/seg3" }],
    check: (t, seen) => {
      t.deepEqual(seen.requests[0]?.options.uriPath, ["seg1", "seg2", "seg3"]);
      t.is(seen.responses[0]?.code, CODE.Content);
    },
  },
  {
    id: "CORE_14",
    what: "several Uri-Query options",
    steps: [{ method: "GET", path: "/query", query: "first=1&second=2" }],
    check: (t, seen) => {
      t.deepEqual(seen.requests[0]?.options.uriQuery, ["first=1", "second=2"]);
      t.is(text(seen.responses[0]?.payload ?? new Uint8Array(0)), "first=1 second=2");
    },
  },
  {
    id: "CORE_18",
    what: "several Location-Path options",
    steps: [{ method: "POST", path: "/location", payload: "x" }],
    check: (t, seen) => {
      t.is(seen.responses[0]?.code, CODE.Created);
      t.deepEqual(seen.responses[0]?.options.locationPath, ["location1", "location2", "location3"]);
    },
  },
  {
    id: "CORE_19",
    what: "several Location-Query options",
    steps: [{ method: "POST", path: "/location-query", payload: "x" }],
    check: (t, seen) => t.deepEqual(seen.responses[0]?.options.locationQuery, ["first=1", "second=2"]),
  },
  {
    id: "CORE_20",
    what: "content by Accept",
    steps: [
      { method: "GET", path: "/multi-format", options: [[OPTION.Accept, ""]] },
      { method: "GET", path: "/multi-format", options: [[OPTION.Accept, "29"]] },
    ],
    check: (t, seen) =>
      t.deepEqual(
        seen.responses.map(({ code, options }) => [code, options.contentFormat]),
        [
          [CODE.Content, 0],
          [CODE.Content, 41],
        ],
      ),
  },
  {
    id: "CORE_21",
    what: "validation by ETag",
    steps: [
      { method: "GET", path: "/validate" },
      { method: "GET", path: "/validate", options: [[OPTION.ETag, "0102"]] },
      { method: "GET", path: "/validate", options: [[OPTION.ETag, "0909"]] },
    ],
    check: (t, seen) => {
      t.deepEqual(
        seen.responses.map(({ code }) => formatCode(code)),
        ["2.05", "2.03", "2.05"],
      );
      t.is(seen.responses[1]?.payload.length, 0);
    },
  },
  {
    id: "CORE_22",
    what: "If-Match",
    steps: [
      { method: "PUT", path: "/validate", payload: "x", options: [[OPTION.IfMatch, "0102"]] },
      { method: "PUT", path: "/validate", payload: "y", options: [[OPTION.IfMatch, "0909"]] },
    ],
    check: (t, seen) =>
      t.deepEqual(
        seen.responses.map(({ code }) => formatCode(code)),
        ["2.04", "4.12"],
      ),
  },
  {
    id: "CORE_23",
    what: "If-None-Match",
    steps: [{ method: "PUT", path: "/validate", payload: "x", options: [[OPTION.IfNoneMatch, ""]] }],
    check: (t, seen) => t.is(formatCode(seen.responses[0]?.code ?? 0), "4.12"),
  },
  links("LINK_01", undefined, ["/test", "/link1", "/link2", "/link3", "/obs"]),
  links("LINK_02", "rt=Type1", ["/link1"]),
  links("LINK_03", "rt=*", ["/link1", "/link2", "/link3", "/obs"]),
  links("LINK_04", "rt=Type2", ["/link2", "/link3"]),
  links("LINK_05", "if=If*", ["/link1", "/link2"]),
  links("LINK_06", "sz=*", ["/large"]),
  links("LINK_07", "href=/link1", ["/link1"]),
  links("LINK_08", "href=/link*", ["/link1", "/link2", "/link3"]),
  {
    id: "LINK_09",
    what: "links in a hierarchy",
    steps: [
      { method: "GET", path: "/.well-known/core", query: "ct=40" },
      { method: "GET", path: "/path" },
      { method: "GET", path: "/path/sub1" },
    ],
    check: (t, seen) => {
      const [entry, links, leaf] = seen.responses;
      t.regex(text(entry?.payload ?? new Uint8Array(0)), /^<\/path>;ct="?40"?$/);
      t.is(links?.options.contentFormat, 40);
      t.deepEqual(text(links?.payload ?? new Uint8Array(0)).match(/<[^>]*>/g), ["</path/sub1>", "</path/sub2>"]);
      t.is(leaf?.code, CODE.Content);
    },
  },
  {
    id: "BLOCK_01",
    what: "GET in blocks, early negotiation",
    steps: [{ method: "GET", path: "/large", blockBytes: 64 }],
    check: (t, seen) => {
      t.is(seen.requests[0]?.options.block2?.sizeBytes, 64);
      t.is(seen.responses.length, 20);
      t.true(
        seen.responses.every(
          ({ options }, index) => options.block2?.number === index && options.block2.sizeBytes === 64,
        ),
      );
      t.is(bodyOf(seen.responses), LARGE);
    },
  },
  {
    id: "BLOCK_02",
    what: "GET in blocks, late negotiation",
    steps: [{ method: "GET", path: "/large" }],
    check: (t, seen) => {
      t.true(seen.responses.length > 1);
      t.is(seen.responses.at(-1)?.options.block2?.hasMore, false);
      t.is(bodyOf(seen.responses), LARGE);
    },
  },
  {
    id: "BLOCK_03",
    what: "PUT in blocks",
    steps: [{ method: "PUT", path: "/large-update", payload: LARGE, blockBytes: 64 }],
    check: (t, seen) => {
      t.true(seen.requests.length >= 20);
      t.is(bodyOf(seen.requests.filter(({ options }) => options.block1 !== undefined)), LARGE);
      t.true(seen.responses.slice(0, -1).every(({ code }) => code === CODE.Continue));
      t.is(seen.responses.at(-1)?.code, CODE.Changed);
    },
  },
  {
    id: "BLOCK_04",
    what: "POST in blocks creates",
    steps: [{ method: "POST", path: "/large-create", payload: LARGE, blockBytes: 64 }],
    check: (t, seen) => {
      t.is(seen.responses.at(-1)?.code, CODE.Created);
      t.deepEqual(seen.responses.at(-1)?.options.locationPath, ["large-create", "1"]);
    },
  },
  {
    id: "BLOCK_05",
    what: "POST in blocks both ways",
    steps: [{ method: "POST", path: "/large-post", payload: LARGE, blockBytes: 64 }],
    check: (t, seen) => {
      t.is(bodyOf(seen.responses.filter(({ options }) => options.block2 !== undefined)), LARGE.toUpperCase());
    },
  },
  {
    id: "BLOCK_06",
    what: "GET in blocks of 16",
    steps: [{ method: "GET", path: "/large", blockBytes: 16 }],
    check: (t, seen) => {
      t.is(seen.responses.length, 80);
      t.is(bodyOf(seen.responses), LARGE);
    },
  },
  {
    id: "OBS_01",
    what: "observation, stopped by the client (OBS_05)",
    steps: [{ method: "GET", path: "/obs", observeSeconds: 1 }],
    check: (t, seen) => {
      t.is(seen.requests[0]?.options.observe, 0);
      const notified = seen.responses.filter(({ options }) => options.observe !== undefined);
      t.true(notified.length >= 3, String(notified.length));
      t.true(notified.every(({ token }) => Buffer.compare(token, seen.requests[0]?.token ?? token) === 0));
      const isCancelled = seen.requests.some(({ options }) => options.observe === 1);
      t.true(isCancelled || seen.clientEmpties.some(({ type }) => type === Reset));
    },
  },
  {
    id: "OBS_02",
    what: "observation by Non-confirmable messages",
    steps: [{ method: "GET", path: "/obs", observeSeconds: 1, isNon: true }],
    check: (t, seen) => {
      t.is(seen.requests[0]?.type, NonConfirmable);
      const notified = seen.responses.filter(({ options }) => options.observe !== undefined);
      t.true(notified.length >= 3, String(notified.length));
      t.true(notified.every(({ type }) => type === NonConfirmable));
    },
  },
  {
    id: "OBS_08",
    what: "the server ends an observation when the format of the content changes",
    steps: [{ method: "GET", path: "/obs-format", observeSeconds: 1 }],
    check: (t, seen) => {
      t.is(seen.responses[0]?.options.contentFormat, 0);
      t.is(formatCode(seen.responses.at(-1)?.code ?? 0), "4.06");
    },
  },
  {
    id: "OBS_07",
    what: "the server ends an observation when the resource is deleted",
    steps: [{ method: "GET", path: "/obs-deleted", observeSeconds: 1 }],
    check: (t, seen) => t.is(formatCode(seen.responses.at(-1)?.code ?? 0), "4.04"),
  },
  {
    id: "OBS_09",
    what: "a change by another client is told",
    steps: [{ method: "GET", path: "/obs-changed", observeSeconds: 1 }],
    check: (t, seen) => t.true(seen.responses.some(({ payload }) => text(payload) === "changed")),
  },
];
