import { type ConditionalAttributes, NotificationGate } from "#coap/index.js";
import type { SenmlRecord } from "#senml/index.js";
import { MAX_TIMER_MS } from "#waiting/index.js";
import type { Properties } from "./properties.js";

/** As `Properties.watch`, but `onTold` is called when the conditional attributes say so; returns what ends that. */
export function watchConditionally(
  properties: Properties,
  isWanted: (name: string) => boolean,
  attributes: ConditionalAttributes,
  onTold: (records: readonly SenmlRecord[]) => void,
): () => void {
  const gate = new NotificationGate(attributes, onlyNumber(properties.select(isWanted)), performance.now());
  let timer: NodeJS.Timeout | undefined;
  const tell = (): void => onTold(properties.select(isWanted));
  const setTimer = (): void => {
    clearTimeout(timer);
    const at = gate.nextTimeout();
    if (at === undefined) return;
    timer = setTimeout(
      () => {
        if (gate.handleTimeout(performance.now())) tell();
        setTimer();
      },
      Math.min(Math.max(0, at - performance.now()), MAX_TIMER_MS),
    );
  };
  const stop = properties.watch(isWanted, (records) => {
    if (gate.change(onlyNumber(records), performance.now())) tell();
    setTimer();
  });
  setTimer();
  return () => {
    clearTimeout(timer);
    stop();
  };
}

/** The value of the only record, where that is a number. */
export function onlyNumber(records: readonly SenmlRecord[]): number | undefined {
  const value = records.length === 1 ? records[0]?.value : undefined;
  return typeof value === "number" ? value : undefined;
}

/** What setTimeout takes at most; a later time is waited for in turns. */
