import { readFileSync } from "node:fs";
import { modelTable, PARAMETERS, recovery } from "../fleet/fleet-model.js";
import { wireTable } from "../fleet/wire-bytes.js";
import test from "ava";

const document = (name: string): string => readFileSync(new URL(`../../../docs/${name}`, import.meta.url), "utf8");

test("docs/bytes-on-the-wire.md is what an agent and a server send", async (t) => {
  t.true(document("bytes-on-the-wire.md").includes(await wireTable()), "scripts/fleet wire prints it");
});

test("docs/fleet-model.md is what scripts/fleet-model computes", (t) => {
  t.true(document("fleet-model.md").includes(modelTable()), "scripts/fleet-model prints it");
});

test("in the model nobody stays away, and less room means later and with more given up", (t) => {
  const parameters = { ...PARAMETERS, devices: 50_000 };
  const runs = [500, 50, 12].map((perSecond) => recovery(parameters, perSecond, 7));
  for (const { halfAt, mostAt, allAt } of runs) t.true(halfAt <= mostAt && mostAt <= allAt && allAt < 36_000);
  const [wide, narrow, narrowest] = runs;
  t.true((wide?.allAt ?? 0) < (narrow?.allAt ?? 0) && (narrow?.allAt ?? 0) < (narrowest?.allAt ?? 0));
  t.true((wide?.givenUp ?? 0) <= (narrow?.givenUp ?? 0) && (narrow?.givenUp ?? 0) < (narrowest?.givenUp ?? 0));
  // No fewer seconds than the work takes.
  t.true((narrowest?.allAt ?? 0) >= (parameters.devices * parameters.regionShare) / 12 - 1);
  t.deepEqual(recovery(parameters, 50, 7), recovery(parameters, 50, 7));
});
