import { type AgentConfig, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import type { FleetFigures } from "../report/fleet-figures.js";
import type { DeviceProfile } from "./device-profile.js";

/**
 * One simulated device: an agent with a socket, an association and credentials of its own, whose only source is its
 * profile. A sleeper registers, reports and leaves the network again, each time.
 */
export class SimulatedDevice {
  readonly #config: AgentConfig;
  readonly #profile: DeviceProfile;
  readonly #everyMs: number;
  readonly #figures: FleetFigures;
  readonly #read: (seconds: number) => ReturnType<Source["read"]>;
  readonly #startedAt = performance.now();
  #agent: DpeAgent | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isUp = false;
  /** The server is silent, and the association is held. */
  #isHeld = false;
  #isStopped = false;
  #isQuiet = false;

  constructor(config: AgentConfig, profile: DeviceProfile, options: SimulatedDeviceOptions) {
    this.#config = config;
    this.#profile = profile;
    this.#everyMs = options.everyMs ?? profile.everyMs;
    this.#figures = options.figures;
    const readings = profile.readings(options.seed);
    this.#read = (seconds) => Promise.resolve(readings(seconds));
  }

  /** Whether it is registered now, as far as it knows. */
  get isUp(): boolean {
    return this.#isUp;
  }

  /** Readings that wait to be acknowledged. */
  get unsent(): number {
    return this.#agent?.unsent ?? 0;
  }

  start(): void {
    if (this.#isStopped) return;
    const seconds = (): number => (performance.now() - this.#startedAt) / 1000;
    const source: Source = {
      name: this.#profile.name,
      everyMs: this.#everyMs,
      read: () => (this.#isQuiet ? Promise.resolve([]) : this.#read(seconds())),
    };
    this.#agent = new DpeAgent(this.#config, [source], (event) => this.#onEvent(event));
  }

  /** Reads nothing more; what was read goes on being sent. */
  quieten(): void {
    this.#isQuiet = true;
    clearTimeout(this.#timer);
  }

  /** Deregisters; fulfilled when the device has left the network. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#agent?.close();
    this.#isUp = false;
  }

  #onEvent(event: AgentEvent): void {
    const figures = this.#figures;
    // oxlint-disable-next-line switch-exhaustiveness-check -- the others have no figure
    switch (event.type) {
      case "registered":
        this.#isUp = true;
        figures.add("registrations");
        return;
      case "reported":
        figures.add("reports");
        figures.add("readings", event.properties);
        figures.addLatency(event.tookMs);
        if (this.#profile.isSleeper && event.unsent === 0) this.#sleep();
        return;
      case "queried":
        figures.add("queries");
        return;
      case "silent":
        this.#isUp = false;
        this.#isHeld = true;
        return;
      case "heard":
        this.#isUp = true;
        this.#isHeld = false;
        return;
      case "moved":
        this.#isHeld = false;
        figures.add("connectionsLost");
        return;
      case "lost":
        this.#isUp = false;
        // Of a server that is looked for beside an association, that is not lost yet.
        if (!this.#isHeld) figures.add("connectionsLost");
        figures.addError(codeOf(event.error));
        return;
      case "refused":
        this.#isUp = false;
        figures.add("refused");
        figures.addError(codeOf(event.error));
        return;
      case "dropped":
        figures.add("dropped", event.readings);
        return;
      default:
        return;
    }
  }

  #sleep(): void {
    const agent = this.#agent;
    if (agent === undefined || this.#isStopped || this.#isQuiet) return;
    this.#agent = undefined;
    this.#isUp = false;
    void agent.close({ keepsRegistration: true });
    this.#timer = setTimeout(() => this.start(), this.#everyMs);
  }
}

export interface SimulatedDeviceOptions {
  readonly seed: number;
  readonly figures: FleetFigures;
  /** Ms between readings; default: the profile's. */
  readonly everyMs?: number;
}

/** The name by which an error is counted: the innermost code. */
function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "UNKNOWN";
  if (error.cause instanceof Error && "code" in error.cause) return codeOf(error.cause);
  if ("authError" in error && typeof error.authError === "string") return error.authError;
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
}
