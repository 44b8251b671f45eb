import "reflect-metadata";
import { webcrypto } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  loadRevocationLists,
  type RevocationPolicy,
  type Verdict,
  verifyPeerCertificates,
  X509Error,
} from "#x509/index.js";
import { Extension, X509Certificate, X509CrlGenerator } from "@peculiar/x509";
import test from "ava";
import fc from "fast-check";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import {
  authority,
  certificate,
  DAY_MS,
  ecKeys,
  type Issued,
  KEY_USAGE,
  NOW_MS,
  pem,
  rsaKeys,
  server,
} from "./certificate-factory.js";

const CRL_SIGN = 64;
const CERTIFY = KEY_USAGE.certify + CRL_SIGN;

interface ListRecipe {
  readonly issuer: Issued;
  readonly revoked?: readonly Issued[];
  readonly thisUpdateMs?: number;
  readonly nextUpdateMs?: number | undefined;
  readonly extensions?: readonly Extension[];
  readonly entryExtensions?: readonly Extension[];
}

async function list(recipe: ListRecipe): Promise<Uint8Array> {
  const { issuer, revoked = [], thisUpdateMs = NOW_MS - DAY_MS, nextUpdateMs = NOW_MS + DAY_MS } = recipe;
  const made = await X509CrlGenerator.create(
    {
      issuer: issuer.name,
      thisUpdate: new Date(thisUpdateMs),
      ...("nextUpdateMs" in recipe && recipe.nextUpdateMs === undefined ? {} : { nextUpdate: new Date(nextUpdateMs) }),
      entries: revoked.map(({ der }) => ({
        serialNumber: new X509Certificate(der).serialNumber,
        revocationDate: new Date(thisUpdateMs),
        extensions: [...(recipe.entryExtensions ?? [])],
      })),
      extensions: [...(recipe.extensions ?? [])],
      signingAlgorithm: { name: issuer.keys.privateKey.algorithm.name, hash: "SHA-256" },
      signingKey: issuer.keys.privateKey,
    },
    webcrypto,
  );
  return new Uint8Array(made.rawData);
}

const critical = (type: string): Extension => new Extension(type, true, Uint8Array.of(0x30, 0).buffer);

async function pki() {
  const root = await authority({ name: "CN=root", keyUsage: CERTIFY });
  const middle = await authority({ name: "CN=middle", issuer: root, keyUsage: CERTIFY });
  const leaf = await server({ issuer: middle });
  return { root, middle, leaf };
}

function judge(
  { root, middle, leaf }: Awaited<ReturnType<typeof pki>>,
  lists: readonly Uint8Array[],
  isRequired = true,
  atMs = NOW_MS,
): Promise<Verdict> {
  const revocation: RevocationPolicy = { lists: lists.flatMap((der) => loadRevocationLists(der)), isRequired };
  return verifyPeerCertificates([leaf.der, middle.der], {
    anchors: [root.der],
    purpose: "serverAuth",
    atMs,
    revocation,
  });
}

test("R16 a certificate that its issuer's list names is refused with certificate_revoked, an issuer too", async (t) => {
  const all = await pki();
  const { root, middle, leaf } = all;
  const [ofRoot, ofMiddle] = [await list({ issuer: root }), await list({ issuer: middle })];
  t.true((await judge(all, [ofRoot, ofMiddle])).ok);
  t.like(await judge(all, [ofRoot, await list({ issuer: middle, revoked: [leaf] })]), {
    ok: false,
    cause: "revoked",
    alert: "certificate_revoked",
  });
  t.like(await judge(all, [await list({ issuer: root, revoked: [middle] }), ofMiddle]), { cause: "revoked" });
  // The serial numbers of another issuer say nothing.
  t.true((await judge(all, [await list({ issuer: root, revoked: [leaf] }), ofMiddle])).ok);
});

test("a list that is missing or too old refuses where lists are required, and else only says what it names", async (t) => {
  const all = await pki();
  const { root, middle, leaf } = all;
  const [ofRoot, ofMiddle] = [await list({ issuer: root }), await list({ issuer: middle })];
  const unknown = { ok: false, cause: "revocation-unknown", alert: "certificate_unknown" } as const;
  t.like(await judge(all, []), unknown);
  t.like(await judge(all, [ofMiddle]), unknown);
  t.like(await judge(all, [ofRoot, ofMiddle], true, NOW_MS + DAY_MS + 1), unknown);
  t.like(await judge(all, [ofRoot, ofMiddle], true, NOW_MS - DAY_MS - 1), unknown);
  t.true((await judge(all, [ofRoot, ofMiddle], true, NOW_MS + DAY_MS)).ok);
  t.true((await judge(all, [], false)).ok);
  const old = await list({ issuer: middle, revoked: [leaf], nextUpdateMs: NOW_MS - 1 });
  for (const isRequired of [true, false]) t.like(await judge(all, [ofRoot, old], isRequired), { cause: "revoked" });
});

test("a list that its issuer did not sign, or may not sign, is none", async (t) => {
  const all = await pki();
  const { root, middle, leaf } = all;
  const ofRoot = await list({ issuer: root });
  const impostor = { ...middle, keys: await ecKeys() };
  const forged = await list({ issuer: impostor, revoked: [leaf] });
  t.like(await judge(all, [ofRoot, forged]), { cause: "revocation-unknown" });
  t.true((await judge(all, [ofRoot, forged], false)).ok);
  const changed = await list({ issuer: middle });
  changed[changed.length - 1]! ^= 1;
  t.like(await judge(all, [ofRoot, changed]), { cause: "revocation-unknown" });
  const onlyCertifies = await authority({ name: "CN=middle", issuer: root, keyUsage: KEY_USAGE.certify });
  const other = { root, middle: onlyCertifies, leaf: await server({ issuer: onlyCertifies }) };
  t.like(await judge(other, [ofRoot, await list({ issuer: onlyCertifies })]), { cause: "revocation-unknown" });
});

test("lists signed with RSA are taken", async (t) => {
  const root = await certificate({
    name: "CN=root",
    keys: await rsaKeys(2048),
    basicConstraints: { ca: true },
    keyUsage: CERTIFY,
  });
  const leaf = await server({ issuer: root });
  const revocation = { lists: loadRevocationLists(await list({ issuer: root, revoked: [leaf] })), isRequired: true };
  const options = { anchors: [root.der], purpose: "serverAuth", atMs: NOW_MS, revocation } as const;
  t.like(await verifyPeerCertificates([leaf.der], options), { cause: "revoked" });
});

test("what is no complete list is refused when it is loaded, by a code", async (t) => {
  const { root, leaf } = await pki();
  const code = (bytes: Uint8Array): string => {
    try {
      loadRevocationLists(bytes);
      return "loaded";
    } catch (error) {
      return error instanceof X509Error ? error.code : String(error);
    }
  };
  const good = await list({ issuer: root, revoked: [leaf] });
  const asPem = (der: Uint8Array): Uint8Array =>
    Buffer.from(`text\n-----BEGIN X509 CRL-----\n${Buffer.from(der).toString("base64")}\n-----END X509 CRL-----\n`);
  t.is(code(good), "loaded");
  t.is(loadRevocationLists(Buffer.concat([asPem(good), asPem(good)])).length, 2);
  t.is(code(Buffer.from(pem(root))), "X509_NO_CRL");
  t.is(code(root.der), "X509_MALFORMED_CRL");
  t.is(code(good.subarray(0, -1)), "X509_MALFORMED_CRL");
  t.is(code(Buffer.from("-----BEGIN X509 CRL-----\n!\n-----END X509 CRL-----")), "X509_MALFORMED_CRL");
  t.is(code(await list({ issuer: root, nextUpdateMs: undefined })), "X509_MALFORMED_CRL");
  for (const type of ["2.5.29.27", "2.5.29.28"])
    t.is(code(await list({ issuer: root, extensions: [critical(type)] })), "X509_UNSUPPORTED_CRL");
  const indirect = await list({ issuer: root, revoked: [leaf], entryExtensions: [critical("2.5.29.29")] });
  t.is(code(indirect), "X509_UNSUPPORTED_CRL");
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 }), (index, byte) => {
      const bytes = Uint8Array.from(good);
      bytes[index] = byte;
      return ["loaded", "X509_MALFORMED_CRL", "X509_UNSUPPORTED_CRL", "X509_NO_CRL"].includes(code(bytes));
    }),
  );
});

testWith("openssl", "R16 a list that OpenSSL made revokes what OpenSSL revoked", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dpe-crl-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const at = (name: string): string => join(folder, name);
  const openssl = (...words: string[]): Promise<string> => PeerProcess.run(t, "openssl", words);
  writeFileSync(at("index"), "");
  writeFileSync(
    at("ca.cnf"),
    `[ca]\ndefault_ca=c\n[c]\ndatabase=${at("index")}\ndefault_md=sha256\ndefault_crl_days=2\n`,
  );
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  await openssl(
    "req",
    "-x509",
    ...newKey,
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.pem"),
    "-subj",
    "/CN=ca",
    "-days",
    "5",
  );
  await openssl("req", "-new", ...newKey, "-keyout", at("leaf.key"), "-out", at("leaf.csr"), "-subj", "/CN=leaf");
  const sign = ["x509", "-req", "-in", at("leaf.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-days", "5"];
  for (const [name, serial] of [
    ["good", "0xF00DF00D01"],
    ["bad", "0x8000000000000001"],
  ] as const)
    await openssl(...sign, "-set_serial", serial, "-out", at(`${name}.pem`));
  const ca = ["ca", "-config", at("ca.cnf"), "-cert", at("ca.pem"), "-keyfile", at("ca.key")];
  await openssl(...ca, "-revoke", at("bad.pem"));
  await openssl(...ca, "-gencrl", "-out", at("list.pem"));
  const der = (name: string): Uint8Array =>
    Uint8Array.from(new Uint8Array(new X509Certificate(readFileSync(at(`${name}.pem`), "utf8")).rawData));
  const revocation = { lists: loadRevocationLists(readFileSync(at("list.pem"))), isRequired: true };
  const options = { anchors: [der("ca")], purpose: "clientAuth", atMs: Date.now(), revocation } as const;
  t.like(await verifyPeerCertificates([der("bad")], options), { ok: false, cause: "revoked" });
  t.like(await verifyPeerCertificates([der("good")], options), { ok: true });
});
