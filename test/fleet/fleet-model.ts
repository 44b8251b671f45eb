/** What the model is fed with. Costs are measured on one core of the machine that the README names, or said to be assumed. */
export const PARAMETERS: Parameters = {
  devices: 10_000_000,
  /** Seconds between the reports of a device. */
  reportEverySeconds: 900,
  /** A registration is refreshed at half of it. */
  lifetimeSeconds: 86_400,
  /** Of the devices, in the region that loses its network. */
  regionShare: 0.1,
  outageSeconds: 3600,
  /** Of a core, to leave room for what is not steady. */
  utilisation: 0.5,
  /** README, "full PSK handshakes"; one by resumption is taken to cost the same, which is more than it does. */
  handshakesPerCpuSecond: 1869,
  /** README, "full ECDHE-ECDSA P-256 handshakes, certificates of both". */
  certificateHandshakesPerCpuSecond: 464,
  /** `scripts/fleet soak`: 9 % of a core at 85 reports a second, what reads its metrics each second included. */
  reportCpuSeconds: 0.09 / 85,
  /** README, "an idle PSK association: resident bytes". */
  associationBytes: 16_239,
  /** The default of `maxSessions`, of a process. */
  sessionsPerProcess: 100_000,
  /** docs/bytes-on-the-wire.md: a report of one property and its answer, UDP payload; and IPv4 and UDP headers of the two. */
  reportBytes: 154 + 2 * 28,
  /** Assumed: reports and registrations a second that one Redis with `appendfsync always` takes. */
  redisWritesPerSecond: 5000,
  /** The agent: its back-off, and how long it tries one handshake. */
  firstWaitSeconds: 1,
  longestWaitSeconds: 60,
  handshakeTimeoutSeconds: 60,
};

export type Parameters = Readonly<
  Record<
    | "devices"
    | "reportEverySeconds"
    | "lifetimeSeconds"
    | "regionShare"
    | "outageSeconds"
    | "utilisation"
    | "handshakesPerCpuSecond"
    | "certificateHandshakesPerCpuSecond"
    | "reportCpuSeconds"
    | "associationBytes"
    | "sessionsPerProcess"
    | "reportBytes"
    | "redisWritesPerSecond"
    | "firstWaitSeconds"
    | "longestWaitSeconds"
    | "handshakeTimeoutSeconds",
    number
  >
>;

/** The table of docs/fleet-model.md. */
export function modelTable(parameters: Parameters = PARAMETERS): string {
  const steady = steadyState(parameters);
  const { processes } = steady;
  const rows: (readonly [string, string])[] = [
    ["reports a second", count(steady.reports)],
    ["refreshes of registrations a second", count(steady.refreshes)],
    ["bytes a second, both ways, with IPv4 and UDP", `${(steady.bytes / 1e6).toFixed(1)} MB`],
    ["cores for reports, at half of their time", count(steady.coresForReports)],
    ["processes by `maxSessions`", count(steady.processesBySessions)],
    ["**server processes**", `**${count(processes)}**`],
    ["memory of their associations", `${((parameters.devices * parameters.associationBytes) / 1e9).toFixed(0)} GB`],
    ["memory of one", `${(((parameters.devices / processes) * parameters.associationBytes) / 1e9).toFixed(2)} GB`],
    ["**Redis shards**", `**${count(steady.shards)}**`],
  ];
  for (const [name, rate] of [
    ["by PSK or resumption", parameters.handshakesPerCpuSecond],
    ["by certificates of both", parameters.certificateHandshakesPerCpuSecond],
  ] as const) {
    const found = recovery(parameters, processes * rate, SEED);
    rows.push(
      [`outage of a region, back ${name}: handshakes in the busiest second`, count(found.busiest)],
      ["of what the processes can do in a second", `${((100 * found.busiest) / (processes * rate)).toFixed(0)} %`],
      ["half, 99 %, all are back after", `${found.halfAt} s, ${found.mostAt} s, ${found.allAt} s`],
      ["handshakes that were given up", count(found.givenUp)],
    );
  }
  const tight = recovery(parameters, CRAMPED_SHARE * parameters.regionShare * parameters.devices, SEED);
  rows.push([
    `the same, with room for ${CRAMPED_SHARE * 100} % of the region a second: all are back, given up`,
    `${tight.allAt} s, ${count(tight.givenUp)}`,
  ]);
  rows.push([
    "Redis writes a second while they come back, of what the shards take",
    writesWhile(parameters, steady.shards),
  ]);
  return ["| figure | value |", "|---|--:|", ...rows.map(([name, value]) => `| ${name} | ${value} |`)].join("\n");
}

interface Steady {
  readonly reports: number;
  readonly refreshes: number;
  readonly bytes: number;
  readonly coresForReports: number;
  readonly processesBySessions: number;
  readonly processes: number;
  readonly shards: number;
}

function steadyState(parameters: Parameters): Steady {
  const { devices, reportEverySeconds, lifetimeSeconds, utilisation } = parameters;
  const reports = devices / reportEverySeconds;
  const refreshes = devices / (lifetimeSeconds / 2);
  const coresForReports = ((reports + refreshes) * parameters.reportCpuSeconds) / utilisation;
  const processesBySessions = devices / parameters.sessionsPerProcess;
  return {
    reports,
    refreshes,
    bytes: (reports + refreshes) * parameters.reportBytes,
    coresForReports,
    processesBySessions,
    processes: Math.ceil(Math.max(coresForReports, processesBySessions)),
    shards: Math.ceil((reports + refreshes) / (parameters.redisWritesPerSecond * utilisation)),
  };
}

/**
 * The end of an outage, second by second, for a sample of the region's devices, each of which stands for many. A device tries
 * a handshake, is served when its turn comes, gives up after its time-out, waits as its back-off says (half of the wait is
 * random, and it doubles), and tries again. At the end of the outage each is somewhere in that: trying, and then heard with its
 * next retransmission, or waiting.
 */
export function recovery(parameters: Parameters, handshakesPerSecond: number, seed: number): Recovery {
  const { firstWaitSeconds, longestWaitSeconds, handshakeTimeoutSeconds } = parameters;
  const region = parameters.devices * parameters.regionShare;
  const weight = Math.max(1, region / SAMPLE);
  const sample = Math.round(region / weight);
  const capacity = Math.max(1, Math.round(handshakesPerSecond / weight));
  const random = randomOf(seed);
  const waitOf = (longest: number): number => longest / 2 + (random() * longest) / 2;
  const calendar = new Map<number, Device[]>();
  const at = (second: number, device: Device): void => {
    const devices = calendar.get(second);
    if (devices === undefined) calendar.set(second, [device]);
    else devices.push(device);
  };
  for (let index = 0; index < sample; index++) {
    const wait = waitOf(longestWaitSeconds);
    const phase = random() * (wait + handshakeTimeoutSeconds);
    const device: Device = { longest: longestWaitSeconds, triedAt: 0 };
    // A handshake under way is heard with its next retransmission, after 1, 2, 4 … s (RFC 6347 §4.2.4.1).
    if (phase < wait) at(Math.floor(wait - phase), device);
    else at(Math.floor(Math.min(nextRetransmission(phase - wait), wait + handshakeTimeoutSeconds - phase)), device);
  }
  let queue: Device[] = [];
  let back = 0;
  let busiest = 0;
  let givenUp = 0;
  const reached: number[] = [];
  for (let second = 0; back < sample && second < LONGEST_SECONDS; second++) {
    const beginning = calendar.get(second) ?? [];
    calendar.delete(second);
    for (const device of beginning) device.triedAt = second;
    busiest = Math.max(busiest, beginning.length);
    queue.push(...beginning);
    const patient = queue.filter(({ triedAt }) => second - triedAt < handshakeTimeoutSeconds);
    if (patient.length < queue.length) {
      for (const device of queue) {
        if (second - device.triedAt < handshakeTimeoutSeconds) continue;
        givenUp++;
        at(second + 1 + Math.floor(waitOf(device.longest)), device);
        device.longest = Math.min(2 * Math.max(device.longest, firstWaitSeconds), longestWaitSeconds);
      }
    }
    const served = patient.slice(0, capacity);
    queue = patient.slice(capacity);
    back += served.length;
    for (const share of [0.5, 0.99, 1]) if (back >= share * sample) reached[share * 100] ??= second + 1;
  }
  const never = LONGEST_SECONDS;
  return {
    busiest: busiest * weight,
    givenUp: givenUp * weight,
    halfAt: reached[50] ?? never,
    mostAt: reached[99] ?? never,
    allAt: reached[100] ?? never,
  };
}

export interface Recovery {
  /** Handshakes that begin in the busiest second. */
  readonly busiest: number;
  readonly givenUp: number;
  /** Seconds from the end of the outage. */
  readonly halfAt: number;
  readonly mostAt: number;
  readonly allAt: number;
}

interface Device {
  longest: number;
  triedAt: number;
}

function writesWhile(parameters: Parameters, shards: number): string {
  const steady = steadyState(parameters);
  const { mostAt } = recovery(parameters, steady.processes * parameters.handshakesPerCpuSecond, SEED);
  // Each registers, and reports what it has kept, some twenty readings a report.
  const kept = Math.ceil(parameters.outageSeconds / parameters.reportEverySeconds / 20);
  const writes =
    (parameters.devices * parameters.regionShare * (1 + kept)) / mostAt + steady.reports + steady.refreshes;
  const share = (100 * writes) / (shards * parameters.redisWritesPerSecond);
  return `${count(writes)}, ${share.toFixed(0)} %`;
}

function nextRetransmission(sinceSeconds: number): number {
  let next = 1;
  for (let step = 2; next <= sinceSeconds; step *= 2) next += step;
  return next - sinceSeconds;
}

function count(value: number): string {
  return Math.ceil(value).toLocaleString("en");
}

/** mulberry32, from 0 to 1. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const SAMPLE = 50_000;
const SEED = 1;
const CRAMPED_SHARE = 0.002;
const LONGEST_SECONDS = 36_000;
