/** The cipher suites, as a table; the order is the default preference. All use the PRF with SHA-256. */
export const CIPHER_SUITES = {
  TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8: { id: 0xc0ae, keyExchange: "ecdhe_ecdsa", aead: "AES_128_CCM_8" },
  TLS_ECDHE_ECDSA_WITH_AES_128_CCM: { id: 0xc0ac, keyExchange: "ecdhe_ecdsa", aead: "AES_128_CCM" },
  TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: { id: 0xc02b, keyExchange: "ecdhe_ecdsa", aead: "AES_128_GCM" },
  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: { id: 0xc02f, keyExchange: "ecdhe_rsa", aead: "AES_128_GCM" },
  TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256: { id: 0xd003, keyExchange: "ecdhe_psk", aead: "AES_128_CCM_8" },
  TLS_ECDHE_PSK_WITH_AES_128_GCM_SHA256: { id: 0xd001, keyExchange: "ecdhe_psk", aead: "AES_128_GCM" },
  TLS_PSK_WITH_AES_128_CCM_8: { id: 0xc0a8, keyExchange: "psk", aead: "AES_128_CCM_8" },
  TLS_PSK_WITH_AES_128_CCM: { id: 0xc0a4, keyExchange: "psk", aead: "AES_128_CCM" },
  TLS_PSK_WITH_AES_128_GCM_SHA256: { id: 0x00a8, keyExchange: "psk", aead: "AES_128_GCM" },
} as const;

export type CipherSuiteName = keyof typeof CIPHER_SUITES;

/** All of them, in the default order. */
export const CIPHER_SUITE_NAMES = Object.keys(CIPHER_SUITES) as readonly CipherSuiteName[];

export interface CipherSuite extends CipherSuiteParameters {
  readonly name: CipherSuiteName;
}

/** RFC 4279 (psk), RFC 8422 (ecdhe_*), RFC 8442 (ecdhe_psk). */
export type KeyExchangeName = "psk" | "ecdhe_psk" | "ecdhe_ecdsa" | "ecdhe_rsa";
/** RFC 6655 (CCM), RFC 5288 (GCM). */
export type AeadName = "AES_128_CCM_8" | "AES_128_CCM" | "AES_128_GCM";

interface CipherSuiteParameters {
  readonly id: number;
  readonly keyExchange: KeyExchangeName;
  readonly aead: AeadName;
}

/** TLS_EMPTY_RENEGOTIATION_INFO_SCSV (RFC 5746 §3.3). */
export const EMPTY_RENEGOTIATION_INFO_SCSV = 0x00ff;

export function suiteByName(name: CipherSuiteName): CipherSuite {
  return SUITES[name];
}

export function suiteById(id: number): CipherSuite | undefined {
  return SUITES_BY_ID.get(id);
}

export function usesPsk(suite: CipherSuite): boolean {
  return suite.keyExchange === "psk" || suite.keyExchange === "ecdhe_psk";
}

export function usesCertificate(suite: CipherSuite): boolean {
  return suite.keyExchange === "ecdhe_ecdsa" || suite.keyExchange === "ecdhe_rsa";
}

export function usesEcdhe(suite: CipherSuite): boolean {
  return suite.keyExchange !== "psk";
}

const ENTRIES = Object.entries(CIPHER_SUITES) as [CipherSuiteName, CipherSuiteParameters][];
const SUITES = Object.fromEntries(ENTRIES.map(([name, suite]) => [name, { name, ...suite }])) as Readonly<
  Record<CipherSuiteName, CipherSuite>
>;
const SUITES_BY_ID: ReadonlyMap<number, CipherSuite> = new Map(Object.values(SUITES).map((suite) => [suite.id, suite]));
