import { CODE, formatCode, type Message, MESSAGE_TYPE, OPTION } from "#coap/index.js";
import type { ExecutionContext } from "ava";
import type { Seen, SeenMessage } from "./seen.js";

/** A case of the ETSI CoAP plugtests: what the client is told to do, and what must then be seen between the two. */
export interface EtsiCase {
  readonly id: string;
  readonly what: string;
  readonly steps: readonly Step[];
  readonly check: (t: ExecutionContext, seen: Seen) => void;
  /** Why the case says nothing over TCP and TLS; absent: it does. */
  readonly notOnStreams?: string;
  /** Numbers of the datagrams that are lost. */
  readonly loses?: { readonly losesFromClient: readonly number[]; readonly losesFromServer: readonly number[] };
  /** Through a reverse proxy of ours. */
  readonly isProxied?: boolean;
  /** What happens to the client or the server while it observes. */
  readonly accident?: "client vanishes" | "server restarts";
}

/** One request, in words that each client under test can carry out. */
export interface Step {
  readonly method: "GET" | "PUT" | "POST" | "DELETE" | "PING";
  readonly path: string;
  readonly query?: string;
  readonly payload?: string;
  readonly isNon?: boolean;
  /** A text; an empty one: no token at all. */
  readonly token?: string;
  /** Number and hex. */
  readonly options?: readonly (readonly [number, string])[];
  readonly blockBytes?: number;
  readonly observing?: Observing;
}

export interface Observing {
  /** After so many states the client ends it. */
  readonly states: number;
  /** Default "get": by GET with Observe 1; "reset": it forgets it, and answers the next notification with Reset. */
  readonly endsBy?: "get" | "reset";
  /** Asked by another client, or by the same one, when the first state is there. */
  readonly meanwhile?: Step & { readonly isByOther: boolean };
}

const { Confirmable, NonConfirmable, Acknowledgement, Reset } = MESSAGE_TYPE;
const NO_TYPES = "streams have no message types (RFC 8323 §2.2)";
const NO_LOSS = "TCP repeats what is lost by itself";
const text = (payload: Uint8Array): string => new TextDecoder().decode(payload);
const LARGE = "x".repeat(1280);

function simple(id: string, what: string, step: Step, code: string): EtsiCase {
  const type = step.isNon === true ? NonConfirmable : Confirmable;
  return {
    id,
    what,
    steps: [step],
    ...(step.isNon === true ? { notOnStreams: NO_TYPES } : {}),
    check: (t, seen) => {
      const [request] = seen.requests;
      const [response] = seen.responses;
      if (step.method !== "PING") t.like(request, { type, code: CODE[step.method] });
      t.is(formatCode(response?.code ?? 0), code);
      t.deepEqual(response?.token, request?.token);
      if (step.token !== undefined) t.is(request?.token.length === 0, step.token === "");
      if (step.isNon === true) t.is(response?.type, NonConfirmable);
      else if (!seen.isStream) t.like(response, { type: Acknowledgement, messageId: request?.messageId });
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
    notOnStreams: NO_TYPES,
    check: (t, seen) => {
      const [request] = seen.requests;
      const [response] = seen.responses;
      if (step.isNon === true) {
        t.is(response?.type, NonConfirmable);
      } else {
        t.true(isAcknowledged(seen.serverEmpties, request));
        t.is(response?.type, Confirmable);
        t.true(isAcknowledged(seen.clientEmpties, response));
      }
      t.deepEqual(response?.token, request?.token);
      if (step.token !== undefined) t.true((request?.token.length ?? 0) > 0);
      t.is(response?.code, CODE.Content);
    },
  };
}

const isAcknowledged = (empties: readonly SeenMessage[], message: SeenMessage | undefined): boolean =>
  empties.some(({ type, messageId }) => type === Acknowledgement && messageId === message?.messageId);

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

const AREAS = ["CORE", "LINK", "BLOCK", "OBS"];

const CASES: readonly EtsiCase[] = [
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
  simple("CORE_12", "GET with an empty Token", { method: "GET", path: "/test", token: "" }, "2.05"),
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
    ...simple("CORE_15", "a piggybacked response where datagrams are lost", { method: "GET", path: "/test" }, "2.05"),
    notOnStreams: NO_LOSS,
    loses: { losesFromClient: [0], losesFromServer: [0] },
  },
  {
    ...separate("CORE_16", "a separate response where datagrams are lost", { method: "GET", path: "/separate" }),
    notOnStreams: NO_LOSS,
    loses: { losesFromClient: [0], losesFromServer: [1] },
  },
  {
    id: "CORE_31",
    what: "ping",
    steps: [{ method: "PING", path: "/" }],
    check: (t, seen) => {
      if (seen.isStream) {
        t.true(seen.signals(PING).length > 0);
        t.true(seen.signals(PONG).length > 0);
        return;
      }
      const ping = seen.clientEmpties.find(({ type }) => type === Confirmable);
      t.truthy(ping);
      t.true(seen.serverEmpties.some(({ type, messageId }) => type === Reset && messageId === ping?.messageId));
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
    notOnStreams: "so short a body is one message there",
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
    what: "observation",
    steps: [{ method: "GET", path: "/obs", observing: { states: 4 } }],
    check: (t, seen) => {
      t.is(seen.requests[0]?.options.observe, 0);
      t.true(seen.notifications.length >= 3, String(seen.notifications.length));
      const token = seen.requests[0]?.token ?? new Uint8Array(0);
      t.true(seen.notifications.every((notification) => Buffer.compare(notification.token, token) === 0));
      // On a stream TCP keeps the order, and the numbers may be empty (RFC 8323 §7.1).
      const numbers = seen.notifications.map(({ options }) => options.observe ?? 0);
      if (!seen.isStream) t.true(numbers.every((number, index) => index === 0 || number > (numbers[index - 1] ?? 0)));
    },
  },
  {
    id: "OBS_02",
    what: "observation by Non-confirmable messages",
    steps: [{ method: "GET", path: "/obs-non", observing: { states: 4 }, isNon: true }],
    notOnStreams: NO_TYPES,
    check: (t, seen) => {
      t.is(seen.requests[0]?.type, NonConfirmable);
      t.true(seen.notifications.length >= 3, String(seen.notifications.length));
      t.true(seen.notifications.every(({ type }) => type === NonConfirmable));
    },
  },
  {
    id: "OBS_03",
    what: "ended by GET with Observe 1",
    steps: [{ method: "GET", path: "/obs", observing: { states: 3, endsBy: "get" } }],
    check: (t, seen) => {
      const end = seen.requests.find(({ options }) => options.observe === 1);
      t.truthy(end);
      t.deepEqual(end?.token, seen.requests[0]?.token);
      const answer = seen.responses.find((one) => one.atMs > (end?.atMs ?? 0) && one.options.observe === undefined);
      t.is(answer?.code, CODE.Content);
      // The server's messages pass in the order in which it sent them: what follows its answer, it sent knowing.
      isSilentAfter(t, seen, answer, 0);
    },
  },
  {
    id: "OBS_04",
    what: "a client whose server has restarted observes again after Max-Age",
    steps: [{ method: "GET", path: "/obs-expiring", observing: { states: 4 } }],
    accident: "server restarts",
    notOnStreams: "the end of the connection tells it",
    check: (t, seen) => {
      const [first, again] = seen.requests.filter(({ options }) => options.observe === 0);
      t.truthy(first);
      t.truthy(again);
      t.deepEqual(again?.token, first?.token);
      t.true(seen.notifications.some(({ atMs }) => atMs > (again?.atMs ?? Infinity)));
    },
  },
  {
    id: "OBS_05",
    what: "a server whose client has vanished stops",
    steps: [{ method: "GET", path: "/obs", observing: { states: 1000 } }],
    accident: "client vanishes",
    notOnStreams: "the end of the connection tells it",
    check: (t, seen) => {
      t.true(seen.afterVanishing.length > 1, "a notification and its repetition");
      t.true(performance.now() - (seen.afterVanishing.at(-1) ?? Infinity) > VANISHED_SILENCE_MS);
    },
  },
  {
    id: "OBS_06",
    what: "ended by Reset",
    steps: [{ method: "GET", path: "/obs", observing: { states: 3, endsBy: "reset" } }],
    notOnStreams: NO_TYPES,
    check: (t, seen) => {
      const reset = seen.clientEmpties.find(({ type }) => type === Reset);
      t.truthy(reset);
      t.true(seen.notifications.some(({ messageId }) => messageId === reset?.messageId));
      isSilentAfter(t, seen, reset, IN_FLIGHT_MS);
    },
  },
  {
    id: "OBS_07",
    what: "the server ends an observation when the resource is deleted",
    steps: [{ method: "GET", path: "/obs-deleted", observing: { states: 10 } }],
    check: (t, seen) => {
      t.true(seen.notifications.length >= 1);
      t.is(formatCode(seen.responses.at(-1)?.code ?? 0), "4.04");
    },
  },
  {
    id: "OBS_08",
    what: "the server ends an observation when the format of the content changes",
    steps: [{ method: "GET", path: "/obs-format", observing: { states: 10 } }],
    check: (t, seen) => {
      t.is(seen.responses[0]?.options.contentFormat, 0);
      t.is(formatCode(seen.responses.at(-1)?.code ?? 0), "4.06");
    },
  },
  {
    id: "OBS_09",
    what: "a change by another client is told",
    steps: [
      {
        method: "GET",
        path: "/obs-changed",
        observing: {
          states: 2,
          meanwhile: { method: "PUT", path: "/obs-changed", payload: "changed", isByOther: true },
        },
      },
    ],
    check: (t, seen) => {
      t.is(text(seen.notifications[0]?.payload ?? new Uint8Array(0)), "state 0");
      t.is(text(seen.notifications.at(-1)?.payload ?? new Uint8Array(0)), "changed");
    },
  },
  {
    id: "OBS_10",
    what: "another GET does not end an observation",
    steps: [
      {
        method: "GET",
        path: "/obs",
        observing: { states: 5, meanwhile: { method: "GET", path: "/obs", isByOther: false } },
      },
    ],
    check: (t, seen) => {
      const [observing, plain] = seen.requests;
      t.is(plain?.options.observe, undefined);
      t.notDeepEqual(plain?.token, observing?.token);
      const answer = seen.responses.find(({ token }) => Buffer.compare(token, plain?.token ?? token) === 0);
      t.is(answer?.options.observe, undefined);
      t.true(seen.notifications.filter(({ atMs }) => atMs > (answer?.atMs ?? Infinity)).length >= 2);
    },
  },
];

/** CORE_24 to CORE_30: what the client and the server show each other is the same through a proxy. */
const PROXIED: readonly (readonly [string, string])[] = [
  ["CORE_24", "CORE_18"],
  ["CORE_25", "CORE_19"],
  ["CORE_26", "CORE_20"],
  ["CORE_27", "CORE_21"],
  ["CORE_28", "CORE_22"],
  ["CORE_29", "CORE_01"],
  ["CORE_30", "CORE_23"],
];

function proxied([id, direct]: readonly [string, string]): EtsiCase {
  const found = CASES.find((one) => one.id === direct);
  if (found === undefined) throw new Error(`no case ${direct}`);
  return { ...found, id, what: `${found.what}, through a reverse proxy`, isProxied: true };
}

/** All of them, by their ids. */
export const ETSI_CASES: readonly EtsiCase[] = [...CASES, ...PROXIED.map(proxied)].toSorted(
  (one, other) =>
    AREAS.indexOf(one.id.split("_")[0] ?? "") - AREAS.indexOf(other.id.split("_")[0] ?? "") ||
    (one.id < other.id ? -1 : 1),
);

/** No notification of a new state came later than `inFlightMs` after `end`; the harness has waited meanwhile. */
function isSilentAfter(t: ExecutionContext, seen: Seen, end: SeenMessage | undefined, inFlightMs: number): void {
  const later = seen.notifications.filter(({ atMs }) => atMs > (end?.atMs ?? -Infinity) + inFlightMs);
  t.deepEqual(
    later.map(({ messageId }) => messageId),
    [],
  );
  t.true(performance.now() - (end?.atMs ?? Infinity) > ENDED_SILENCE_MS, "long enough looked at");
}

/** RFC 8323 §5.4 */
const PING = 0xe2;
const PONG = 0xe3;
const IN_FLIGHT_MS = 50;
const ENDED_SILENCE_MS = 350;
/** Past the longest wait of a server that went on: of 1.5 · 0.3 s · 2³ after our last repetition (RFC 7252 §4.2). */
export const VANISHED_SILENCE_MS = 4000;
