import { join } from "node:path";
import { messageOf } from "#errors/index.js";
import { checkRecord } from "#senml/index.js";
import { Journal } from "#store/index.js";
import { AgentError } from "../agent-error.js";
import type { ClockStamp, KnownTime } from "./device-clock.js";
import { IMPORTANCES, type OutboxStore, type QueuedReading } from "./outbox.js";

/**
 * Keeps the outbox in the agent's folder. What no report can carry, as an earlier version kept it, is dropped when it is
 * loaded: it would hold up all after it. @throws AgentError AGENT_STORE_FAILED where the folder cannot be used.
 */
export function outboxJournal(folder: string): OutboxStore & { readonly damagedLines: number } {
  const journal = openJournal(folder);
  const unusable: number[] = [];
  return {
    get damagedLines() {
      return journal.damagedLines + unusable.length;
    },
    *load() {
      for (const [id, stored] of journal.entries()) {
        const reading = readingOf(stored);
        if (reading === undefined) unusable.push(id);
        else yield [id, reading];
      }
      // What the disk does not take now is dropped at the next start.
      if (unusable.length > 0) journal.change([], unusable).catch(() => undefined);
    },
    knownTime: () => (journal.note(TIME) ?? {}) as KnownTime,
    change: (added, removed) =>
      journal.change(
        added.map(([id, reading]) => [id, storedOf(reading)]),
        removed,
      ),
    rememberTime: (known) => journal.setNote(TIME, known),
    close: () => journal.close(),
  };
}

function openJournal(folder: string): Journal<StoredReading> {
  try {
    return new Journal(join(folder, "unsent.log"));
  } catch (error) {
    const why = messageOf(error);
    throw new AgentError("AGENT_STORE_FAILED", `the folder for unsent readings cannot be used: ${why}`, {
      cause: error,
    });
  }
}

/** JSON has no bytes. */
type StoredReading = Omit<QueuedReading, "value"> & {
  readonly value: string | number | boolean;
  readonly isBytes?: true;
};

function storedOf(reading: QueuedReading): StoredReading {
  const { value } = reading;
  if (!(value instanceof Uint8Array)) return { ...reading, value };
  return { ...reading, value: Buffer.from(value).toString("base64"), isBytes: true };
}

/** Undefined: no report can carry it. */
function readingOf(stored: Partial<StoredReading> | null): QueuedReading | undefined {
  const { isBytes, value: kept, name, unit, importance, stamp, updateTimeSeconds } = stored ?? {};
  if (name === undefined || importance === undefined || !IMPORTANCES.includes(importance)) return undefined;
  if (!isStamp(stamp) || !["number", "string", "boolean"].includes(typeof kept) || kept === undefined) return undefined;
  const value = isBytes === true ? new Uint8Array(Buffer.from(String(kept), "base64")) : kept;
  const reading = {
    name,
    ...(unit === undefined ? {} : { unit }),
    value,
    ...(updateTimeSeconds === undefined ? {} : { updateTimeSeconds }),
  };
  try {
    checkRecord(reading, 0);
    return { ...reading, importance, stamp };
  } catch {
    return undefined;
  }
}

function isStamp(stamp: Partial<ClockStamp> | null | undefined): stamp is ClockStamp {
  return Number.isFinite(stamp?.uptimeMs) && Number.isFinite(stamp?.wallMs) && typeof stamp?.bootId === "string";
}

const TIME = "time";
