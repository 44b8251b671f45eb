import { createSecretKey, hash } from "node:crypto";
import test from "ava";
import fc from "fast-check";
import {
  DIGEST_ALGORITHMS,
  DIGEST_QOPS,
  type Authorization,
  type AuthorizationVerdict,
  type Challenge,
  DigestClient,
  type DigestClientOptions,
  type DigestPolicy,
  type DigestRequest,
  ExchangeNonce,
  NonceKeeper,
  type StoredCredential,
  type VerificationContext,
  computeUserhash,
  createChallenge,
  createStoredCredential,
  verifyAuthorization,
  verifyProof,
} from "#digest/index.js";

const REALM = "dpe.example";
const ALICE = { username: "alice", realm: REALM, password: "correct horse" };
const REQUEST: DigestRequest = { method: "POST", uri: "/dpe1/reg?ep=pi", body: Uint8Array.of(0x81, 0xa0) };
const RESPONSE = { uri: REQUEST.uri, body: Uint8Array.of(1, 2, 3) };
const POLICY: DigestPolicy = { realm: REALM, algorithms: ["SHA-256"], qops: ["auth-int", "auth"], userhash: false };

function countingRandom(): (size: number) => Uint8Array {
  let calls = 0;
  return (size) => {
    calls += 1;
    return new Uint8Array(size).fill(calls);
  };
}

/** A server of one subscriber, on a clock that the test moves. */
class TestServer {
  now = 0;
  readonly credential: StoredCredential = createStoredCredential(ALICE, ["MD5", "SHA-256", "SHA-512-256"]);
  context: VerificationContext & { readonly keeper: NonceKeeper };

  constructor(policy: Partial<DigestPolicy> = {}) {
    const keeper = new NonceKeeper({ key: new Uint8Array(32).fill(7), random: countingRandom(), lifetimeMs: 1000 });
    this.context = {
      policy: { ...POLICY, ...policy },
      keeper,
      credential: this.credential,
      dummyKey: createSecretKey(new Uint8Array(32).fill(9)),
    };
  }

  challenge(stale = false): Challenge {
    return createChallenge(this.context.policy, this.context.keeper, this.now, { stale });
  }

  verify(authorization: Authorization, request: DigestRequest = REQUEST): AuthorizationVerdict {
    return verifyAuthorization(authorization, request, this.context, this.now);
  }

  /** `ok`, or `error: cause`. */
  outcome(authorization: Authorization, request: DigestRequest = REQUEST): string {
    const verdict = this.verify(authorization, request);
    return verdict.ok ? "ok" : `${verdict.error}: ${verdict.cause}`;
  }
}

function createClient(options: Partial<DigestClientOptions> = {}): DigestClient {
  return new DigestClient({ secret: ALICE, random: countingRandom(), ...options });
}

function answer(client: DigestClient, challenge: Challenge, request: DigestRequest = REQUEST): Authorization {
  const outcome = client.attempt(request).handleChallenge(challenge);
  if (outcome.type !== "retry") throw new Error(outcome.cause);
  return outcome.authorization;
}

for (const algorithm of DIGEST_ALGORITHMS)
  for (const qop of DIGEST_QOPS)
    for (const userhash of [false, true])
      test(`${algorithm}, ${qop}${userhash ? ", userhash" : ""}: challenge, answer, mutual proof`, (t) => {
        const server = new TestServer({ algorithms: [algorithm], qops: [qop], userhash });
        const client = createClient({ dangerAllowMd5: true });
        const attempt = client.attempt(REQUEST);
        t.is(attempt.authorization, undefined);
        t.is(attempt.handleChallenge(server.challenge()).type, "retry");
        const { authorization } = attempt;
        if (authorization === undefined) return t.fail();
        t.is(typeof authorization.username, userhash ? "object" : "string");
        const verdict = server.verify(authorization);
        if (!verdict.ok) return t.fail(verdict.cause);
        t.is(verdict.credential, server.credential);
        const info = verdict.authenticationInfo(RESPONSE);
        t.is(attempt.handleInfo(info, RESPONSE), "verified");
        t.is(attempt.handleInfo(info, { ...RESPONSE, body: Uint8Array.of(4) }), qop === "auth" ? "verified" : "wrong");
        t.is(attempt.handleInfo(info, { ...RESPONSE, uri: "/other" }), "wrong");
        t.is(attempt.handleInfo({ ...info, rspauth: new Uint8Array(info.rspauth?.length ?? 0) }, RESPONSE), "wrong");
        t.is(attempt.handleInfo({ ...info, nonceCount: 9 }, RESPONSE), "wrong");
        t.is(attempt.handleInfo(undefined, RESPONSE), "absent");
      });

test("following messages go out answered, with rising nonce counts, and pass in any order, each once", (t) => {
  const server = new TestServer();
  const client = createClient();
  const first = answer(client, server.challenge());
  const next = Array.from({ length: 5 }, () => client.attempt(REQUEST).authorization).filter(
    (one) => one !== undefined,
  );
  t.deepEqual(
    [first, ...next].map((one) => one.nonceCount),
    [1, 2, 3, 4, 5, 6],
  );
  for (const authorization of [...next.toReversed(), first]) t.is(server.outcome(authorization), "ok");
  for (const authorization of [first, ...next]) t.is(server.outcome(authorization), "replayed: nonce-count-seen");
});

test("an Authorization is good for its method, uri and body only, and no changed field passes", (t) => {
  const server = new TestServer();
  const good = answer(createClient(), server.challenge());
  const wrong = "invalid-credentials: wrong-response";
  t.is(server.outcome(good, { ...REQUEST, method: "DELETE" }), wrong);
  t.is(server.outcome(good, { ...REQUEST, uri: "/dpe1/reg?ep=other" }), wrong);
  t.is(server.outcome(good, { ...REQUEST, body: Uint8Array.of(0) }), wrong);
  t.is(server.outcome({ ...good, nonceCount: 2 }), wrong);
  t.is(server.outcome({ ...good, cnonce: Uint8Array.of(1) }), wrong);
  t.is(server.outcome({ ...good, qop: "auth" }), wrong);
  t.is(server.outcome({ ...good, response: new Uint8Array() }), wrong);
  t.is(server.outcome({ ...good, nonceCount: 0 }), "invalid-credentials: nonce-count");
  t.is(server.outcome({ ...good, realm: "other" }), "invalid-credentials: realm");
  t.is(
    server.outcome({ ...good, nonce: good.nonce.with(39, 1 ^ (good.nonce[39] ?? 0)) }),
    "invalid-credentials: forged-nonce",
  );
  t.is(server.context.keeper.size, 0, "N1: no state from a refused answer");
  t.is(server.outcome(good), "ok", "none of these used up the count");
});

test("random Authorizations are refused and never throw", (t) => {
  const server = new TestServer({ algorithms: DIGEST_ALGORITHMS });
  const { nonce } = server.challenge();
  const arbitrary = fc.record({
    realm: fc.constantFrom(REALM, "x"),
    nonce: fc.oneof(fc.constant(nonce), fc.uint8Array()),
    algorithm: fc.constantFrom(...DIGEST_ALGORITHMS),
    qop: fc.constantFrom(...DIGEST_QOPS),
    username: fc.oneof(fc.constant("alice"), fc.string({ unit: "binary" }), fc.uint8Array()),
    cnonce: fc.uint8Array(),
    nonceCount: fc.oneof(fc.integer(), fc.double(), fc.maxSafeInteger()),
    response: fc.oneof(fc.uint8Array(), fc.uint8Array({ minLength: 32, maxLength: 32 })),
  });
  t.notThrows(() => fc.assert(fc.property(arbitrary, (authorization) => !server.verify(authorization).ok)));
});

test("whoever an unknown user is compared with lends it nothing, not even where the name and the password are right", (t) => {
  for (const algorithm of DIGEST_ALGORITHMS) {
    const server = new TestServer({ algorithms: [algorithm] });
    const good = answer(createClient({ dangerAllowMd5: true }), server.challenge());
    server.context = { ...server.context, credential: undefined, decoy: () => server.credential };
    t.is(server.outcome(good), "invalid-credentials: unknown-user");
    t.is(server.outcome({ ...good, username: "bob" }), "invalid-credentials: unknown-user");
    server.context = { ...server.context, decoy: () => undefined };
    t.is(server.outcome(good), "invalid-credentials: unknown-user");
    // The decoy of another does not stand in the way of one's own.
    const other = createStoredCredential({ ...ALICE, username: "bob", password: "other" });
    server.context = { ...server.context, credential: server.credential, decoy: () => other };
    t.is(server.outcome(good), "ok");
  }
});

test("an unknown user, a wrong password and a missing hash get one and the same answer", (t) => {
  const server = new TestServer();
  const errors = new Set<string>();
  const refuse = (password: string, credential: StoredCredential | undefined): void => {
    const authorization = answer(createClient({ secret: { username: "alice", password } }), server.challenge());
    server.context = { ...server.context, credential };
    const verdict = server.verify(authorization);
    errors.add(verdict.ok ? "ok" : verdict.error);
  };
  refuse("wrong", server.credential);
  refuse(ALICE.password, undefined);
  refuse(ALICE.password, createStoredCredential(ALICE, ["MD5"]));
  refuse(ALICE.password, createStoredCredential({ ...ALICE, realm: "other" }));
  t.deepEqual([...errors], ["invalid-credentials"]);
});

test("a name that is not the credential's is refused, though the response was made with its HA1", (t) => {
  const server = new TestServer();
  const good = answer(createClient(), server.challenge());
  t.is(server.outcome({ ...good, username: "bob" }), "invalid-credentials: unknown-user");
  const bobHash = new Uint8Array(Buffer.from(computeUserhash("SHA-256", "bob", REALM), "hex"));
  t.is(server.outcome({ ...good, username: bobHash }), "invalid-credentials: unknown-user");
});

test("a method that policy does not allow is named, before anything about the user", (t) => {
  const open = new TestServer({ algorithms: DIGEST_ALGORITHMS });
  const strict = new TestServer({ qops: ["auth-int"] });
  strict.context = { ...strict.context, keeper: open.context.keeper, credential: undefined };
  const strong = answer(createClient(), open.challenge());
  t.is(strict.outcome(strong), "unsupported-method: algorithm");
  t.is(strict.outcome({ ...strong, algorithm: "MD5" }), "unsupported-method: algorithm");
  t.is(strict.outcome({ ...strong, algorithm: "SHA-256", qop: "auth" }), "unsupported-method: qop");
});

test("the client answers the strongest algorithm and qop, and MD5 only where it was allowed", (t) => {
  const challenge = (algorithms: Challenge["algorithms"]): Challenge => ({
    ...new TestServer().challenge(),
    algorithms,
  });
  const picked = answer(createClient(), challenge(["MD5", "SHA-256", "SHA-512-256"]));
  t.like(picked, { algorithm: "SHA-512-256", qop: "auth-int" });
  const md5 = challenge(["MD5", "MD5-sess"]);
  const refusal = { type: "give-up", cause: "no-shared-algorithm" } as const;
  t.deepEqual(createClient().attempt(REQUEST).handleChallenge(md5), refusal);
  t.is(answer(createClient({ dangerAllowMd5: true }), md5).algorithm, "MD5-sess");
  const onlySha256 = createStoredCredential(ALICE, ["SHA-256"]);
  const createHolder = (): DigestClient => createClient({ secret: { credential: onlySha256 } });
  t.is(answer(createHolder(), challenge(["SHA-512-256", "SHA-256"])).algorithm, "SHA-256");
  t.deepEqual(
    createHolder()
      .attempt(REQUEST)
      .handleChallenge(challenge(["SHA-512-256"])),
    refusal,
  );
});

test("the client does not answer another realm than its secret's", (t) => {
  const challenge = { ...new TestServer().challenge(), realm: "elsewhere" };
  const giveUp = { type: "give-up", cause: "unexpected-realm" } as const;
  t.deepEqual(createClient().attempt(REQUEST).handleChallenge(challenge), giveUp);
  const stored = createClient({ secret: { credential: createStoredCredential(ALICE) } });
  t.deepEqual(stored.attempt(REQUEST).handleChallenge(challenge), giveUp);
  const anyRealm = createClient({ secret: { username: "alice", password: "p" } });
  t.is(answer(anyRealm, challenge).realm, "elsewhere");
});

test("a stale nonce is answered anew once, and a second stale ends the attempt", (t) => {
  const server = new TestServer();
  const client = createClient();
  answer(client, server.challenge());
  server.now = 5000;
  const attempt = client.attempt(REQUEST);
  if (attempt.authorization === undefined) return t.fail();
  t.is(server.outcome(attempt.authorization), "stale-nonce: nonce-expired");
  const retry = attempt.handleChallenge(server.challenge(true));
  if (retry.type !== "retry") return t.fail();
  t.is(server.outcome(retry.authorization), "ok");
  t.deepEqual(attempt.handleChallenge(server.challenge(true)), { type: "give-up", cause: "stale-again" });
});

test("the client gives up after one failed answer, and the next message goes out unanswered", (t) => {
  const server = new TestServer();
  const client = createClient({ secret: { ...ALICE, password: "wrong" } });
  const attempt = client.attempt(REQUEST);
  attempt.handleChallenge(server.challenge());
  const giveUp = { type: "give-up", cause: "answer-refused" } as const;
  t.deepEqual(attempt.handleChallenge(server.challenge()), giveUp);
  t.deepEqual(attempt.handleChallenge(server.challenge(true)), giveUp);
  t.is(attempt.authorization, undefined);
  t.is(client.attempt(REQUEST).authorization, undefined);
});

test("an old nonce is renewed by nextnonce, which the client takes when the server proved itself", (t) => {
  const server = new TestServer();
  const client = createClient();
  answer(client, server.challenge());
  server.now = 600;
  const attempt = client.attempt(REQUEST);
  const verdict = attempt.authorization && server.verify(attempt.authorization);
  if (!verdict?.ok) return t.fail();
  const info = verdict.authenticationInfo(RESPONSE);
  if (info.nextnonce === undefined) return t.fail();
  t.is(attempt.handleInfo({ ...info, rspauth: new Uint8Array(32) }, RESPONSE), "wrong");
  t.is(client.authorize(REQUEST)?.nonceCount, 3, "a wrong rspauth renews nothing");
  t.is(attempt.handleInfo(info, RESPONSE), "verified");
  server.now = 1500;
  const renewed = client.authorize(REQUEST);
  if (renewed === undefined) return t.fail();
  t.like(renewed, { nonce: info.nextnonce, nonceCount: 1 });
  t.is(server.outcome(renewed), "ok");
});

test("a -sess answer gets no nextnonce, since its A1 belongs to the nonce", (t) => {
  const server = new TestServer({ algorithms: ["SHA-256-sess"] });
  const authorization = answer(createClient(), server.challenge());
  server.now = 900;
  const verdict = server.verify(authorization);
  t.is(verdict.ok && verdict.authenticationInfo(RESPONSE).nextnonce, undefined);
});

test("an answer without qop is refused unless policy allows it, and then each nonce serves one (RFC 2617 §3.2.2.1)", (t) => {
  const server = new TestServer({ qops: [] });
  t.is(
    createClient().attempt(REQUEST).handleChallenge(server.challenge()).type,
    "give-up",
    "nor does a client give one",
  );
  const client = createClient({ dangerAllowNoQop: true });
  t.is(server.outcome(answer(client, server.challenge())), "unsupported-method: qop");
  const lax = new TestServer({ qops: [], dangerAllowNoQop: true });
  const authorization = answer(client, lax.challenge());
  t.is(authorization.cnonce.length, 0);
  const ha1 = hash("sha256", `alice:${REALM}:${ALICE.password}`, "hex");
  const ha2 = hash("sha256", `POST:${REQUEST.uri}`, "hex");
  const expected = hash("sha256", `${ha1}:${Buffer.from(authorization.nonce).toString("hex")}:${ha2}`, "hex");
  t.is(Buffer.from(authorization.response).toString("hex"), expected);
  t.is(lax.outcome(authorization), "ok");
  t.is(lax.outcome(authorization), "replayed: nonce-count-seen");
  t.is(client.authorize(REQUEST), undefined, "the client does not use the nonce again");
});

test("50 answers under one nonce all pass, in any order, and each once", (t) => {
  const server = new TestServer();
  const client = createClient();
  const answers = [answer(client, server.challenge())];
  while (answers.length < 50) answers.push(client.authorize(REQUEST)!);
  const shuffled = answers.toReversed();
  t.deepEqual(
    shuffled.map((authorization) => server.outcome(authorization)),
    shuffled.map(() => "ok"),
  );
  t.is(server.outcome(answers[7]!), "replayed: nonce-count-seen");
});

test("the nonce of one exchange of ours proves answers to it only, each count once", (t) => {
  const server = new TestServer();
  const own = new ExchangeNonce(new Uint8Array(16).fill(5));
  const challenge: Challenge = { ...POLICY, nonce: own.nonce, stale: false };
  const context = { ...server.context, keeper: own };
  const client = createClient();
  const first = client.prove(challenge, RESPONSE);
  const second = client.prove(challenge, RESPONSE);
  if (typeof first === "string" || typeof second === "string") return t.fail();
  const judge = (proof: Authorization, response = RESPONSE): string => {
    const verdict = verifyProof(proof, response, challenge, context, 1e12);
    return verdict.ok ? "ok" : verdict.error;
  };
  t.is(judge(first, { ...RESPONSE, body: new Uint8Array(1) }), "invalid-credentials");
  t.is(judge(second), "ok");
  t.is(judge(first), "ok");
  t.is(judge(first), "replayed");
  t.is(own.judge(new Uint8Array(16)).type, "forged");
});

test("a nonce of one association is stale on another", (t) => {
  const server = new TestServer();
  server.context = { ...server.context, association: Uint8Array.of(1) };
  const { policy, keeper, association } = server.context;
  const authorization = answer(createClient(), createChallenge(policy, keeper, 0, { association }));
  server.context = { ...server.context, association: Uint8Array.of(2) };
  t.is(server.outcome(authorization), "stale-nonce: nonce-association");
  server.context = { ...server.context, association: Uint8Array.of(1) };
  t.is(server.outcome(authorization), "ok");
});

test("the opaque of a challenge comes back as it was", (t) => {
  const opaque = Uint8Array.of(0, 255, 3);
  t.deepEqual(answer(createClient(), { ...new TestServer().challenge(), opaque }).opaque, opaque);
});

test("DPE-2: a proof answers the request's challenge once, and covers uri and body of the response", (t) => {
  const server = new TestServer();
  const client = createClient();
  const challenge = server.challenge();
  const proofs = [client.prove(challenge, RESPONSE), client.prove(challenge, RESPONSE)];
  const judge = (proof: Authorization | string | undefined, response = RESPONSE, asked = challenge): string => {
    if (typeof proof !== "object") return `unproved: ${proof}`;
    const verdict = verifyProof(proof, response, asked, server.context, server.now);
    return verdict.ok ? "ok" : `${verdict.error}: ${verdict.cause}`;
  };
  t.is(judge(proofs[0], { ...RESPONSE, body: Uint8Array.of(9) }), "invalid-credentials: wrong-response");
  t.is(judge(proofs[0], { ...RESPONSE, uri: "/dpe2/p/x" }), "invalid-credentials: wrong-response");
  t.is(judge(proofs[0], RESPONSE, server.challenge()), "invalid-credentials: other-challenge");
  t.is(judge(proofs[1]), "ok");
  t.is(judge(proofs[0]), "ok");
  t.is(judge(proofs[0]), "replayed: nonce-count-seen");
  const asRequest = answer(client, challenge, { ...RESPONSE, method: "GET" });
  t.is(judge({ ...asRequest, nonceCount: 7 }), "invalid-credentials: wrong-response");
  t.is(client.prove({ ...challenge, algorithms: ["MD5"], nonce: Uint8Array.of(1) }, RESPONSE), "no-shared-algorithm");
});

test("the counts of as many DPE-2 nonces are kept as the option says", (t) => {
  const client = createClient({ maxProofNonces: 2 });
  const challenge = { ...new TestServer().challenge() };
  const count = (nonce: number): unknown => {
    const proof = client.prove({ ...challenge, nonce: Uint8Array.of(nonce) }, RESPONSE);
    return typeof proof === "object" ? proof.nonceCount : proof;
  };
  t.deepEqual([1, 2, 1, 3, 1, 2].map(count), [1, 1, 2, 1, 3, 1]);
});

test("a client that forgets its challenges sends the next message unanswered and counts proofs anew", (t) => {
  const client = createClient();
  const challenge = new TestServer().challenge();
  answer(client, challenge);
  t.like(client.prove(challenge, RESPONSE), { nonceCount: 1 });
  client.forgetChallenges();
  t.is(client.attempt(REQUEST).authorization, undefined);
  t.like(client.prove(challenge, RESPONSE), { nonceCount: 1 });
});

test("a failed answer to an older nonce leaves the challenge that another message brought since", (t) => {
  const server = new TestServer();
  const client = createClient();
  const slow = client.attempt(REQUEST);
  slow.handleChallenge(server.challenge());
  const newer = server.challenge();
  t.is(client.takeChallenge(newer), undefined);
  t.is(slow.handleChallenge(server.challenge()).type, "give-up");
  t.deepEqual(client.authorize(REQUEST)?.nonce, newer.nonce);
});

test("client options out of range are refused by code", (t) => {
  t.like(
    t.throws(() => createClient({ maxProofNonces: 0 })),
    { code: "DIGEST_BAD_OPTION" },
  );
  t.like(
    t.throws(() => createClient({ secret: { username: "a:b", password: "p" } })),
    { code: "DIGEST_BAD_USERNAME" },
  );
});
