import { connect as connectTcp } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { CertificateCredential } from "#dtls/index.js";
import { CoapStream } from "./coap-stream.js";
import { NetError, netError } from "./net-error.js";
import {
  ALPN_PROTOCOL,
  CERTIFICATE_CIPHERS,
  checkedKey,
  identityOf,
  pemOf,
  PSK_CIPHERS,
  TLS_COMMON,
  verified,
  type Verify,
} from "./stream-tls.js";

/** Connects. `signal` gives up. @throws NetError NET_CONNECTION_REFUSED, NET_NAME_NOT_FOUND, NET_NOT_ACCEPTED, NET_CLOSED. */
export async function connectStream(
  remote: { readonly host: string; readonly port: number },
  options: StreamConnectOptions = {},
): Promise<CoapStream> {
  const { tls, signal, local, dangerSkipAlpn = false } = options;
  const attempt = `connecting to ${remote.host}:${remote.port}`;
  const place = {
    ...remote,
    ...(local?.host === undefined ? {} : { localAddress: local.host }),
    ...(local?.port === undefined ? {} : { localPort: local.port }),
  };
  const socket = tls === undefined ? connectTcp(place) : secureSocket(place, tls);
  const giveUp = (): void => void socket.destroy(new NetError("NET_CLOSED", `${attempt}: given up`));
  signal?.addEventListener("abort", giveUp, { once: true });
  if (signal?.aborted === true) giveUp();
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once("error", (error) => reject(error instanceof NetError ? error : netError(error, attempt)));
      socket.once("close", () => reject(new NetError("NET_CLOSED", `${attempt}: closed by the server`)));
      socket.once(tls === undefined ? "connect" : "secureConnect", resolve);
    });
    if (tls === undefined) return new CoapStream(socket, undefined);
    // RFC 8323 §8.2: only on its own port may CoAP be taken for granted.
    const needsAlpn = remote.port !== COAPS_TCP_PORT && !dangerSkipAlpn;
    if (needsAlpn && (socket as TLSSocket).alpnProtocol !== ALPN_PROTOCOL)
      throw new NetError("NET_NOT_ACCEPTED", `${attempt}: the server does not say that it speaks CoAP (ALPN)`);
    const identity = identityOf(socket as TLSSocket, tls.psk?.identity);
    if (identity.pskIdentity === undefined) await verified(socket, identity.certificates ?? [], tls.verify, attempt);
    return new CoapStream(socket, identity);
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal?.removeEventListener("abort", giveUp);
  }
}

export interface StreamConnectOptions {
  readonly tls?: StreamClientTls;
  /** Gives up. */
  readonly signal?: AbortSignal;
  /** Default: the system's choice. */
  readonly local?: { readonly host?: string; readonly port?: number };
  /**
   * Default false: on a port other than 5684 a TLS server that does not name CoAP by ALPN is refused (RFC 8323 §8.2). true, for
   * such as libcoap's, which names nothing: a server of another protocol may be taken for one of CoAP.
   */
  readonly dangerSkipAlpn?: boolean;
}

/** With `psk` no certificate is offered or taken. */
export interface StreamClientTls {
  readonly psk?: { readonly identity: Uint8Array; readonly key: Uint8Array };
  readonly certificate?: CertificateCredential;
  readonly serverName?: string;
  readonly verify: Verify;
}

function secureSocket(
  place: { readonly host: string; readonly port: number; readonly localAddress?: string; readonly localPort?: number },
  tls: StreamClientTls,
): TLSSocket {
  const { psk, certificate, serverName } = tls;
  return connectTls({
    ...TLS_COMMON,
    ...place,
    ...(serverName === undefined ? {} : { servername: serverName }),
    ...(certificate === undefined || psk !== undefined ? {} : pemOf(certificate)),
    ciphers: (psk === undefined ? CERTIFICATE_CIPHERS : PSK_CIPHERS).join(":"),
    // Names are checked with the rest of the certificate, in `verify`.
    checkServerIdentity: () => undefined,
    ...(psk === undefined
      ? {}
      : {
          maxVersion: "TLSv1.2" as const,
          pskCallback: () => ({ psk: checkedKey(psk.key), identity: IDENTITY_DECODER.decode(psk.identity) }),
        }),
  });
}

const IDENTITY_DECODER = new TextDecoder("utf-8", { ignoreBOM: true });
const COAPS_TCP_PORT = 5684;
