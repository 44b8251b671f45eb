import test from "ava";
import fc from "fast-check";
import { Association, type AssociationOutput, DtlsError, ServerGate, type ServerOptions } from "#dtls/index.js";
import { SavePolicy } from "#dtls/save-policy.js";
import { decodeRecordHeader } from "#dtls/wire/record.js";
import { VirtualLink } from "#testing/virtual-link.js";
import { makePair, type Pair, PSK, seededRandom } from "./pair.js";

const OPTIONS: ServerOptions = { pskEnabled: true, isSaved: true, random: seededRandom(5) };
const CLIENT = { psk: PSK, cipherSuites: ["TLS_PSK_WITH_AES_128_CCM_8"], isSaved: true } as const;

function connectedPair(server: ServerOptions = OPTIONS): Pair {
  const pair = makePair({ client: CLIENT, server });
  const link = new VirtualLink({ seed: 1 });
  if (!link.run(pair.client, pair.server, () => pair.client.connected + pair.server.connected === 2)) {
    throw new Error("not connected");
  }
  return pair;
}

function outputsOf(association: Association | undefined): AssociationOutput[] {
  const outputs: AssociationOutput[] = [];
  for (let one = association?.poll(); one !== undefined; one = association?.poll()) outputs.push(one);
  return outputs;
}

function sequenceNumberOf(datagram: Uint8Array): number {
  const header = decodeRecordHeader(datagram, 0, 6);
  if ("drop" in header) throw new Error(header.drop);
  return header.sequenceNumber;
}

function sendFrom(association: Association | undefined, data: number): Uint8Array {
  association?.send(Uint8Array.of(data));
  const datagram = outputsOf(association).find((one) => one.type === "datagram");
  if (datagram?.type !== "datagram") throw new Error("silent");
  return datagram.bytes;
}

/** What is kept at each output `save`, as a store would; and whether the rest of the outputs came after it. */
class Keeper {
  readonly association: Association;
  state: Uint8Array;
  saves = 0;

  constructor(association: Association) {
    this.association = association;
    this.state = association.save();
  }

  take(): AssociationOutput[] {
    const outputs: AssociationOutput[] = [];
    for (let one = this.association.poll(); one !== undefined; one = this.association.poll()) {
      if (one.type === "save") {
        this.saves++;
        this.state = this.association.save();
      } else outputs.push(one);
    }
    return outputs;
  }
}

test("S1 S3 D27 whenever the process dies, what it goes on from was saved before: no number is used twice", (t) => {
  const used = new Set<number>();
  const { server } = connectedPair();
  let keeper = new Keeper(server.association ?? t.fail());
  const gate = new ServerGate(OPTIONS);
  for (let life = 0; life < 5; life++) {
    for (let i = 0; i < 700 * (life + 1); i++) {
      keeper.association.send(Uint8Array.of(i));
      for (const output of keeper.take()) {
        if (output.type !== "datagram") continue;
        const number = sequenceNumberOf(output.bytes);
        t.false(used.has(number), String(number));
        used.add(number);
      }
    }
    keeper = new Keeper(gate.restore(keeper.state, 0));
  }
  t.true(keeper.saves < 10);
});

test("S2 S4 nothing that was taken before is taken after, and what the peer sends next is", (t) => {
  const { client, server } = connectedPair();
  const keeper = new Keeper(server.association ?? t.fail());
  const gate = new ServerGate(OPTIONS);
  const sent: Uint8Array[] = [];
  let now = 0;
  // Slow, then a burst, then slow again.
  const gaps = [...Array.from({ length: 20 }, () => 5000), ...Array.from({ length: 300 }, () => 1), 5000, 5000];
  for (const gap of gaps) {
    now += gap;
    const datagram = sendFrom(client.association, 1);
    sent.push(datagram);
    keeper.association.handleDatagram(datagram, now);
    t.is(keeper.take().length, 1);
    if (sent.length % 10 > 0 && gap < 5000) continue;
    const restored = gate.restore(keeper.state, now);
    for (const old of sent) restored.handleDatagram(old, now);
    t.deepEqual(outputsOf(restored), []);
    if (gap < 5000) continue;
    // A slow peer loses nothing by the crash.
    restored.handleDatagram(sendFrom(client.association, 2), now);
    t.deepEqual(
      outputsOf(restored).map(({ type }) => type),
      ["save", "data"],
    );
  }
  t.true(keeper.saves < 60, "a burst is not saved record by record");
});

test("after a burst the numbers kept ahead are given back in a while", (t) => {
  const policy = SavePolicy.begin(0, 0, 0);
  for (let number = 1; number <= 200; number++) policy.mustSaveToReceive(number, number, 1);
  t.true(policy.receiveFloor > 201 && policy.receiveFloor <= 265);
  t.false(policy.tighten(200, 500));
  t.true(policy.tighten(200, 5000));
  t.is(policy.receiveFloor, 201);
  t.false(policy.tighten(200, 9000));
});

test("a restored association carries data both ways, knows its peer, and is found by its identifier", (t) => {
  const { client, server } = connectedPair();
  const before = server.association;
  const state = before?.suspend() ?? new Uint8Array(0);
  t.deepEqual(
    outputsOf(before).map(({ type }) => type),
    ["closed"],
    "the peer is told nothing",
  );
  const after = new ServerGate(OPTIONS).restore(state, 0);
  t.is(after.state, "connected");
  t.deepEqual(after.peer, before?.peer);
  t.deepEqual(after.connectionId, before?.connectionId);
  t.true(after.handleDatagram(sendFrom(client.association, 1), 0));
  t.like(outputsOf(after).at(-1), { type: "data", bytes: Uint8Array.of(1) });
  client.handleDatagram(sendFrom(after, 2), 0);
  t.deepEqual(client.received, [Uint8Array.of(2)]);
  const clientState = client.association?.suspend() ?? new Uint8Array(0);
  const again = Association.restore(clientState, CLIENT, 0);
  after.handleDatagram(sendFrom(again, 3), 0);
  t.like(outputsOf(after).at(-1), { type: "data", bytes: Uint8Array.of(3) });
  again.close();
  after.handleDatagram(outputsOf(again).find((one) => one.type === "datagram")?.bytes ?? new Uint8Array(0), 0);
  t.is(outputsOf(after).at(-1)?.type, "closed");
});

test("D62 saved state that is cut short, of another version, role or suite is refused by code", (t) => {
  const { client, server } = connectedPair();
  const state = server.association?.save() ?? new Uint8Array(0);
  t.true(state.length <= 200, String(state.length));
  const gate = new ServerGate(OPTIONS);
  const refused = (bytes: Uint8Array, at = gate): void => {
    t.throws(() => at.restore(bytes, 0), { instanceOf: DtlsError, code: "DTLS_BAD_SAVED_STATE" });
  };
  for (let length = 0; length < state.length; length++) refused(state.subarray(0, length));
  refused(Buffer.concat([state, Buffer.of(0)]));
  refused(Buffer.concat([Buffer.of(2), state.subarray(1)]));
  refused(Buffer.concat([state.subarray(0, 1), Buffer.of((state[1] ?? 0) | 16), state.subarray(2)]));
  refused(client.association?.save() ?? new Uint8Array(0));
  refused(state, new ServerGate({ ...OPTIONS, cipherSuites: ["TLS_PSK_WITH_AES_128_GCM_SHA256"] }));
  t.is(gate.restore(state, 0).state, "connected");
  const random = fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    try {
      gate.restore(bytes, 0);
      return false;
    } catch (error) {
      return error instanceof DtlsError && error.code === "DTLS_BAD_SAVED_STATE";
    }
  });
  t.notThrows(() => fc.assert(random));
});

test("an association that is not connected, or closed, has no state to save", (t) => {
  const client = Association.connect(CLIENT, 0);
  t.throws(() => client.save(), { code: "DTLS_NOT_CONNECTED" });
  const { server } = connectedPair();
  server.association?.close();
  t.throws(() => server.association?.save(), { code: "DTLS_CLOSED" });
});
