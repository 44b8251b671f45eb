import {
  BINDING_OPTION,
  BINDING_OPTION_FORMATS,
  DpeError,
  Registrations,
  type RegistrationRequest,
} from "#dpe/index.js";
import test from "ava";

const ALICE: RegistrationRequest = {
  endpoint: "pi-1",
  subscriber: "alice",
  lifetimeSeconds: 60,
  dpe2: { type: "association" },
  isQueueMode: false,
};

function registrations(limits = {}): Registrations {
  let next = 0;
  return new Registrations(() => `id${next++}`, limits);
}

function code(operation: () => unknown): string | undefined {
  try {
    operation();
    return undefined;
  } catch (error) {
    return error instanceof DpeError ? error.code : `not a DpeError: ${String(error)}`;
  }
}

test("an endpoint registers again in place of its own registration (invariant 1)", (t) => {
  const all = registrations();
  const first = all.register(ALICE, 0);
  const second = all.register(ALICE, 1000);
  t.is(first.replaced, undefined);
  t.is(second.replaced?.id, first.registration.id);
  t.not(second.registration.id, first.registration.id);
  t.deepEqual(
    all.list(1000).map((registration) => registration.id),
    [second.registration.id],
  );
  t.is(
    code(() => all.owned(first.registration.id, "alice", 1000)),
    "DPE_UNKNOWN_REGISTRATION",
  );
});

test("a name is its subscriber's until the registration ends (invariant 2)", (t) => {
  const all = registrations();
  const { registration } = all.register(ALICE, 0);
  const mallory = { ...ALICE, subscriber: "mallory" };
  t.is(
    code(() => all.register(mallory, 59_999)),
    "DPE_NAME_TAKEN",
  );
  t.is(
    code(() => all.register({ ...ALICE, subscriber: undefined }, 1)),
    "DPE_NAME_TAKEN",
  );
  for (const operation of [
    () => all.refresh(registration.id, "mallory", {}, 1),
    () => all.deregister(registration.id, "mallory", 1),
    () => all.heard(registration.id, undefined, 1),
  ]) {
    t.is(code(operation), "DPE_UNKNOWN_REGISTRATION");
  }
  t.is(all.register(mallory, 60_000).registration.subscriber, "mallory");
  t.is(all.size, 1);
});

test("an expired registration is never returned, swept or not (invariant 3)", (t) => {
  const all = registrations();
  const { registration } = all.register(ALICE, 0);
  t.is(all.ofEndpoint("pi-1", 59_999)?.id, registration.id);
  t.is(all.ofEndpoint("pi-1", 60_000), undefined);
  t.deepEqual(all.list(60_000), []);
  t.is(
    code(() => all.refresh(registration.id, "alice", {}, 60_000)),
    "DPE_UNKNOWN_REGISTRATION",
  );
  t.deepEqual(
    all.sweep(60_000).map(({ id }) => id),
    [registration.id],
  );
  t.is(all.size, 0);
});

test("a refresh keeps the lifetime, or takes a new one and a new DPE-2 address", (t) => {
  const all = registrations();
  const { registration } = all.register(ALICE, 0);
  t.is(all.refresh(registration.id, "alice", {}, 30_000).expiresAt, 90_000);
  const uri = "coap://192.0.2.1:5690";
  const changed = all.refresh(registration.id, "alice", { lifetimeSeconds: 10, dpe2: { type: "uri", uri } }, 40_000);
  t.is(changed.expiresAt, 50_000);
  t.deepEqual(all.ofEndpoint("pi-1", 40_001)?.dpe2, { type: "uri", uri });
  t.is(all.heard(registration.id, "alice", 45_000).expiresAt, 50_000);
  t.is(all.ofEndpoint("pi-1", 45_001)?.lastHeardAt, 45_000);
  t.is(all.deregister(registration.id, "alice", 46_000).endpoint, "pi-1");
  t.is(all.ofEndpoint("pi-1", 46_001), undefined);
});

test("at the limit new names are refused, known ones go on, and expired ones make room (invariant 4)", (t) => {
  const all = registrations({ maxRegistrations: 2 });
  all.register(ALICE, 0);
  all.register({ ...ALICE, endpoint: "pi-2", lifetimeSeconds: 600 }, 0);
  const third = { ...ALICE, endpoint: "pi-3" };
  t.is(
    code(() => all.register(third, 1)),
    "DPE_TOO_MANY_REGISTRATIONS",
  );
  t.is(
    code(() => all.register(ALICE, 1)),
    undefined,
  );
  t.is(all.register(third, 60_001).registration.endpoint, "pi-3");
});

test("bad names and lifetimes are refused by code", (t) => {
  const all = registrations();
  for (const endpoint of ["", "a b", "-x", "é", "a/b", "x".repeat(64), "a\n"]) {
    t.is(
      code(() => all.register({ ...ALICE, endpoint }, 0)),
      "DPE_BAD_ENDPOINT_NAME",
      JSON.stringify(endpoint),
    );
  }
  for (const lifetimeSeconds of [0, 9, Number.NaN, -1, 1e9]) {
    t.is(
      code(() => all.register({ ...ALICE, lifetimeSeconds }, 0)),
      "DPE_LIFETIME_OUT_OF_RANGE",
    );
  }
  t.is(all.size, 0);
});

test("every option of the binding has a format, and only elective ones go in responses", (t) => {
  t.deepEqual(
    BINDING_OPTION_FORMATS.map(({ number }) => number).toSorted((a, b) => a - b),
    Object.values(BINDING_OPTION).toSorted((a, b) => a - b),
  );
  const { DigestChallenge, DigestProof, DigestInfo, AuthError, SecurityRequired } = BINDING_OPTION;
  for (const number of [DigestChallenge, DigestProof, DigestInfo, AuthError, SecurityRequired]) t.is(number % 2, 0);
});
