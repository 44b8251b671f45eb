import { CODE, decodeProblemDetails, formatCode, OPTION, Options, type ResponseMessage } from "#coap/index.js";
import { CONTENT_FORMAT, PATH } from "#dpe/index.js";
import { CIPHER_SUITE_NAMES, CoapEndpoint, connect, DtlsError, NetError } from "#net/index.js";
import {
  authErrorOf,
  decodePairingGrant,
  encodePairingRequest,
  type PairingGrant,
  pairingPsk,
  type PairingTarget,
  SecurityError,
} from "#security/index.js";
import { encodePemCertificates, generateKeyAndRequest, loadCredentials } from "#x509/index.js";
import { AgentError } from "../agent-error.js";

/**
 * Pairs this device with a server by a one-time code: the key is generated here and never leaves. The code proves the server
 * to us as well as us to it, so nothing is taken of whoever does not know it.
 *
 * @throws SecurityError SECURITY_PAIRING_REFUSED, SECURITY_BAD_PAIRING_MESSAGE; AgentError AGENT_SERVER_UNREACHABLE;
 * NetError NET_NAME_NOT_FOUND; X509Error where the certificate is not one of our key.
 */
export async function pairDevice({ host, port, code }: PairingTarget, endpoint: string): Promise<PairedDevice> {
  const { privateKeyPem, request } = await generateKeyAndRequest();
  const psk = pairingPsk(code);
  const session = await connect(
    { host, port },
    { cipherSuites: SUITES, psk, sessionTickets: false, endsOnRefusal: true },
  );
  const coap = new CoapEndpoint();
  try {
    await session.opened;
    const connection = coap.addSession(session);
    const options = Options.none
      .withAll(OPTION.UriPath, [PATH.dpe1, PATH.pairing])
      .with(OPTION.ContentFormat, CONTENT_FORMAT.cbor);
    const payload = encodePairingRequest({ request, endpoint });
    const response = await connection.request({ code: CODE.POST, options, payload });
    if (response.code !== CODE.Changed) throw refused(response);
    const grant = decodePairingGrant(response.payload);
    return { grant, ...credentialsOf(grant, privateKeyPem) };
  } catch (error) {
    throw faultOf(error, `${host.includes(":") ? `[${host}]` : host}:${port}`);
  } finally {
    await session.close();
    await coap.close();
  }
}

export interface PairedDevice {
  readonly grant: PairingGrant;
  /** Kind certificate: the device's certificate and its private key, PEM, in one text. A secret. */
  readonly devicePem?: string;
}

/** A certificate and its key in one file are exchanged together, or not at all. */
export function devicePem(certificates: readonly Uint8Array[], privateKeyPem: string): string {
  return `${encodePemCertificates(certificates)}${privateKeyPem}`;
}

function credentialsOf(
  { kind, certificates = [] }: PairingGrant,
  privateKeyPem: string,
): Pick<PairedDevice, "devicePem"> {
  if (kind !== "certificate") return {};
  const pem = devicePem(certificates, privateKeyPem);
  loadCredentials(pem, pem);
  return { devicePem: pem };
}

/** Why the server did not do what was asked, in its own words where it has some. */
export function refused(response: ResponseMessage): SecurityError {
  const why = authErrorOf(response) ?? titleOf(response) ?? "no reason was given";
  return new SecurityError("SECURITY_PAIRING_REFUSED", `the server answered ${formatCode(response.code)}: ${why}`);
}

function titleOf({ options, payload }: ResponseMessage): string | undefined {
  if (options.contentFormat !== CONTENT_FORMAT.problemDetailsCbor) return undefined;
  try {
    const { title } = decodeProblemDetails(payload);
    return typeof title === "string" ? title.slice(0, MAX_TITLE_LENGTH) : undefined;
  } catch {
    return undefined;
  }
}

function faultOf(error: unknown, server: string): unknown {
  const isRefused = error instanceof NetError && error.code === "NET_CONNECTION_REFUSED";
  if (isRefused || (error instanceof DtlsError && error.code === "DTLS_HANDSHAKE_TIMEOUT")) {
    const why = isRefused
      ? `${server}: nobody listens there; is the server running, and is that its port and an address that it listens on?`
      : `${server} does not answer: is the server running, and reachable by UDP?`;
    return new AgentError("AGENT_SERVER_UNREACHABLE", why, { cause: error });
  }
  if (!(error instanceof DtlsError)) return error;
  const why =
    error.receivedAlert === "handshake_failure"
      ? "the server pairs no devices: its configuration needs a section pairing"
      : "the server does not accept the code: it is another server's, or was used, has expired, or ended after five wrong tries";
  return new SecurityError("SECURITY_PAIRING_REFUSED", why, { cause: error });
}

/** Only these: an ephemeral key exchange keeps the code from whoever records the handshake. */
const SUITES = CIPHER_SUITE_NAMES.filter((suite) => suite.startsWith("TLS_ECDHE_PSK_"));
const MAX_TITLE_LENGTH = 200;
