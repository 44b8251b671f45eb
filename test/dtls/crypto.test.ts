import crypto, { type Cipher, createCipheriv, createHash, createHmac, createPublicKey, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import test from "ava";
import fc from "fast-check";
import { CcmKey } from "#dtls/crypto/ccm.js";
import { openAlone, sealAlone } from "#dtls/crypto/ccm-record.js";
import { CIPHER_POOL, CipherPool, type CipherRoom, type PooledKey } from "#dtls/crypto/cipher-pool.js";
import { GcmKey } from "#dtls/crypto/gcm.js";
import { generateKeyShare, type GroupName, GROUPS } from "#dtls/crypto/key-exchange.js";
import { extendedMasterSecret, keyBlock, masterSecret, pskPremasterSecret } from "#dtls/crypto/key-schedule.js";
import { KeyStream } from "#dtls/crypto/key-stream.js";
import { prf, publicPrfInto } from "#dtls/crypto/prf.js";
import { HmacSha256 } from "#dtls/crypto/sha256.js";
import { type SignatureSchemeName, signWith, verifyWith } from "#dtls/crypto/signatures.js";
import { DtlsError } from "#dtls/index.js";
import { credential } from "./fixtures.js";

interface CcmVector {
  readonly tcId: number;
  readonly key: string;
  readonly nonce: string;
  readonly aad: string;
  readonly plaintext: string;
  readonly sealed: string;
  readonly tagBytes: 8 | 16;
  readonly isValid: boolean;
}

const CCM_VECTORS = (
  JSON.parse(readFileSync(new URL("../../../test/vectors/dtls-aes-ccm.json", import.meta.url), "utf8")) as {
    readonly tests: readonly CcmVector[];
  }
).tests;

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function unhex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, "hex"));
}

function ecb(key: Uint8Array): Cipher {
  return createCipheriv("aes-128-ecb", key, null).setAutoPadding(false);
}

/** Notes all cipher objects that are made, until it is restored. */
function contextsMade(): { readonly made: readonly Cipher[]; readonly restore: () => void } {
  const made: Cipher[] = [];
  const { createCipheriv: original } = crypto;
  const use = (create: typeof original): void => {
    crypto.createCipheriv = create;
    syncBuiltinESMExports();
  };
  const noting = (...words: Parameters<typeof original>): Cipher => {
    const cipher = original(...words);
    made.push(cipher);
    return cipher;
  };
  use(noting as typeof original);
  return { made, restore: () => use(original) };
}

function isAlive(cipher: Cipher): boolean {
  try {
    cipher.update(new Uint8Array(16));
    return true;
  } catch {
    return false;
  }
}

function seal(key: CcmKey | GcmKey, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(plaintext.length + key.tagBytes);
  sealed.set(plaintext);
  key.seal(nonce, aad, sealed, 0, plaintext.length);
  return sealed;
}

const nonces = fc.uint8Array({ minLength: 12, maxLength: 12 });
const keys = fc.uint8Array({ minLength: 16, maxLength: 16 });
const aads = fc.uint8Array({ maxLength: 64 });
const plaintexts = fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ minLength: 1900, maxLength: 4200 }));

test("CCM gives the bytes of NIST SP 800-38C and of the Wycheproof vectors, and refuses their forgeries", (t) => {
  t.is(CCM_VECTORS.length, 87);
  for (const vector of CCM_VECTORS) {
    const key = new CcmKey(unhex(vector.key), 0, vector.tagBytes);
    const [nonce, aad] = [unhex(vector.nonce), unhex(vector.aad)];
    const opened = key.open(nonce, aad, unhex(vector.sealed));
    t.is(
      opened === undefined ? undefined : hex(opened),
      vector.isValid ? vector.plaintext : undefined,
      String(vector.tcId),
    );
    if (vector.isValid) t.is(hex(seal(key, nonce, aad, unhex(vector.plaintext))), vector.sealed, String(vector.tcId));
  }
});

test("CCM of one long-lived key equals node:crypto's for any nonces, data and lengths in a row", (t) => {
  for (const tagBytes of [8, 16] as const) {
    const raw = randomBytes(16);
    const key = new CcmKey(raw, 0, tagBytes);
    fc.assert(
      fc.property(nonces, aads, plaintexts, (nonce, aad, plaintext) => {
        const cipher = createCipheriv("aes-128-ccm", raw, nonce, { authTagLength: tagBytes });
        cipher.setAAD(aad, { plaintextLength: plaintext.length });
        const body = cipher.update(plaintext);
        cipher.final();
        const expected = Buffer.concat([body, cipher.getAuthTag()]);
        const sealed = seal(key, nonce, aad, plaintext);
        const opened = key.open(nonce, aad, sealed);
        return hex(sealed) === hex(expected) && opened !== undefined && hex(opened) === hex(plaintext);
      }),
      { numRuns: 300 },
    );
  }
  t.pass();
});

test("CCM equals node:crypto's for records in a row, with losses, repetitions, jumps and other lengths among them", (t) => {
  const steps = fc.array(
    fc.record({
      by: fc.oneof(fc.constant(1), fc.constantFrom(0, 1, 2, 7, 9, 40, -1, -3, 0xffff_fff0)),
      length: fc.oneof(fc.integer({ min: 0, max: 40 }), fc.constantFrom(16, 17, 128, 1400, 2048)),
    }),
    { minLength: 1, maxLength: 120 },
  );
  fc.assert(
    fc.property(keys, nonces, steps, (raw, nonce, taken) => {
      const [sealing, opening] = [new CcmKey(raw, 0, 8), new CcmKey(raw, 0, 8)];
      const counter = new DataView(nonce.buffer, nonce.byteOffset + 8);
      const aad = nonce.slice(0, 11);
      return taken.every(({ by, length }) => {
        counter.setUint32(0, counter.getUint32(0) + by);
        const plaintext = new Uint8Array(length).fill(by);
        const cipher = createCipheriv("aes-128-ccm", raw, nonce, { authTagLength: 8 });
        cipher.setAAD(aad, { plaintextLength: length });
        const body = cipher.update(plaintext);
        cipher.final();
        const sealed = seal(sealing, nonce, aad, plaintext);
        const opened = opening.open(nonce, aad, sealed);
        return (
          hex(sealed) === hex(Buffer.concat([body, cipher.getAuthTag()])) &&
          opened !== undefined &&
          hex(opened) === hex(plaintext)
        );
      });
    }),
    { numRuns: 60 },
  );
  t.pass();
});

test("an AEAD refuses any change of the sealed bytes, the additional data or the nonce, and works on after it", (t) => {
  fc.assert(
    fc.property(
      keys,
      nonces,
      fc.uint8Array({ minLength: 1, maxLength: 40 }),
      fc.nat(),
      fc.integer({ min: 0, max: 7 }),
      (raw, nonce, plaintext, position, bit) => {
        for (const key of [new CcmKey(raw, 0, 8), new CcmKey(raw, 0, 16), new GcmKey(raw, 0)]) {
          const aad = Uint8Array.of(1, 2, 3);
          const sealed = seal(key, nonce, aad, plaintext);
          const flip = (bytes: Uint8Array): Uint8Array => {
            const copy = Uint8Array.from(bytes);
            const at = position % copy.length;
            copy[at] = (copy[at] ?? 0) ^ (1 << bit);
            return copy;
          };
          if (key.open(nonce, aad, flip(sealed)) !== undefined) return false;
          if (key.open(nonce, flip(aad), sealed) !== undefined) return false;
          if (key.open(flip(nonce), aad, sealed) !== undefined) return false;
          if (key.open(nonce, aad, sealed.subarray(0, key.tagBytes - 1)) !== undefined) return false;
          if (hex(key.open(nonce, aad, sealed) ?? new Uint8Array(0)) !== hex(plaintext)) return false;
        }
        return true;
      },
    ),
  );
  t.pass();
});

test("the cipher pool holds at most its capacity, keeps keys in use, and a key that lost its contexts still works", (t) => {
  const pool = new CipherPool(3);
  const dropped: number[] = [];
  const pooled = (id: number): PooledKey => ({
    wasUsed: false,
    slot: -1,
    missedAt: 0,
    dropContexts: () => dropped.push(id),
  });
  const [a, b, c, d, e] = [0, 1, 2, 3, 4].map(pooled) as [PooledKey, PooledKey, PooledKey, PooledKey, PooledKey];
  for (const key of [a, b, c]) pool.admit(key);
  a.wasUsed = true;
  pool.admit(d);
  t.deepEqual(dropped, [1]);
  pool.admit(e);
  t.deepEqual(dropped, [1, 2]);
  pool.release(d);
  t.deepEqual(dropped, [1, 2, 3]);
  pool.admit(b);
  t.deepEqual(dropped, [1, 2, 3], "the place that was given back is taken before another key makes way");
  pool.admit(c);
  t.is(dropped.length, 4);

  const raw = randomBytes(16);
  const key = new CcmKey(raw, 0, 8);
  const nonce = randomBytes(12);
  const before = seal(key, nonce, new Uint8Array(0), Uint8Array.of(1, 2, 3));
  CIPHER_POOL.release(key);
  t.deepEqual(key.open(nonce, new Uint8Array(0), before), Uint8Array.of(1, 2, 3));
});

test("a key that makes way in the pool, or is released, leaves no context behind", (t) => {
  const { made, restore } = contextsMade();
  try {
    const many = 100;
    const raw = randomBytes(16);
    const keys = Array.from({ length: CIPHER_POOL.capacity + many }, () => new CcmKey(raw, 0, 8));
    for (const key of keys) seal(key, new Uint8Array(12), new Uint8Array(0), new Uint8Array(3));
    t.is(made.length, 2 * keys.length);
    t.is(made.filter(isAlive).length, 2 * CIPHER_POOL.capacity);
    for (const key of keys) CIPHER_POOL.release(key);
    t.is(made.filter(isAlive).length, 0);
  } finally {
    restore();
  }
});

test("with more keys by turns than places, those that have one keep it; what comes again soon gets one", (t) => {
  const { made, restore } = contextsMade();
  const raw = randomBytes(16);
  const keys = Array.from({ length: 2 * CIPHER_POOL.capacity }, () => new CcmKey(raw, 0, 8));
  try {
    const sealed = (key: CcmKey): string => hex(seal(key, new Uint8Array(12), Uint8Array.of(1), new Uint8Array(20)));
    const expected = sealed(keys[0]!);
    for (const key of keys) t.is(sealed(key), expected);
    const placed = (): string => keys.flatMap(({ slot }, index) => (slot >= 0 ? [index] : [])).join();
    const atFirst = placed();
    t.is(atFirst.split(",").length, CIPHER_POOL.capacity);
    for (let turn = 0; turn < 2; turn++) for (const key of keys) if (sealed(key) !== expected) t.fail();
    t.is(placed(), atFirst);
    t.is(made.filter(isAlive).length, 2 * CIPHER_POOL.capacity, "what was made for one record is ended");
    const alone = keys.find(({ slot }) => slot < 0)!;
    sealed(alone);
    t.true(alone.slot < 0);
    const opened = alone.open(new Uint8Array(12), Uint8Array.of(1), unhex(expected));
    t.deepEqual(opened, new Uint8Array(20));
    t.true(alone.slot >= 0, "again, with no others in between");
  } finally {
    for (const key of keys) CIPHER_POOL.release(key);
    restore();
  }
});

test("a record that is done alone is node:crypto's CCM, both ways, and refused where anything of it is changed", (t) => {
  fc.assert(
    fc.property(keys, nonces, aads, fc.uint8Array({ maxLength: 80 }), fc.nat(), (raw, nonce, aad, plaintext, at) => {
      for (const tagBytes of [8, 16] as const) {
        const sealed = new Uint8Array(3 + plaintext.length + tagBytes);
        sealed.set(plaintext, 3);
        sealAlone(raw, tagBytes, nonce, aad, sealed, 3, plaintext.length);
        const expected = seal(new CcmKey(raw, 0, tagBytes), nonce, aad, plaintext);
        if (hex(sealed.subarray(3)) !== hex(expected)) return false;
        const opened = new Uint8Array(plaintext.length);
        if (!openAlone(raw, tagBytes, nonce, aad, sealed, 3, opened) || hex(opened) !== hex(plaintext)) return false;
        const changed = 3 + (at % (sealed.length - 3));
        sealed[changed] = (sealed[changed] ?? 0) ^ 1;
        opened.fill(0xee);
        if (openAlone(raw, tagBytes, nonce, aad, sealed, 3, opened)) return false;
        if (opened.some((byte) => byte !== 0xee)) return false;
      }
      return true;
    }),
  );
  t.pass();
});

test("a place in the pool has only zeros for the key that comes there", (t) => {
  const pool = new CipherPool(1);
  const rooms: CipherRoom[] = [];
  const pooled = (): PooledKey => ({ wasUsed: false, slot: -1, missedAt: 0, dropContexts: () => undefined });
  rooms.push(pool.admit(pooled()), pool.admit(pooled()));
  t.is(rooms[0]?.ahead, rooms[1]?.ahead, "one room for one place");

  const stream = new KeyStream(ecb(randomBytes(16)), rooms[0]?.ahead ?? new Uint8Array(0));
  for (let record = 0; record < 8; record++) stream.seek(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, record), 3);
  t.true(rooms[0]?.ahead.some((byte) => byte !== 0));
  stream.end();
  t.true(rooms[0]?.ahead.every((byte) => byte === 0));
});

test("the key stream of a record longer than what is made ahead, and of those before and after it, is the cipher's", (t) => {
  const raw = randomBytes(16);
  const expected = (nonce: Uint8Array, blocks: number): string => {
    const counters = Array.from({ length: blocks }, (_, block) => [2, ...nonce, 0, 0, block]).flat();
    return hex(ecb(raw).update(Uint8Array.from(counters)));
  };
  const nonces = fc.integer({ min: 0, max: 40 });
  const blocks = fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 1, max: 6 }) }, fc.integer({ min: 1, max: 90 }));
  fc.assert(
    fc.property(fc.array(fc.tuple(nonces, blocks), { maxLength: 40 }), (seeks) => {
      const stream = new KeyStream(ecb(raw), new Uint8Array(1024));
      for (const [counter, count] of seeks) {
        const nonce = new Uint8Array(12);
        nonce[11] = counter;
        const bytes = stream.seek(nonce, count);
        if (hex(bytes.subarray(stream.at, stream.at + count * 16)) !== expected(nonce, count)) return false;
      }
      return true;
    }),
  );
  t.pass();
});

test("HMAC-SHA-256 of two hashes equals node:crypto's, for keys and messages of any length", (t) => {
  const lengths = fc.oneof(fc.integer({ min: 0, max: 130 }), fc.constantFrom(600, 1500));
  fc.assert(
    fc.property(lengths, fc.array(lengths, { maxLength: 4 }), (keyLength, partLengths) => {
      const secret = randomBytes(keyLength);
      const parts = partLengths.map((length) => randomBytes(length));
      const expected = createHmac("sha256", secret).update(Buffer.concat(parts)).digest();
      const hmac = new HmacSha256(secret);
      return hex(hmac.mac(...parts)) === hex(expected) && hex(hmac.mac(...parts)) === hex(expected);
    }),
  );
  t.pass();
});

test("the PRF gives the published P_SHA256 vector", (t) => {
  // "TLS 1.2 PRF test vectors", IETF TLS working group mailing list, 2009.
  const output = prf(
    unhex("9bbe436ba940f017b17652849a71db35"),
    "test label",
    unhex("a0ba9f936cda311827a6f796ffd5198c"),
    100,
  );
  t.is(
    hex(output),
    "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17" +
      "abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff70187347b66",
  );
});

test("the PRF equals P_SHA256 written out, for secrets, seeds and lengths of any size", (t) => {
  const sizes = fc.oneof(fc.integer({ min: 0, max: 130 }), fc.constantFrom(600, 1500));
  fc.assert(
    fc.property(
      sizes,
      fc.string({ unit: "grapheme-ascii", maxLength: 30 }),
      sizes,
      sizes,
      (key, label, size, length) => {
        const [secret, seed] = [randomBytes(key), randomBytes(size)];
        const mac = (...parts: Uint8Array[]): Buffer =>
          createHmac("sha256", secret).update(Buffer.concat(parts)).digest();
        const labelled = Buffer.concat([Buffer.from(label), seed]);
        const blocks: Uint8Array[] = [];
        for (let a = mac(labelled); blocks.length * 32 < length; a = mac(a)) blocks.push(mac(a, labelled));
        const expected = hex(Buffer.concat(blocks).subarray(0, length));
        const shown = new Uint8Array(length);
        publicPrfInto(secret, label, seed, shown);
        const half = size >> 1;
        const inTwo = prf(secret, label, seed.subarray(0, half), length, seed.subarray(half), false);
        return [prf(secret, label, seed, length), shown, inTwo].every((bytes) => hex(bytes) === expected);
      },
    ),
  );
  t.pass();
});

test("the key schedule follows RFC 5246 §8.1 and §6.3, RFC 7627 §4, RFC 4279 §2 and RFC 5489 §2", (t) => {
  const [secret, client, server] = [randomBytes(32), randomBytes(32), randomBytes(32)];
  t.deepEqual(masterSecret(secret, client, server), prf(secret, "master secret", Buffer.concat([client, server]), 48));
  t.deepEqual(keyBlock(secret, client, server), prf(secret, "key expansion", Buffer.concat([server, client]), 40));
  const hash = createHash("sha256").update("x").digest();
  t.deepEqual(extendedMasterSecret(secret, hash), prf(secret, "extended master secret", hash, 48));
  t.is(hex(pskPremasterSecret(Uint8Array.of(1, 2, 3))), "0003000000" + "0003010203");
  t.is(hex(pskPremasterSecret(Uint8Array.of(1, 2, 3), Uint8Array.of(9))), "000109" + "0003010203");
  // The first block of P_SHA256, written out: HMAC(secret, A(1) ‖ seed), A(1) = HMAC(secret, seed).
  const mac = (data: Uint8Array): Buffer => createHmac("sha256", secret).update(data).digest();
  const seed = Buffer.concat([Buffer.from("extended master secret"), hash]);
  t.is(hex(extendedMasterSecret(secret, hash).subarray(0, 32)), hex(mac(Buffer.concat([mac(seed), seed]))));
});

test("two key shares of a group agree on a secret, in each group", (t) => {
  for (const group of Object.keys(GROUPS) as GroupName[]) {
    const [a, b] = [generateKeyShare(group), generateKeyShare(group)];
    t.is(a.publicKey.length, GROUPS[group].publicKeyBytes);
    const secret = a.sharedSecret(b.publicKey);
    t.deepEqual(hex(secret), hex(b.sharedSecret(a.publicKey)));
    t.is(secret.length, group === "secp384r1" ? 48 : 32);
  }
});

test("D60 a point off the curve, of another form or length, and an all-zero X25519 secret, are refused", (t) => {
  const refuses = (group: GroupName, publicKey: Uint8Array): void => {
    const error = t.throws(() => generateKeyShare(group).sharedSecret(publicKey), { instanceOf: DtlsError });
    t.is(error?.code, "DTLS_BAD_KEY_SHARE");
  };
  for (const group of ["secp256r1", "secp384r1"] as const) {
    const offCurve = Uint8Array.from(generateKeyShare(group).publicKey);
    offCurve[offCurve.length - 1] = (offCurve.at(-1) ?? 0) ^ 1;
    refuses(group, offCurve);
    refuses(group, new Uint8Array(offCurve.length));
    refuses(group, offCurve.subarray(1));
    refuses(group, Uint8Array.of(0));
    const compressed = Uint8Array.from(generateKeyShare(group).publicKey.subarray(0, (offCurve.length + 1) / 2));
    compressed[0] = 2;
    refuses(group, compressed);
  }
  // RFC 7748 §6.1: points of small order.
  refuses("x25519", new Uint8Array(32));
  refuses(
    "x25519",
    Uint8Array.from({ length: 32 }, (_, i) => (i === 0 ? 1 : 0)),
  );
  refuses("x25519", unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"));
  refuses("x25519", new Uint8Array(31));
});

test("each signature scheme verifies its own signatures, of its own kind of key only", (t) => {
  const content = randomBytes(100);
  const kinds: [SignatureSchemeName, "p256" | "p384" | "rsa" | "ed25519"][] = [
    ["ecdsa_secp256r1_sha256", "p256"],
    ["ecdsa_secp384r1_sha384", "p384"],
    ["ecdsa_secp256r1_sha256", "p384"],
    ["ed25519", "ed25519"],
    ["rsa_pss_rsae_sha256", "rsa"],
    ["rsa_pkcs1_sha256", "rsa"],
  ];
  for (const [scheme, name] of kinds) {
    const { privateKey } = credential(name);
    const publicKey = createPublicKey(privateKey);
    const signature = signWith(scheme, privateKey, content);
    t.true(verifyWith(scheme, publicKey, content, signature));
    t.false(verifyWith(scheme, publicKey, content.subarray(1), signature));
    t.false(verifyWith(scheme, publicKey, content, signature.subarray(1)));
    for (const [other, otherName] of kinds) {
      if (other !== scheme && otherName === name) t.false(verifyWith(other, publicKey, content, signature));
    }
  }
  const rsa = createPublicKey(credential("rsa").privateKey);
  t.false(verifyWith("ecdsa_secp256r1_sha256", rsa, content, randomBytes(70)));
});
