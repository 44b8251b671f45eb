import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CODE, OPTION, Options } from "#coap/index.js";
import type { CipherSuiteName } from "#dtls/index.js";
import { CoapEndpoint, type DtlsSession } from "#net/index.js";
import { type PeerName, PeerProcess, type Scoped } from "#testing/peer-process.js";
import nodeDtls from "node-dtls-client";

/**
 * A foreign implementation as the matrix drives it: in each role, with one suite, on 127.0.0.1. Data go both ways, repeated
 * each second until they arrive, since a rough path loses them too.
 */
export interface MatrixPeer {
  readonly name: string;
  /** What has to be installed; undefined for a package of npm. */
  readonly needs: PeerName | undefined;
  /** The peer's own names of our suites; a suite that is missing here is missing there. */
  readonly suites: Readonly<Partial<Record<CipherSuiteName, string>>>;
  /** Why the peer has no use for a path that loses datagrams; undefined where it has. */
  readonly givesUpOnLoss?: string;
  /** What our server does with a session of this peer. */
  serveSession(t: Scoped, session: DtlsSession): void;
  /** Runs the peer as client of the server at `port`, until it has an answer; rejects where it has none. */
  asClient(t: Scoped, port: number, suite: CipherSuiteName): Promise<void>;
  /** Starts the peer as server at `port`, and gives the port that DTLS is on. Absent: it has no server. */
  readonly asServer?: (t: Scoped, port: number, suite: CipherSuiteName) => Promise<RunningServer>;
}

export interface RunningServer {
  readonly port: number;
  readonly process: PeerProcess;
  /** Sends to the server by our session, until what it answers is right. */
  converse(session: DtlsSession): Promise<void>;
}

export const KEY = "0123456789abcdef";
export const IDENTITY = "alice";
const KEY_HEX = Buffer.from(KEY).toString("hex");
const LINE = "hello out there\n";
const TURNED = "ereht tuo olleh";

const project = fileURLToPath(new URL("../../../", import.meta.url));
const fixture = (name: string): string => join(project, "test", "fixtures", "dtls", name);
const usesPsk = (suite: CipherSuiteName): boolean => suite.includes("PSK");
/** The fixtures that are shown in a suite. In an RSA suite by both sides: wolfSSL's server asks for nothing else there. */
export const serverIdentity = (suite: CipherSuiteName): "rsa" | "p256" => (suite.includes("RSA") ? "rsa" : "p256");
export const clientIdentity = (suite: CipherSuiteName): "rsa" | "client" => (suite.includes("RSA") ? "rsa" : "client");

interface IdentityFiles {
  readonly certificate: string;
  readonly key: string;
}
const filesOf = (name: string): IdentityFiles => ({
  certificate: fixture(`${name}.pem`),
  key: fixture(`${name}-key.pem`),
});
const CA = fixture("ca.pem");

/** Does something now and each second, until `done` is settled. */
async function repeatUntil<T>(done: Promise<T>, act: () => void): Promise<T> {
  act();
  const timer = setInterval(act, 1000);
  try {
    return await done;
  } finally {
    clearInterval(timer);
  }
}

const text = (value: Uint8Array): string => new TextDecoder().decode(value);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

function turnLines(_scope: Scoped, session: DtlsSession): void {
  session.onmessage = (data) => session.send(bytes(`${text(data).trimEnd().split("").toReversed().join("")}\n`));
}

/** A program that is typed to. */
async function typeUntilTurned(peer: PeerProcess, isConnected: string): Promise<void> {
  await peer.printed(isConnected, CELL_TIMEOUT_MS);
  await repeatUntil(peer.printed(TURNED, CELL_TIMEOUT_MS), () => peer.write(LINE));
}

/** A server that sends back what it is sent. */
async function converseWithEcho(session: DtlsSession): Promise<void> {
  const answer = new Promise<string>((resolve) => (session.onmessage = (data) => resolve(text(data))));
  const got = await repeatUntil(answer, () => session.send(bytes(LINE)));
  if (got !== LINE) throw new Error(`the echo is ${JSON.stringify(got)}`);
}

const openssl: MatrixPeer = {
  name: "openssl",
  needs: "openssl",
  suites: {
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: "ECDHE-ECDSA-AES128-CCM8",
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM: "ECDHE-ECDSA-AES128-CCM",
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ECDHE-ECDSA-AES128-GCM-SHA256",
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "ECDHE-RSA-AES128-GCM-SHA256",
    TLS_PSK_WITH_AES_128_CCM_8: "PSK-AES128-CCM8",
    TLS_PSK_WITH_AES_128_CCM: "PSK-AES128-CCM",
    TLS_PSK_WITH_AES_128_GCM_SHA256: "PSK-AES128-GCM-SHA256",
  },
  serveSession: turnLines,
  asClient: async (t, port, suite) => {
    const own = filesOf(clientIdentity(suite));
    const credentials = usesPsk(suite)
      ? ["-psk", KEY_HEX, "-psk_identity", IDENTITY]
      : ["-cert", own.certificate, "-key", own.key, "-CAfile", CA, "-verify_return_error", "-verify_ip", "127.0.0.1"];
    const options = ["s_client", "-dtls1_2", "-connect", `127.0.0.1:${port}`, "-mtu", "1200", ...credentials];
    const peer = PeerProcess.start(t, "openssl", [...options, "-cipher", `${openssl.suites[suite]}:@SECLEVEL=0`]);
    await typeUntilTurned(peer, usesPsk(suite) ? "Verify return code" : "Verify return code: 0 (ok)");
  },
  asServer: async (t, port, suite) => {
    const own = filesOf(serverIdentity(suite));
    const credentials = usesPsk(suite)
      ? ["-nocert", "-psk", KEY_HEX, "-psk_identity", IDENTITY]
      : ["-cert", own.certificate, "-key", own.key, "-CAfile", CA, "-Verify", "1", "-verify_return_error"];
    const options = ["s_server", "-dtls1_2", "-listen", "-mtu", "1200", "-accept", `127.0.0.1:${port}`, ...credentials];
    const peer = PeerProcess.start(t, "openssl", [...options, "-cipher", `${openssl.suites[suite]}:@SECLEVEL=0`]);
    await peer.printed("ACCEPT");
    return {
      port,
      process: peer,
      converse: async (session) => {
        const answer = new Promise<string>((resolve) => (session.onmessage = (data) => resolve(text(data))));
        await repeatUntil(peer.printed(LINE.trimEnd(), CELL_TIMEOUT_MS), () => session.send(bytes(LINE)));
        const got = await repeatUntil(answer, () => peer.write("hello to you\n"));
        if (got !== "hello to you\n") throw new Error(`the server's line came as ${JSON.stringify(got)}`);
      },
    };
  },
};

const gnutlsPriority = (suite: CipherSuiteName): string => {
  const keyExchange = usesPsk(suite) ? "PSK" : suite.includes("RSA") ? "ECDHE-RSA" : "ECDHE-ECDSA";
  const rest = "+AEAD:+SIGN-ALL:+COMP-NULL:+GROUP-ALL:+CTYPE-X509";
  return `NONE:+VERS-DTLS1.2:+${keyExchange}:+${gnutls.suites[suite]}:${rest}`;
};

const gnutls: MatrixPeer = {
  name: "gnutls",
  needs: "gnutls",
  suites: {
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: "AES-128-CCM-8",
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM: "AES-128-CCM",
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "AES-128-GCM",
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "AES-128-GCM",
    TLS_PSK_WITH_AES_128_CCM_8: "AES-128-CCM-8",
    TLS_PSK_WITH_AES_128_CCM: "AES-128-CCM",
    TLS_PSK_WITH_AES_128_GCM_SHA256: "AES-128-GCM",
  },
  serveSession: turnLines,
  asClient: async (t, port, suite) => {
    const own = filesOf(clientIdentity(suite));
    const credentials = usesPsk(suite)
      ? ["--pskusername", IDENTITY, "--pskkey", KEY_HEX]
      : ["--x509cafile", CA, "--x509certfile", own.certificate, "--x509keyfile", own.key];
    const options = ["--udp", "--port", String(port), ...credentials, "--priority", gnutlsPriority(suite)];
    const peer = PeerProcess.start(t, "gnutls-cli", [...options, "127.0.0.1"]);
    await typeUntilTurned(peer, "Handshake was completed");
  },
  asServer: async (t, port, suite) => {
    const own = filesOf(serverIdentity(suite));
    const demand = ["--require-client-cert", "--verify-client-cert"];
    const credentials = usesPsk(suite)
      ? ["--pskpasswd", pskFile(t)]
      : ["--x509certfile", own.certificate, "--x509keyfile", own.key, "--x509cafile", CA, ...demand];
    const options = ["--udp", "--port", String(port), "--echo", ...credentials, "--priority", gnutlsPriority(suite)];
    const peer = PeerProcess.start(t, "gnutls-serv", options);
    await peer.printed("IPv4 0.0.0.0");
    return { port, process: peer, converse: converseWithEcho };
  },
};

function pskFile(t: Scoped): string {
  const folder = mkdtempSync(join(tmpdir(), "matrix-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "keys.psk");
  writeFileSync(file, `${IDENTITY}:${KEY_HEX}\n`);
  return file;
}

/** libcoap takes what its TLS library prefers; our side leaves it one suite. */
function libcoap(library: "openssl" | "gnutls"): MatrixPeer {
  const { suites } = library === "openssl" ? openssl : gnutls;
  const credentials = (name: string): string[] => {
    const { certificate, key } = filesOf(name);
    return ["-c", certificate, "-j", key, "-C", CA];
  };
  return {
    name: `libcoap-${library}`,
    needs: `libcoap-${library}`,
    suites,
    serveSession: (t, session) => {
      const coap = new CoapEndpoint({
        onRequest: () => ({ code: CODE.Content, options: Options.none, payload: bytes(TURNED) }),
      });
      coap.addSession(session);
      t.teardown(() => coap.close());
    },
    asClient: async (t, port, suite) => {
      const own = usesPsk(suite) ? ["-u", IDENTITY, "-k", KEY] : credentials(clientIdentity(suite));
      const options = [...own, "-B", "20", "-m", "get", `coaps://127.0.0.1:${port}/x`];
      // libcoap's client allows a handshake five seconds: on a rough path it is run again, as a device would.
      let output = "";
      for (let attempt = 0; attempt < 10 && !output.includes(TURNED); attempt++) {
        output = await PeerProcess.run(t, `coap-client-${library}`, options);
      }
      if (!output.includes(TURNED)) throw new Error(`coap-client-${library} printed:\n${output}`);
    },
    asServer: async (t, port, suite) => {
      const own = usesPsk(suite) ? ["-k", KEY] : credentials(serverIdentity(suite));
      const options = ["-A", "127.0.0.1", "-p", String(port), "-v", "7", ...own];
      const peer = PeerProcess.start(t, `coap-server-${library}`, options);
      await peer.printed(`created DTLS endpoint 127.0.0.1:${port + 1}`);
      return {
        port: port + 1,
        process: peer,
        converse: async (session) => {
          const coap = new CoapEndpoint();
          const connection = coap.addSession(session);
          t.teardown(() => coap.close());
          const options = Options.none.with(OPTION.UriPath, "time");
          const { code } = await connection.request({ code: CODE.GET, options, payload: new Uint8Array(0) });
          if (code !== CODE.Content) throw new Error(`the server answered ${code}`);
        },
      };
    },
  };
}

/** The programs of test/peers, which send a line until it is answered, and send back what they are sent. */
function compiledPeer(name: "mbedtls" | "wolfssl", suites: MatrixPeer["suites"]): MatrixPeer {
  const options = (suite: CipherSuiteName, identity: string): string[] => {
    const { certificate, key } = filesOf(identity);
    const credentials = usesPsk(suite) ? ["psk", IDENTITY, KEY] : ["certificate", certificate, key, CA];
    return [suites[suite] ?? "", ...credentials];
  };
  return {
    name,
    needs: name,
    suites,
    serveSession: turnLines,
    asClient: async (t, port, suite) => {
      const program = compiled(name);
      const output = await PeerProcess.run(t, program, [
        "client",
        String(port),
        ...options(suite, clientIdentity(suite)),
      ]);
      if (!output.includes(TURNED)) throw new Error(`${name} printed:\n${output}`);
    },
    asServer: async (t, port, suite) => {
      const own = options(suite, serverIdentity(suite));
      const peer = PeerProcess.start(t, compiled(name), ["server", String(port), ...own]);
      await peer.printed("ready");
      return { port, process: peer, converse: converseWithEcho };
    },
  };
}

const LIBRARIES = { mbedtls: ["-lmbedtls", "-lmbedx509", "-lmbedcrypto"], wolfssl: ["-lwolfssl"] } as const;
const programs = new Map<string, string>();

/** The program of test/peers, compiled once for each run, outside the project. */
function compiled(name: "mbedtls" | "wolfssl"): string {
  let program = programs.get(name);
  if (program === undefined) {
    const folder = mkdtempSync(join(tmpdir(), "dpe-peers-"));
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
    program = join(folder, `${name}-peer`);
    const source = join(project, "test", "peers", `${name}-peer.c`);
    const warnings = ["-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"];
    execFileSync("cc", [...warnings, "-o", program, source, ...LIBRARIES[name]]);
    programs.set(name, program);
  }
  return program;
}

const nodeDtlsClient: MatrixPeer = {
  name: "node-dtls-client",
  needs: undefined,
  suites: {
    TLS_PSK_WITH_AES_128_CCM_8: "TLS_PSK_WITH_AES_128_CCM_8",
    TLS_PSK_WITH_AES_128_CCM: "TLS_PSK_WITH_AES_128_CCM",
    TLS_PSK_WITH_AES_128_GCM_SHA256: "TLS_PSK_WITH_AES_128_GCM_SHA256",
  },
  givesUpOnLoss: "it sends no flight twice",
  serveSession: turnLines,
  asClient: (t, port, suite) =>
    new Promise((resolve, reject) => {
      const socket = nodeDtls.dtls.createSocket({
        type: "udp4",
        address: "127.0.0.1",
        port,
        psk: { [IDENTITY]: KEY },
        ciphers: [suite as "TLS_PSK_WITH_AES_128_CCM_8"],
        timeout: 20_000,
      });
      t.teardown(() => new Promise<void>((closed) => socket.close(() => closed())));
      socket.on("error", reject);
      socket.on("connected", () => socket.send(Buffer.from(LINE)));
      socket.on("message", (data: Buffer) =>
        data.toString() === `${TURNED}\n` ? resolve() : reject(new Error(`the answer is ${data.toString()}`)),
      );
    }),
};

/** What a cell starts, ended in reverse order. */
export class Scope implements Scoped {
  readonly #ends: (() => void | Promise<void>)[] = [];

  teardown(end: () => void | Promise<void>): void {
    this.#ends.push(end);
  }

  async close(): Promise<void> {
    for (const end of this.#ends.splice(0).toReversed()) {
      try {
        await end();
      } catch {
        // What a peer says when it is ended belongs to no outcome.
      }
    }
  }
}

/** How long a cell may take on a path that loses: the peers' own timers double from one second. */
export const CELL_TIMEOUT_MS = 100_000;

/** In the order of the document. */
export const MATRIX_PEERS: readonly MatrixPeer[] = [
  openssl,
  gnutls,
  libcoap("openssl"),
  libcoap("gnutls"),
  compiledPeer("mbedtls", {
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: "TLS-ECDHE-ECDSA-WITH-AES-128-CCM-8",
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM: "TLS-ECDHE-ECDSA-WITH-AES-128-CCM",
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256",
    TLS_PSK_WITH_AES_128_CCM_8: "TLS-PSK-WITH-AES-128-CCM-8",
    TLS_PSK_WITH_AES_128_CCM: "TLS-PSK-WITH-AES-128-CCM",
    TLS_PSK_WITH_AES_128_GCM_SHA256: "TLS-PSK-WITH-AES-128-GCM-SHA256",
  }),
  compiledPeer("wolfssl", {
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: "ECDHE-ECDSA-AES128-CCM-8",
    TLS_ECDHE_ECDSA_WITH_AES_128_CCM: "ECDHE-ECDSA-AES128-CCM",
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ECDHE-ECDSA-AES128-GCM-SHA256",
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "ECDHE-RSA-AES128-GCM-SHA256",
    TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256: "ECDHE-PSK-AES128-GCM-SHA256",
  }),
  nodeDtlsClient,
];
