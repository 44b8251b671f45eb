import test from "ava";
import fc from "fast-check";
import {
  type DigestAlgorithm,
  type DigestQop,
  computeHa1,
  computeResponse,
  computeRspauth,
  computeRequestResponse,
  computeUserhash,
  createStoredCredential,
  hashOf,
} from "#digest/index.js";

const NO_BODY = new Uint8Array();

test("RFC 2617 §3.5: the example of Mufasa at testrealm@host.com", (t) => {
  const ha1 = computeHa1("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life");
  t.is(ha1, "939e7578ed9e3c518a452acee763bce9");
  const response = computeResponse({
    algorithm: "MD5",
    qop: "auth",
    ha1,
    nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
    cnonce: "0a4f113b",
    nonceCount: 1,
    method: "GET",
    uri: "/dir/index.html",
    body: NO_BODY,
  });
  t.is(response, "6629fae49393a05397450978507c4ef1");
});

// Erratum 4495 (verified): the password here is "Circle of Life" with a small o, unlike RFC 2617's.
test("RFC 7616 §3.9.1: the example with MD5 and with SHA-256", (t) => {
  const respond = (algorithm: "MD5" | "SHA-256"): string =>
    computeResponse({
      algorithm,
      qop: "auth",
      ha1: computeHa1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life"),
      nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
      cnonce: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
      nonceCount: 1,
      method: "GET",
      uri: "/dir/index.html",
      body: NO_BODY,
    });
  t.is(respond("MD5"), "8ca523f5e9506fed4657c9700eebdbec");
  t.is(respond("SHA-256"), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
});

// Erratum 4897: the RFC prints values of SHA-512 cut to 256 bits (488869…, ae66e6…). §6.1 registers SHA-512/256, which has
// an initial value of its own; the values of the erratum below are the right ones.
test("RFC 7616 §3.9.2: the example with SHA-512-256 and userhash, as erratum 4897 corrects it", (t) => {
  const username = "J\u00e4s\u00f8n Doe";
  const realm = "api@example.org";
  t.is(
    computeUserhash("SHA-512-256", username, realm),
    "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b",
  );
  const response = computeResponse({
    algorithm: "SHA-512-256",
    qop: "auth",
    ha1: computeHa1("SHA-512-256", username, realm, "Secret, or not?"),
    nonce: "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
    cnonce: "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
    nonceCount: 1,
    method: "GET",
    uri: "/doe.json",
    body: NO_BODY,
  });
  t.is(response, "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5");
});

/** Algorithm, qop, response, rspauth: computed with Python's hashlib, apart from this code. */
const HASHLIB_VECTORS: readonly (readonly [DigestAlgorithm, DigestQop, string, string])[] = [
  ["MD5", "auth", "14e6aaa1e0ce5fe988388c7d27895f1a", "3753d10cbc4cd893a72d993e199844a8"],
  ["MD5", "auth-int", "7ac83354a9de68413090554bbfa2c832", "e75c5d2f75f4801faf139f7ef1694dc7"],
  ["MD5-sess", "auth", "fb27a4fef0db0c0fbd23a06c3ef0025f", "78f168f3c82dd7a4741fb4c55843c640"],
  ["MD5-sess", "auth-int", "3da3f61b71f992c10a74ca53dc84fedc", "63c9b880a67b1a27ff6c86f3c7f1d5ae"],
  [
    "SHA-256",
    "auth",
    "38cbde4dfda1aa6da4f94f61773cf0783f1bfc433279415abb11d97046732226",
    "e1042c03f3b76ca2357240f6711ff6b6a0ab84e5583efd0b816086a3a21f8e3a",
  ],
  [
    "SHA-256",
    "auth-int",
    "f0ccf73608ac49697a0d941607d18629f5cc78abf724c17861506de34d986bbe",
    "b7f966bc0c197c122e913fc000bf29ebd4f33bed81b0075b360057b8a9522514",
  ],
  [
    "SHA-256-sess",
    "auth",
    "4431a50da36cbd02f1adbc81e6446f2e76cad08124f3c2beeafd7d9c24b18e5a",
    "38b8b79c66ca442c018e3c1331ee5319bdf1bb59d05f4be34a9dec6b192bb116",
  ],
  [
    "SHA-256-sess",
    "auth-int",
    "70555732bdd5b846bfd003e38c1e6a4a9976e633c31d5e678b81d06e0f7113e2",
    "dba7a41368fb3741868c08f1c56f6d68518d3424a069edbd276d17bb07bc4937",
  ],
  [
    "SHA-512-256",
    "auth",
    "b02167fffda4c8b0a789842b51ad487a6077df7ac6dd3f621f7943b9308eb87f",
    "d50ee581ddfdb623bfe28023b0fbcd5f7f9a8b5f20bfe37587a9b6d014fd9db9",
  ],
  [
    "SHA-512-256",
    "auth-int",
    "96d49d2945119d4bfc79d903ec68ba332f7f5cde534ccc488ab18f76b9169a01",
    "2c5897a3eb5dee852e217adce746c96fcecf926311b94f603d01e20acc9f8583",
  ],
  [
    "SHA-512-256-sess",
    "auth",
    "5794d222db282a735bf5bc95478a7f6555ee2f966855776c6d20667a3cccd8ba",
    "88b7d6db483b0a627f521b03a7b7465f67a841559cc48b75b3f492d93f6c71ae",
  ],
  [
    "SHA-512-256-sess",
    "auth-int",
    "b59523180347e2659bb7eb73f6790f97f0f0b771d3b83a92c282681a12cd7a19",
    "8e84e0344b08be2c2d8656607f426b85acda7005d04557f703187bdfa3392748",
  ],
];

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

for (const [algorithm, qop, response, rspauth] of HASHLIB_VECTORS)
  test(`${algorithm} with ${qop} agrees with hashlib, bytes entering as lowercase hex`, (t) => {
    const credential = createStoredCredential(
      { username: "pi-kitchen", realm: "dpe.example", password: "correct horse" },
      ["MD5", "SHA-256", "SHA-512-256"],
    );
    const ha1 = credential.ha1[hashOf(algorithm)] ?? NO_BODY;
    const nonce = bytes("00112233445566778899aabbccddeeff");
    const fields = { algorithm, qop, nonce, cnonce: bytes("0f1e2d3c4b5a6978"), nonceCount: 42 };
    const message = { uri: "/dpe1/reg?ep=pi-kitchen&lt=86400", body: bytes("8263666f6f00ff") };
    t.deepEqual(computeRequestResponse(fields, ha1, { method: "POST", ...message }), bytes(response));
    t.deepEqual(computeRspauth(fields, ha1, message), bytes(rspauth));
  });

test("auth-int covers the body, auth does not", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (one, other) => {
        const respond = (qop: DigestQop, body: Uint8Array): string =>
          computeResponse({
            algorithm: "SHA-256",
            qop,
            ha1: "00",
            nonce: "n",
            cnonce: "c",
            nonceCount: 1,
            method: "PUT",
            uri: "/",
            body,
          });
        const isSameBody = Buffer.compare(one, other) === 0;
        return (
          respond("auth", one) === respond("auth", other) &&
          (respond("auth-int", one) === respond("auth-int", other)) === isSameBody
        );
      }),
    ),
  );
});

test("a stored credential keeps no MD5 unless asked, and takes the name in Normalization Form C", (t) => {
  const composed = createStoredCredential({ username: "J\u00e4s\u00f8n", realm: "r", password: "p\u00e4ss" });
  const decomposed = createStoredCredential({ username: "Ja\u0308s\u00f8n", realm: "r", password: "pa\u0308ss" });
  t.deepEqual(decomposed, composed);
  t.deepEqual(Object.keys(composed.ha1).toSorted(), ["SHA-256", "SHA-512-256"]);
  t.deepEqual(composed.ha1["SHA-256"], bytes(computeHa1("SHA-256", "J\u00e4s\u00f8n", "r", "p\u00e4ss")));
});

test("caller misuse throws by code: a colon in a username, a nonce count of zero", (t) => {
  t.like(
    t.throws(() => createStoredCredential({ username: "a:b", realm: "r", password: "p" })),
    {
      code: "DIGEST_BAD_USERNAME",
    },
  );
  const fields = { algorithm: "SHA-256", qop: "auth", nonce: NO_BODY, cnonce: NO_BODY, nonceCount: 0 } as const;
  t.like(
    t.throws(() => computeRspauth(fields, NO_BODY, { uri: "/", body: NO_BODY })),
    {
      code: "DIGEST_BAD_NONCE_COUNT",
    },
  );
});
