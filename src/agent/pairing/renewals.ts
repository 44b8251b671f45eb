import { randomInt } from "node:crypto";
import type { AgentConfig } from "../agent-config.js";
import type { AgentEvent } from "../agent-event.js";
import { CertificateRenewal } from "./certificate-renewal.js";
import { type RenewingServer, TrustRenewal } from "./trust-renewal.js";

/** What an agent has its server renew in time: its certificate, and whom it trusts. */
export class Renewals {
  readonly #certificate: CertificateRenewal | undefined;
  readonly #trust: TrustRenewal | undefined;
  readonly #onEvent: (event: AgentEvent) => void;

  constructor({ ca, credentials }: AgentConfig["interfaces"]["dpe1"], onEvent: (event: AgentEvent) => void) {
    this.#onEvent = onEvent;
    if (credentials.renew !== true) return;
    if (credentials.certificate !== undefined)
      this.#certificate = new CertificateRenewal(credentials.certificate, randomInt(1000) / 1000);
    if (ca !== undefined) this.#trust = new TrustRenewal(ca, randomInt(1000) / 1000, Date.now());
  }

  /** When the next one is; Infinity where there is none. */
  dueAt(): number {
    const now = Date.now();
    return Math.min(this.#certificate?.dueAt(now) ?? Infinity, this.#trust?.dueAt(now) ?? Infinity);
  }

  /** What is due; the next handshakes read what has come, and the association goes on. */
  async carryOut(server: RenewingServer): Promise<void> {
    const now = Date.now();
    if (this.dueAt() > now) return;
    const [certificate, trust] = [this.#certificate, this.#trust];
    try {
      if (certificate !== undefined && certificate.dueAt(now) <= now)
        this.#onEvent({ type: "renewed", validUntil: await certificate.renew(server, now) });
      if (trust !== undefined && trust.dueAt(now) <= now) {
        const anchors = await trust.renew(server, now);
        if (anchors !== undefined) this.#onEvent({ type: "trust-renewed", anchors });
      }
    } catch (error) {
      // What ends the association is met where it is used next.
      this.#onEvent({ type: "renewal-failed", error, retryAt: this.dueAt() });
    }
  }
}
