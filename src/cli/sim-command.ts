import { writeFileSync } from "node:fs";
import { messageOf } from "#errors/index.js";
import { resolveHost, formatAddress } from "#net/index.js";
import {
  Fleet,
  type FleetReport,
  type FleetSample,
  htmlReport,
  parseExpectation,
  parseLinkChange,
  parseLinkConditions,
  PROFILE_NAMES,
  type ProfileName,
  UdpLink,
} from "#sim/index.js";
import { coapUri, duration, hostPort, type HostPort } from "#config/index.js";
import type { z } from "zod";
import { pause } from "#waiting/index.js";
import { type Command, misuse, parseWords } from "./command.js";
import { UsageError } from "./exit.js";
import { untilSignal } from "./signals.js";

/** `dpe sim`: a fleet of simulated devices, or a bad network between devices and a server. */
export const simCommand: Command = {
  name: "sim",
  synopsis: "--server URI [--devices N] [OPTION]…",
  summary: "a fleet of simulated devices; sim link: a bad network before a server",
  help: `  --devices N         how many, 10
  --profile P         pi, battery-sensor, gateway, or hostile
  --stack S           dpe-coap, or third-party: node-dtls-client and coap-packet, by PSK
  --user NAME:PASS    Digest; PASS may be env:NAME
  --psk IDENTITY:KEY  of the connection; KEY is text, hex:… or env:NAME
  --ca FILE           trust anchors for the server's certificate, where there is no PSK; without it any is taken
  --every T           between readings, such as 10s; default: the profile's
  --duration T        then end; default: until Ctrl-C
  --rate N            devices started a second, 100
  --prefix P          endpoint names are P1, P2 …; sim-
  --seed N            of what the devices read, 1
  --expect NAME=N     what must have come true for exit code 0: lost=0, reports>=1000, p99<=200 …; repeatable
  --json FILE --html FILE   the report

dpe sim link --to HOST:PORT
  --listen HOST:PORT  where devices send to; 127.0.0.1 and any port
  --conditions C      loss=0.2,duplication=0.1,corruption=0.01,reordering=0.1,delay=50,jitter=20,mtu=1280
  --at T:C            a change after the time T: 10s:loss=0.5 or 1m:rebind or 2m:cut or 3m:restored; repeatable
  --seed N            of what the link does, 1`,
  example:
    "dpe sim --server coaps://127.0.0.1:5684 --devices 200 --user alice:env:ALICE --psk fleet:env:FLEET_KEY\n" +
    "dpe sim link --to 127.0.0.1:5684 --listen 127.0.0.1:5690 --conditions loss=0.2,delay=50",
  run: (words) => (words[0] === "link" ? runLink(words.slice(1)) : runFleet(words)),
};

async function runFleet(words: readonly string[]): Promise<void> {
  const { values } = parseWords(simCommand, words, {
    server: { type: "string" },
    devices: { type: "string", default: "10" },
    profile: { type: "string", default: "pi" },
    stack: { type: "string", default: "dpe-coap" },
    user: { type: "string" },
    psk: { type: "string" },
    ca: { type: "string" },
    every: { type: "string" },
    duration: { type: "string" },
    rate: { type: "string", default: "100" },
    prefix: { type: "string", default: "sim-" },
    seed: { type: "string", default: "1" },
    expect: { type: "string", multiple: true, default: [] },
    json: { type: "string" },
    html: { type: "string" },
  });
  if (values.server === undefined) throw misuse(simCommand, "--server URI is missing");
  const { scheme, host, port } = checked("--server", coapUri(), values.server);
  const profile = [...PROFILE_NAMES, "hostile" as const].find((name) => name === values.profile);
  if (profile === undefined)
    throw new UsageError(`--profile: ${values.profile} is none of ${[...PROFILE_NAMES, "hostile"].join(", ")}`);
  const stack = (["dpe-coap", "third-party"] as const).find((name) => name === values.stack);
  if (stack === undefined) throw new UsageError(`--stack: ${values.stack} is neither dpe-coap nor third-party`);
  const psk = pairOf("--psk", values.psk);
  if (stack === "third-party" && (psk === undefined || scheme !== "coaps"))
    throw new UsageError("--stack third-party knows PSK only: it needs --psk and a coaps server");
  if (stack === "third-party" && profile !== "pi" && profile !== "battery-sensor")
    throw new UsageError(
      `--stack third-party has no block-wise transfers: it can be pi or battery-sensor, not ${profile}`,
    );
  const user = pairOf("--user", values.user);
  const expectations = values.expect.map((text) => attempt("--expect", () => parseExpectation(text)));
  const durationMs = values.duration === undefined ? undefined : checked("--duration", TIMED, values.duration);
  const fleet = await Fleet.of({
    scheme: scheme === "coap" ? "coap" : "coaps",
    host,
    port,
    devices: count("--devices", values.devices, 100_000),
    profile: profile as ProfileName | "hostile",
    stack,
    endpointPrefix: values.prefix,
    username: user?.[0],
    password: user?.[1],
    psk: psk === undefined ? undefined : { identity: psk[0], key: psk[1] },
    ca: values.ca,
    everyMs: values.every === undefined ? undefined : checked("--every", TIMED, values.every),
    startsPerSecond: count("--rate", values.rate, 100_000),
    seed: count("--seed", values.seed, 2 ** 31, 0),
  });

  fleet.start((sample) => show(fleet, sample));
  await Promise.race([untilSignal(), ...(durationMs === undefined ? [] : [pause(durationMs)])]);
  const unsent = await fleet.settle(SETTLE_MS);
  const report = await fleet.stop();
  if (process.stdout.isTTY) process.stdout.write("\n");
  process.stdout.write(summary(report, unsent));
  const title = `${fleet.size} ${profile} devices at ${values.server}`;
  if (values.json !== undefined)
    writeFileSync(values.json, `${JSON.stringify({ title, unsent, ...report }, null, 2)}\n`);
  if (values.html !== undefined) writeFileSync(values.html, htmlReport(title, report));
  if (expectations.length === 0 && profile !== "hostile" && report.counts.registrations === 0)
    throw new Error(`no device was registered; most often: ${fleet.figures.mostFrequentError ?? "no answer"}`);
  const faults = expectations.flatMap((expectation) => expectation.faultIn(report, unsent) ?? []);
  if (faults.length > 0) throw new Error(faults.join("; "));
}

/** On a terminal one line that is written over; elsewhere a line every five seconds. */
function show(fleet: Fleet, { seconds, devicesUp, reports, errors }: FleetSample): void {
  const { counts } = fleet.figures;
  const [p50, p99] = [0.5, 0.99].map((share) => fleet.figures.latencyMs(share)?.toFixed(1) ?? "–");
  const done = Math.round((BAR_LENGTH * devicesUp) / fleet.size);
  const bar = `${"█".repeat(done)}${"░".repeat(BAR_LENGTH - done)}`;
  const text =
    `${String(seconds).padStart(4)} s  ${bar} ${devicesUp}/${fleet.size} up  ${reports} reports/s  ` +
    `${counts.reports} in all  p50 ${p50} ms  p99 ${p99} ms  ` +
    `${errors} errors/s${errors === 0 ? "" : ` (most often ${fleet.figures.mostFrequentError ?? ""})`}`;
  // A longer line would wrap, and could not be written over.
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${text.slice(0, (process.stdout.columns || 80) - 1)}`);
  else if (seconds % 5 === 0) process.stdout.write(`${text}\n`);
}

function summary({ counts, errors, latencyMs, seconds }: FleetReport, unsent: number): string {
  const ms = (value: number | null): string => (value === null ? "–" : `${value} ms`);
  const rows = [
    ["seconds", seconds.toFixed(1)],
    ["registrations", counts.registrations],
    [
      "reports acknowledged",
      `${counts.reports} (${(counts.reports / seconds).toFixed(1)}/s), ${counts.readings} readings`,
    ],
    [
      "latency",
      `p50 ${ms(latencyMs.p50)}, p90 ${ms(latencyMs.p90)}, p99 ${ms(latencyMs.p99)}, max ${ms(latencyMs.max)}`,
    ],
    ["DPE-2 requests answered", counts.queries],
    ["connections lost", counts.connectionsLost],
    ["refused", counts.refused],
    ["hostile datagrams", counts.attacks],
    ["readings dropped, unsent", `${counts.dropped}, ${unsent}`],
    ...Object.entries(errors).map(([name, number]) => [`  ${name}`, number]),
  ];
  return rows.map(([name, value]) => `${String(name).padEnd(26)} ${String(value)}\n`).join("");
}

async function runLink(words: readonly string[]): Promise<void> {
  const { values } = parseWords(simCommand, words, {
    listen: { type: "string", default: "127.0.0.1:0" },
    to: { type: "string" },
    conditions: { type: "string", default: "" },
    at: { type: "string", multiple: true, default: [] },
    seed: { type: "string", default: "1" },
  });
  if (values.to === undefined)
    throw new UsageError("dpe sim link: --to HOST:PORT is missing\nusage: dpe sim link --to HOST:PORT [OPTION]…");
  const to = addressOf("--to", values.to);
  const link = await UdpLink.open({
    listen: addressOf("--listen", values.listen),
    to: { address: await resolveHost(to.host), port: to.port },
    conditions: attempt("--conditions", () => parseLinkConditions(values.conditions)),
    schedule: values.at.map((text) => attempt("--at", () => parseLinkChange(text))),
    seed: count("--seed", values.seed, 2 ** 31, 0),
  });
  process.stdout.write(`devices reach ${values.to} at ${formatAddress(link.address)}; end it with Ctrl-C\n`);
  await untilSignal();
  await link.close();
  process.stdout.write(`${JSON.stringify(link.counters)}\n`);
}

/** What a block of the configuration makes of a word of the command line. */
function checked<T>(option: string, block: z.ZodType<T, unknown>, text: string): T {
  const result = block.safeParse(text);
  if (result.success) return result.data;
  throw new UsageError(`${option}: ${text}: ${result.error.issues.map(({ message }) => message).join("; ")}`);
}

function addressOf(option: string, text: string): HostPort {
  const result = hostPort().safeParse(text);
  if (result.success) return result.data;
  throw new UsageError(`${option}: ${text}: expected HOST:PORT (an IPv6 address in brackets)`);
}

function attempt<T>(option: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageError(`${option}: ${messageOf(error)}`);
  }
}

function pairOf(option: string, text: string | undefined): readonly [string, string] | undefined {
  if (text === undefined) return undefined;
  const at = text.indexOf(":");
  if (at < 1 || at === text.length - 1) throw new UsageError(`${option} is two words with a colon between`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function count(option: string, text: string, most: number, least = 1): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${option}: a whole number from ${least} to ${most} is expected, not ${text}`);
}

/** Timers of Node.js end at 24.8 days, and a longer one at once. */
const TIMED = duration({ minMs: 1000, maxMs: 24 * 86_400_000 });
const BAR_LENGTH = 20;
/** What was read last gets that time to be acknowledged, before it counts as lost. */
const SETTLE_MS = 10_000;
