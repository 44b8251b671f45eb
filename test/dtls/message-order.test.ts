import test, { type ExecutionContext } from "ava";
import type { ClientOptions, ServerOptions } from "#dtls/index.js";
import { credential } from "./fixtures.js";
import { PSK } from "./pair.js";
import { ScriptedClient, ScriptedServer } from "./scripted-peer.js";

/** A sequence is not followed further once the association is over, complete, or waits for what does not come any more. */
const LONGEST = 6;

type ClientSymbol = "hello" | "certificate" | "keyExchange" | "verify" | "changeCipherSpec" | "finished";
const CLIENT_SYMBOLS: readonly ClientSymbol[] = [
  "hello",
  "certificate",
  "keyExchange",
  "verify",
  "changeCipherSpec",
  "finished",
];
type ServerSymbol = "verifyRequest" | "hello" | "certificate" | "keyExchange" | "request" | "done";
const SERVER_SYMBOLS: readonly ServerSymbol[] = [
  "verifyRequest",
  "hello",
  "certificate",
  "keyExchange",
  "request",
  "done",
];

const CLIENT_STEPS: Readonly<Record<ClientSymbol, (peer: ScriptedClient) => void>> = {
  hello: (peer) => peer.clientHello(),
  certificate: (peer) => peer.certificate(),
  keyExchange: (peer) => peer.clientKeyExchange(),
  verify: (peer) => peer.certificateVerify(),
  changeCipherSpec: (peer) => peer.changeCipherSpec(),
  finished: (peer) => peer.finished(),
};
const SERVER_STEPS: Readonly<Record<ServerSymbol, (peer: ScriptedServer) => void>> = {
  verifyRequest: (peer) => peer.helloVerifyRequest(),
  hello: (peer) => peer.serverHello(),
  certificate: (peer) => peer.certificate(),
  keyExchange: (peer) => peer.serverKeyExchange(),
  request: (peer) => peer.certificateRequest(),
  done: (peer) => peer.serverHelloDone(),
};

const CCM_8 = { cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8", "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"] } as const;

/** Every sequence, by length; `follow` says whether it is worth following further. */
function eachSequence<Symbol>(symbols: readonly Symbol[], follow: (sequence: readonly Symbol[]) => boolean): number {
  let count = 0;
  const walk = (sequence: readonly Symbol[]): void => {
    for (const symbol of symbols) {
      const longer = [...sequence, symbol];
      count++;
      if (follow(longer) && longer.length < LONGEST) walk(longer);
    }
  };
  walk([]);
  return count;
}

function clientOrders(t: ExecutionContext, server: ServerOptions, client: ClientOptions, right: string): void {
  const completed = new Set<string>();
  const count = eachSequence(CLIENT_SYMBOLS, (sequence) => {
    const peer = new ScriptedClient({ ...CCM_8, ...server }, { ...CCM_8, ...client });
    for (const symbol of sequence) CLIENT_STEPS[symbol](peer);
    if (peer.hasCompleted) completed.add(sequence.join(" "));
    return !peer.hasCompleted && !peer.isOver && !peer.hasGap;
  });
  // Records overtake each other, so ChangeCipherSpec may come at any place; the messages, which are numbered, may not. What
  // came after Finished, while that waited for a ChangeCipherSpec, is never looked at.
  const isRight = (sequence: string): boolean => {
    const symbols = sequence.split(" ");
    const messages = symbols.filter((symbol) => symbol !== "changeCipherSpec");
    return messages.length < symbols.length && `${messages.join(" ")} `.startsWith(`${right} `);
  };
  t.deepEqual(
    [...completed].filter((sequence) => !isRight(sequence)),
    [],
  );
  const [first = "", ...others] = right.split(" ");
  t.true(completed.has([first, ...others.slice(0, -1), "changeCipherSpec", "finished"].join(" ")));
  t.log(`${String(count)} sequences followed, ${String(completed.size)} complete`);
}

function serverOrders(t: ExecutionContext, client: ClientOptions, right: readonly string[]): void {
  const accepted = new Set<string>();
  const count = eachSequence(SERVER_SYMBOLS, (sequence) => {
    const peer = new ScriptedServer({ ...CCM_8, ...client });
    for (const symbol of sequence) SERVER_STEPS[symbol](peer);
    if (!peer.hasClientKeyExchange) return !peer.isOver && !peer.hasGap;
    peer.finish();
    t.true(peer.hasCompleted, sequence.join(" "));
    accepted.add(sequence.join(" "));
    return false;
  });
  const expected = right.flatMap((order) => [0, 1, 2, 3].map((times) => `${"verifyRequest ".repeat(times)}${order}`));
  t.deepEqual([...accepted].toSorted(), expected.filter((order) => order.split(" ").length <= LONGEST).toSorted());
  t.log(`${String(count)} sequences followed, ${String(accepted.size)} complete`);
}

test("a server completes only the RFC's order of a client's messages, with PSK", (t) => {
  clientOrders(t, { pskEnabled: true }, { psk: PSK }, "keyExchange finished");
});

test("a server completes only the RFC's order of a client's messages, with ECDHE", (t) => {
  clientOrders(t, { certificate: credential("p256") }, {}, "keyExchange finished");
});

test("a server completes only the RFC's order of a client's messages, with ECDHE and a client certificate", (t) => {
  const server: ServerOptions = { certificate: credential("p256"), clientCertificate: "require" };
  clientOrders(t, server, { certificate: credential("client") }, "certificate keyExchange verify finished");
});

test("a client goes on only with the RFC's order of a server's messages, with PSK", (t) => {
  serverOrders(t, { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] }, ["hello done", "hello keyExchange done"]);
});

for (const [what, client] of [
  ["without", {}],
  ["with", { certificate: credential("client") }],
] as const) {
  test(`a client goes on only with the RFC's order of a server's messages, with ECDHE and ${what} a certificate`, (t) => {
    serverOrders(t, client, ["hello certificate keyExchange done", "hello certificate keyExchange request done"]);
  });
}
