import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import fc from "fast-check";
import {
  CERTIFICATE_FAULT_ALERTS,
  VERIFICATION_DEFAULTS,
  verifyPeerCertificates,
  type PeerName,
  type Verdict,
  type VerificationLimits,
} from "#x509/index.js";
import { MAX_PARSED, parseAnchor, parseCertificate, parsePeerCertificate } from "#x509/certificate.js";
import { candidatePaths, MAX_BUILD_STEPS } from "#x509/certificate-path.js";
import { authority, certificate, ecKeys, extension, NOW_MS, pem, server, type Issued } from "./certificate-factory.js";
import { ACCEPTED, REFUSED, type PathCase, type PeerChain } from "./path-cases.js";

const HOST: PeerName = { type: "dns", name: "host.example.com" };

function nameOf(peer: PeerChain): PeerName | undefined {
  return "name" in peer ? peer.name : HOST;
}

function verify(peer: PeerChain, limits: Partial<VerificationLimits> = {}): Promise<Verdict> {
  const name = nameOf(peer);
  return verifyPeerCertificates(
    peer.chain.map(({ der }) => der),
    {
      anchors: peer.anchors.map(({ der }) => der),
      purpose: peer.purpose ?? "serverAuth",
      atMs: peer.atMs ?? NOW_MS,
      limits,
      ...(name === undefined ? {} : { name }),
    },
  );
}

for (const { title, expected, make } of REFUSED) {
  test(`D63 ${title} is refused`, async (t) => {
    const verdict = await verify(await make());
    t.false(verdict.ok, "accepted");
    if (!verdict.ok) t.deepEqual([verdict.cause, verdict.alert], [...expected], verdict.reason);
  });
}

for (const { title, make } of ACCEPTED) {
  test(`${title} is accepted`, async (t) => {
    const verdict = await verify(await make());
    t.true(verdict.ok, verdict.ok ? "" : `${verdict.cause}: ${verdict.reason}`);
  });
}

// As in the interoperability tests: skipped where scripts/peers said that it is missing, unless every peer is required.
const isSkipped =
  (process.env["DPE_MISSING_PEERS"] ?? "").split(" ").includes("openssl") && process.env["DPE_REQUIRE_PEERS"] !== "1";

for (const each of [...REFUSED, ...ACCEPTED]) {
  const title = `openssl verify answers alike: ${each.title}`;
  (isSkipped ? test.skip : test)(title, async (t) => {
    const isAccepted = each.expected === "accepted";
    const { isOk, output } = await opensslVerify(await each.make(), each);
    t.is(isOk, each.opensslDiffers === undefined ? isAccepted : !isAccepted, output);
  });
}

/** Asks `openssl verify` about the same files; rejects where it did not come to an answer. */
async function opensslVerify(
  peer: PeerChain,
  { opensslFlags = [] }: PathCase,
): Promise<{ isOk: boolean; output: string }> {
  const folder = mkdtempSync(join(tmpdir(), "x509-"));
  const file = (name: string, certificates: readonly Issued[]): string => {
    writeFileSync(join(folder, name), certificates.map(pem).join(""));
    return join(folder, name);
  };
  const [leaf, ...others] = peer.chain;
  if (leaf === undefined) throw new Error("a case without a certificate");
  const name = nameOf(peer);
  const purpose = peer.purpose === "clientAuth" ? "sslclient" : "sslserver";
  const args = ["verify", "-no-CApath", "-no-CAstore", "-purpose", purpose, "-auth_level", "2", ...opensslFlags];
  args.push("-attime", String(Math.floor((peer.atMs ?? NOW_MS) / 1000)));
  if (peer.anchors.length > 0) args.push("-CAfile", file("anchors.pem", peer.anchors));
  else args.push("-no-CAfile");
  if (others.length > 0) args.push("-untrusted", file("others.pem", others));
  if (name !== undefined)
    args.push(...(name.type === "dns" ? ["-verify_hostname", name.name] : ["-verify_ip", name.address]));
  args.push(file("leaf.pem", [leaf]));
  try {
    return await new Promise((resolve, reject) => {
      execFile("openssl", args, (error, stdout, stderr) => {
        const output = `${stdout}${stderr}`;
        if (error === null) resolve({ isOk: true, output });
        else if (/error \d+ at \d+ depth lookup/.test(output)) resolve({ isOk: false, output });
        else reject(new Error(`openssl gave no answer: ${error.message} ${output}`));
      });
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("D63 every cause but the bounds and malformed input has a chain that shows it", (t) => {
  const shown = new Set(REFUSED.map(({ expected }) => expected[0]));
  const elsewhere = ["malformed", "chain-too-long", "certificate-too-large", "revoked", "revocation-unknown"];
  t.deepEqual([...shown, ...elsewhere].toSorted(), Object.keys(CERTIFICATE_FAULT_ALERTS).toSorted());
});

test("a changed byte in a signed certificate is refused", async (t) => {
  const issuer = await authority({ name: "CN=root" });
  const leaf = await server({ issuer });
  const forged = leaf.der.slice();
  const at = Buffer.from(forged).indexOf("host.example.com");
  forged[at] = "m".charCodeAt(0);
  const verdict = await verify({
    chain: [{ ...leaf, der: forged }],
    anchors: [issuer],
    name: { type: "dns", name: "most.example.com" },
  });
  t.like(verdict, { ok: false, cause: "bad-signature", alert: "bad_certificate" });
});

test("a verdict tells the subject, the common name and the names, and no otherName", async (t) => {
  const issuer = await authority({ name: "CN=root" });
  const leaf = await server({
    issuer,
    name: "O=Acme, CN=alice",
    names: [
      { type: "dns", value: "host.example.com" },
      { type: "ip", value: "192.0.2.1" },
      { type: "ip", value: "2001:db8:0:0:0:0:0:1" },
      { type: "url", value: "urn:dev:ops:32473-alice" },
      { type: "email", value: "alice@example.com" },
    ],
  });
  t.deepEqual(await verify({ chain: [leaf], anchors: [issuer] }), {
    ok: true,
    subject: "O=Acme, CN=alice",
    commonName: "alice",
    sans: [
      { type: "dns", value: "host.example.com" },
      { type: "ip", value: "192.0.2.1" },
      { type: "ip", value: "2001:db8::1" },
      { type: "uri", value: "urn:dev:ops:32473-alice" },
      { type: "email", value: "alice@example.com" },
    ],
  });
});

test("what is too long or too large is refused before it is parsed", async (t) => {
  const issuer = await authority({ name: "CN=root" });
  const leaf = await server({ issuer });
  const most = VERIFICATION_DEFAULTS.maxChainLength;
  const chain = [leaf, ...Array.from({ length: most - 1 }, () => issuer)];
  t.true((await verify({ chain, anchors: [issuer] })).ok);
  t.like(await verify({ chain: [...chain, issuer], anchors: [issuer] }), { cause: "chain-too-long" });
  const both = leaf.der.length + issuer.der.length;
  t.like(await verify({ chain: [leaf, issuer], anchors: [issuer] }, { maxChainBytes: both - 1 }), {
    cause: "certificate-too-large",
  });
  t.true((await verify({ chain: [leaf, issuer], anchors: [issuer] }, { maxChainBytes: both })).ok);
});

test("a verdict says a name that a peer made up in few words", async (t) => {
  const issuer = await authority({ name: `CN=${"x".repeat(5000)}` });
  const leaf = await server({ issuer });
  const verdicts = [await verify({ chain: [issuer], anchors: [] }), await verify({ chain: [leaf], anchors: [] })];
  t.deepEqual(
    verdicts.map((verdict) => !verdict.ok && verdict.reason.length < 200),
    [true, true],
  );
});

test("a path of 8 certificates is found, one of 9 is not", async (t) => {
  let issuer = await authority({ name: "CN=root" });
  const anchors = [issuer];
  const intermediates: Issued[] = [];
  for (let depth = 1; depth <= 7; depth++) {
    issuer = await authority({ name: `CN=ca ${depth}`, issuer });
    intermediates.unshift(issuer);
  }
  const sixDeep = await server({ issuer: intermediates[1]! });
  t.true((await verify({ chain: [sixDeep, ...intermediates.slice(1)], anchors })).ok);
  const sevenDeep = await server({ issuer });
  t.like(await verify({ chain: [sevenDeep, ...intermediates], anchors }), { cause: "unknown-issuer" });
});

test("certificates that all fit each other by name cost a bounded search", async (t) => {
  const ring = await Promise.all(
    Array.from({ length: 7 }, (_, index) =>
      authority({ name: "CN=ring", hasKeyIds: false, notAfterMs: NOW_MS + 1000 * (index + 1) }),
    ),
  );
  const leaf = await server({ issuer: ring[0]!, hasKeyIds: false });
  const anchor = await authority({ name: "CN=ring", hasKeyIds: false });
  t.like(await verify({ chain: [leaf, ...ring], anchors: [anchor] }), { ok: false, cause: "bad-signature" });
  const [first, ...others] = [leaf, ...ring].map(({ der }) => parseCertificate(der)!);
  const paths = [...candidatePaths(first!, others, [parseCertificate(anchor.der)!], 8)];
  // 7 intermediates alone have 7! orders.
  t.true(paths.length > 1 && paths.length <= MAX_BUILD_STEPS, `${paths.length}`);
});

test("malformed input is a verdict, in the chain and beside it", async (t) => {
  const issuer = await authority({ name: "CN=root" });
  const leaf = await server({ issuer });
  const asDer = (bytes: Uint8Array): Issued => ({ ...leaf, der: bytes });
  const cases = {
    nothing: [],
    empty: [asDer(new Uint8Array())],
    text: [asDer(new TextEncoder().encode("no certificate"))],
    PEM: [asDer(new TextEncoder().encode(pem(leaf)))],
    truncated: [asDer(leaf.der.subarray(0, -1))],
    "a byte too long": [asDer(Uint8Array.of(...leaf.der, 0))],
    "second malformed": [leaf, asDer(Uint8Array.of(0x30, 0))],
    "extension twice": [await server({ issuer, extensions: [extension("2.5.29.19", true, Uint8Array.of(0x30, 0))] })],
    "a NUL in a name": [await server({ issuer, names: [{ type: "dns", value: "host.example.com\0.example.org" }] })],
    "constraints empty": [await server({ issuer, extensions: [extension("2.5.29.30", true, Uint8Array.of(0x30, 0))] })],
  };
  for (const [title, chain] of Object.entries(cases))
    t.like(
      await verify({ chain, anchors: [issuer] }),
      { ok: false, cause: "malformed", alert: "bad_certificate" },
      title,
    );
});

test("a malformed anchor anchors nothing and harms no other", async (t) => {
  const issuer = await authority({ name: "CN=root" });
  const malformed = { ...issuer, der: issuer.der.subarray(0, 100) };
  const leaf = await server({ issuer });
  t.like(await verify({ chain: [leaf], anchors: [malformed] }), { cause: "unknown-issuer" });
  t.true((await verify({ chain: [leaf], anchors: [malformed, issuer] })).ok);
});

test("no change of bytes is accepted or throws", async (t) => {
  const issuer = await authority({ name: "CN=root" });
  const leaf = await server({ issuer });
  const change = fc.record({ at: fc.nat({ max: leaf.der.length - 1 }), by: fc.integer({ min: 1, max: 255 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      const der = leaf.der.slice();
      for (const { at, by } of changes) der[at] = (der[at] ?? 0) ^ by;
      if (Buffer.compare(der, leaf.der) === 0) return;
      const verdict = await verify({ chain: [{ ...leaf, der }], anchors: [issuer] });
      t.false(verdict.ok);
    }),
    { numRuns: 300 },
  );
});

test("random bytes are malformed", async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (der) => {
      const verdict = await verifyPeerCertificates([der], { anchors: [], purpose: "clientAuth", atMs: NOW_MS });
      t.like(verdict, { cause: "malformed" });
    }),
  );
});

test("what a peer's path was made of is parsed once, if it was verified, and never otherwise", async (t) => {
  const keys = await ecKeys();
  const anchor = await certificate({ name: "CN=once", keys });
  const known = { anchors: [anchor.der], purpose: "clientAuth", atMs: NOW_MS } as const;
  const parsedAnew = parsePeerCertificate(anchor.der);
  t.not(parsePeerCertificate(anchor.der), parsedAnew);
  t.false((await verifyPeerCertificates([anchor.der], { ...known, anchors: [] })).ok);
  t.not(parsePeerCertificate(anchor.der), parsePeerCertificate(anchor.der), "refused: not kept");
  await verifyPeerCertificates([anchor.der], known);
  t.is(parsePeerCertificate(anchor.der), parsePeerCertificate(anchor.der.slice()));
});

test("an anchor is parsed once for its content, and the cache is bounded", async (t) => {
  const keys = await ecKeys();
  const anchors = await Promise.all(
    Array.from({ length: MAX_PARSED + 1 }, (_, index) => certificate({ name: `CN=${index}`, keys })),
  );
  const [first, second, ...others] = anchors.map(({ der }) => der);
  const [parsedFirst, parsedSecond] = [parseAnchor(first!), parseAnchor(second!)];
  t.is(parseAnchor(first!.slice()), parsedFirst, "by content");
  for (const other of others) parseAnchor(other);
  t.not(parseAnchor(second!), parsedSecond, "the one used longest ago went");
  const kept = parseAnchor(first!);
  first!.fill(0);
  t.is(kept?.der[0], 0x30, "the cache has bytes of its own");
});
