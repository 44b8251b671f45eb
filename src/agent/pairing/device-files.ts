import { encodePemCertificates } from "#x509/index.js";
import type { PairedDevice } from "./pair-device.js";

/**
 * The files of a paired device, the configuration last: what it names is there before it. All hold secrets, or are trusted.
 */
export function deviceFiles({ grant, devicePem }: PairedDevice, server: string): readonly DeviceFile[] {
  const { kind, anchors, secret } = grant;
  const files: DeviceFile[] = [];
  if (devicePem !== undefined) files.push({ name: "device.pem", text: devicePem });
  if (kind !== "certificate")
    files.push({ name: kind === "digest" ? "password" : "psk", text: `${new TextDecoder().decode(secret)}\n` });
  if (anchors !== undefined && kind !== "psk") files.push({ name: "ca.pem", text: encodePemCertificates(anchors) });
  return [...files, { name: "agent.yaml", text: configOf(grant, server) }];
}

/** Every name that {@link deviceFiles} may give. */
export const DEVICE_FILE_NAMES = ["device.pem", "password", "psk", "ca.pem", "agent.yaml"] as const;

export interface DeviceFile {
  readonly name: (typeof DEVICE_FILE_NAMES)[number];
  readonly text: string;
}

function configOf(
  { endpoint, subscriber, kind, intervalSeconds = 10, lifetimeSeconds }: PairedDevice["grant"],
  server: string,
): string {
  const isPsk = kind === "psk";
  const credentials = {
    certificate:
      "{ certificate: device.pem, key: device.pem, renew: true }   # key and certificate; the agent renews it",
    digest: `{ username: ${JSON.stringify(subscriber)}, password: file:password, renew: true }   # ca.pem follows the server's CA`,
    psk: `{ psk: { identity: ${JSON.stringify(subscriber)}, key: file:psk } }`,
  }[kind];
  return `# Written by dpe pair. dpe check --config agent.yaml tells what it comes to.
endpoint: ${JSON.stringify(endpoint)}
server: ${server}
${lifetimeSeconds === undefined ? "" : `lifetime: ${lifetimeSeconds}s\n`}store: ./agent-data          # readings that the server has not acknowledged yet
interfaces:
  dpe1:
    connection: dtls
    serverAuthentication: ${isPsk ? "psk" : "certificate"}
${isPsk ? "" : "    ca: ca.pem                # what the server's certificate must lead to\n"}    credentials: ${credentials}
  dpe2: { bind: association } # the server asks over the association that this device opened
sources:
  - { use: host, every: ${intervalSeconds}s }  # this machine's own properties; more of them in the README
`;
}
