import test from "ava";
import fc from "fast-check";
import type { DtlsSession } from "#net/index.js";
import { SessionTable } from "#net/session-table.js";

interface Known {
  readonly session: DtlsSession;
  readonly host: number;
  readonly place: string;
  isOpen: boolean;
}

const ADDRESSES = ["192.0.2.1", "192.0.2.2"] as const;
const STEPS = fc.array(
  fc.record({ kind: fc.constantFrom("begin", "open", "end"), host: fc.nat(1), port: fc.nat(2), pick: fc.nat(9) }),
  { minLength: 40, maxLength: 60 },
);

test("an address has its newest open session and one handshake, whichever ends first, and all are counted", (t) => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const table = new SessionTable();
      const known: Known[] = [];
      /** By address: the session opened last, unless it has ended. */
      const newest = new Map<string, Known>();
      const end = (one: Known): void => {
        t.is(table.delete(one.session), one.isOpen);
        known.splice(known.indexOf(one), 1);
        if (newest.get(one.place) === one) newest.delete(one.place);
      };
      for (const { kind, host, port, pick } of steps) {
        const handshakeAddress = { address: ADDRESSES[host] ?? "", port };
        const place = `${host}:${port}`;
        const handshake = known.find((one) => one.place === place && !one.isOpen);
        const anyOne = known[pick % Math.max(1, known.length)];
        if (kind === "begin") {
          t.is(table.handshakeAt(handshakeAddress), handshake?.session);
          if (handshake !== undefined) end(handshake);
          const session = { handshakeAddress, connectionId: new Uint8Array(0) } as unknown as DtlsSession;
          table.begin(session);
          known.push({ session, host, place, isOpen: false });
        } else if (kind === "open" && handshake !== undefined) {
          t.is(table.open(handshake.session), newest.get(place)?.session);
          handshake.isOpen = true;
          newest.set(place, handshake);
        } else if (kind === "end" && anyOne !== undefined) {
          end(anyOne);
        }
        const open = known.filter((one) => one.isOpen);
        const handshakes = known.filter((one) => !one.isOpen);
        t.is(table.size, open.length);
        t.is(table.handshakeCount, handshakes.length);
        t.true(isOf(table, open));
        t.true(isOf(table.handshakes(), handshakes));
        for (const [index, address] of ADDRESSES.entries()) {
          t.deepEqual(table.countOf(address), {
            handshakes: handshakes.filter((one) => one.host === index).length,
            sessions: open.filter((one) => one.host === index).length,
          });
        }
        for (const [index, address] of ADDRESSES.entries()) {
          for (const at of [0, 1, 2]) {
            const found = newest.get(`${index}:${at}`);
            const underWay = handshakes.find((one) => one.place === `${index}:${at}`);
            t.is(table.ofAddress({ address, port: at }), (found ?? underWay)?.session);
            t.is(table.renewalAt({ address, port: at }), found === undefined ? undefined : underWay?.session);
          }
        }
      }
    }),
  );
});

/** Whether the sessions are those that are known, in any order. */
function isOf(sessions: Iterable<DtlsSession>, known: readonly Known[]): boolean {
  const found = [...sessions];
  return found.length === known.length && known.every(({ session }) => found.includes(session));
}
