import { readFileSync } from "node:fs";
import { CODE, Options, OPTION } from "#coap/index.js";
import { createStoredCredential, DigestClient } from "#digest/index.js";
import { AUTH_ERROR, BINDING_OPTION } from "#dpe/index.js";
import {
  type AssociationFacts,
  authErrorOf,
  ClientAuthenticator,
  decide,
  decodeAuthorization,
  decodeChallenge,
  digestUri,
  encodeAuthorization,
  encodeChallenge,
  type GuardPolicy,
  mayRegister,
  problem,
  SecurityError,
  ServerGuard,
  type Subscriber,
  Subscribers,
} from "#security/index.js";
import { SeededRandom } from "#sim/seeded-random.js";
import { resultsOf, tableIn, tableOf } from "./requirements-table.js";
import test from "ava";
import fc from "fast-check";

const REALM = "dpe.example";
const ALICE: Subscriber = {
  name: "alice",
  digest: createStoredCredential({ username: "alice", realm: REALM, password: "secret" }),
};
const random = (seed: number): ((size: number) => Uint8Array) => {
  const seeded = new SeededRandom(seed);
  return (size) => seeded.bytes(size);
};

test("a subscriber without the interface is recognized and refused", (t) => {
  const policy = { connection: "none", clientAuthentication: ["psk"] } as const;
  const offer = { connection: "none", psk: { ...ALICE, interfaces: ["dpe1"] } } as const;
  const decision = decide({ interface: "dpe2", side: "server", policy, offer });
  t.is(decision.type === "refuse" ? decision.error : "", "not-authorized");
});

test("endpoint patterns match whole names, stars any run", (t) => {
  const may = (pattern: string, endpoint: string): boolean =>
    mayRegister({ name: "x", endpoints: [pattern] }, endpoint);
  t.true(may("pi-*", "pi-1"));
  t.true(may("pi-*", "pi-"));
  t.false(may("pi-*", "xpi-1"));
  t.true(may("*", "anything"));
  t.true(may("a*b*c", "a1b2c"));
  t.false(may("a*b*c", "a1c2b"));
  t.false(may("ab*b", "ab"));
  t.false(may("pi-1", "pi-12"));
  t.true(mayRegister({ name: "x" }, "anything"));
});

test("the digest-uri is composed as RFC 7252 §6.5 says", (t) => {
  const uri = (path: readonly string[], query: readonly string[] = []): string =>
    digestUri(Options.none.withAll(OPTION.UriPath, path).withAll(OPTION.UriQuery, query));
  t.is(uri(["dpe1", "reg"], ["ep=pi 1", "lt=60"]), "/dpe1/reg?ep=pi%201&lt=60");
  t.is(uri([]), "/");
  t.is(uri(["a/b", "ü"], ["x=/?&"]), "/a%2Fb/%C3%BC?x=/?%26");
});

function guard(policy: Partial<GuardPolicy> = {}): ServerGuard {
  return new ServerGuard(
    "dpe1",
    {
      connection: "none",
      clientAuthentication: ["digest"],
      digest: { realm: REALM, algorithms: ["SHA-256"], qops: ["auth-int", "auth"], scope: "association" },
      ...policy,
    },
    { subscribers: new Subscribers([ALICE]), random: random(1) },
  );
}

const request = (payload = "body") => ({
  code: CODE.POST,
  options: Options.none.withAll(OPTION.UriPath, ["dpe1", "reg"]),
  payload: new TextEncoder().encode(payload),
});
const onDtls = (): AssociationFacts => ({ connection: "dtls", address: "192.0.2.1", binding: Uint8Array.of(1) });

/** A client that speaks with a guard directly; gives the authentication errors that it met, and the outcome. */
async function speak(server: ServerGuard, facts: AssociationFacts, password: string, times = 1) {
  const authenticator = new ClientAuthenticator(
    new DigestClient({ secret: { username: "alice", password }, random: random(2) }),
    { requiresServerProof: true },
  );
  const errors: (string | undefined)[] = [];
  let last;
  for (let time = 0; time < times; time++) {
    last = await authenticator.send(request(), (message) => {
      const judgement = server.judge(message, facts, 1000);
      if (judgement.type === "refuse") {
        errors.push(authErrorOf(judgement.response));
        return Promise.resolve(judgement.response);
      }
      const response = { code: CODE.Changed, options: Options.none, payload: new TextEncoder().encode("answer") };
      return Promise.resolve(judgement.finish?.(response) ?? response);
    });
  }
  return { errors, code: last?.code };
}

test("R15 a request is challenged, answered over the nonce, accepted, and the server's proof checked", async (t) => {
  t.deepEqual(await speak(guard(), { connection: "none", address: "192.0.2.1" }, "secret", 3), {
    errors: ["credentials-required"],
    code: CODE.Changed,
  });
});

test("R09 a wrong password and an unknown user are refused with one and the same authentication error", async (t) => {
  t.deepEqual(await speak(guard(), onDtls(), "wrong"), {
    errors: ["credentials-required", "invalid-credentials"],
    code: CODE.Unauthorized,
  });
  const stranger = new ServerGuard(
    "dpe1",
    {
      connection: "none",
      clientAuthentication: ["digest"],
      digest: { realm: REALM, algorithms: ["SHA-256"], qops: ["auth"], scope: "request" },
    },
    { subscribers: new Subscribers([]), random: random(1) },
  );
  t.deepEqual((await speak(stranger, onDtls(), "secret")).errors, ["credentials-required", "invalid-credentials"]);
});

test("scope association binds the subscriber to the DTLS association; scope request does not", async (t) => {
  const facts = onDtls();
  await speak(guard(), facts, "secret");
  t.is(facts.digestSubscriber?.name, "alice");
  const perRequest = onDtls();
  const digest = { realm: REALM, algorithms: ["SHA-256"], qops: ["auth"], scope: "request" } as const;
  await speak(guard({ digest }), perRequest, "secret");
  t.is(perRequest.digestSubscriber, undefined);
  const plain: AssociationFacts = { connection: "none", address: "192.0.2.1" };
  await speak(guard(), plain, "secret");
  t.is(plain.digestSubscriber, undefined, "there is no association to bind to without DTLS");
});

test("an authorization is good once, for its own message and association", (t) => {
  const server = guard({ digest: { realm: REALM, algorithms: ["SHA-256"], qops: ["auth-int"], scope: "request" } });
  const facts = onDtls();
  const challenged = server.judge(request(), facts, 0);
  const challenge = decodeChallenge(
    (challenged.type === "refuse" ? challenged.response.options.get(BINDING_OPTION.DigestChallenge) : undefined)!,
  );
  const client = new DigestClient({ secret: { username: "alice", password: "secret" }, random: random(3) });
  t.is(client.takeChallenge(challenge), undefined);
  const authorization = client.authorize({ method: "POST", uri: "/dpe1/reg", body: new TextEncoder().encode("body") })!;
  const signed = (payload = "body") => ({
    ...request(payload),
    options: request().options.with(BINDING_OPTION.DigestAuthorization, encodeAuthorization(authorization)),
  });
  const errorOf = (message: ReturnType<typeof signed>, on: AssociationFacts): string => {
    const judgement = server.judge(message, on, 1);
    return judgement.type === "refuse" ? judgement.error : "accepted";
  };
  t.is(errorOf(signed("another body"), facts), "invalid-credentials");
  t.is(errorOf(signed(), { ...facts, binding: Uint8Array.of(2) }), "stale-nonce");
  t.is(errorOf(signed(), facts), "accepted");
  t.is(errorOf(signed(), facts), "replayed");
});

test("below the connection policy a client is told what to do instead, and never challenged", (t) => {
  const judgement = guard({ connection: "dtls", securePort: 5684 }).judge(
    request(),
    { connection: "none", address: "192.0.2.1" },
    0,
  );
  t.is(judgement.type === "refuse" ? judgement.error : "", "security-required");
  const options = judgement.type === "refuse" ? judgement.response.options : Options.none;
  t.is(options.uint(BINDING_OPTION.AuthError), AUTH_ERROR["security-required"]);
  t.true(options.has(BINDING_OPTION.SecurityRequired));
  t.false(options.has(BINDING_OPTION.DigestChallenge));
});

test("malformed Digest options are refused with 4.00 that names the field, never by an exception", (t) => {
  const server = guard();
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 80 }), (value) => {
      const judgement = server.judge(
        { ...request(), options: request().options.with(BINDING_OPTION.DigestAuthorization, value) },
        onDtls(),
        0,
      );
      t.is(judgement.type === "refuse" ? judgement.response.code : 0, CODE.BadRequest);
    }),
    { numRuns: 1000 },
  );
  const authorization = decodeAuthorization(
    encodeAuthorization({
      realm: REALM,
      nonce: Uint8Array.of(1),
      algorithm: "SHA-256",
      qop: "auth",
      username: "alice",
      cnonce: Uint8Array.of(2),
      nonceCount: 1,
      response: new Uint8Array(32),
    }),
  );
  t.is(authorization.username, "alice");
  const short = encodeAuthorization({ ...authorization, response: new Uint8Array(31) });
  const error = t.throws(() => decodeAuthorization(short), { instanceOf: SecurityError });
  t.is(error.code, "SECURITY_BAD_OPTION");
  t.regex(error.message, /response/);
});

test("a challenge keeps what it says through its option", (t) => {
  const challenge = {
    realm: REALM,
    nonce: Uint8Array.of(1, 2, 3),
    opaque: Uint8Array.of(4),
    stale: true,
    algorithms: ["SHA-512-256", "MD5-sess"] as const,
    qops: ["auth-int"] as const,
    userhash: true,
    scope: "association" as const,
  };
  t.deepEqual(decodeChallenge(encodeChallenge(challenge)), challenge);
  t.is(problem(CODE.BadRequest, "title").options.contentFormat, 257);
});

test("the README's table of requirements is that of the tests, all of which pass", (t) => {
  const root = new URL("../../../", import.meta.url);
  const source = readFileSync(new URL("test/security/requirements.test.ts", root), "utf8");
  const titles = [...source.matchAll(/^test\("((?:R\d\d )+)(.*?)",? /gm)];
  const results = titles.map(([, ids = "", shows = ""]) => ({ ids: ids.trim().split(" "), shows, outcome: "passes" }));
  t.is(new Set(results.flatMap(({ ids }) => ids)).size, 20);
  t.is(tableIn(readFileSync(new URL("README.md", root), "utf8")), tableOf(results), "run scripts/requirements");
  const tap = "ok 1 - security › requirements › R03 R04 both\nnot ok 2 - R05 wrong\nok 3 - other";
  t.deepEqual(
    resultsOf(tap).map(({ ids, outcome }) => `${ids.join()} ${outcome}`),
    ["R03,R04 passes", "R05 fails"],
  );
});
