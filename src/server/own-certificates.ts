import { type CertificateFacts, factsOf } from "#x509/index.js";

/** A certificate that a server rests on, and until when. Times are ms since 1970. */
export interface OwnCertificate extends CertificateFacts {
  /** `server`: what it shows; `client-ca`: whom client certificates are from; `pairing-ca`: what signs those of paired devices. */
  readonly role: CertificateRole;
  readonly state: "valid" | "ending" | "expired";
}

export const CERTIFICATE_ROLES = ["server", "client-ca", "pairing-ca"] as const;
export type CertificateRole = (typeof CERTIFICATE_ROLES)[number];

/** Of DER certificates, by what they are for; what is malformed is left out. */
export function ownCertificates(
  material: Readonly<Partial<Record<CertificateRole, readonly Uint8Array[]>>>,
  now: number,
): readonly OwnCertificate[] {
  return CERTIFICATE_ROLES.flatMap((role) =>
    (material[role] ?? []).flatMap((der) => {
      const facts = factsOf(der);
      return facts === undefined ? [] : [{ role, ...facts, state: stateOf(facts, now) }];
    }),
  );
}

/** A certificate nears its end in the last 30 days, or the last quarter of a shorter life. */
function stateOf({ notBeforeMs, notAfterMs }: CertificateFacts, now: number): OwnCertificate["state"] {
  if (now >= notAfterMs) return "expired";
  return notAfterMs - now <= Math.min(ENDING_MS, (notAfterMs - notBeforeMs) / 4) ? "ending" : "valid";
}

/** For people. */
export function certificateSentence({ role, subject, notAfterMs, state }: OwnCertificate, now: number): string {
  const day = new Date(notAfterMs).toISOString().slice(0, 10);
  const days = Math.floor(Math.abs(notAfterMs - now) / DAY_MS);
  const left = state === "expired" ? `expired ${days} days ago` : `${days} days left`;
  return `${ROLE_NAMES[role]} ${subject}: until ${day}, ${left}`;
}

const ROLE_NAMES: Readonly<Record<CertificateRole, string>> = {
  server: "server certificate",
  "client-ca": "CA of clients",
  "pairing-ca": "CA of paired devices",
};
const DAY_MS = 86_400_000;
const ENDING_MS = 30 * DAY_MS;
