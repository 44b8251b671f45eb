import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CIPHER_SUITES, type CipherSuiteName } from "#dtls/index.js";
import { connect, type DtlsSession, listen } from "#net/index.js";
import { freePort } from "#testing/free-port.js";
import { testWith } from "#testing/peer-process.js";
import { UdpRelay } from "#testing/udp-relay.js";
import { verifyPeerCertificates } from "#x509/index.js";
import test, { type ExecutionContext } from "ava";
import { credential, der } from "../dtls/fixtures.js";
import {
  type Cell,
  MATRIX_HEADING,
  type Outcome,
  PATHS,
  readMatrix,
  ROLES,
  type Role,
  SUITES,
  withSection,
  writeMatrix,
} from "./matrix-document.js";
import {
  CELL_TIMEOUT_MS,
  clientIdentity,
  IDENTITY,
  KEY,
  MATRIX_PEERS,
  type MatrixPeer,
  Scope,
  serverIdentity,
} from "./matrix-peers.js";

/*
 * Our DTLS against each foreign implementation, in both roles, by each suite, on a clean and on a rough path. Here a part of
 * the cells that covers each peer, role and suite; all of them with DPE_FULL_MATRIX=1. Each outcome has to be the one that
 * docs/interop.md tells of; `scripts/interop-matrix` runs all and writes that document.
 */
const DOCUMENT = fileURLToPath(new URL("../../../docs/interop.md", import.meta.url));
const isFull = process.env["DPE_FULL_MATRIX"] === "1";
const isWriting = isFull && process.env["DPE_WRITE_MATRIX"] === "1";
const ATTEMPTS = 3;
const ROUGH = { loss: 0.2, reordering: 0.3, holdUpMs: 30 };

const outcomes = new Map<string, Outcome>();
const keyOf = ({ role, path, peer, suite }: Cell): string => [role, path, peer, suite].join(" ");
const rolesOf = (peer: MatrixPeer): readonly Role[] => (peer.asServer === undefined ? ["server"] : ROLES);

/** Why a cell is not to be had from the peer. */
function absenceOf({ role, path, suite }: Omit<Cell, "peer">, peer: MatrixPeer): Outcome | undefined {
  const isAbsent =
    !rolesOf(peer).includes(role) ||
    peer.suites[suite] === undefined ||
    (path === "rough" && peer.givesUpOnLoss !== undefined);
  return isAbsent ? "absent" : undefined;
}

const ALL_CELLS: readonly Cell[] = MATRIX_PEERS.flatMap((peer) =>
  ROLES.flatMap((role) =>
    PATHS.flatMap((path) => SUITES.map((suite): Cell => ({ role, path, suite, peer: peer.name }))),
  ),
);

/** Two suites on the clean path, those that no other peer has, and one on the rough path; not the same for all peers. */
function sampleOf(peer: MatrixPeer, role: Role): readonly Cell[] {
  const suites = SUITES.filter((suite) => peer.suites[suite] !== undefined);
  const shift = MATRIX_PEERS.indexOf(peer) + ROLES.indexOf(role) * 2;
  const pick = (step: number): CipherSuiteName => suites[(shift + step) % suites.length] ?? SUITES[0]!;
  const onlyHere = suites.filter((suite) => MATRIX_PEERS.every((other) => other === peer || !other.suites[suite]));
  const clean = new Set([pick(0), pick(Math.ceil(suites.length / 2)), ...onlyHere]);
  return [
    ...[...clean].map((suite) => ({ role, path: "clean", suite, peer: peer.name }) as const),
    { role, path: "rough", suite: pick(1), peer: peer.name },
  ];
}

for (const peer of MATRIX_PEERS) {
  for (const role of rolesOf(peer)) {
    const title = role === "server" ? `${peer.name} as client of our server` : `our client of ${peer.name} as server`;
    const wanted = isFull
      ? ALL_CELLS.filter((cell) => cell.peer === peer.name && cell.role === role)
      : sampleOf(peer, role);
    const cells = wanted.filter((cell) => absenceOf(cell, peer) === undefined);
    const implementation = async (t: ExecutionContext): Promise<void> => {
      t.timeout(cells.length * ATTEMPTS * CELL_TIMEOUT_MS);
      const told = isWriting ? undefined : readMatrix(readFileSync(DOCUMENT, "utf8"));
      for (const cell of cells) {
        // Real time takes part: what fails is tried again, on a rough path with another seed.
        let fault = await faultOf(cell, peer, 0);
        for (let attempt = 1; fault !== undefined && attempt < ATTEMPTS; attempt++) {
          t.log(`${keyOf(cell)}: ${fault}`);
          fault = await faultOf(cell, peer, attempt);
        }
        const outcome = fault === undefined ? "works" : "fails";
        outcomes.set(keyOf(cell), outcome);
        if (told === undefined) t.pass();
        else t.is(outcome, told.get(keyOf(cell)) ?? "absent", keyOf(cell));
      }
    };
    if (peer.needs === undefined) test(title, implementation);
    else testWith(peer.needs, title, implementation);
  }
}

test("the part of the matrix that is run always covers each suite that a peer has, in both roles", (t) => {
  const sampled = MATRIX_PEERS.flatMap((peer) => rolesOf(peer).flatMap((role) => sampleOf(peer, role)));
  for (const role of ROLES) {
    const covered = new Set(sampled.filter((cell) => cell.role === role).map(({ suite }) => suite));
    const offered = SUITES.filter((suite) => MATRIX_PEERS.some(({ suites }) => suites[suite] !== undefined));
    t.deepEqual(
      offered.filter((suite) => !covered.has(suite)),
      [],
    );
  }
});

const documentTest = isWriting ? test.skip : test;
documentTest("docs/interop.md has every cell of the matrix, and those that no peer has are told as such", (t) => {
  const told = readMatrix(readFileSync(DOCUMENT, "utf8"));
  t.deepEqual([...told.keys()].toSorted(), ALL_CELLS.map(keyOf).toSorted());
  for (const cell of ALL_CELLS) {
    const peer = MATRIX_PEERS.find(({ name }) => name === cell.peer);
    t.is(told.get(keyOf(cell)) === "absent", absenceOf(cell, peer!) === "absent", keyOf(cell));
  }
  t.deepEqual(SUITES.toSorted(), Object.keys(CIPHER_SUITES).toSorted());
});

if (isWriting) {
  test.after("the document is written", () => {
    const outcomeOf = (cell: Cell): Outcome => {
      const peer = MATRIX_PEERS.find(({ name }) => name === cell.peer);
      const outcome = outcomes.get(keyOf(cell)) ?? absenceOf(cell, peer!);
      if (outcome === undefined) throw new Error(`${keyOf(cell)} was not run: a peer is missing`);
      return outcome;
    };
    const told = readFileSync(DOCUMENT, "utf8");
    writeFileSync(DOCUMENT, withSection(told, MATRIX_HEADING, writeMatrix(ALL_CELLS, outcomeOf)));
  });
}

/** Runs one cell; gives what went wrong. */
async function faultOf(cell: Cell, peer: MatrixPeer, attempt: number): Promise<string | undefined> {
  const scope = new Scope();
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error("nothing came of it in time")), CELL_TIMEOUT_MS);
  });
  try {
    const run = cell.role === "server" ? serve : dial;
    await Promise.race([run(cell, peer, scope, attempt), timeout]);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    clearTimeout(timer);
    await scope.close();
  }
}

async function serve(cell: Cell, peer: MatrixPeer, scope: Scope, attempt: number): Promise<void> {
  const { suite } = cell;
  const sessions: DtlsSession[] = [];
  const endpoint = await listen(
    (session) => {
      sessions.push(session);
      peer.serveSession(scope, session);
    },
    {
      host: "127.0.0.1",
      server: {
        ...TIMERS,
        cipherSuites: [suite],
        ...(suite.includes("PSK")
          ? { pskEnabled: true }
          : { certificate: credential(serverIdentity(suite)), clientCertificate: "require" }),
      },
      pskOf: (identity) => (Buffer.from(identity).toString() === IDENTITY ? Buffer.from(KEY) : undefined),
      verify: verifierOf("clientAuth"),
    },
  );
  scope.teardown(() => endpoint.close());
  await peer.asClient(scope, await pathTo(endpoint.address.port, cell, scope, attempt), suite);
  const session = sessions.at(-1);
  if (session?.peer?.suite !== suite) throw new Error(`the suite became ${session?.peer?.suite}`);
  if (!suite.includes("PSK") && session.peer.certificates === undefined) throw new Error("no client certificate came");
}

async function dial(cell: Cell, peer: MatrixPeer, scope: Scope, attempt: number): Promise<void> {
  const { suite } = cell;
  const running = await peer.asServer?.(scope, await freePort(), suite);
  if (running === undefined) throw new Error("the peer has no server");
  const credentials = suite.includes("PSK")
    ? { psk: { identity: Buffer.from(IDENTITY), key: Buffer.from(KEY) } }
    : { certificate: credential(clientIdentity(suite)), verify: verifierOf("serverAuth") };
  const port = await pathTo(running.port, cell, scope, attempt);
  try {
    const session = await open(port, { ...TIMERS, cipherSuites: [suite], ...credentials }, cell, scope);
    if (session.peer?.suite !== suite) throw new Error(`the suite became ${session.peer?.suite}`);
    await running.converse(session);
  } catch (error) {
    throw new Error(`${String(error)}; ${peer.name} printed:\n${running.process.output.slice(-1000)}`, {
      cause: error,
    });
  }
}

/** A session; begun anew on a rough path, as a device would: not every peer repeats its last flight when that is lost. */
async function open(
  port: number,
  options: Parameters<typeof connect>[1],
  { path }: Cell,
  scope: Scope,
): Promise<DtlsSession> {
  for (let attempt = 1; ; attempt++) {
    const session = await connect({ host: "127.0.0.1", port }, options);
    scope.teardown(() => session.close());
    try {
      await session.opened;
      return session;
    } catch (error) {
      if (path === "clean" || attempt === 5) throw error;
    }
  }
}

async function pathTo(port: number, cell: Cell, scope: Scope, attempt: number): Promise<number> {
  if (cell.path === "clean") return port;
  const seed = ALL_CELLS.findIndex((one) => keyOf(one) === keyOf(cell)) + attempt * ALL_CELLS.length;
  const relay = await UdpRelay.start(port, { ...ROUGH, seed });
  scope.teardown(() => relay.close());
  return relay.port;
}

const verifierOf = (purpose: "serverAuth" | "clientAuth") => (certificates: readonly Uint8Array[]) =>
  verifyPeerCertificates(certificates, {
    anchors: [der("ca")],
    purpose,
    atMs: Date.now(),
    ...(purpose === "serverAuth" ? { name: { type: "ip", address: "127.0.0.1" } as const } : {}),
  });

/** Shorter than the defaults, so that a lossy handshake takes seconds; the peers keep their own. */
const TIMERS = { initialRetransmitMs: 500, maxRetransmitMs: 8000, maxRetransmissions: 30, handshakeTimeoutMs: 18_000 };
