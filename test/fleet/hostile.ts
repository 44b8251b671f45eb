import { parseArgs } from "node:util";
import { Fleet, type FleetReport } from "#sim/index.js";
import { FleetServer } from "./fleet-server.js";
import { median, Outcome, wait } from "./outcome.js";

/**
 * Honest devices, with hostile ones beside them and without, by turns: A B, B A, A B … against one server. What is compared is
 * the median latency of each pair of turns; its noise is what two turns without hostile ones differ by. Ends with status 1 where
 * an honest reading was lost, or the latency with hostile devices is further from that without than noise goes.
 */
const { values } = parseArgs({
  options: {
    honest: { type: "string", default: "100" },
    hostile: { type: "string", default: "50" },
    rounds: { type: "string", default: "6" },
    seconds: { type: "string", default: "10" },
  },
});
/** Student's t for an interval of 95 %, by degrees of freedom. */
const T_95 = [Number.NaN, 12.71, 4.3, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23];
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const honest = Number(values.honest);
const outcome = new Outcome();
const server = await FleetServer.start("memory");
let turns = 0;
let readings = 0;
let lost = 0;
let refused = 0;
let attacks = 0;
const found: Record<"alone" | "beside", number[]> = { alone: [], beside: [] };
const tails: Record<"alone" | "beside", number[]> = { alone: [], beside: [] };
for (let round = 0; round < rounds; round++) {
  for (const way of round % 2 === 0 ? (["alone", "beside"] as const) : (["beside", "alone"] as const)) {
    const { latencyMs } = await turn(way === "beside");
    found[way].push(latencyMs.p50 ?? Number.NaN);
    tails[way].push(latencyMs.p99 ?? Number.NaN);
  }
}
const kept = await server.stop();
const logRatios = found.beside.map((beside, index) => Math.log(beside / (found.alone[index] ?? Number.NaN)));
const mean = logRatios.reduce((sum, one) => sum + one, 0) / rounds;
const deviation = Math.sqrt(logRatios.reduce((sum, one) => sum + (one - mean) ** 2, 0) / Math.max(1, rounds - 1));
const interval = (T_95[rounds - 1] ?? 2) * (deviation / Math.sqrt(rounds));
const spread = Math.log(Math.max(...found.alone) / Math.min(...found.alone));

outcome.say("honest devices, hostile ones, turns", `${honest}, ${values.hostile}, ${turns} of ${seconds} s`);
outcome.say("hostile datagrams a second", Math.round(attacks / (rounds * seconds)));
outcome.say("median latency alone, by turns", found.alone.map((ms) => ms.toFixed(1)).join(" "));
outcome.say("median latency beside hostile ones", found.beside.map((ms) => ms.toFixed(1)).join(" "));
outcome.say("p99 alone, beside (medians of turns)", `${median(tails.alone)} ms, ${median(tails.beside)} ms`);
outcome.say(
  "ratio beside : alone, 95 % interval",
  `${Math.exp(mean).toFixed(3)} (${Math.exp(mean - interval).toFixed(3)} … ${Math.exp(mean + interval).toFixed(3)})`,
);
outcome.say("turns alone differ by", `${Math.exp(spread).toFixed(2)} times`);
outcome.expect("hostile devices were refused", refused, refused > 0);
outcome.expect("honest readings lost", lost + readings - kept, lost === 0 && readings === kept);
outcome.expect("the latency is within noise", `× ${Math.exp(mean).toFixed(3)}`, mean - interval <= 0 || mean <= spread);
outcome.end();

async function turn(hasHostile: boolean): Promise<FleetReport> {
  turns++;
  const devices = await Fleet.of(
    server.fleet(honest, { everyMs: 1000, endpointPrefix: `sim-${turns}-`, startsPerSecond: 200 }),
  );
  devices.start();
  while (devices.up < honest) await wait(50);
  const evil = hasHostile
    ? await Fleet.of(
        server.fleet(Number(values.hostile), {
          profile: "hostile",
          endpointPrefix: `evil-${turns}-`,
          psk: { identity: "fleet", key: "0123456789abcdef" },
          username: "alice",
          password: "secret",
          startsPerSecond: 1000,
        }),
      )
    : undefined;
  evil?.start();
  await wait(seconds * 1000);
  refused += evil?.figures.counts.refused ?? 0;
  attacks += evil?.figures.counts.attacks ?? 0;
  await evil?.stop();
  lost += await devices.settle(30_000);
  const report = await devices.stop();
  lost += report.counts.connectionsLost + report.counts.dropped;
  readings += report.counts.readings;
  return report;
}
