import { readFileSync } from "node:fs";
import { CODE } from "#coap/index.js";
import { replaceFile } from "#files/index.js";
import { decodePairingGrant, encodePairingRequest, SecurityError } from "#security/index.js";
import { generateKeyAndRequest, loadCertificateChain, loadCredentials, validityOf } from "#x509/index.js";
import { devicePem, refused } from "./pair-device.js";
import { type RenewingServer, takeAnchors } from "./trust-renewal.js";

/**
 * Renews the certificate of a paired device at the server that issued it, and takes the anchors that the server gives with it
 * where its CA was renewed: at two thirds of its validity, and up to a tenth
 * earlier by chance, so that devices which were paired on one day do not come at once. After a failure it waits for a
 * twentieth of what is left, an hour at most.
 */
export class CertificateRenewal {
  readonly #file: string;
  readonly #early: number;
  #plannedAt: number;
  #retryAt = 0;

  /** `file` has the certificate and its key; `random` is within 0 to 1. @throws X509Error. */
  constructor(file: string, random: number) {
    this.#file = file;
    this.#early = random / 10;
    this.#plannedAt = renewalTime(loadCertificateChain(readFileSync(file, "utf8"))[0], this.#early);
  }

  /** Wall-clock time, ms since 1970, as `now`, by which a clock that was ahead may have been set back since. */
  dueAt(now: number): number {
    return this.#retryAt > now + MAX_RETRY_MS ? this.#plannedAt : Math.max(this.#plannedAt, this.#retryAt);
  }

  /**
   * Makes a new key, has its certificate issued, and exchanges the file at once or not at all. Gives until when it is
   * valid, ms since 1970.
   *
   * @throws SecurityError SECURITY_PAIRING_REFUSED, SECURITY_BAD_PAIRING_MESSAGE; X509Error for a certificate that is not one
   * of our key, or no later than what we have; what `server.renew` throws; errors of the file system.
   */
  async renew(server: RenewingServer, now: number): Promise<number> {
    const before = readFileSync(this.#file, "utf8");
    const knownUntil = untilOf(before);
    const waitMs = Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, (knownUntil - now) / 20));
    this.#retryAt = now + waitMs;
    const { privateKeyPem, request } = await generateKeyAndRequest();
    const response = await server.renew(encodePairingRequest({ request }));
    if (response.code !== CODE.Changed) throw refused(response);
    const { certificates = [], anchors = [] } = decodePairingGrant(response.payload);
    const text = devicePem(certificates, privateKeyPem);
    loadCredentials(text, text, now);
    const validUntil = untilOf(text);
    if (validUntil <= knownUntil)
      throw new SecurityError(
        "SECURITY_PAIRING_REFUSED",
        "the new certificate ends no later than the one that we have",
      );
    await takeAnchors(server, anchors, now);
    replaceFile(this.#file, text);
    this.#plannedAt = renewalTime(certificates[0], this.#early);
    this.#retryAt = now + MIN_RETRY_MS;
    return validUntil;
  }
}

/** When a certificate is to be renewed; `early` is the part of its validity by which that is before two thirds of it. */
export function renewalTime(certificate: Uint8Array | undefined, early: number): number {
  const validity = certificate === undefined ? undefined : validityOf(certificate);
  if (validity === undefined) return Infinity;
  const { notBeforeMs, notAfterMs } = validity;
  return notBeforeMs + (notAfterMs - notBeforeMs) * (2 / 3 - early);
}

function untilOf(pem: string): number {
  const [leaf] = loadCertificateChain(pem);
  return (leaf === undefined ? undefined : validityOf(leaf)?.notAfterMs) ?? 0;
}

const MIN_RETRY_MS = 10_000;
const MAX_RETRY_MS = 3_600_000;
