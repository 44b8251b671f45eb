import { webcrypto } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startAgent, startServer } from "#testing/dpe-run.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import type { ExecutionContext } from "ava";
import {
  authority,
  base,
  certificate,
  DAY_MS,
  type Issued,
  KEY_USAGE,
  nameConstraints,
  pem,
  type Recipe,
  rsaKeys,
  USAGE,
} from "../x509/certificate-factory.js";

/*
 * Each fault of a certificate (number 63 of the list that the handshake is tested against), of a server toward our agent and
 * of a client toward our server: the alert that OpenSSL prints as it came over the wire, and our event, name one cause.
 */

interface Fault {
  /** The detail of our event. */
  readonly fault: string;
  readonly alert: keyof typeof ALERT_NUMBERS;
  /** The chain that is sent, and the anchor that is trusted. */
  readonly make: (leaf: Partial<Recipe>) => Promise<{ readonly chain: readonly Issued[]; readonly anchor: Issued }>;
  readonly only?: "server";
}

/** RFC 5246 §7.2 */
const ALERT_NUMBERS = {
  bad_certificate: 42,
  unsupported_certificate: 43,
  certificate_expired: 45,
  certificate_unknown: 46,
  unknown_ca: 48,
} as const;

const VALID = { notBeforeMs: Date.now() - DAY_MS, notAfterMs: Date.now() + DAY_MS };
const root = (recipe: Partial<Recipe> = {}): Promise<Issued> => authority({ name: "CN=root", ...VALID, ...recipe });

function leafOf(issuer: Issued, recipe: Partial<Recipe>): Promise<Issued> {
  return certificate({
    name: "CN=alice",
    issuer,
    ...VALID,
    basicConstraints: { ca: false },
    keyUsage: KEY_USAGE.sign,
    ...recipe,
  });
}

const direct =
  (changes: Partial<Recipe>, anchor: Partial<Recipe> = {}): Fault["make"] =>
  async (leaf) => {
    const issuer = await root(anchor);
    return { chain: [await leafOf(issuer, { ...leaf, ...changes })], anchor: issuer };
  };

const below =
  (middle: Partial<Recipe>, anchor: Partial<Recipe> = {}): Fault["make"] =>
  async (leaf) => {
    const top = await root(anchor);
    const issuer = await authority({ name: "CN=middle", issuer: top, ...VALID, ...middle });
    return { chain: [await leafOf(issuer, leaf), issuer], anchor: top };
  };

const FAULTS: readonly Fault[] = [
  { fault: "expired", alert: "certificate_expired", make: direct({ notAfterMs: Date.now() - 3_600_000 }) },
  { fault: "not-yet-valid", alert: "certificate_expired", make: direct({ notBeforeMs: Date.now() + 3_600_000 }) },
  {
    fault: "self-signed",
    alert: "unknown_ca",
    make: async (leaf) => ({
      chain: [await certificate({ name: "CN=alice", ...VALID, ...leaf })],
      anchor: await root(),
    }),
  },
  {
    fault: "unknown-issuer",
    alert: "unknown_ca",
    make: async (leaf) => ({ ...(await direct({})(leaf)), anchor: await root({ name: "CN=another" }) }),
  },
  {
    fault: "wrong-name",
    alert: "bad_certificate",
    make: direct({ names: [{ type: "ip", value: "192.0.2.1" }] }),
    only: "server",
  },
  { fault: "wrong-usage", alert: "unsupported_certificate", make: direct({ extendedKeyUsage: [USAGE.codeSigning] }) },
  { fault: "not-a-ca", alert: "unknown_ca", make: below({ basicConstraints: undefined }) },
  { fault: "path-length", alert: "unknown_ca", make: below({}, { basicConstraints: { ca: true, pathLength: 0 } }) },
  {
    fault: "name-constraints",
    alert: "certificate_unknown",
    make: direct({}, { extensions: [nameConstraints({ excluded: [base.ip(127, 0, 0, 0, 255, 0, 0, 0)] })] }),
  },
  {
    fault: "weak-signature",
    alert: "bad_certificate",
    make: async (leaf) => {
      const issuer = await root({ keys: await rsaKeys(2048, "SHA-1") });
      return { chain: [await leafOf(issuer, { ...leaf, hash: "SHA-1" })], anchor: issuer };
    },
  },
  {
    fault: "weak-key",
    alert: "bad_certificate",
    make: async (leaf) => direct({ keys: await rsaKeys(1024) })(leaf),
  },
];

/** Old algorithms are what is tested, so OpenSSL must not refuse them first. */
const LAX = ["-cipher", "ALL:@SECLEVEL=0"];

async function writeChain(t: ExecutionContext, { chain, anchor }: Awaited<ReturnType<Fault["make"]>>) {
  const folder = mkdtempSync(join(tmpdir(), "dpe-faults-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const [leaf, ...rest] = chain;
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", leaf!.keys.privateKey)).toString("base64");
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return {
    folder,
    files: [
      "-cert",
      write("leaf.pem", pem(leaf!)),
      "-key",
      write("leaf.key", `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`),
      "-cert_chain",
      write("chain.pem", [leaf!, ...rest].map(pem).join("")),
    ],
    anchor: write("ca.pem", pem(anchor)),
  };
}

testWith(
  "openssl",
  "R12 R16 each fault of a server's certificate: the alert that s_server receives is the agent's cause",
  async (t) => {
    for (const { fault, alert, make } of FAULTS) {
      const leaf = { extendedKeyUsage: [USAGE.server], names: [{ type: "ip", value: "127.0.0.1" } as const] };
      const { files, anchor } = await writeChain(t, await make(leaf));
      const port = await freePort();
      const options = ["s_server", "-dtls1_2", "-accept", `127.0.0.1:${port}`];
      const server = PeerProcess.start(t, "openssl", [...options, ...files, ...LAX]);
      await server.printed("ACCEPT");
      const { agent, events } = startAgent(t, {
        server: `coaps://127.0.0.1:${port}`,
        dpe1: `connection: dtls, serverAuthentication: certificate, ca: ${anchor}`,
      });
      t.like(await events.audited({ outcome: "failure" }), { cause: alert, detail: fault, side: "client" }, fault);
      t.like((await events.until("lost")).error, { code: "SECURITY_SERVER_NOT_ACCEPTED" });
      await server.printed(`SSL alert number ${ALERT_NUMBERS[alert]}`);
      await agent.close();
      await server.end();
    }
  },
);

testWith(
  "openssl",
  "R12 R16 each fault of a client's certificate: the alert that s_client receives is the server's cause",
  async (t) => {
    const own = await writeChain(
      t,
      await direct({})({ extendedKeyUsage: [USAGE.server], names: [{ type: "ip", value: "127.0.0.1" }] }),
    );
    for (const { fault, alert, make, only } of FAULTS) {
      if (only === "server") continue;
      const leaf = { extendedKeyUsage: [USAGE.client], names: [{ type: "ip", value: "127.0.0.1" } as const] };
      const { files, anchor } = await writeChain(t, await make(leaf));
      const { server, events } = await startServer(t, {
        dpe1: "connection: dtls, clientAuthentication: [certificate]",
        credentials: `{ certificate: leaf.pem, key: leaf.key, ca: ${anchor} }`,
        subscribers: "[{ name: alice, certificates: [alice] }]",
        listen: "coaps: 0",
        folder: own.folder,
      });
      const options = ["s_client", "-dtls1_2", "-connect", `127.0.0.1:${server.addresses.coaps!.port}`];
      const client = PeerProcess.start(t, "openssl", [...options, ...files, ...LAX]);
      t.like(await events.audited({ outcome: "failure" }), { cause: alert, detail: fault, mode: "handshake" }, fault);
      await client.printed(`SSL alert number ${ALERT_NUMBERS[alert]}`);
      await client.end();
      await server.close();
    }
  },
);
