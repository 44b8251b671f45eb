import type { Logger } from "pino";
import type { ServerEvent } from "#server/index.js";
import { StoreError, type StoreHealth } from "#store/index.js";
import { describe } from "./exit.js";

/** One event as a line of the log; none holds a secret. */
export function writeEvent(log: Logger, event: ServerEvent): void {
  switch (event.type) {
    case "registered": {
      const { endpoint, subscriber } = event.registration;
      log.info({ endpoint, subscriber }, "registered");
      return;
    }
    case "gone": {
      const { endpoint, subscriber } = event.registration;
      log.info({ endpoint, subscriber, cause: event.cause }, "gone");
      return;
    }
    case "report":
      log.debug({ endpoint: event.registration.endpoint, properties: event.records.length }, "report");
      return;
    case "authentication-error":
      // The first message of a client has no credentials yet: that is how Digest begins.
      log[event.error === "credentials-required" ? "debug" : "warn"](
        { peer: event.peer, error: event.error, rule: event.rule },
        "authentication-error",
      );
      return;
    case "audit":
      log.debug({ ...event.event }, "audit");
      return;
    case "reloaded":
      log.info({ associationsEnded: event.associationsEnded }, "reloaded");
      if (event.waiting.length > 0) log.warn({ keys: event.waiting }, "changed, but in force from the next start only");
      return;
    case "address-changed":
      log.debug({ peer: event.peer, previous: event.previous }, "address-changed");
      return;
    case "address-refused":
      log.warn({ peer: event.peer, candidate: event.candidate }, "address-refused");
      return;
    case "association-ended":
      log.info({ peer: event.peer, cause: event.cause }, "association-ended");
      return;
    case "associations-restored": {
      const { restored, refused, refusal } = event;
      log[refusal === undefined ? "info" : "warn"]({ restored, refused, refusal }, "associations-restored");
      return;
    }
    case "pairing": {
      const { outcome, ...fields } = event.event;
      log[outcome === "refused" ? "warn" : outcome === "tried" ? "debug" : "info"](fields, `pairing-${outcome}`);
      return;
    }
    case "radius":
      log.debug({ ...event.event }, "radius");
      return;
    case "name-contested":
      log.warn({ endpoint: event.endpoint, peers: event.peers }, "name-contested: two devices register by turns");
      return;
    case "handshake-failed":
      log.warn({ peer: event.peer, cause: event.cause }, "handshake-failed");
      return;
    case "client-error":
      log.warn({ peer: event.peer, subscriber: event.subscriber, authError: event.authError }, "client-error");
      return;
    case "certificate-ending": {
      const { role, subject, validUntil } = event;
      log.warn({ role, subject, validUntil: new Date(validUntil).toISOString() }, "certificate-ending");
      return;
    }
    case "certificate-renewed":
      log.info({ role: event.role, validUntil: new Date(event.validUntil).toISOString() }, "certificate-renewed");
      return;
    case "certificate-renewal-failed":
      log.error({ error: describe(event.error) }, "certificate-renewal-failed");
      return;
    case "fault":
      writeFault(log, event.error);
      return;
  }
}

/** What fails for want of the store is told of once, by {@link writeHealth}. */
export function writeFault(log: Logger, error: unknown): void {
  log[error instanceof StoreError && error.code !== "STORE_CONFLICT" ? "debug" : "error"](
    { error: describe(error) },
    "fault",
  );
}

export function writeHealth(log: Logger, health: StoreHealth): void {
  if (!health.isWell) log.error({ error: describe(health.error) }, "store-failed");
  else log.info({ failures: health.failures, seconds: Math.round(health.afterMs / 1000) }, "store-recovered");
}
