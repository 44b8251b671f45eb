import { join } from "node:path";
import { Journal } from "#store/index.js";
import { AgentError } from "../agent-error.js";
import type { KnownTime } from "./device-clock.js";
import type { OutboxStore, QueuedReading } from "./outbox.js";

/** Keeps the outbox in the agent's folder. @throws AgentError AGENT_STORE_FAILED where the folder cannot be used. */
export function outboxJournal(folder: string): OutboxStore & { readonly damagedLines: number } {
  const journal = openJournal(folder);
  return {
    damagedLines: journal.damagedLines,
    *load() {
      for (const [id, stored] of journal.entries()) yield [id, readingOf(stored)];
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
    const why = error instanceof Error ? error.message : String(error);
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

function readingOf({ isBytes, value, ...rest }: StoredReading): QueuedReading {
  return { ...rest, value: isBytes === true ? new Uint8Array(Buffer.from(String(value), "base64")) : value };
}

const TIME = "time";
