import { drain, type SendEntry } from "#mqtt/drain.js";
import { type OutboxEntry, Store } from "#store/index.js";
import test from "ava";

const NOW = 1_800_000_000_000;

/** A store in whose outbox readings of one endpoint wait: 1 and so on. */
async function waiting(count: number): Promise<Store> {
  const store = await Store.open({ type: "memory" }, { hasOutbox: true });
  const { registration } = await store.registrations.register(
    { endpoint: "pi-1", subscriber: undefined, lifetimeSeconds: 60, dpe2: { type: "association" }, isQueueMode: false },
    { records: [], server: "a" },
    NOW,
  );
  for (let value = 1; value <= count; value++) await report(store, registration.id, value);
  return store;
}

function report({ registrations }: Store, id: string, value: number): Promise<unknown> {
  const records = [{ name: "count", value, timeSeconds: NOW / 1000 + value }];
  return registrations.report(id, undefined, { records, server: "a" }, NOW + value);
}

const valueOf = ({ records }: OutboxEntry): number => Number(records[0]?.value);
const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const options = (given: object = {}) => ({
  page: 10,
  maxEntries: 1000,
  maxMessages: 20,
  onRemoved: () => undefined,
  ...given,
});

test("all is sent in order, so many at once, and removed when it was acknowledged", async (t) => {
  const { outbox } = await waiting(95);
  const sent: number[] = [];
  let outstanding = 0;
  let most = 0;
  const send: SendEntry = async (entry) => {
    sent.push(valueOf(entry));
    most = Math.max(most, ++outstanding);
    for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    outstanding -= 1;
  };
  let removed = 0;
  t.is(await drain(outbox, send, options({ onRemoved: (count: number) => (removed += count) })), 95);
  t.deepEqual(sent, numbers(1, 95));
  t.is(most, 20);
  t.is(removed, 95);
  t.is(await outbox.count(), 0);
});

test("what was not acknowledged stays, and is sent again", async (t) => {
  const { outbox } = await waiting(40);
  const refused = new Error("the broker is gone");
  const send: SendEntry = (entry) => (valueOf(entry) === 5 ? Promise.reject(refused) : Promise.resolve());
  t.is(await t.throwsAsync(drain(outbox, send, options())), refused);
  const left = (await outbox.next(100)).map(valueOf);
  t.true(left.includes(5));
  t.false(left.includes(4));
  const sent: number[] = [];
  await drain(outbox, (entry) => Promise.resolve(void sent.push(valueOf(entry))), options());
  t.deepEqual(sent, left);
  t.is(await outbox.count(), 0);
});

test("a store that does not remove ends the round with its error, once no more is on its way", async (t) => {
  const { outbox, backend } = await waiting(30);
  const failed = new Error("disk full");
  let outstanding = 0;
  backend.commit = () => Promise.reject(failed);
  const send: SendEntry = async () => {
    outstanding += 1;
    await new Promise((resolve) => setTimeout(resolve, 5));
    outstanding -= 1;
  };
  t.is(await t.throwsAsync(drain(outbox, send, options())), failed);
  t.is(outstanding, 0);
  t.is((await outbox.next(100)).length, 30);
});

test("a round ends though more and more comes, and one entry may be larger than all that may wait", async (t) => {
  const store = await waiting(60);
  const { outbox } = store;
  const device = await store.registrations.device("pi-1", NOW);
  const id = device?.registration?.id ?? "";
  let next = 61;
  const send: SendEntry = async () => {
    await report(store, id, next++);
    await report(store, id, next++);
  };
  t.is(await drain(outbox, send, options({ maxEntries: 50 })), 50);
  const records = Array.from({ length: 30 }, (_, n) => ({ name: `n-${n}`, value: n, timeSeconds: NOW / 1000 }));
  await store.registrations.report(id, undefined, { records, server: "a" }, NOW);
  let largest = 0;
  const count = await outbox.count();
  const sendAny: SendEntry = (entry) => Promise.resolve(void (largest = Math.max(largest, entry.records.length)));
  t.is(await drain(outbox, sendAny, options()), count);
  t.is(largest, 30);
});
