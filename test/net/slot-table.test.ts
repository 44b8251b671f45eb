import test from "ava";
import fc from "fast-check";
import { NO_SLOT, SlotTable, type Slotted } from "#net/slot-table.js";

const STEPS = fc.array(fc.record({ isAddition: fc.boolean(), pick: fc.nat(20) }), { maxLength: 60 });

test("a slot table holds what a set holds, through any additions and removals", (t) => {
  fc.assert(
    fc.property(STEPS, (steps) => {
      const table = new SlotTable<Slotted>();
      const expected = new Set<Slotted>();
      for (const { isAddition, pick } of steps) {
        const known = [...expected][pick];
        if (isAddition) {
          const item = { slot: NO_SLOT };
          t.false(table.has(item));
          table.add(item);
          expected.add(item);
        } else if (known !== undefined) {
          t.true(table.delete(known));
          t.false(table.delete(known), "it is there no more");
          t.is(known.slot, NO_SLOT);
          expected.delete(known);
        }
        t.is(table.size, expected.size);
        t.true([...expected].every((item) => table.has(item)));
        t.true(holdsAll([...table], expected));
      }
    }),
  );
});

test("whatever goes while a slot table is gone through, none that stays is left out, nor met twice if none goes before it", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), fc.array(fc.nat(11), { maxLength: 12 }), (size, removals) => {
      const table = new SlotTable<Slotted>();
      const items = Array.from({ length: size }, () => ({ slot: NO_SLOT }));
      for (const item of items) table.add(item);
      const met: Slotted[] = [];
      for (const item of table) {
        met.push(item);
        const other = items[removals[met.length - 1] ?? size];
        if (other !== undefined) table.delete(other);
        if (met.length > 2 * size) break;
      }
      t.true([...table].every((item) => met.includes(item)));
      if (removals.length === 0) t.is(met.length, size);
    }),
  );
});

test("a session that closes itself when it is met does not hide another", (t) => {
  const table = new SlotTable<Slotted>();
  for (let i = 0; i < 10; i++) table.add({ slot: NO_SLOT });
  let met = 0;
  for (const item of table) {
    met++;
    table.delete(item);
  }
  t.is(met, 10);
  t.is(table.size, 0);
});

test("one after the other is given, all by turns, though some go and others come", (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 12 }), STEPS, (size, steps) => {
      const table = new SlotTable<Slotted>();
      const items = Array.from({ length: size }, () => ({ slot: NO_SLOT }));
      for (const item of items) table.add(item);
      for (const { isAddition, pick } of steps) {
        if (isAddition) {
          table.add({ slot: NO_SLOT });
        } else {
          const known = [...table][pick];
          if (known !== undefined) table.delete(known);
        }
        table.next();
      }
      const given = Array.from({ length: table.size }, () => table.next());
      t.true(holdsAll(given, new Set(table)));
    }),
  );
  t.is(new SlotTable<Slotted>().next(), undefined);
});

function holdsAll(items: readonly (Slotted | undefined)[], expected: ReadonlySet<Slotted>): boolean {
  return items.length === expected.size && [...expected].every((item) => items.includes(item));
}
