import { parseArgs } from "node:util";
import { DtlsSession, UdpSocket } from "#net/index.js";
import { Fleet } from "#sim/index.js";
import { FastClock } from "./fast-clock.js";
import { FleetServer } from "./fleet-server.js";
import { megabytes, Outcome, wait } from "./outcome.js";

/**
 * Every device loses the network, for an hour of its clock, and all have it back at the same moment. Devices are agents with
 * sockets of their own. While nothing comes through, the clock of their process goes `--pace` times as fast: each goes through
 * what an hour does to it (reports that time out, handshakes that fail, the back-off at its longest, a queue that grows, a
 * registration that expires). From the moment that the network is back it goes at `--recovery-pace`, 1 where nothing else is
 * said, so that what the server is then asked for is what it would be asked for. The server's clock is left alone.
 *
 * `--by association`: associations go on, as with connection identifiers. Else what was sent on before is heard nowhere any
 * more, as without them behind a NAT that forgot: `resumption` makes new ones by sessions, `handshake` in full.
 */
const { values } = parseArgs({
  options: {
    devices: { type: "string", default: "5000" },
    outage: { type: "string", default: "3600" },
    pace: { type: "string", default: "30" },
    "recovery-pace": { type: "string", default: "1" },
    every: { type: "string", default: "300" },
    by: { type: "string", default: "all" },
    within: { type: "string", default: "240" },
  },
});
const devices = Number(values.devices);
const outcome = new Outcome();
const clock = new FastClock();
clock.install();

let isCut = false;
/** Sockets that were used before the network was lost. */
const used = new Set<UdpSocket>();
let areUsedHeard = true;
const send = Object.getOwnPropertyDescriptor(UdpSocket.prototype, "send")?.value as UdpSocket["send"];
UdpSocket.prototype.send = function cuttable(this: UdpSocket, ...given) {
  if (isCut || (!areUsedHeard && used.has(this))) return;
  if (areUsedHeard) used.add(this);
  send.apply(this, given);
};

let mayResume = true;
let resumed = 0;
const seen = new WeakSet<DtlsSession>();
const pump = Object.getOwnPropertyDescriptor(DtlsSession.prototype, "pump")?.value as DtlsSession["pump"];
DtlsSession.prototype.pump = function watched(this: DtlsSession, ...given) {
  pump.apply(this, given);
  if (!mayResume) this.resumption = undefined;
  if (this.state !== "connected" || seen.has(this)) return;
  seen.add(this);
  if (this.peer?.isResumed === true) resumed++;
};

outcome.say("devices, seconds without network", `${devices}, ${values.outage}`);
for (const by of values.by === "all" ? ["association", "resumption", "handshake"] : [values.by]) await run(by);
outcome.end();

async function run(by: string): Promise<void> {
  mayResume = by === "resumption";
  areUsedHeard = true;
  used.clear();
  const server = await FleetServer.start();
  const { figures, ...fleet } = await started(server);
  const { counts } = figures;
  const before = { ...counts };
  const resumedBefore = resumed;
  isCut = true;
  clock.pace = Number(values.pace);
  await wait(Number(values.outage) * 1000);
  outcome.say("", `— by ${by} —`);
  outcome.expect("nobody is registered at its end", fleet.fleet.up, fleet.fleet.up === 0);
  const waiting = fleet.fleet.unsent;

  clock.pace = Number(values["recovery-pace"]);
  const { cpuSeconds } = await server.usage();
  const ownCpu = process.cpuUsage();
  areUsedHeard = by === "association";
  isCut = false;
  const backAt = clock.now();
  const seconds = (): number => (clock.now() - backAt) / 1000;
  /** How many came back in a second, from second to second; this process may be too busy to count each on time. */
  const perSecond: number[] = [];
  const at: Record<"half" | "most" | "all" | "sent", number | undefined> = {
    half: undefined,
    most: undefined,
    all: undefined,
    sent: undefined,
  };
  for (let last = 0, lastAt = 0; seconds() < Number(values.within) && at.sent === undefined;) {
    await wait(100);
    const { up, unsent } = fleet.fleet;
    if (up >= 0.5 * devices) at.half ??= seconds();
    if (up >= 0.99 * devices) at.most ??= seconds();
    if (up === devices) at.all ??= seconds();
    if (at.all !== undefined && unsent < devices) at.sent ??= seconds();
    const countedAt = seconds();
    if (countedAt - lastAt >= 1) {
      perSecond.push(Math.round((up - last) / (countedAt - lastAt)));
      [last, lastAt] = [up, countedAt];
    }
  }
  const usage = await server.usage();
  const { user, system } = process.cpuUsage(ownCpu);
  const registered = counts.registrations - before.registrations;
  const shortened = resumed - resumedBefore;
  const peak = Math.max(...perSecond);
  const shown = (value: number | undefined): string => (value === undefined ? "not reached" : `${value.toFixed(1)} s`);
  outcome.say("readings that waited", waiting);
  outcome.say("half, 99 %, all are back after", `${shown(at.half)}, ${shown(at.most)}, ${shown(at.all)}`);
  outcome.say("what had waited is acknowledged after", shown(at.sent));
  outcome.say("of them in the busiest second", `${peak} of ${devices}`);
  outcome.say("processor of the server until then", `${(usage.cpuSeconds - cpuSeconds).toFixed(1)} s`);
  outcome.say("that of all devices", `${((user + system) / 1e6).toFixed(1)} s`);
  outcome.say("its anonymous memory then", megabytes(usage.anonymousBytes));
  outcome.say("registrations, of them resumed", `${registered}, ${shortened}`);
  const unsent = await fleet.fleet.settle(60_000);
  const report = await fleet.fleet.stop();
  const kept = await server.stop();
  outcome.expect(`all are back within ${values.within} s`, shown(at.all), at.all !== undefined);
  outcome.expect("no second has more than a fifth of them", peak, peak <= Math.max(devices / 5, 20));
  outcome.expect("readings unsent or dropped", unsent + counts.dropped, unsent + counts.dropped === 0);
  outcome.expect(
    "acknowledged readings that the store lacks",
    report.counts.readings - kept,
    report.counts.readings <= kept,
  );
  const left = counts.connectionsLost - before.connectionsLost;
  if (by === "association") outcome.expect("associations that did not go on", left, left === 0);
  else outcome.expect("associations that were made anew", left, left >= devices);
  if (by !== "association") {
    const isAsAsked = by === "resumption" ? shortened >= 0.95 * devices : shortened === 0;
    outcome.expect(`handshakes were ${by === "resumption" ? "shortened" : "full"}`, shortened, isAsAsked);
  }
}

async function started(server: FleetServer): Promise<{ fleet: Fleet; figures: Fleet["figures"] }> {
  const fleet = await Fleet.of(server.fleet(devices, { everyMs: Number(values.every) * 1000, startsPerSecond: 200 }));
  fleet.start();
  while (fleet.up < devices || fleet.unsent > 0) await wait(200);
  return { fleet, figures: fleet.figures };
}
