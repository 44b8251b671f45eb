import { generateKeyPairSync } from "node:crypto";
import type { CertificateFault, CertificateFaultAlert, PeerName } from "#x509/index.js";
import {
  ascii,
  authority,
  base,
  certificate,
  DAY_MS,
  der,
  ecKeys,
  extension,
  KEY_USAGE,
  nameConstraints,
  NOW_MS,
  rsaKeys,
  server,
  USAGE,
  type Issued,
  type Recipe,
} from "./certificate-factory.js";

/** A chain that a peer sends, and what is to become of it. */
export interface PathCase {
  readonly title: string;
  readonly expected: "accepted" | Refused;
  readonly make: () => Promise<PeerChain>;
  /** Further flags for `openssl verify`. */
  readonly opensslFlags?: readonly string[];
  /** Why `openssl verify` answers otherwise; then it must. */
  readonly opensslDiffers?: string;
}

type Refused = readonly [cause: CertificateFault, alert: CertificateFaultAlert];

export interface RefusedCase extends PathCase {
  readonly expected: Refused;
}

export interface PeerChain {
  readonly chain: readonly Issued[];
  readonly anchors: readonly Issued[];
  readonly purpose?: "serverAuth" | "clientAuth";
  readonly atMs?: number;
  readonly name?: PeerName | undefined;
}

const root = (recipe: Partial<Recipe> = {}): Promise<Issued> => authority({ name: "CN=root", ...recipe });

/** A server directly below a root, either of them changed. */
async function pair(of: { root?: Partial<Recipe>; server?: Partial<Recipe> } & Partial<PeerChain>): Promise<PeerChain> {
  const issuer = await root(of.root);
  return { chain: [await server({ issuer, ...of.server })], anchors: [issuer], ...of };
}

/** A server below an intermediate, which the peer sends, below a root, any of them changed. */
async function triple(
  of: { root?: Partial<Recipe>; middle?: Partial<Recipe>; server?: Partial<Recipe> } & Partial<PeerChain>,
): Promise<PeerChain> {
  const anchor = await root(of.root);
  const middle = await authority({ name: "CN=middle", issuer: anchor, ...of.middle });
  return { chain: [await server({ issuer: middle, ...of.server }), middle], anchors: [anchor], ...of };
}

/** A server below a root with name constraints. */
const constrained = (lists: Parameters<typeof nameConstraints>[0], leaf: Partial<Recipe> = {}): Promise<PeerChain> =>
  pair({ root: { extensions: [nameConstraints(lists)] }, server: leaf, name: undefined });

/** A server whose issuer has two certificates, one of them by the anchor. */
async function crossCertified(order: "trusted first" | "unknown first"): Promise<PeerChain> {
  const [trusted, unknown] = [await root(), await authority({ name: "CN=unknown" })];
  const keys = await ecKeys();
  const issuers = [trusted, unknown].map((issuer) => authority({ name: "CN=middle", issuer, keys }));
  const middles = await Promise.all(order === "trusted first" ? issuers : issuers.toReversed());
  return {
    chain: [await server({ issuer: { name: "CN=middle", der: trusted.der, keys } }), ...middles],
    anchors: [trusted],
  };
}

const dns = (name: string): PeerName => ({ type: "dns", name });
const ip = (address: string): PeerName => ({ type: "ip", address });

const BAD = "bad_certificate";
const UNSUPPORTED = "unsupported_certificate";

export const REFUSED: readonly RefusedCase[] = [
  {
    title: "an expired certificate",
    expected: ["expired", "certificate_expired"],
    make: () => pair({ server: { notAfterMs: NOW_MS - DAY_MS } }),
  },
  {
    title: "an expired intermediate",
    expected: ["expired", "certificate_expired"],
    make: () => triple({ middle: { notAfterMs: NOW_MS - DAY_MS } }),
  },
  {
    title: "an expired anchor",
    expected: ["expired", "certificate_expired"],
    make: () => pair({ root: { notAfterMs: NOW_MS - DAY_MS } }),
  },
  {
    title: "the second after notAfter",
    expected: ["expired", "certificate_expired"],
    make: () => pair({ atMs: NOW_MS + 10 * DAY_MS + 1000 }),
  },
  {
    title: "a certificate that is not yet valid",
    expected: ["not-yet-valid", "certificate_expired"],
    make: () => pair({ server: { notBeforeMs: NOW_MS + DAY_MS } }),
  },
  {
    title: "the second before notBefore",
    expected: ["not-yet-valid", "certificate_expired"],
    make: () => pair({ atMs: NOW_MS - 10 * DAY_MS - 1000 }),
  },
  {
    title: "a self-signed certificate",
    expected: ["self-signed", "unknown_ca"],
    make: async () => ({
      chain: [await certificate({ name: "CN=self", names: [{ type: "dns", value: "host.example.com" }] })],
      anchors: [await root()],
    }),
  },
  {
    title: "a wrong issuer",
    expected: ["unknown-issuer", "unknown_ca"],
    make: async () => ({ ...(await pair({})), anchors: [await authority({ name: "CN=another root" })] }),
  },
  {
    title: "a wrong issuer of the same name, told apart by its key identifier",
    expected: ["unknown-issuer", "unknown_ca"],
    make: async () => ({ ...(await pair({})), anchors: [await root()] }),
  },
  {
    title: "a wrong issuer of the same name without key identifiers",
    expected: ["bad-signature", BAD],
    make: async () => ({
      ...(await pair({ root: { hasKeyIds: false }, server: { hasKeyIds: false } })),
      anchors: [await root({ hasKeyIds: false })],
    }),
  },
  {
    title: "a wrong issuer of the same name with another kind of key",
    expected: ["bad-signature", BAD],
    make: async () => ({
      ...(await pair({ root: { hasKeyIds: false }, server: { hasKeyIds: false } })),
      anchors: [await root({ hasKeyIds: false, keys: await rsaKeys(2048) })],
    }),
  },
  {
    title: "a chain up to a root of its own",
    expected: ["unknown-issuer", "unknown_ca"],
    make: async () => {
      const { chain, anchors } = await triple({ root: { name: "CN=evil root" } });
      return { chain: [...chain, ...anchors], anchors: [await root()] };
    },
  },
  {
    title: "an intermediate that was left out",
    expected: ["unknown-issuer", "unknown_ca"],
    make: async () => {
      const { chain, anchors } = await triple({});
      return { chain: chain.slice(0, 1), anchors };
    },
  },
  {
    title: "no anchors at all",
    expected: ["unknown-issuer", "unknown_ca"],
    make: async () => ({ ...(await pair({})), anchors: [] }),
  },
  { title: "a wrong DNS name", expected: ["wrong-name", BAD], make: () => pair({ name: dns("other.example.com") }) },
  { title: "a parent's DNS name", expected: ["wrong-name", BAD], make: () => pair({ name: dns("example.com") }) },
  {
    title: "a wrong name, the right one being only the common name",
    expected: ["wrong-name", BAD],
    opensslDiffers: "it still falls back to the common name",
    make: () => pair({ server: { name: "CN=host.example.com", names: [] } }),
  },
  {
    title: "a wrong IPv4 address",
    expected: ["wrong-name", BAD],
    make: () => pair({ server: { names: [{ type: "ip", value: "192.0.2.1" }] }, name: ip("192.0.2.2") }),
  },
  {
    title: "a wrong IPv6 address",
    expected: ["wrong-name", BAD],
    make: () => pair({ server: { names: [{ type: "ip", value: "2001:db8::1" }] }, name: ip("2001:db8::2") }),
  },
  {
    title: "a wrong name, the address being a dNSName",
    expected: ["wrong-name", BAD],
    make: () => pair({ server: { names: [{ type: "dns", value: "192.0.2.1" }] }, name: ip("192.0.2.1") }),
  },
  {
    title: "a wrong name, an address asked for as a DNS name",
    expected: ["wrong-name", BAD],
    opensslDiffers: "it compares text with text",
    make: () => pair({ server: { names: [{ type: "dns", value: "192.0.2.1" }] }, name: dns("192.0.2.1") }),
  },
  {
    title: "a wrong name, a leading dot asking for any subdomain",
    expected: ["wrong-name", BAD],
    opensslDiffers: "it takes that for a question about any subdomain",
    make: () => pair({ name: dns(".example.com") }),
  },
  {
    title: "a wrong name, the wildcard standing for two labels",
    expected: ["wrong-name", BAD],
    make: () => pair({ server: { names: [{ type: "dns", value: "*.example.com" }] }, name: dns("a.b.example.com") }),
  },
  {
    title: "a wrong name, the wildcard standing for none",
    expected: ["wrong-name", BAD],
    make: () => pair({ server: { names: [{ type: "dns", value: "*.example.com" }] }, name: dns("example.com") }),
  },
  {
    title: "a wrong name, the wildcard being a part of its label",
    expected: ["wrong-name", BAD],
    opensslDiffers: "it allows partial wildcards by default",
    make: () => pair({ server: { names: [{ type: "dns", value: "h*.example.com" }] } }),
  },
  {
    title: "a wrong name, the wildcard not being left-most",
    expected: ["wrong-name", BAD],
    make: () => pair({ server: { names: [{ type: "dns", value: "host.*.com" }] } }),
  },
  {
    title: "a server without the usage serverAuth",
    expected: ["wrong-usage", UNSUPPORTED],
    make: () => pair({ server: { extendedKeyUsage: [USAGE.client, USAGE.codeSigning] } }),
  },
  {
    title: "a client without the usage clientAuth",
    expected: ["wrong-usage", UNSUPPORTED],
    make: () => pair({ purpose: "clientAuth", name: undefined }),
  },
  {
    title: "anyExtendedKeyUsage in place of serverAuth",
    expected: ["wrong-usage", UNSUPPORTED],
    make: () => pair({ server: { extendedKeyUsage: [USAGE.any] } }),
  },
  {
    title: "an intermediate for another usage",
    expected: ["wrong-usage", UNSUPPORTED],
    make: () => triple({ middle: { extendedKeyUsage: [USAGE.client] } }),
  },
  {
    title: "a key usage without digitalSignature",
    expected: ["wrong-key-usage", UNSUPPORTED],
    make: () => pair({ server: { keyUsage: KEY_USAGE.certify } }),
  },
  {
    title: "a key usage of keyEncipherment alone",
    expected: ["wrong-key-usage", UNSUPPORTED],
    opensslDiffers: "its purpose covers key transport, which no suite of ours has",
    make: () => pair({ server: { keyUsage: KEY_USAGE.encipher } }),
  },
  {
    title: "an issuer whose key usage lacks keyCertSign",
    expected: ["wrong-key-usage", UNSUPPORTED],
    make: () => triple({ middle: { keyUsage: KEY_USAGE.sign } }),
  },
  {
    title: "a CA without basicConstraints",
    expected: ["not-a-ca", "unknown_ca"],
    make: () => triple({ middle: { basicConstraints: undefined } }),
  },
  {
    title: "a server's certificate as issuer",
    expected: ["not-a-ca", "unknown_ca"],
    make: () => triple({ middle: { basicConstraints: { ca: false } } }),
  },
  {
    title: "an anchor that is no CA as issuer",
    expected: ["not-a-ca", "unknown_ca"],
    make: () => pair({ root: { basicConstraints: { ca: false } } }),
  },
  {
    title: "pathLen exceeded below the anchor",
    expected: ["path-length", "unknown_ca"],
    make: () => triple({ root: { basicConstraints: { ca: true, pathLength: 0 } } }),
  },
  {
    title: "pathLen exceeded below an intermediate that a deeper one cannot widen",
    expected: ["path-length", "unknown_ca"],
    make: async () => {
      const anchor = await root();
      const first = await authority({
        name: "CN=first",
        issuer: anchor,
        basicConstraints: { ca: true, pathLength: 0 },
      });
      const second = await authority({
        name: "CN=second",
        issuer: first,
        basicConstraints: { ca: true, pathLength: 5 },
      });
      return { chain: [await server({ issuer: second }), second, first], anchors: [anchor] };
    },
  },
  {
    title: "name constraints: a DNS name outside the permitted",
    expected: ["name-constraints", "certificate_unknown"],
    make: () => constrained({ permitted: [base.dns("example.org")] }),
  },
  {
    title: "name constraints: a DNS name that only ends like the permitted",
    expected: ["name-constraints", "certificate_unknown"],
    make: () =>
      constrained({ permitted: [base.dns("example.com")] }, { names: [{ type: "dns", value: "a.badexample.com" }] }),
  },
  {
    title: "name constraints: an excluded DNS name in another case",
    expected: ["name-constraints", "certificate_unknown"],
    make: () => constrained({ excluded: [base.dns("Example.COM")] }),
  },
  {
    title: "name constraints: a wildcard over an excluded DNS name",
    expected: ["name-constraints", "certificate_unknown"],
    opensslDiffers: "it compares the wildcard as a label",
    make: () =>
      constrained({ excluded: [base.dns("secret.example.com")] }, { names: [{ type: "dns", value: "*.example.com" }] }),
  },
  {
    title: "name constraints: an address outside the permitted network",
    expected: ["name-constraints", "certificate_unknown"],
    make: () =>
      constrained({ permitted: [base.ip(10, 0, 0, 0, 255, 0, 0, 0)] }, { names: [{ type: "ip", value: "192.0.2.1" }] }),
  },
  {
    title: "name constraints: an excluded e-mail address",
    expected: ["name-constraints", "certificate_unknown"],
    make: () =>
      constrained({ excluded: [base.email("example.com")] }, { names: [{ type: "email", value: "a@example.com" }] }),
  },
  {
    title: "name constraints: a URI outside the permitted domain",
    expected: ["name-constraints", "certificate_unknown"],
    make: () =>
      constrained(
        { permitted: [base.uri(".example.com")] },
        { names: [{ type: "url", value: "coaps://a.example.org/" }] },
      ),
  },
  {
    title: "name constraints: a URI without a host under a constraint",
    expected: ["name-constraints", "certificate_unknown"],
    make: () => constrained({ excluded: [base.uri(".example.com")] }, { names: [{ type: "url", value: "urn:dev:1" }] }),
  },
  {
    title: "name constraints: a directory name outside the permitted",
    expected: ["name-constraints", "certificate_unknown"],
    make: () => constrained({ permitted: [base.organization("Acme")] }, { name: "O=Other, CN=server" }),
  },
  {
    title: "name constraints: an excluded directory name in another case",
    expected: ["name-constraints", "certificate_unknown"],
    make: () => constrained({ excluded: [base.organization("Acme  INC")] }, { name: "O=acme inc, CN=server" }),
  },
  {
    title: "name constraints of an intermediate",
    expected: ["name-constraints", "certificate_unknown"],
    make: () => triple({ middle: { extensions: [nameConstraints({ excluded: [base.dns("example.com")] })] } }),
  },
  {
    title: "a SHA-1 signature",
    expected: ["weak-signature", BAD],
    make: () => pair({ server: { hash: "SHA-1" } }),
  },
  {
    title: "a SHA-1 signature on an intermediate",
    expected: ["weak-signature", BAD],
    make: () => triple({ middle: { hash: "SHA-1" } }),
  },
  {
    title: "a SHA-1 signature by RSA",
    expected: ["weak-signature", BAD],
    make: async () => pair({ root: { keys: await rsaKeys(2048, "SHA-1") }, server: { hash: "SHA-1" } }),
  },
  {
    title: "an RSA key below 2048 bits",
    expected: ["weak-key", BAD],
    make: async () => pair({ server: { keys: await rsaKeys(1024) } }),
  },
  {
    title: "an RSA key below 2048 bits of the issuer",
    expected: ["weak-key", BAD],
    make: async () => triple({ middle: { keys: await rsaKeys(1024) } }),
  },
  {
    title: "a key on a curve outside the list",
    expected: ["weak-key", BAD],
    opensslDiffers: "it asks for 112 bits of strength only",
    make: () => {
      const { publicKey } = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
      return pair({ server: { publicKey: publicKey.export({ type: "spki", format: "der" }) } });
    },
  },
  {
    title: "an unknown critical extension",
    expected: ["unknown-critical-extension", UNSUPPORTED],
    make: () => pair({ server: { extensions: [extension("1.3.6.1.4.1.99999.1", true, Uint8Array.of(5, 0))] } }),
  },
  {
    title: "an unknown critical extension of an intermediate",
    expected: ["unknown-critical-extension", UNSUPPORTED],
    make: () => triple({ middle: { extensions: [extension("1.3.6.1.4.1.99999.1", true, Uint8Array.of(5, 0))] } }),
  },
];

export const ACCEPTED: readonly PathCase[] = (
  [
    ["a server directly below an anchor", () => pair({})],
    ["the second notBefore itself", () => pair({ atMs: NOW_MS - 10 * DAY_MS })],
    ["a server below an intermediate", () => triple({})],
    ["a server without extended key usage", () => pair({ server: { extendedKeyUsage: undefined } })],
    [
      "a client without a name to check",
      () => pair({ server: { extendedKeyUsage: [USAGE.client], names: [] }, purpose: "clientAuth", name: undefined }),
    ],
    [
      "intermediates out of order, with the root and a stray certificate among them",
      async () => {
        const anchor = await root();
        const first = await authority({ name: "CN=first", issuer: anchor });
        const second = await authority({ name: "CN=second", issuer: first });
        const stray = await authority({ name: "CN=stray" });
        return { chain: [await server({ issuer: second }), stray, anchor, first, second], anchors: [anchor] };
      },
    ],
    ["a cross certificate to the anchor before one to an unknown root", () => crossCertified("trusted first")],
    [
      "two anchors of one name, the right one last",
      async () => {
        const peer = await pair({});
        return { ...peer, anchors: [await root(), ...peer.anchors] };
      },
    ],
    [
      "an expired anchor beside its renewal with the same key",
      async () => {
        const keys = await ecKeys();
        const peer = await pair({ root: { keys } });
        return { ...peer, anchors: [await root({ keys, notAfterMs: NOW_MS - DAY_MS }), ...peer.anchors] };
      },
    ],
    [
      "a self-issued intermediate, which pathLenConstraint does not count",
      async () => {
        const old = await root({ basicConstraints: { ca: true, pathLength: 0 } });
        const renewed = await root({ issuer: old });
        return { chain: [await server({ issuer: renewed }), renewed], anchors: [old] };
      },
    ],
    ["a chain of pathLen exactly", () => triple({ root: { basicConstraints: { ca: true, pathLength: 1 } } })],
    ["an IPv4 address", () => pair({ server: { names: [{ type: "ip", value: "192.0.2.1" }] }, name: ip("192.0.2.1") })],
    [
      "an IPv6 address in another spelling",
      () => pair({ server: { names: [{ type: "ip", value: "2001:db8::1" }] }, name: ip("2001:DB8:0:0:0:0:0:1") }),
    ],
    ["a DNS name in another case", () => pair({ name: dns("HOST.example.COM") })],
    [
      "a wildcard for one label",
      () => pair({ server: { names: [{ type: "dns", value: "*.example.com" }] }, name: dns("any.example.com") }),
    ],
    ["keys on P-384", async () => pair({ root: { keys: await ecKeys("P-384") }, server: { hash: "SHA-384" } })],
    ["an RSA key of 2048 bits", async () => pair({ root: { keys: await rsaKeys(2048) } })],
    ["an RSASSA-PSS signature", async () => pair({ root: { keys: await rsaKeys(2048, "SHA-256", "RSA-PSS") } })],
    ["an anchor that signed itself with SHA-1", () => pair({ root: { hash: "SHA-1" } })],
    [
      "an unknown extension that is not critical",
      () => pair({ server: { extensions: [extension("1.3.6.1.4.1.99999.1", false, Uint8Array.of(5, 0))] } }),
    ],
    [
      "names inside every constraint",
      () =>
        constrained(
          {
            permitted: [
              base.dns("example.com"),
              base.ip(192, 0, 2, 0, 255, 255, 255, 0),
              base.email("example.com"),
              base.uri(".example.com"),
              base.organization("Acme"),
            ],
            excluded: [base.dns("secret.example.com")],
          },
          {
            name: "O=acme, CN=server",
            names: [
              { type: "dns", value: "host.example.com" },
              { type: "ip", value: "192.0.2.77" },
              { type: "email", value: "a@example.com" },
              { type: "url", value: "coaps://a.example.com:5684/x" },
            ],
          },
        ),
    ],
    [
      "an otherName in the subjectAltName, as device certificates have",
      () => {
        const otherName = der(
          0xa0,
          Uint8Array.of(6, 8, 43, 6, 1, 5, 5, 7, 8, 4),
          der(0xa0, der(0x0c, ascii("serial"))),
        );
        const names = extension("2.5.29.17", false, der(0x30, base.dns("host.example.com"), otherName));
        return pair({ server: { names: [], extensions: [names] } });
      },
    ],
    [
      "a self-signed certificate that is itself an anchor",
      async () => {
        const self = await certificate({
          name: "CN=self",
          keyUsage: KEY_USAGE.sign,
          names: [{ type: "dns", value: "host.example.com" }],
        });
        return { chain: [self], anchors: [self] };
      },
    ],
  ] as const satisfies readonly (readonly [string, () => Promise<PeerChain>])[]
)
  .map(([title, make]): PathCase => ({ title, expected: "accepted", make }))
  .concat(
    {
      title: "the second notAfter itself",
      expected: "accepted",
      opensslDiffers: "its validity ends before notAfter, RFC 5280 §4.1.2.5 has it included",
      make: () => pair({ atMs: NOW_MS + 10 * DAY_MS }),
    },
    {
      title: "a cross certificate to the anchor after one to an unknown root",
      expected: "accepted",
      opensslDiffers: "it tries one issuer only among what the peer sent",
      make: () => crossCertified("unknown first"),
    },
    {
      title: "an intermediate as anchor",
      expected: "accepted",
      opensslFlags: ["-partial_chain"],
      make: async () => {
        const { chain } = await triple({});
        return { chain: chain.slice(0, 1), anchors: chain.slice(1) };
      },
    },
  );
