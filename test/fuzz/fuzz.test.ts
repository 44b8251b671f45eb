import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import test from "ava";
import fc from "fast-check";
import { codecTarget, endpointTarget, senmlTarget } from "./coap-targets.js";
import { associationTarget, gateTarget, messageTarget } from "./dtls-targets.js";
import { pathTarget } from "./path-target.js";
import type { FuzzTarget } from "./target.js";

/*
 * Each target from its saved corpus, and then from plans by chance: here for a moment from a seed, by `scripts/fuzz` for
 * minutes from a seed that is printed. DPE_FUZZ_SECONDS: for each target. DPE_FUZZ_SAVE=1: plans with an outcome that was
 * not seen before are added to the corpus.
 */
const CORPUS = fileURLToPath(new URL("../../../test/vectors/fuzz-corpus.ndjson", import.meta.url));
const seconds = Number(process.env["DPE_FUZZ_SECONDS"] ?? "0");
const seed = Number(process.env["DPE_FUZZ_SEED"] ?? (seconds > 0 ? Date.now() % 0x7fffffff : 1));
const isSaving = process.env["DPE_FUZZ_SAVE"] === "1";
/** The plans of the corpus by target; one a line in the file. */
const corpus = new Map<string, unknown[]>();
for (const line of existsSync(CORPUS) ? readFileSync(CORPUS, "utf8").trimEnd().split("\n") : []) {
  const { target, plan } = JSON.parse(line) as { readonly target: string; readonly plan: unknown };
  corpus.set(target, [...(corpus.get(target) ?? []), plan]);
}

/** What is kept for each target: enough for every outcome but the rarest combinations. */
const MAX_CORPUS_PLANS = 60;

function fuzz<Plan>(target: FuzzTarget<Plan>, runs: number): void {
  test.serial(`${target.name}: the corpus, and plans by chance, break no invariant`, (t) => {
    t.timeout((seconds + 60) * 1000);
    const known = (corpus.get(target.name) ?? []) as Plan[];
    const outcomes = new Set(known.map((plan) => target.run(plan)));
    t.true(isSaving || known.length > 0, "there is no corpus");
    let executions = known.length;
    const property = fc.property(target.plans, (plan) => {
      executions++;
      const outcome = target.run(plan);
      if (!isSaving || outcomes.has(outcome) || known.length >= MAX_CORPUS_PLANS) return;
      outcomes.add(outcome);
      known.push(plan);
    });
    const limit = seconds > 0 ? { numRuns: 1e9, interruptAfterTimeLimit: seconds * 1000 } : { numRuns: runs };
    fc.assert(property, { seed, ...limit, markInterruptAsFailure: false, includeErrorInReport: true });
    if (seconds > 0) t.log(`${executions} executions, seed ${seed}`);
    corpus.set(target.name, known);
  });
}

fuzz(associationTarget, 150);
fuzz(pathTarget, 300);
fuzz(gateTarget, 1000);
fuzz(messageTarget, 5000);
fuzz(codecTarget, 5000);
fuzz(endpointTarget, 1000);
fuzz(senmlTarget, 3000);

if (isSaving) {
  test.after("the corpus is saved", () => {
    const lines = [...corpus].flatMap(([target, plans]) => plans.map((plan) => JSON.stringify({ target, plan })));
    writeFileSync(CORPUS, `${lines.join("\n")}\n`);
  });
}
