import { parseArgs } from "node:util";
import { Fleet } from "#sim/index.js";
import { FleetServer } from "./fleet-server.js";
import { Outcome, wait } from "./outcome.js";

/** Devices of node-dtls-client and coap-packet: all must register over PSK and report. */
const { values } = parseArgs({
  options: { devices: { type: "string", default: "50" }, seconds: { type: "string", default: "20" } },
});
const devices = Number(values.devices);
const outcome = new Outcome();
const server = await FleetServer.start();
const fleet = await Fleet.of(server.fleet(devices, { everyMs: 2000, stack: "third-party", startsPerSecond: 20 }));
fleet.start();
const startedAt = performance.now();
while (fleet.up < devices && performance.now() - startedAt < 30_000) await wait(50);
const { up } = fleet;
await wait(Number(values.seconds) * 1000);
await fleet.settle(5000);
const { counts, errors, latencyMs } = await fleet.stop();
const kept = await server.stop();
outcome.say("devices, reports, readings", `${devices}, ${counts.reports}, ${counts.readings}`);
outcome.say("latency p50, p99", `${latencyMs.p50}, ${latencyMs.p99} ms`);
outcome.expect("all are registered", up, up === devices);
outcome.expect("all report", counts.reports, counts.reports >= devices);
outcome.expect("errors", JSON.stringify(errors), counts.connectionsLost === 0);
// A registration brings what a report does; the model, one of it, is not counted in the store.
const each = counts.readings / counts.reports - 1;
const acknowledged = (counts.registrations + counts.reports) * each;
outcome.expect("acknowledged readings that the store lacks", acknowledged - kept, kept >= acknowledged);
outcome.end();
