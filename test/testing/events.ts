import type { AuditEvent } from "#security/index.js";
import { until } from "#testing/until.js";

/** Events of one side of a run, and a way to wait for one. */
export class Events<Event extends { readonly type: string }> {
  readonly all: Event[] = [];

  readonly push = (event: Event): void => void this.all.push(event);

  until<Type extends Event["type"]>(
    type: Type,
    isWanted: (event: Extract<Event, { type: Type }>) => boolean = () => true,
  ): Promise<Extract<Event, { type: Type }>> {
    const isIt = (event: Event): event is Extract<Event, { type: Type }> =>
      event.type === type && isWanted(event as Extract<Event, { type: Type }>);
    return until(() => this.all.find(isIt), { what: `an event ${type} where ${String(isWanted)}` }) as Promise<
      Extract<Event, { type: Type }>
    >;
  }

  /** How many there have been of that type. */
  count(type: Event["type"]): number {
    return this.all.filter((event) => event.type === type).length;
  }

  /** The audit event with these fields. */
  async audited(wanted: Partial<AuditEvent>): Promise<AuditEvent> {
    const isSame = (event: AuditEvent): boolean =>
      Object.entries(wanted).every(([name, value]) => event[name as keyof AuditEvent] === value);
    const found = await this.until("audit" as Event["type"], (event) =>
      isSame((event as unknown as { readonly event: AuditEvent }).event),
    );
    return (found as unknown as { readonly event: AuditEvent }).event;
  }
}
