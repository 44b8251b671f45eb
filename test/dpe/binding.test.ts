import { BINDING_OPTION, BINDING_OPTION_FORMATS } from "#dpe/index.js";
import test from "ava";

test("every option of the binding has a format, and only elective ones go in responses", (t) => {
  t.deepEqual(
    BINDING_OPTION_FORMATS.map(({ number }) => number).toSorted((a, b) => a - b),
    Object.values(BINDING_OPTION).toSorted((a, b) => a - b),
  );
  const { DigestChallenge, DigestProof, DigestInfo, AuthError, SecurityRequired } = BINDING_OPTION;
  for (const number of [DigestChallenge, DigestProof, DigestInfo, AuthError, SecurityRequired]) t.is(number % 2, 0);
});
