import test from "ava";
import fc from "fast-check";
import { NONCE_COUNT_WINDOW, NonceKeeper, type NonceKeeperOptions, type NonceVerdict } from "#digest/index.js";
import { NonceCountWindow } from "#digest/nonce-count-window.js";

const KEY = new Uint8Array(32).fill(7);

function seededRandom(seed: number): (size: number) => Uint8Array {
  let state = seed;
  return (size) =>
    Uint8Array.from({ length: size }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state >>> 24;
    });
}

function createKeeper(options: Partial<NonceKeeperOptions> = {}, seed = 1): NonceKeeper {
  return new NonceKeeper({ key: KEY, random: seededRandom(seed), lifetimeMs: 1000, ...options });
}

const describe = (verdict: NonceVerdict): string =>
  verdict.type === "stale" ? `stale: ${verdict.cause}` : verdict.type;

test("a nonce is valid to the end of its lifetime, and stale after it", (t) => {
  const keeper = createKeeper();
  const nonce = keeper.issue(5000.7);
  t.deepEqual(keeper.judge(nonce, 5000.7), { type: "valid", needsRenewal: false });
  t.deepEqual(keeper.judge(nonce, 5500), { type: "valid", needsRenewal: true });
  t.is(describe(keeper.judge(nonce, 6000)), "valid");
  t.is(describe(keeper.judge(nonce, 6001)), "stale: expired");
});

test("keys rotate, and a nonce of the key before is good to the end of its lifetime", (t) => {
  const keeper = createKeeper({ rotateAfterMs: 5000 });
  const association = Uint8Array.of(1);
  const first = keeper.issue(0, association);
  const old = keeper.issue(4900, association);
  const fresh = keeper.issue(5000, association);
  t.is(describe(keeper.judge(old, 5100, association)), "valid");
  t.is(describe(keeper.judge(fresh, 5100, association)), "valid");
  t.is(describe(keeper.judge(old, 5100, Uint8Array.of(2))), "stale: association");
  t.is(describe(keeper.judge(first, 5100, association)), "stale: expired");
  keeper.issue(10_000, association);
  t.not(describe(keeper.judge(old, 5100, association)), "valid", "the key before the last is forgotten");
  t.throws(() => createKeeper({ rotateAfterMs: 10 }), { code: "DIGEST_BAD_OPTION" });
});

test("a nonce from the future of the clock is stale, not valid for ever", (t) => {
  const keeper = createKeeper();
  t.is(describe(keeper.judge(keeper.issue(9000), 8000)), "stale: expired");
});

test("a nonce from before a restart is stale, whether the key outlived the restart or not", (t) => {
  const nonce = createKeeper({}, 1).issue(10);
  t.is(describe(createKeeper({}, 2).judge(nonce, 10)), "stale: epoch");
  t.is(describe(createKeeper({ key: new Uint8Array(32).fill(8) }, 2).judge(nonce, 10)), "stale: epoch");
});

test("a nonce is good on its own association only, and stale on another or on none", (t) => {
  const keeper = createKeeper();
  const [one, other] = [Uint8Array.of(1), Uint8Array.of(2)];
  const bound = keeper.issue(0, one);
  t.is(describe(keeper.judge(bound, 0, one)), "valid");
  t.is(describe(keeper.judge(bound, 0, other)), "stale: association");
  t.is(describe(keeper.judge(bound, 0)), "stale: association");
  t.is(describe(keeper.judge(keeper.issue(0), 0, one)), "stale: association");
});

test("no other bytes than an issued nonce are valid, and bytes never throw", (t) => {
  const keeper = createKeeper();
  const nonce = keeper.issue(0);
  for (let bit = 0; bit < nonce.length * 8; bit += 1) {
    const changed = nonce.slice();
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    t.not(keeper.judge(changed, 0).type, "valid", `bit ${bit}`);
  }
  const issuedMsChanged = nonce.slice();
  issuedMsChanged[11] = 1;
  t.is(describe(keeper.judge(issuedMsChanged, 1)), "forged");
  t.is(describe(createKeeper({ key: new Uint8Array(32).fill(8) }).judge(nonce, 0)), "forged");
  t.notThrows(() =>
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => keeper.judge(bytes, 0).type !== "valid")),
  );
});

test("N1: issuing and judging keep nothing; state begins with the first accepted count", (t) => {
  const keeper = createKeeper();
  for (let index = 0; index < 1000; index += 1) keeper.judge(keeper.issue(0), 0);
  t.is(keeper.size, 0);
  t.is(keeper.accept(keeper.issue(0), 1, 0), "fresh");
  t.is(keeper.size, 1);
});

test("nonces issued in the same millisecond differ and count apart", (t) => {
  const keeper = createKeeper();
  const [one, other] = [keeper.issue(0), keeper.issue(0)];
  t.notDeepEqual(one, other);
  t.is(keeper.accept(one, 1, 0), "fresh");
  t.is(keeper.accept(other, 1, 0), "fresh");
  t.is(keeper.accept(one, 1, 0), "replayed");
});

test("a nonce count out of range is never fresh", (t) => {
  const keeper = createKeeper();
  const nonce = keeper.issue(0);
  for (const count of [0, -1, 1.5, 2 ** 32, Number.NaN]) t.is(keeper.accept(nonce, count, 0), "replayed");
  t.is(keeper.accept(nonce, 0xffff_ffff, 0), "fresh");
});

test("the window takes counts within 64 of the highest in any order, each once, and none below", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 0xffff_ffff }))),
        (counts) => {
          const window = new NonceCountWindow();
          const seen = new Set<number>();
          let highest = 0;
          return counts.every((count) => {
            const expected = !seen.has(count) && count > highest - NONCE_COUNT_WINDOW;
            seen.add(count);
            highest = Math.max(highest, count);
            return window.accept(count) === expected;
          });
        },
      ),
    ),
  );
});

test("the window's lower edge: 63 below the highest passes, 64 below does not", (t) => {
  const window = new NonceCountWindow();
  t.true(window.accept(65));
  t.false(window.accept(1));
  t.true(window.accept(2));
  t.true(window.accept(66));
  t.false(window.accept(2));
});

test("N2, N3: under a bound no count passes twice, whatever the order of issue, use and eviction", (t) => {
  const step = fc.record({ nonce: fc.nat(30), count: fc.integer({ min: 1, max: 5 }), waitMs: fc.nat(60) });
  t.notThrows(() =>
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 120 }), (maxNonces, steps) => {
        const keeper = createKeeper({ maxNonces });
        const nonces: Uint8Array[] = [];
        const passed = new Set<string>();
        let now = 0;
        return steps.every(({ nonce: choice, count, waitMs }) => {
          now += waitMs;
          const fresh = choice % 3 === 0 ? undefined : nonces[choice % Math.max(1, nonces.length)];
          const nonce = fresh ?? keeper.issue(now);
          if (fresh === undefined) nonces.push(nonce);
          if (keeper.judge(nonce, now).type !== "valid") return fresh !== undefined;
          if (keeper.accept(nonce, count, now) !== "fresh") return true;
          const name = `${nonces.indexOf(nonce)} ${count}`;
          const isFirst = !passed.has(name);
          passed.add(name);
          return isFirst && keeper.size <= maxNonces;
        });
      }),
    ),
  );
});

test("N4: an evicted nonce is stale, and a nonce issued now is valid in the very same millisecond", (t) => {
  const keeper = createKeeper({ maxNonces: 2 });
  const neverAnswered = keeper.issue(0);
  const nonces = [keeper.issue(0), keeper.issue(0), keeper.issue(0)];
  for (const nonce of nonces) t.is(keeper.accept(nonce, 1, 0), "fresh");
  t.deepEqual(
    [neverAnswered, ...nonces, keeper.issue(0)].map((nonce) => describe(keeper.judge(nonce, 0))),
    ["stale: forgotten", "stale: forgotten", "valid", "valid", "valid"],
  );
});

test("N3: a nonce below the watermark that still has state stays valid, and its counts stay used", (t) => {
  const keeper = createKeeper({ maxNonces: 2 });
  const [older, newer, newest] = [keeper.issue(0), keeper.issue(0), keeper.issue(0)];
  for (const nonce of [newer, older, newest]) keeper.accept(nonce, 1, 0);
  t.is(describe(keeper.judge(newer, 0)), "stale: forgotten");
  t.is(describe(keeper.judge(older, 0)), "valid");
  t.is(keeper.accept(older, 1, 0), "replayed");
  t.is(keeper.accept(older, 2, 0), "fresh");
});

test("expired states make room before any that still counts", (t) => {
  const keeper = createKeeper({ maxNonces: 3 });
  for (let index = 0; index < 3; index += 1) keeper.accept(keeper.issue(0), 1, 0);
  keeper.accept(keeper.issue(2000), 1, 2000);
  t.is(keeper.size, 1);
});

test("options out of range are refused by code", (t) => {
  const refused: readonly Partial<NonceKeeperOptions>[] = [
    { key: new Uint8Array(31) },
    { lifetimeMs: 0 },
    { renewAfterMs: -1 },
    { maxNonces: 0 },
    { maxNonces: 1.5 },
  ];
  for (const options of refused)
    t.like(
      t.throws(() => createKeeper(options)),
      { code: "DIGEST_BAD_OPTION" },
    );
});
