import { messageOf } from "#errors/index.js";
import { checkRecord } from "#senml/index.js";
import { within } from "#waiting/index.js";
import { AgentError } from "../agent-error.js";
import type { Properties } from "../properties.js";
import type { DeviceClock } from "../queue/device-clock.js";
import type { Outbox } from "../queue/outbox.js";
import { ChangeFilter } from "./change-rule.js";
import type { Reading, Source } from "./source.js";

/**
 * Reads each source at its own interval, whether or not there is a server to tell, and puts what its rules pick into the
 * outbox. A source that fails or hangs holds up no other, and is told of once until it reads well again.
 */
export class Sampler {
  readonly #surroundings: SamplerSurroundings;
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #failures = new Map<Source, string>();
  readonly #first: Promise<unknown>;
  #isStopped = false;
  #wasTrusted = true;

  constructor(sources: readonly Source[], surroundings: SamplerSurroundings) {
    this.#surroundings = surroundings;
    this.#first = Promise.all(sources.map((source) => this.#start(source, new ChangeFilter(source.rules ?? []))));
  }

  /** Fulfilled when every source was read once, or had its time for it. */
  async firstReadings(): Promise<void> {
    await within(FIRST_READING_TIMEOUT_MS, this.#first, () => undefined);
  }

  stop(): void {
    this.#isStopped = true;
    for (const timer of this.#timers) clearInterval(timer);
  }

  async #start(source: Source, filter: ChangeFilter): Promise<void> {
    let isBusy = false;
    let isWoken = false;
    const sample = async (): Promise<void> => {
      // A reading that takes longer than the interval is not started twice.
      if (isBusy) return;
      isBusy = true;
      await this.#sample(source, filter).finally(() => (isBusy = false));
      if (!isWoken) return;
      isWoken = false;
      await sample();
    };
    source.onWake?.(() => {
      if (this.#isStopped) return;
      isWoken = isBusy;
      void sample();
    });
    this.#timers.add(setInterval(() => void sample(), source.everyMs));
    await sample();
  }

  #tellClock(): void {
    const { isTrusted } = this.#surroundings.clock;
    if (isTrusted === this.#wasTrusted) return;
    this.#wasTrusted = isTrusted;
    this.#surroundings.onClock(isTrusted);
  }

  async #sample(source: Source, filter: ChangeFilter): Promise<void> {
    const { clock, properties, outbox } = this.#surroundings;
    try {
      const read = await source.read();
      if (this.#isStopped) return;
      const faults: string[] = [];
      const readings = read.filter((reading) => {
        const fault = faultOf(reading);
        if (fault !== undefined) faults.push(`${reading.name.slice(0, MAX_TOLD_LENGTH)}: ${fault}`);
        return fault === undefined;
      });
      if (clock.learn()) outbox.rememberTime(clock.known());
      this.#tellClock();
      const stamp = clock.stamp();
      properties.update(readings, clock.timeSeconds(stamp));
      outbox.add(filter.select(readings, performance.now()).map((reading) => ({ ...reading, stamp })));
      if (faults.length > 0) throw new AgentError("AGENT_BAD_READING", faults.join("; "));
      if (this.#failures.delete(source)) this.#surroundings.onSourceFault(source.name, undefined);
    } catch (error) {
      if (this.#isStopped) return;
      const fault = messageOf(error);
      if (this.#failures.get(source) === fault) return;
      this.#failures.set(source, fault);
      this.#surroundings.onSourceFault(source.name, error);
    }
  }
}

export interface SamplerSurroundings {
  readonly clock: DeviceClock;
  readonly properties: Properties;
  readonly outbox: Outbox;
  /** Told when the wall clock cannot be trusted any more, and when it can again. */
  onClock(isTrusted: boolean): void;
  /** Told of a failure that is not the last one again, and, with undefined, that the source reads well again. */
  onSourceFault(source: string, error: unknown): void;
}

/** Why no report can carry a reading, as it could none that wait with it: JSON knows 1e999, and halves of characters. */
function faultOf({ name, unit, value }: Reading): string | undefined {
  try {
    checkRecord({ name, value, ...(unit === undefined ? {} : { unit }) }, 0);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

const MAX_TOLD_LENGTH = 40;
/** A registration does not wait longer for a source that hangs. */
const FIRST_READING_TIMEOUT_MS = 3000;
