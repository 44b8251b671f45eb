import { readFileSync } from "node:fs";
import { CODE, type ResponseMessage } from "#coap/index.js";
import { replaceFile } from "#files/index.js";
import { decodePairingAnchors, encodePairingRequest } from "#security/index.js";
import { encodePemCertificates, loadTrustAnchors, validityOf, verifyPeerCertificates } from "#x509/index.js";
import { refused } from "./pair-device.js";

/**
 * Asks the server every week what its certificates lead to, sooner where that ends soon, so that a device has its next CA
 * before the last one ends or is taken away. The first time is up to a week after the start, by chance, so that devices do
 * not come at once.
 */
export class TrustRenewal {
  #dueAt: number;

  /** `file` has the anchors; `random` is within 0 to 1. @throws X509Error. */
  constructor(file: string, random: number, now: number) {
    this.#dueAt = now + random * untilNext(read(file), now);
  }

  /** Wall-clock time, ms since 1970, as `now`: a week off at most, also where a clock that was ahead was set back. */
  dueAt(now: number): number {
    this.#dueAt = Math.min(this.#dueAt, now + WEEK_MS);
    return this.#dueAt;
  }

  /**
   * Gives how many anchors there are now, where they have changed.
   *
   * @throws SecurityError SECURITY_PAIRING_REFUSED, SECURITY_BAD_PAIRING_MESSAGE; X509Error for what is no certificate; what
   * `server.renew` throws; errors of the file system.
   */
  async renew(server: RenewingServer, now: number): Promise<number | undefined> {
    this.#dueAt = now + RETRY_MS;
    const { anchorsFile } = server;
    if (anchorsFile === undefined) return undefined;
    const response = await server.renew(encodePairingRequest({}));
    if (response.code !== CODE.Changed) throw refused(response);
    const isChanged = await takeAnchors(server, decodePairingAnchors(response.payload), now);
    const anchors = read(anchorsFile);
    this.#dueAt = now + untilNext(anchors, now);
    return isChanged ? anchors.length : undefined;
  }
}

/** A server that renews what pairing gave, and what is known of it. */
export interface RenewingServer {
  /** The anchors by which it was verified; undefined where it was accepted by anything but its certificate. */
  readonly anchorsFile: string | undefined;
  /** The chain that it has shown on this association, where it is known. */
  readonly serverCertificates: readonly Uint8Array[] | undefined;
  renew(payload: Uint8Array): Promise<ResponseMessage>;
}

/**
 * What the server says devices are to trust, in place of what this one does; those that it trusts already stay, unless the
 * server's own certificate has been seen to lead to the new ones, so that no answer can lock this device out. Gives whether
 * that is a change.
 *
 * @throws X509Error for what is no certificate; errors of the file system.
 */
export async function takeAnchors(
  { anchorsFile, serverCertificates: shown = [] }: RenewingServer,
  anchors: readonly Uint8Array[],
  now: number,
): Promise<boolean> {
  if (anchorsFile === undefined || anchors.length === 0) return false;
  const before = read(anchorsFile);
  const isLedTo =
    shown.length > 0 && (await verifyPeerCertificates(shown, { anchors, purpose: "serverAuth", atMs: now })).ok;
  const after = isLedTo ? anchors : [...anchors, ...before.filter((one) => !isAmong(anchors, one))];
  if (after.length === before.length && after.every((one) => isAmong(before, one))) return false;
  const text = encodePemCertificates(after);
  loadTrustAnchors(text);
  replaceFile(anchorsFile, text);
  return true;
}

function isAmong(list: readonly Uint8Array[], one: Uint8Array): boolean {
  return list.some((other) => Buffer.compare(other, one) === 0);
}

function read(file: string): readonly Uint8Array[] {
  return loadTrustAnchors(readFileSync(file, "utf8"));
}

function untilNext(anchors: readonly Uint8Array[], now: number): number {
  const ends = anchors.map((der) => validityOf(der)?.notAfterMs ?? Infinity);
  return Math.min(WEEK_MS, Math.max(SOONEST_MS, (Math.min(...ends) - now) / 20));
}

const SOONEST_MS = 10_000;
const RETRY_MS = 3_600_000;
const WEEK_MS = 604_800_000;
