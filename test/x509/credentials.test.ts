import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from "node:crypto";
import test from "ava";
import {
  decodePemCertificates,
  issueThrowawayCredentials,
  loadCertificateChain,
  loadCredentials,
  loadPrivateKey,
  loadTrustAnchors,
  verifyPeerCertificates,
  X509Error,
  type X509ErrorCode,
} from "#x509/index.js";
import { authority, DAY_MS, NOW_MS, pem, server } from "./certificate-factory.js";

const SERVER = {
  commonName: "dpe",
  purpose: "serverAuth",
  atMs: NOW_MS,
  dns: ["localhost"],
  ip: ["127.0.0.1", "::1"],
} as const;

function codeOf(call: () => unknown): X509ErrorCode | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof X509Error) return error.code;
    throw error;
  }
}

const keyPem = (type: "ec" | "rsa", options: object, format: object = { type: "pkcs8", format: "pem" }): string => {
  const { privateKey } =
    type === "ec"
      ? generateKeyPairSync("ec", options as { namedCurve: string })
      : generateKeyPairSync("rsa", options as { modulusLength: number });
  return String(privateKey.export(format as { type: "pkcs8"; format: "pem" }));
};

test("throwaway credentials of a server verify under each of their names, at once and for 30 days", async (t) => {
  const made = await issueThrowawayCredentials(SERVER);
  const { chain, privateKey } = loadCredentials(made.certificatePem, made.privateKeyPem);
  const anchors = loadTrustAnchors(made.authority.certificatePem);
  const verify = (name: Parameters<typeof verifyPeerCertificates>[1]["name"], atMs = NOW_MS) =>
    verifyPeerCertificates(chain, { anchors, purpose: "serverAuth", atMs, ...(name === undefined ? {} : { name }) });
  t.true((await verify({ type: "dns", name: "localhost" })).ok);
  t.true((await verify({ type: "ip", address: "127.0.0.1" })).ok);
  t.true((await verify({ type: "ip", address: "::1" })).ok);
  t.like(await verify({ type: "dns", name: "dpe" }), { cause: "wrong-name" });
  t.true((await verify(undefined, NOW_MS + 30 * DAY_MS)).ok);
  t.like(await verify(undefined, NOW_MS + 30 * DAY_MS + 1000), { cause: "expired" });
  t.like(await verifyPeerCertificates(chain, { anchors, purpose: "clientAuth", atMs: NOW_MS }), {
    cause: "wrong-usage",
  });
  t.is(privateKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
});

test("throwaway credentials of a client come from the same authority when asked, with its URI", async (t) => {
  const { authority: shared } = await issueThrowawayCredentials(SERVER);
  const client = await issueThrowawayCredentials({
    commonName: "alice",
    purpose: "clientAuth",
    atMs: NOW_MS,
    uri: ["urn:dev:ops:32473-alice"],
    authority: shared,
    validityDays: 1,
  });
  t.is(client.authority, shared);
  const verdict = await verifyPeerCertificates(decodePemCertificates(client.certificatePem), {
    anchors: loadTrustAnchors(shared.certificatePem),
    purpose: "clientAuth",
    atMs: NOW_MS,
  });
  t.like(verdict, { ok: true, commonName: "alice", sans: [{ type: "uri", value: "urn:dev:ops:32473-alice" }] });
});

test("two throwaway authorities differ in name and key", async (t) => {
  const [a, b] = [await issueThrowawayCredentials(SERVER), await issueThrowawayCredentials(SERVER)];
  const subjects = [a, b].map((made) => new X509Certificate(made.authority.certificatePem).subject);
  t.not(subjects[0], subjects[1]);
  const verdict = await verifyPeerCertificates(decodePemCertificates(a.certificatePem), {
    anchors: loadTrustAnchors(b.authority.certificatePem),
    purpose: "serverAuth",
    atMs: NOW_MS,
  });
  t.like(verdict, { cause: "unknown-issuer" });
});

test("throwaway options that cannot be are refused", async (t) => {
  const [a, b] = [await issueThrowawayCredentials(SERVER), await issueThrowawayCredentials(SERVER)];
  const wrong = [
    { ...SERVER, commonName: "" },
    { ...SERVER, dns: [], ip: [] },
    { ...SERVER, ip: ["localhost"] },
    { ...SERVER, dns: ["höst"] },
    { ...SERVER, dns: [""] },
    { ...SERVER, validityDays: 0 },
    { ...SERVER, validityDays: Number.NaN },
    { ...SERVER, validityDays: 1e12 },
    { ...SERVER, atMs: Number.NaN },
    { ...SERVER, authority: { certificatePem: "", privateKeyPem: "" } },
    { ...SERVER, authority: { ...a.authority, privateKeyPem: b.authority.privateKeyPem } },
  ];
  for (const options of wrong) {
    const error = await t.throwsAsync(issueThrowawayCredentials(options), { instanceOf: X509Error });
    t.is(error?.code, "X509_BAD_OPTION", JSON.stringify(options));
  }
});

test("a chain is loaded leaf first, whatever stands around the blocks", async (t) => {
  const root = await authority({ name: "CN=root" });
  const middle = await authority({ name: "CN=middle", issuer: root });
  const leaf = await server({ issuer: middle });
  const text = `Bag Attributes\r\n${pem(leaf).replaceAll("\n", "\r\n")}# then its issuer\n${pem(middle)}`;
  t.deepEqual(loadCertificateChain(text), [leaf.der, middle.der]);
  t.deepEqual(decodePemCertificates(pem(middle) + pem(leaf)), [middle.der, leaf.der]);
  t.deepEqual(loadTrustAnchors(pem(middle) + pem(root)), [middle.der, root.der]);
  t.deepEqual(decodePemCertificates("nothing"), []);
});

test("a chain that is no chain is refused by code", async (t) => {
  const root = await authority({ name: "CN=root" });
  const leaf = await server({ issuer: root });
  const block = (body: string): string => `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`;
  t.is(
    codeOf(() => loadCertificateChain("")),
    "X509_NO_CERTIFICATE",
  );
  t.is(
    codeOf(() => loadTrustAnchors("")),
    "X509_NO_CERTIFICATE",
  );
  t.is(
    codeOf(() => loadCertificateChain(pem(root) + pem(leaf))),
    "X509_CHAIN_OUT_OF_ORDER",
  );
  t.is(
    codeOf(() => loadCertificateChain(block("MAA="))),
    "X509_MALFORMED_CERTIFICATE",
  );
  t.is(
    codeOf(() => loadTrustAnchors(block("MAA="))),
    "X509_MALFORMED_CERTIFICATE",
  );
  t.is(
    codeOf(() => decodePemCertificates(block("!"))),
    "X509_MALFORMED_CERTIFICATE",
  );
  t.is(
    codeOf(() => decodePemCertificates(block("TUFB=="))),
    "X509_MALFORMED_CERTIFICATE",
  );
  t.is(
    codeOf(() => decodePemCertificates(block(""))),
    "X509_MALFORMED_CERTIFICATE",
  );
});

test("a private key is loaded from PKCS #8, SEC 1 and PKCS #1", (t) => {
  const p256 = { namedCurve: "P-256" };
  t.is(loadPrivateKey(keyPem("ec", p256)).asymmetricKeyType, "ec");
  t.is(loadPrivateKey(keyPem("ec", p256, { type: "sec1", format: "pem" })).asymmetricKeyType, "ec");
  t.is(loadPrivateKey(keyPem("ec", { namedCurve: "P-384" })).asymmetricKeyType, "ec");
  t.is(
    loadPrivateKey(keyPem("rsa", { modulusLength: 2048 }, { type: "pkcs1", format: "pem" })).asymmetricKeyType,
    "rsa",
  );
});

test("a private key that does not serve is refused by code", (t) => {
  const encrypted = { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" };
  const traditional = { ...encrypted, type: "sec1" };
  t.is(
    codeOf(() => loadPrivateKey("")),
    "X509_NO_PRIVATE_KEY",
  );
  t.is(
    codeOf(() => loadPrivateKey(keyPem("ec", { namedCurve: "P-256" }, encrypted))),
    "X509_ENCRYPTED_PRIVATE_KEY",
  );
  t.is(
    codeOf(() => loadPrivateKey(keyPem("ec", { namedCurve: "P-256" }, traditional))),
    "X509_ENCRYPTED_PRIVATE_KEY",
  );
  t.is(
    codeOf(() => loadPrivateKey("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n")),
    "X509_MALFORMED_PRIVATE_KEY",
  );
  t.is(
    codeOf(() => loadPrivateKey(keyPem("ec", { namedCurve: "secp256k1" }))),
    "X509_UNSUPPORTED_PRIVATE_KEY",
  );
  t.is(
    codeOf(() => loadPrivateKey(keyPem("rsa", { modulusLength: 1024 }))),
    "X509_UNSUPPORTED_PRIVATE_KEY",
  );
});

test("credentials are a pair: another key is refused", async (t) => {
  const made = await issueThrowawayCredentials(SERVER);
  const { privateKey, chain } = loadCredentials(made.certificatePem, made.privateKeyPem);
  const [leaf] = chain;
  t.true(createPublicKey(createPrivateKey(made.privateKeyPem)).equals(new X509Certificate(leaf!).publicKey));
  t.is(privateKey.type, "private");
  t.is(
    codeOf(() => loadCredentials(made.certificatePem, made.authority.privateKeyPem)),
    "X509_KEY_MISMATCH",
  );
});

test("credentials of our own that have expired are refused where a time is given", async (t) => {
  const { certificatePem, privateKeyPem } = await issueThrowawayCredentials(SERVER);
  const load = (atMs: number) => (): unknown => loadCredentials(certificatePem, privateKeyPem, atMs);
  t.notThrows(load(NOW_MS));
  t.notThrows(load(NOW_MS - 400 * DAY_MS));
  t.is(codeOf(load(NOW_MS + 400 * DAY_MS)), "X509_EXPIRED");
});
