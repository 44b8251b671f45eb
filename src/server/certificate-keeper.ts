import { CertificateFiles, renewWhatIsDue } from "./certificate-renewal.js";
import { CERTIFICATE_ROLES, type OwnCertificate } from "./own-certificates.js";
import type { ServerConfig } from "./server-config.js";
import type { ServerEvent } from "./server-event.js";

/**
 * Sees to the certificates that a server rests on, twice a day: renews its own, where the configuration says so, and tells of
 * each that nears its end. The files that it writes are read again by whoever watches them.
 */
export class CertificateKeeper {
  readonly #parts: KeeperParts;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: KeeperParts) {
    this.#parts = parts;
  }

  /** Looks at once, and from time to time until {@link stop}. */
  async start(): Promise<void> {
    this.#timer = setInterval(() => void this.look(), LOOK_MS).unref();
    await this.look();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Never rejects: what fails is told, and tried again. */
  async look(): Promise<void> {
    const { config, certificates, onEvent } = this.#parts;
    const now = Date.now();
    const renewed = await renewOwn(config(), onEvent, now);
    for (const certificate of certificates(now)) {
      const { role, subject, notAfterMs, state } = certificate;
      if (state === "valid" || renewed.has(role)) continue;
      onEvent({ type: "certificate-ending", role, subject, validUntil: notAfterMs });
    }
  }
}

export interface KeeperParts {
  /** As it is now. */
  readonly config: () => ServerConfig;
  readonly certificates: (now: number) => readonly OwnCertificate[];
  readonly onEvent: (event: ServerEvent) => void;
}

/** Renews what is due, where the configuration says so; gives whose certificates are new. Never rejects. */
export async function renewOwn(
  config: ServerConfig,
  onEvent: (event: ServerEvent) => void,
  now: number,
): Promise<ReadonlySet<OwnCertificate["role"]>> {
  if (config.credentials.renew !== true) return new Set();
  try {
    const renewed = await renewWhatIsDue(new CertificateFiles(config), now);
    for (const { role, validUntil } of renewed) onEvent({ type: "certificate-renewed", role, validUntil });
    const roles = new Set(renewed.map(({ role }) => role));
    // The CA of paired devices is among those of clients.
    return new Set(CERTIFICATE_ROLES.filter((role) => roles.has(role === "client-ca" ? "pairing-ca" : role)));
  } catch (error) {
    onEvent({ type: "certificate-renewal-failed", error });
    return new Set();
  }
}

const LOOK_MS = 12 * 3_600_000;
