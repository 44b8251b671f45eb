import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { computeHa1 } from "#digest/index.js";
import { GbaCredentials, type GbaOptions } from "#security/index.js";
import test, { type ExecutionContext } from "ava";

const BTID = "3fT6k1vL8y0bWQe5Jm9zXA==@bsf.example.net";
const KS_NAF = Buffer.alloc(32, 7).toString("base64");
const ANSWER = { ksNaf: KS_NAF, lifetime: 60, identity: "imsi:262011234567890" };
const NOW = 1_000_000;

type Handler = (body: unknown, response: ServerResponse, request: IncomingMessage) => void;

/** A resolver on a socket, and the credentials that ask it. */
async function resolver(t: ExecutionContext, handle: Handler, options: Partial<GbaOptions> = {}) {
  const asked: unknown[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.setEncoding("utf8").on("data", (part: string) => (text += part));
    request.on("end", () => {
      const body: unknown = JSON.parse(text);
      asked.push(body);
      handle(body, response, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const credentials = new GbaCredentials({
    resolver: `http://127.0.0.1:${port}/ks`,
    naf: "naf.example.net",
    hashes: ["SHA-256"],
    ...options,
  });
  return { credentials, asked };
}

const answer =
  (value: unknown, status = 200): Handler =>
  (_body, response) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));

test("R15 a B-TID becomes the HA1 of base64(Ks_NAF) in the NAF's realm, until its lifetime has passed", async (t) => {
  const headers: unknown[] = [];
  const { credentials, asked } = await resolver(
    t,
    (body, response, request) => {
      headers.push(request.headers.authorization);
      answer(ANSWER)(body, response, request);
    },
    { token: "t0ken" },
  );
  t.is(credentials.find(BTID, NOW), undefined);
  t.is(await credentials.lookUp(BTID, NOW), "known");
  t.deepEqual(asked, [{ btid: BTID, naf: "naf.example.net" }]);
  t.deepEqual(headers, ["Bearer t0ken"]);
  const found = credentials.find(BTID, NOW + 59_999);
  t.is(
    Buffer.from(found?.credential.ha1["SHA-256"] ?? []).toString("hex"),
    computeHa1("SHA-256", BTID, "3GPP-bootstrapping@naf.example.net", KS_NAF),
  );
  t.deepEqual(found?.subscriber, { identity: { form: "imsi", value: "262011234567890" } });
  t.is(credentials.lookUp(BTID, NOW + 59_999), undefined);
  t.is(credentials.find(BTID, NOW + 60_000), undefined);
  t.is(await credentials.lookUp(BTID, NOW + 60_000), "known");
  t.is(asked.length, 2);
});

test("lookups of one B-TID are one question; too many at once are turned away", async (t) => {
  const waiting: ServerResponse[] = [];
  let arrived: () => void = () => undefined;
  const { credentials, asked } = await resolver(
    t,
    (_body, response) => {
      waiting.push(response);
      arrived();
    },
    { maxLookups: 2 },
  );
  const first = [credentials.lookUp(BTID, NOW), credentials.lookUp(BTID, NOW)];
  const second = credentials.lookUp("other@bsf.example.net", NOW);
  t.is(credentials.lookUp("third@bsf.example.net", NOW), "busy");
  while (waiting.length < 2) await new Promise<void>((resolve) => (arrived = resolve));
  for (const response of waiting) response.end(JSON.stringify({ ...ANSWER, identity: undefined, subscriber: "alice" }));
  t.deepEqual(await Promise.all([...first, second]), ["known", "known", "known"]);
  t.is(asked.length, 2);
  t.deepEqual(credentials.find(BTID, NOW)?.subscriber, { name: "alice" });
});

test("an unknown B-TID is not asked for again for a while, and what is remembered is bounded", async (t) => {
  const { credentials, asked } = await resolver(t, answer({}, 404), { maxUnknown: 2, unknownLifetimeMs: 1000 });
  t.is(await credentials.lookUp(BTID, NOW), "unknown");
  t.is(credentials.lookUp(BTID, NOW + 999), undefined);
  t.is(await credentials.lookUp(BTID, NOW + 1000), "unknown");
  await credentials.lookUp("b@bsf.example.net", NOW + 1000);
  await credentials.lookUp("c@bsf.example.net", NOW + 1000);
  t.is(await credentials.lookUp(BTID, NOW + 1001), "unknown", "the oldest made way");
  t.is(asked.length, 5);
  for (const name of ["alice", "@", "a b@c", `${"x".repeat(65)}@bsf`, "x@bsf/../"])
    t.is(credentials.lookUp(name, NOW), undefined, name);
});

test("credentials are bounded in number and lifetime", async (t) => {
  const { credentials } = await resolver(t, answer({ ...ANSWER, lifetime: 1e9 }), {
    maxCredentials: 2,
    maxLifetimeMs: 5000,
  });
  for (const name of ["a@bsf", "b@bsf"]) await credentials.lookUp(name, NOW);
  credentials.find("a@bsf", NOW);
  await credentials.lookUp("c@bsf", NOW);
  t.truthy(credentials.find("a@bsf", NOW), "used of late");
  t.is(credentials.find("b@bsf", NOW), undefined);
  t.is(credentials.find("a@bsf", NOW + 5000), undefined);
});

test("a resolver that fails, is late, or answers what it should not, lets nobody in and is asked again", async (t) => {
  const faults: readonly (readonly [string, Handler, Partial<GbaOptions>?])[] = [
    ["an error", answer({}, 500)],
    ["a redirection", (_body, response) => response.writeHead(307, { location: "/other" }).end()],
    ["no JSON", (_body, response) => response.end("{")],
    ["no object", answer(null)],
    ["a short key", answer({ ...ANSWER, ksNaf: "AAAA" })],
    ["no key", answer({ ...ANSWER, ksNaf: undefined })],
    ["no lifetime", answer({ ...ANSWER, lifetime: "1" })],
    ["a lifetime that has passed", answer({ ...ANSWER, lifetime: 0 })],
    ["nobody", answer({ ...ANSWER, identity: undefined })],
    ["two", answer({ ...ANSWER, subscriber: "alice" })],
    ["an identity of no form", answer({ ...ANSWER, identity: "alice" })],
    ["too much", answer({ ...ANSWER, padding: "x".repeat(70_000) })],
    ["silence", () => undefined, { timeoutMs: 50 }],
    ["a broken connection", (_body, response) => response.destroy()],
  ];
  for (const [what, handle, options] of faults) {
    const { credentials } = await resolver(t, handle, options);
    for (const attempt of [1, 2]) t.is(await credentials.lookUp(BTID, NOW), "unavailable", `${what}, ${attempt}`);
    t.is(credentials.find(BTID, NOW), undefined, what);
  }
});
