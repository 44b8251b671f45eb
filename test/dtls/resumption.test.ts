import { generateKeyPairSync } from "node:crypto";
import test from "ava";
import {
  Association,
  type AssociationOutput,
  type CertificateVerdict,
  type ClientOptions,
  DtlsError,
  ServerGate,
  type ServerOptions,
  SharedKeys,
} from "#dtls/index.js";
import { offeredSession } from "#dtls/handshake/client-offer.js";
import { ClientHandshake } from "#dtls/handshake/client-handshake.js";
import { ServerHandshake } from "#dtls/handshake/server-handshake.js";
import type { HandshakeMachine } from "#dtls/handshake/handshake-driver.js";
import { resolveClientOptions, resolveServerOptions } from "#dtls/options.js";
import { decodeSession, encodeSession } from "#dtls/resumable-session.js";
import { TicketKeys } from "#dtls/ticket-keys.js";
import { decodeClientHello, encodeClientHello } from "#dtls/wire/client-hello.js";
import { EXTENSION_TYPES } from "#dtls/wire/extensions.js";
import { HANDSHAKE_TYPES, type HandshakeType } from "#dtls/wire/handshake-header.js";
import { decodeServerHello, encodeServerHello } from "#dtls/wire/server-hello.js";
import { VirtualLink } from "#testing/virtual-link.js";
import { credential } from "./fixtures.js";
import { ADDRESS, PSK, TestEnd } from "./pair.js";
import { messageTypeOf, RogueEnd, splitRecords } from "./rogue.js";

const T = HANDSHAKE_TYPES;
const SECRET = new Uint8Array(32).fill(7);
const PSK_SERVER: ServerOptions = { pskEnabled: true };
const PSK_CLIENT: ClientOptions = { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"] };
const MUTUAL: ServerOptions = { certificate: credential("p256"), clientCertificate: "require" };

/** One server, over several handshakes: its keys, and sessions by identifier. */
class TestServer {
  readonly sessions = new Map<string, Uint8Array>();
  readonly gate: ServerGate;
  questions: string[] = [];

  constructor(options: ServerOptions) {
    this.gate = new ServerGate({ sharedKeys: new SharedKeys(SECRET), ...options });
  }

  /** A handshake; `at` is the time of the link's clock when it begins. */
  meet(
    client: ClientOptions,
    options: { readonly at?: number; readonly psk?: Uint8Array; readonly verdict?: CertificateVerdict } = {},
  ): { readonly client: End; readonly server: End; readonly sent: readonly number[] } {
    const now = options.at ?? 0;
    const ends: { client: End; server: End } = {
      client: new End(Association.connect(client, now)),
      server: new End(undefined),
    };
    const sent: number[] = [];
    const queue: { readonly to: "client" | "server"; readonly bytes: Uint8Array }[] = [];
    const drain = (name: "client" | "server"): void => {
      const end = ends[name];
      for (let output = end.association?.poll(); output !== undefined; output = end.association?.poll()) {
        end.outputs.push(output);
        switch (output.type) {
          case "datagram":
            for (const record of splitRecords(output.bytes)) {
              const type = messageTypeOf(record);
              if (type !== undefined) sent.push(type);
            }
            queue.push({ to: name === "client" ? "server" : "client", bytes: output.bytes });
            break;
          case "need-psk":
            this.questions.push("psk");
            end.association?.answerPsk(output.identity, options.psk ?? PSK.key, now);
            break;
          case "need-peer-certificate-verification":
          case "need-raw-public-key-verification":
            this.questions.push(name);
            end.association?.answerPeerCertificate(
              name === "server" ? (options.verdict ?? { ok: true }) : { ok: true },
              now,
            );
            break;
          case "need-session":
            this.questions.push("session");
            end.association?.answerSession(output.sessionId, this.sessions.get(hex(output.sessionId)), now);
            break;
          case "session":
            if (name === "server") this.sessions.set(hex(output.sessionId), output.state);
            break;
          case "connected":
          case "data":
          case "save":
          case "peer-moved":
          case "path-candidate":
          case "path-validated":
          case "path-refused":
          case "closed":
        }
      }
    };
    drain("client");
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      const end = ends[item.to];
      if (end.association === undefined) {
        const answer = this.gate.handleDatagram(item.bytes, ADDRESS, now);
        if (answer.type === "reply") {
          sent.push(T.hello_verify_request);
          queue.push({ to: "client", bytes: answer.bytes });
        } else if (answer.type === "accept") end.association = answer.association;
      } else end.association.handleDatagram(item.bytes, now);
      drain("client");
      drain("server");
    }
    return { ...ends, sent };
  }
}

class End {
  association: Association | undefined;
  readonly outputs: AssociationOutput[] = [];

  constructor(association: Association | undefined) {
    this.association = association;
  }

  get isResumed(): boolean | undefined {
    return this.association?.peer?.isResumed;
  }

  get session(): Uint8Array {
    const output = this.outputs.find((one) => one.type === "session");
    if (output?.type !== "session") throw new Error("no session was offered");
    return output.state;
  }

  get closedBy(): string | undefined {
    const output = this.outputs.find((one) => one.type === "closed");
    return output?.type === "closed" ? output.error?.code : undefined;
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** Full, then again with the session of the first. */
function twice(
  server: ServerOptions,
  client: ClientOptions,
  change: { readonly server?: ServerOptions; readonly client?: ClientOptions } = {},
  again: Parameters<TestServer["meet"]>[1] = {},
) {
  const one = new TestServer(server);
  const first = one.meet(client);
  const other = change.server === undefined ? one : new TestServer({ ...server, ...change.server });
  for (const [id, state] of one.sessions) other.sessions.set(id, state);
  other.questions = [];
  const second = other.meet({ ...client, ...change.client, session: first.client.session }, again);
  return { first, second, questions: other.questions };
}

const ABBREVIATED = [T.client_hello, T.hello_verify_request, T.client_hello, T.server_hello];

for (const [way, server, client] of [
  ["ticket", {}, {}],
  ["identifier", { sessionCache: true, sessionTickets: false }, {}],
  ["identifier, of a client without tickets", { sessionCache: true }, { sessionTickets: false }],
] as const) {
  test(`a session is resumed by ${way}, with PSK and with certificates, and what was proved is asked for again`, (t) => {
    const { first, second, questions } = twice({ ...PSK_SERVER, ...server }, { ...PSK_CLIENT, ...client });
    t.false(first.client.isResumed);
    t.true(second.client.isResumed);
    t.true(second.server.isResumed);
    t.deepEqual(second.sent.slice(0, 4), ABBREVIATED, "with the cookie, and no key exchange");
    t.deepEqual(second.server.association?.peer?.pskIdentity, PSK.identity);
    t.true(questions.includes("psk"));
    const mutual = twice({ ...MUTUAL, ...server }, { certificate: credential("client"), ...client });
    t.true(mutual.second.client.isResumed);
    t.deepEqual(mutual.second.server.association?.peer?.certificates, credential("client").chain);
    t.deepEqual(mutual.second.client.association?.peer?.certificates, credential("p256").chain);
    t.deepEqual(mutual.questions.filter((one) => one !== "session").toSorted(), ["client", "server"]);
    mutual.second.client.association?.send(Uint8Array.of(9));
    const datagram = mutual.second.client.association?.poll();
    if (datagram?.type !== "datagram") return t.fail();
    mutual.second.server.association?.handleDatagram(datagram.bytes, 0);
    t.like(mutual.second.server.association?.poll(), { type: "data", bytes: Uint8Array.of(9) });
  });
}

test("a resumed session is resumed again, also over a rough link", (t) => {
  const sharedKeys = new SharedKeys(SECRET);
  const first = new TestServer({ ...PSK_SERVER, sharedKeys }).meet(PSK_CLIENT);
  for (let seed = 1; seed <= 10; seed++) {
    const patient = { maxRetransmissions: 60, maxRetransmitMs: 8000, handshakeTimeoutMs: 500_000 };
    const options = { ...PSK_CLIENT, ...patient, session: first.client.session };
    const client = new TestEnd({ client: Association.connect(options, 0) });
    const server = new TestEnd({ gate: new ServerGate({ ...PSK_SERVER, ...patient, sharedKeys }) });
    const link = new VirtualLink({ seed, loss: 0.3, reordering: 0.3, duplication: 0.2 });
    t.true(
      link.run(client, server, () => client.connected + server.connected === 2),
      `seed ${String(seed)}`,
    );
    t.true(client.association?.peer?.isResumed && server.association?.peer?.isResumed);
    client.association?.send(Uint8Array.of(1));
    server.association?.send(Uint8Array.of(2));
    link.run(client, server, () => false, 60_000);
    t.is(client.association?.state, "connected");
  }
});

test("D19 another server name, or another server, makes a full handshake of it", (t) => {
  const named = { ...PSK_CLIENT, serverName: "a.example" };
  const same = twice(PSK_SERVER, named);
  t.true(same.second.server.isResumed);
  t.false(twice(PSK_SERVER, named, { client: { serverName: "b.example" } }).second.server.isResumed);
  // A client that offers the session under another name all the same.
  const first = new TestServer(PSK_SERVER).meet(named);
  const session = decodeSession(first.client.session);
  if (session === undefined) return t.fail();
  const forged = encodeSession({ ...session, serverName: "b.example" });
  const server = new TestServer(PSK_SERVER);
  const other = server.meet({ ...named, serverName: "b.example", session: forged });
  t.false(other.server.isResumed);
  t.is(other.server.association?.state, "connected");
  const foreign = twice(PSK_SERVER, PSK_CLIENT, { server: { sharedKeys: new SharedKeys(new Uint8Array(32)) } });
  t.false(foreign.second.server.isResumed);
  t.is(foreign.second.server.association?.state, "connected");
});

test("D19 a ClientHello without the extended master secret does not resume a session that has it", (t) => {
  const server = new TestServer(PSK_SERVER);
  const first = server.meet(PSK_CLIENT);
  const options = resolveClientOptions({ ...PSK_CLIENT, session: first.client.session });
  const rogue = new RogueEnd("client", new ClientHandshake(options), {
    add: ({ type, body }, channel) => {
      if (type !== T.client_hello) return channel.add(T.finished, body, 1);
      const hello = decodeClientHello(body);
      const extensions = new Map(hello.extensions);
      extensions.delete(EXTENSION_TYPES.extended_master_secret);
      channel.add(T.client_hello, encodeClientHello({ ...hello, extensions }));
    },
  });
  const end = new TestEnd({ gate: new ServerGate({ ...PSK_SERVER, sharedKeys: new SharedKeys(SECRET) }) });
  new VirtualLink({ seed: 1 }).run(rogue, end, () => false);
  t.is(end.closed?.error?.code, "DTLS_EXTENDED_MASTER_SECRET_REQUIRED");
  t.is(end.connected, 0);
});

/** The ClientHello as from a client without RFC 7627; the transcript has what was sent. */
function withoutExtendedMasterSecret(body: Uint8Array): Uint8Array {
  const hello = decodeClientHello(body);
  const extensions = new Map(hello.extensions);
  extensions.delete(EXTENSION_TYPES.extended_master_secret);
  return encodeClientHello({ ...hello, extensions });
}

test("without the extended master secret no side makes a session to be resumed (RFC 7627 §5.3)", (t) => {
  for (const [server, client] of [
    [{ sessionTickets: true }, {}],
    [{ sessionCache: true }, { sessionTickets: false }],
  ] as const) {
    const rogue = new RogueEnd("client", new ClientHandshake(resolveClientOptions({ ...PSK_CLIENT, ...client })), {
      add: ({ type, body, epoch }, channel) => {
        const sent = type === T.client_hello ? withoutExtendedMasterSecret(body) : body;
        channel.add(type as HandshakeType, sent, epoch);
      },
    });
    const end = new TestEnd({ gate: new ServerGate({ ...PSK_SERVER, ...server }) });
    new VirtualLink({ seed: 1 }).run(rogue, end, () => end.connected === 1);
    t.is(end.connected, 1);
    t.false(end.association?.peer?.extendedMasterSecret);
    const record = end.sent
      .flatMap((datagram) => splitRecords(datagram))
      .find((one) => messageTypeOf(one) === T.server_hello);
    const hello = decodeServerHello(record?.subarray(25) ?? t.fail());
    t.false(hello.extensions.has(EXTENSION_TYPES.session_ticket));
    t.is(hello.sessionId.length, 0);
  }

  // A server without the extension that gives the session an identifier.
  const machine = new ServerHandshake(resolveServerOptions(PSK_SERVER));
  const deaf: HandshakeMachine = {
    get expects() {
      return machine.expects;
    },
    get finishedFault() {
      return machine.finishedFault;
    },
    start: () => machine.start(),
    handleMessage: ({ type, messageSeq, body }, channel, now) => {
      const heard = type === T.client_hello ? withoutExtendedMasterSecret(body) : body;
      machine.handleMessage({ type, messageSeq, body: heard }, channel, now);
    },
    answerPsk: (identity, key, channel, now) => machine.answerPsk(identity, key, channel, now),
    answerSession: () => undefined,
    answerPeerCertificate: () => undefined,
  };
  const withIdentifier = (hello: Uint8Array): Uint8Array =>
    encodeServerHello({ ...decodeServerHello(hello), sessionId: new Uint8Array(32).fill(1) });
  const giving: ConstructorParameters<typeof RogueEnd>[2] = {
    add: ({ type, body, epoch }, channel) =>
      channel.add(type as HandshakeType, type === T.server_hello ? withIdentifier(body) : body, epoch),
  };
  const rogue = new RogueEnd("server", deaf, giving, { psk: PSK.key });
  const end = new TestEnd({ client: Association.connect({ ...PSK_CLIENT, sessionTickets: false }, 0) });
  new VirtualLink({ seed: 1 }).run(end, rogue, () => end.connected === 1);
  t.is(end.connected, 1);
  t.false(end.association?.peer?.extendedMasterSecret);
  t.is(end.sessions, 0);
});

test("D19 a server that resumes without the extended master secret, or by another suite, is refused by the client", (t) => {
  for (const [change, code] of [
    [{ extensions: new Map() }, "DTLS_EXTENDED_MASTER_SECRET_REQUIRED"],
    [{ cipherSuite: 0xc0a4 }, "DTLS_ILLEGAL_PARAMETER"],
  ] as const) {
    const client = { ...PSK_CLIENT, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8", "TLS_PSK_WITH_AES_128_CCM"] } as const;
    const first = new TestServer(PSK_SERVER).meet(client);
    const machine = new ServerHandshake(resolveServerOptions({ ...PSK_SERVER, sharedKeys: new SharedKeys(SECRET) }));
    const rogue = new RogueEnd(
      "server",
      machine,
      {
        add: ({ type, body, epoch }, channel) => {
          const changed = type === T.server_hello ? encodeServerHello({ ...decodeServerHello(body), ...change }) : body;
          channel.add(type as HandshakeType, changed, epoch);
        },
      },
      { psk: PSK.key },
    );
    const end = new TestEnd({ client: Association.connect({ ...client, session: first.client.session }, 0) });
    new VirtualLink({ seed: 1 }).run(end, rogue, () => false);
    t.is(end.closed?.error?.code, code);
    t.is(end.connected, 0);
  }
});

test("D19 a client offers a session only with the name, the suite and the key that it is of", (t) => {
  const client = { ...PSK_CLIENT, serverName: "a.example" };
  const { session } = new TestServer(PSK_SERVER).meet(client).client;
  const isOffered = (change: ClientOptions): boolean =>
    offeredSession(resolveClientOptions({ ...client, ...change, session })) !== undefined;
  t.true(isOffered({}));
  t.false(isOffered({ serverName: "b.example" }));
  t.false(isOffered({ cipherSuites: ["TLS_PSK_WITH_AES_128_CCM"] }));
  t.false(isOffered({ psk: { ...PSK, key: Uint8Array.of(1) } }));
  t.false(isOffered({ psk: { ...PSK, identity: Uint8Array.of(1) } }));
});

test("D19 a server resumes no session whose suite the ClientHello does not offer", (t) => {
  const both = ["TLS_PSK_WITH_AES_128_CCM_8", "TLS_PSK_WITH_AES_128_CCM"] as const;
  const server = { ...PSK_SERVER, cipherSuites: both };
  const client = { ...PSK_CLIENT, cipherSuites: both };
  const { session } = new TestServer(server).meet(client).client;
  const machine = new ClientHandshake(resolveClientOptions({ ...client, session }));
  const rogue = new RogueEnd("client", machine, {
    add: ({ type, body, epoch }, channel) => {
      const hello = (): Uint8Array => encodeClientHello({ ...decodeClientHello(body), cipherSuites: [0xc0a4] });
      channel.add(type as HandshakeType, type === T.client_hello ? hello() : body, epoch);
    },
  });
  const end = new TestEnd({ gate: new ServerGate({ ...server, sharedKeys: new SharedKeys(SECRET) }) });
  new VirtualLink({ seed: 1 }).run(rogue, end, () => end.connected === 1);
  t.false(end.association?.peer?.isResumed ?? true);
  t.is(end.association?.peer?.suite, "TLS_PSK_WITH_AES_128_CCM");
});

test("a session of a client without a certificate is not resumed by a server that requires one by now", (t) => {
  const client = { certificate: credential("client") };
  const { first, second } = twice({ ...MUTUAL, clientCertificate: "none" }, client, { server: MUTUAL });
  t.is(first.server.association?.peer?.certificates, undefined);
  t.false(second.server.isResumed);
  t.deepEqual(second.server.association?.peer?.certificates, client.certificate.chain);
});

test("a session by PSK is not resumed by a server that takes none any more", (t) => {
  const both = ["TLS_PSK_WITH_AES_128_CCM_8", "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"] as const;
  const server = { ...PSK_SERVER, certificate: credential("p256"), cipherSuites: both };
  const { first, second } = twice(server, { ...PSK_CLIENT, cipherSuites: both }, { server: { pskEnabled: false } });
  t.is(first.server.association?.peer?.suite, both[0]);
  t.false(second.server.isResumed);
  t.is(second.server.association?.peer?.suite, both[1]);
});

test("D59 answers of a session store and a key lookup count for what was asked only, once", (t) => {
  const options = { ...PSK_SERVER, sessionCache: true, sessionTickets: false };
  const known = new TestServer(options);
  const { session } = known.meet(PSK_CLIENT).client;
  const [[id = "", state] = []] = known.sessions;
  const client = new TestEnd({ client: Association.connect({ ...PSK_CLIENT, session }, 0) });
  const server = new TestEnd({ gate: known.gate }, { isSilent: true });
  new VirtualLink({ seed: 1 }).run(client, server, () => server.association !== undefined);
  const association = server.association ?? t.fail();
  const isSilent = (): boolean => server.pollDatagram(0) === undefined && association.state === "handshaking";
  association.answerPsk(PSK.identity, PSK.key, 0);
  association.answerSession(Uint8Array.of(1), undefined, 0);
  association.answerSession(Uint8Array.of(1), state, 0);
  t.true(isSilent(), "another identifier");
  association.answerSession(Buffer.from(id, "hex"), state, 0);
  association.answerSession(Buffer.from(id, "hex"), undefined, 0);
  t.true(isSilent(), "the key is asked for");
  association.answerPsk(Uint8Array.of(1), PSK.key, 0);
  association.answerPsk(Uint8Array.of(1), undefined, 0);
  t.true(isSilent(), "another identity");
  association.answerPsk(PSK.identity, PSK.key, 0);
  t.true(new VirtualLink({ seed: 1 }).run(client, server, () => client.connected + server.connected === 2));
  t.true(association.peer?.isResumed);
});

test("an empty NewSessionTicket at resumption leaves the ticket that was used (RFC 5077 §3.3)", (t) => {
  const first = new TestServer({ ...PSK_SERVER, sessionLifetimeSeconds: 100 }).meet(PSK_CLIENT);
  const sharedKeys = new SharedKeys(SECRET, 60_000);
  const server = { ...PSK_SERVER, sharedKeys, sessionLifetimeSeconds: 100 };
  const machine = new ServerHandshake(resolveServerOptions(server));
  let renewals = 0;
  const rogue = new RogueEnd(
    "server",
    machine,
    {
      add: ({ type, body, epoch }, channel) => {
        if (type === T.new_session_ticket) renewals++;
        channel.add(type as HandshakeType, type === T.new_session_ticket ? new Uint8Array(6) : body, epoch);
      },
    },
    { psk: PSK.key },
  );
  const end = new TestEnd({ client: Association.connect({ ...PSK_CLIENT, session: first.client.session }, 0) });
  new VirtualLink({ seed: 1 }).run(end, rogue, () => end.connected === 1);
  t.true(end.association?.peer?.isResumed);
  t.is(renewals, 1);
  t.deepEqual(decodeSession(end.session ?? t.fail())?.ticket, decodeSession(first.client.session)?.ticket);
});

test("a session of a time to come, as of a clock that was put back, is not resumed", (t) => {
  const server = new TestServer({ ...PSK_SERVER, sessionCache: true, sessionTickets: false });
  const dayMs = 86_400_000;
  const { session } = server.meet(PSK_CLIENT, { at: 10 * dayMs }).client;
  t.true(server.meet({ ...PSK_CLIENT, session }, { at: 9.5 * dayMs }).server.isResumed);
  t.false(server.meet({ ...PSK_CLIENT, session }, { at: 5 * dayMs }).server.isResumed);
});

test("a Finished that does not match ends the resumption of a session, in both roles", (t) => {
  const changed = (type: number, body: Uint8Array): Uint8Array => (type === T.finished ? new Uint8Array(12) : body);
  const sharedKeys = new SharedKeys(SECRET);
  const options = { ...PSK_CLIENT, session: new TestServer(PSK_SERVER).meet(PSK_CLIENT).client.session };
  const tampering = (isRight: boolean): ConstructorParameters<typeof RogueEnd>[2] => ({
    add: ({ type, body, epoch }, channel) =>
      channel.add(type as HandshakeType, isRight ? body : changed(type, body), epoch),
  });
  for (const isRight of [true, false]) {
    const client = new RogueEnd("client", new ClientHandshake(resolveClientOptions(options)), tampering(isRight));
    const server = new TestEnd({ gate: new ServerGate({ ...PSK_SERVER, sharedKeys }) });
    new VirtualLink({ seed: 1 }).run(client, server, () => server.connected === 1);
    t.is(server.connected, isRight ? 1 : 0);
    t.is(server.closed?.error?.code, isRight ? undefined : "DTLS_BAD_FINISHED");
    const machine = new ServerHandshake(resolveServerOptions({ ...PSK_SERVER, sharedKeys }));
    const rogue = new RogueEnd("server", machine, tampering(isRight), { psk: PSK.key });
    const end = new TestEnd({ client: Association.connect(options, 0) });
    new VirtualLink({ seed: 1 }).run(end, rogue, () => end.connected === 1);
    t.is(end.connected, isRight ? 1 : 0);
    t.is(end.closed?.error?.code, isRight ? undefined : "DTLS_BAD_FINISHED");
    if (isRight) t.true(end.association?.peer?.isResumed);
  }
});

test("a session by certificates is not resumed by a server that has no certificate any more", (t) => {
  const server = { ...MUTUAL, pskEnabled: true };
  const client = { certificate: credential("client"), psk: PSK };
  t.true(twice(server, client).second.client.isResumed);
  const { certificate: _, ...without } = server;
  const bare = new TestServer(without);
  const first = new TestServer(server).meet(client);
  const second = bare.meet({ ...client, session: first.client.session });
  t.false(second.client.isResumed);
  t.deepEqual(second.server.association?.peer?.pskIdentity, PSK.identity);
});

test("D20 resumption that falls back to a full handshake was asked for its cookie, and is a full handshake", (t) => {
  const { second } = twice(PSK_SERVER, PSK_CLIENT, { server: { sharedKeys: new SharedKeys(new Uint8Array(32)) } });
  t.deepEqual(second.sent.slice(0, 6), [...ABBREVIATED, T.server_hello_done, T.client_key_exchange]);
  t.false(second.client.isResumed);
});

test("a changed key, a refused certificate, a withdrawn suite, a lifetime that is over: none is resumed", (t) => {
  const client = { ...PSK_CLIENT, psk: { ...PSK, key: Uint8Array.of(1, 2, 3) } };
  const key = twice(PSK_SERVER, PSK_CLIENT, {}, { psk: Uint8Array.of(1, 2, 3) });
  t.is(key.second.server.closedBy, "DTLS_WRONG_PSK", "the server's key changed, the client's did not");
  t.false(twice(PSK_SERVER, PSK_CLIENT, { client }, { psk: client.psk.key }).second.client.isResumed);
  const refused = twice(
    MUTUAL,
    { certificate: credential("client") },
    {},
    {
      verdict: { ok: false, alert: "certificate_revoked", reason: "since then" },
    },
  );
  t.is(refused.second.server.closedBy, "DTLS_CERTIFICATE_REFUSED");
  const { association } = refused.second.client;
  association?.handleTimeout(1000);
  t.like(association?.poll(), { type: "closed", error: { code: "DTLS_ALERT_RECEIVED" } });
  const suites = { cipherSuites: ["TLS_PSK_WITH_AES_128_GCM_SHA256", "TLS_PSK_WITH_AES_128_CCM_8"] } as const;
  const without = { cipherSuites: ["TLS_PSK_WITH_AES_128_GCM_SHA256"] } as const;
  const suite = twice(PSK_SERVER, { ...PSK_CLIENT, ...suites }, { server: without });
  t.is(suite.second.server.association?.peer?.suite, "TLS_PSK_WITH_AES_128_GCM_SHA256");
  const lifetime = { ...PSK_SERVER, sessionLifetimeSeconds: 60 };
  t.true(twice(lifetime, PSK_CLIENT, {}, { at: 59_000 }).second.client.isResumed);
  t.false(twice(lifetime, PSK_CLIENT, {}, { at: 61_000 }).second.client.isResumed);
});

test("D57 the connection identifiers are negotiated afresh on resumption", (t) => {
  const { first, second } = twice(PSK_SERVER, PSK_CLIENT);
  const [before, after] = [first, second].map(({ server }) => server.association?.connectionId);
  t.is(after?.length, 6);
  t.notDeepEqual(before, after);
  const gone = twice(PSK_SERVER, PSK_CLIENT, { client: { connectionId: false } });
  t.true(gone.second.server.isResumed);
  t.is(gone.second.server.association?.connectionId.length, 0);
  t.false(gone.second.server.association?.peer?.hasConnectionId);
});

test("tickets open in their period and the next, with the same secret only, and never when they were changed", (t) => {
  const keys = (secret: number): TicketKeys =>
    new TicketKeys(new SharedKeys(new Uint8Array(32).fill(secret)), 1000, (size) => new Uint8Array(size).fill(5));
  const ticket = keys(1).seal(Uint8Array.of(1, 2, 3), 500);
  t.deepEqual(keys(1).open(ticket, 999), Buffer.of(1, 2, 3), "another process with the secret");
  t.truthy(keys(1).open(ticket, 1999));
  t.is(keys(1).open(ticket, 2000), undefined);
  t.deepEqual(ticket.slice(2, 14), new Uint8Array(12).fill(5), "the nonce is random");
  t.is(keys(2).open(ticket, 999), undefined);
  for (let i = 0; i < ticket.length; i++) {
    const changed = Uint8Array.from(ticket);
    changed[i] = (changed[i] ?? 0) ^ 1;
    t.is(keys(1).open(changed, 999), undefined, `byte ${String(i)}`);
    t.is(keys(1).open(ticket.subarray(0, i), 999), undefined);
  }
  t.throws(() => new SharedKeys(new Uint8Array(31)), { instanceOf: DtlsError, code: "DTLS_BAD_OPTION" });
});

test("cookies are taken by another process with the same secret", (t) => {
  const gates = [1, 2].map(() => new ServerGate({ ...PSK_SERVER, sharedKeys: new SharedKeys(SECRET) }));
  const client = Association.connect(PSK_CLIENT, 0);
  const hello = client.poll();
  if (hello?.type !== "datagram") return t.fail();
  const reply = gates[0]?.handleDatagram(hello.bytes, ADDRESS, 0);
  if (reply?.type !== "reply") return t.fail();
  client.handleDatagram(reply.bytes, 0);
  const again = client.poll();
  if (again?.type !== "datagram") return t.fail();
  t.is(gates[1]?.handleDatagram(again.bytes, ADDRESS, 0).type, "accept");
});

test("raw public keys serve both sides, are told of, and are resumed; a type that is not taken is not used", (t) => {
  const [clientKey, serverKey] = [1, 2].map(() => generateKeyPairSync("ec", { namedCurve: "P-256" }));
  if (clientKey === undefined || serverKey === undefined) return t.fail();
  const server: ServerOptions = {
    rawPublicKey: { privateKey: serverKey.privateKey },
    clientCertificate: "require",
    peerCertificateTypes: ["RawPublicKey"],
  };
  const client: ClientOptions = {
    rawPublicKey: { privateKey: clientKey.privateKey },
    peerCertificateTypes: ["RawPublicKey"],
  };
  const { first, second } = twice(server, client);
  for (const meeting of [first, second]) {
    const spki = clientKey.publicKey.export({ type: "spki", format: "der" });
    t.deepEqual(Buffer.from(meeting.server.association?.peer?.rawPublicKey ?? []), spki);
    t.is(meeting.server.association?.peer?.certificates, undefined);
    t.truthy(meeting.client.association?.peer?.rawPublicKey);
  }
  t.true(second.client.isResumed);
  const both = new TestServer({ ...server, certificate: credential("p256"), peerCertificateTypes: ["X.509"] });
  const mixed = both.meet({ ...client, certificate: credential("client"), peerCertificateTypes: ["X.509"] });
  t.deepEqual(mixed.client.association?.peer?.certificates, credential("p256").chain);
  t.deepEqual(mixed.server.association?.peer?.certificates, credential("client").chain);
  const crossed = both.meet({ ...client, peerCertificateTypes: ["X.509"] });
  t.is(crossed.server.closedBy, "DTLS_UNSUPPORTED_CERTIFICATE");
  const refused = new TestServer(server).meet(client, {
    verdict: { ok: false, alert: "access_denied", reason: "unknown key" },
  });
  t.is(refused.server.closedBy, "DTLS_CERTIFICATE_REFUSED");
  const none = new TestServer(server).meet({ peerCertificateTypes: ["RawPublicKey"] });
  t.is(none.server.closedBy, "DTLS_UNSUPPORTED_CERTIFICATE");
});

test("ALPN settles on the server's first that the client offers; nothing in common is refused", (t) => {
  const server = new TestServer({ ...PSK_SERVER, applicationProtocols: ["coap", "co"] });
  const common = server.meet({ ...PSK_CLIENT, applicationProtocols: ["co", "coap"] });
  t.is(common.client.association?.peer?.applicationProtocol, "coap");
  t.is(common.server.association?.peer?.applicationProtocol, "coap");
  const without = server.meet(PSK_CLIENT);
  t.is(without.server.association?.state, "connected");
  t.is(without.server.association?.peer?.applicationProtocol, undefined);
  const refused = server.meet({ ...PSK_CLIENT, applicationProtocols: ["h2"] });
  t.is(refused.server.closedBy, "DTLS_NO_APPLICATION_PROTOCOL");
  const deaf = new TestServer(PSK_SERVER).meet({ ...PSK_CLIENT, applicationProtocols: ["coap"] });
  t.is(deaf.client.association?.state, "connected");
});

test("record_size_limit and max_fragment_length bound what is sent, of data and of handshake messages", (t) => {
  const size = new TestServer({ ...PSK_SERVER, recordSizeLimitBytes: 300 }).meet({
    ...PSK_CLIENT,
    recordSizeLimitBytes: 100,
    maxFragmentLengthBytes: 512,
  });
  t.is(size.server.association?.maxDataBytes, 100);
  // The content type inside a record with an identifier counts.
  t.is(size.client.association?.maxDataBytes, 299);
  const fragment = new TestServer(MUTUAL).meet({ certificate: credential("client"), maxFragmentLengthBytes: 512 });
  t.is(fragment.client.association?.state, "connected");
  t.is(fragment.server.association?.maxDataBytes, 512);
  const records = fragment.server.outputs.flatMap((one) => (one.type === "datagram" ? splitRecords(one.bytes) : []));
  t.true(records.every((record) => record.length <= 13 + 24 + 512));
  t.true(records.filter((record) => record[13] === T.certificate).length > 1, "in fragments");
});

test("keying material is the same on both sides, differs by label, context and association, and needs its option", (t) => {
  const options = { exporter: true } as const;
  const server = new TestServer({ ...PSK_SERVER, ...options });
  const one = server.meet({ ...PSK_CLIENT, ...options });
  const two = server.meet({ ...PSK_CLIENT, ...options, session: one.client.session });
  t.true(two.client.isResumed);
  const exported = ({ association }: End, label: string, context?: Uint8Array): string =>
    hex(association?.exportKeyingMaterial(label, 32, context) ?? new Uint8Array(0));
  const seen = new Set<string>();
  for (const { client, server: serverEnd } of [one, two]) {
    for (const [label, context] of [["EXPORTER-a"], ["EXPORTER-b"], ["EXPORTER-a", new Uint8Array(0)]] as const) {
      const value = exported(client, label, context);
      t.is(value.length, 64);
      t.is(exported(serverEnd, label, context), value);
      seen.add(value);
    }
  }
  t.is(seen.size, 6);
  const without = server.meet(PSK_CLIENT);
  t.throws(() => without.client.association?.exportKeyingMaterial("x", 32), { code: "DTLS_NO_EXPORTER" });
  for (const length of [0, -1, NaN, 1.5, 65_536]) {
    t.throws(
      () => one.client.association?.exportKeyingMaterial("x", length),
      { code: "DTLS_BAD_OPTION" },
      String(length),
    );
  }
  const long = new Uint8Array(65_536);
  t.throws(() => one.client.association?.exportKeyingMaterial("x", 32, long), { code: "DTLS_BAD_OPTION" });
});

test("a ticket is renewed when it is resumed past half its life, until the session is too old (RFC 5077 §3.3)", (t) => {
  const options = { ...PSK_SERVER, sessionLifetimeSeconds: 100, maxSessionAgeSeconds: 300 };
  const server = new TestServer(options);
  const ticketOf = (end: End): Uint8Array => decodeSession(end.session)?.ticket ?? new Uint8Array(0);
  let { client } = server.meet(PSK_CLIENT);
  const outcomes: string[] = [];
  for (const seconds of [40, 60, 130, 190, 230, 285, 299, 301]) {
    const before = ticketOf(client);
    const next = server.meet({ ...PSK_CLIENT, session: client.session }, { at: seconds * 1000 });
    t.is(next.server.association?.state, "connected");
    const isRenewed = Buffer.compare(ticketOf(next.client), before) !== 0;
    t.is(next.sent.includes(T.new_session_ticket), isRenewed);
    outcomes.push(next.client.isResumed ? (isRenewed ? "renewed" : "resumed") : "full");
    ({ client } = next);
  }
  // 130 is past half of the life of the ticket of 60; that of 230 lasts longer than the session, which ends at 300.
  t.deepEqual(outcomes, ["resumed", "renewed", "renewed", "renewed", "renewed", "resumed", "resumed", "full"]);
});

test("a ticket is renewed when its key has rotated, and another process with the secret takes the new one", (t) => {
  const options = { ...PSK_SERVER, sessionLifetimeSeconds: 100 };
  const first = new TestServer(options).meet(PSK_CLIENT, { at: 90_000 });
  const second = new TestServer(options).meet({ ...PSK_CLIENT, session: first.client.session }, { at: 110_000 });
  t.true(second.client.isResumed);
  t.true(second.sent.includes(T.new_session_ticket), "20 s old, under the key of the period before");
  t.notDeepEqual(second.client.session, first.client.session);
  const third = new TestServer(options).meet({ ...PSK_CLIENT, session: second.client.session }, { at: 205_000 });
  t.true(third.client.isResumed, "the first ticket would be too old by now");
  const stale = new TestServer(options).meet({ ...PSK_CLIENT, session: first.client.session }, { at: 205_000 });
  t.false(stale.client.isResumed);
});

test("a renewed ticket binds what the first one did: a changed key ends it", (t) => {
  const server = new TestServer({ ...PSK_SERVER, sessionLifetimeSeconds: 100 });
  const first = server.meet(PSK_CLIENT);
  const second = server.meet({ ...PSK_CLIENT, session: first.client.session }, { at: 60_000 });
  t.true(second.sent.includes(T.new_session_ticket));
  const psk = Uint8Array.of(1, 2, 3);
  const third = server.meet({ ...PSK_CLIENT, session: second.client.session }, { at: 70_000, psk });
  t.is(third.server.closedBy, "DTLS_WRONG_PSK");
});
