import test from "ava";
import fc from "fast-check";
import { AddressMap } from "#net/address-map.js";

test("an address map holds what a map by address and port holds, through any additions and removals", (t) => {
  const step = fc.record({
    isAddition: fc.boolean(),
    address: fc.constantFrom("192.0.2.1", "192.0.2.2", "2001:db8::1"),
    port: fc.integer({ min: 1, max: 3 }),
    value: fc.nat(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const map = new AddressMap<number>();
      const expected = new Map<string, number>();
      for (const { isAddition, address, port, value } of steps) {
        const key = `${address} ${String(port)}`;
        if (isAddition) {
          map.set({ address, port }, value);
          expected.set(key, value);
        } else {
          map.delete({ address, port });
          expected.delete(key);
        }
        if (map.get({ address, port }) !== expected.get(key) || map.size !== expected.size) return false;
      }
      for (const address of ["192.0.2.1", "192.0.2.2", "2001:db8::1"])
        for (const port of [1, 2, 3])
          if (map.get({ address, port }) !== expected.get(`${address} ${String(port)}`)) return false;
      const inOrder = (values: Iterable<number>): string => [...values].toSorted((a, b) => a - b).join();
      return inOrder(map.values()) === inOrder(expected.values());
    }),
  );
  t.pass();
});
