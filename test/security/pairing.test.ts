import {
  decideOnPairing,
  decodePairingGrant,
  decodePairingRequest,
  encodePairingGrant,
  encodePairingRequest,
  formatPairingCode,
  formatPairingUri,
  generatePairingCode,
  type PairingGrant,
  pairingIdOf,
  pairingPsk,
  parsePairingCode,
  parsePairingUri,
  SecurityError,
} from "#security/index.js";
import test from "ava";
import fc from "fast-check";

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const codes = fc
  .array(fc.constantFrom(...ALPHABET.split("")), { minLength: 23, maxLength: 23 })
  .map((symbols) => ({ id: symbols.slice(0, 6).join(""), secret: symbols.slice(6).join("") }));

function isRefused(text: string): boolean {
  try {
    parsePairingCode(text);
    return false;
  } catch (error) {
    return error instanceof SecurityError && error.code === "SECURITY_BAD_PAIRING_CODE";
  }
}

test("a code is six groups of four, and is read again however it is typed", (t) => {
  const code = generatePairingCode();
  const text = formatPairingCode(code);
  t.regex(text, /^([0-9A-HJKMNP-TV-Z]{4}-){5}[0-9A-HJKMNP-TV-Z]{4}$/);
  t.deepEqual(parsePairingCode(text), code);
  t.deepEqual(parsePairingCode(` ${text.toLowerCase().replaceAll("-", " ")}\n`), code);
  t.deepEqual(parsePairingCode(text.replaceAll("0", "o").replaceAll("1", "l")), code);
  t.notDeepEqual(generatePairingCode(), code);
});

test("any one wrong character, and any exchange of two, is found before the code is tried", (t) => {
  fc.assert(
    fc.property(codes, fc.nat(23), fc.nat(23), fc.constantFrom(...ALPHABET.split("")), (code, at, other, symbol) => {
      const right = formatPairingCode(code).replaceAll("-", "");
      const wrong = right.split("");
      wrong[at] = symbol;
      const exchanged = right.split("");
      [exchanged[at], exchanged[other]] = [right[other] ?? "", right[at] ?? ""];
      return [wrong, exchanged].every((typed) => typed.join("") === right || isRefused(typed.join("")));
    }),
  );
  for (const text of ["", "A", "7K3F-9QXA", "U".repeat(24), "é".repeat(24)]) t.true(isRefused(text), text);
});

test("the key depends on every character, and the identity tells the identifier alone", (t) => {
  const code = { id: "7K3F9Q", secret: "XA4T0ZM2WD8HJKPR5" };
  const { identity, key } = pairingPsk(code);
  t.is(Buffer.from(identity).toString(), "dpe-pair:7K3F9Q");
  // openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt key:XA4T0ZM2WD8HJKPR5 -kdfopt "info:dpe pairing 1 7K3F9Q" HKDF
  t.is(Buffer.from(key).toString("hex"), "a99cd6d2c6f31a6d1e61ba71322cfff5c6242e5ae2dd17f9e6a2c096b9edf895");
  t.notDeepEqual(pairingPsk({ ...code, secret: "XA4T0ZM2WD8HJKPR6" }).key, key);
  t.notDeepEqual(pairingPsk({ ...code, id: "7K3F9R" }).key, key);
  t.is(pairingIdOf(identity), "7K3F9Q");
  t.is(pairingIdOf(new TextEncoder().encode("dpe-pair:7K3F9Q0")), "");
  t.is(pairingIdOf(new TextEncoder().encode("alice")), undefined);
});

test("the URI of a QR code tells host, port and code", (t) => {
  const code = parsePairingCode(formatPairingCode(generatePairingCode()));
  for (const target of [
    { host: "192.0.2.1", port: 5684, code },
    { host: "2001:db8::1", port: 40_000, code },
    { host: "dpe.example", port: 5684, code },
  ])
    t.deepEqual(parsePairingUri(formatPairingUri(target)), target);
  t.is(parsePairingUri(`coaps+dpe-pair://h/${formatPairingCode(code)}`).port, 5684);
  for (const text of ["coaps://h/x", "coaps+dpe-pair://h", "coaps+dpe-pair://h:0/x", "coaps+dpe-pair://h:99999/x"])
    t.throws(() => parsePairingUri(text), { code: "SECURITY_BAD_PAIRING_CODE" });
});

test("an association of a code may pair and nothing else, and nobody else may pair", (t) => {
  const decide = (isPairingAssociation: boolean, asksToPair: boolean, isEphemeral = true) =>
    decideOnPairing({ isPairingAssociation, asksToPair, isEphemeral })?.type;
  t.is(decide(true, true), "accept");
  t.is(decide(true, false), "refuse");
  t.is(decide(true, true, false), "refuse");
  t.is(decide(false, true), "refuse");
  t.is(decide(false, false), undefined);
});

test("requests and grants decode to what they were; all else is refused", (t) => {
  const request = { request: Uint8Array.of(1, 2), endpoint: "pi-1" };
  t.deepEqual(decodePairingRequest(encodePairingRequest(request)), request);
  const grants: PairingGrant[] = [
    {
      endpoint: "pi-1",
      subscriber: "pi-1",
      kind: "certificate",
      certificates: [Uint8Array.of(1)],
      anchors: [Uint8Array.of(2)],
      intervalSeconds: 30,
    },
    { endpoint: "pi-1", subscriber: "a", kind: "digest", secret: Uint8Array.of(3), anchors: [Uint8Array.of(2)] },
    { endpoint: "pi-1", subscriber: "a", kind: "psk", secret: Uint8Array.of(3), lifetimeSeconds: 60 },
  ];
  for (const grant of grants) t.deepEqual(decodePairingGrant(encodePairingGrant(grant)), grant);
  const [certificate, digest] = grants;
  if (certificate === undefined || digest === undefined) throw new Error("unreachable");
  const { certificates: _certificates, ...withoutCertificate } = certificate;
  const { secret: _secret, ...withoutSecret } = digest;
  for (const bad of [withoutCertificate, withoutSecret, { ...digest, secret: new Uint8Array(0) }])
    t.throws(() => decodePairingGrant(encodePairingGrant(bad)), { code: "SECURITY_BAD_PAIRING_MESSAGE" });
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      for (const decode of [decodePairingGrant, decodePairingRequest]) {
        try {
          decode(bytes);
        } catch (error) {
          if (!(error instanceof SecurityError)) return false;
        }
      }
      return true;
    }),
  );
});
