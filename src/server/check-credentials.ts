import { readPairingMaterial } from "./pairing/pairing.js";
import { clientAnchorsOf, ownCertificateOf, readMaterial } from "./server-credentials.js";
import type { ServerConfig } from "./server-config.js";

/**
 * Reads every certificate, key and list that a configuration names, as a start does; `atMs`, ms since 1970: that the server's own
 * certificate has not expired by then, too.
 *
 * @throws X509Error that begins with the name of the file that does not serve.
 */
export function checkServerCredentials({ credentials, pairing }: ServerConfig, atMs: number): void {
  readMaterial(credentials);
  ownCertificateOf(credentials, atMs);
  if (pairing !== undefined) readPairingMaterial(pairing, clientAnchorsOf(credentials));
}
