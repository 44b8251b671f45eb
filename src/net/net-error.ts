import { codeOf, messageOf } from "#errors/index.js";
/** Root of the errors of this layer that are not the protocols' own. `code` is API; the sentence is not. */
export class NetError extends Error {
  override readonly name = "NetError";
  readonly code: NetErrorCode;

  constructor(code: NetErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export type NetErrorCode =
  | "NET_ALERT_RECEIVED"
  | "NET_ADDRESS_NOT_AVAILABLE"
  | "NET_CLOSED"
  | "NET_CONNECTION_REFUSED"
  | "NET_NAME_NOT_FOUND"
  | "NET_NOT_ACCEPTED"
  | "NET_PERMISSION_DENIED"
  | "NET_PORT_IN_USE"
  | "NET_SOCKET_FAILED"
  | "NET_STORE_FAILED"
  | "NET_STORE_KEY"
  | "NET_STORE_LOCKED";

/** A system error of a socket as ours, with what was tried. */
export function netError(error: unknown, attempt: string): NetError {
  const systemCode = codeOf(error) ?? "";
  const known = SYSTEM_ERRORS[systemCode];
  if (known !== undefined) return new NetError(known.code, `${attempt}: ${known.sentence}`, { cause: error });
  // OpenSSL's name of what the peer has sent, such as ERR_SSL_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY.
  const alert = /^ERR_SSL_.*ALERT_(.*)$/.exec(systemCode)?.[1];
  if (alert !== undefined)
    return new NetError("NET_ALERT_RECEIVED", `${attempt}: the peer ended the handshake: ${alert.toLowerCase()}`, {
      cause: error,
    });
  return new NetError("NET_SOCKET_FAILED", `${attempt}: ${messageOf(error)}`, {
    cause: error,
  });
}

const NAME_NOT_FOUND = { code: "NET_NAME_NOT_FOUND", sentence: "the host name has no address" } as const;

const SYSTEM_ERRORS: Readonly<Record<string, { readonly code: NetErrorCode; readonly sentence: string }>> = {
  EADDRINUSE: { code: "NET_PORT_IN_USE", sentence: "the port is in use by another program" },
  EADDRNOTAVAIL: { code: "NET_ADDRESS_NOT_AVAILABLE", sentence: "this machine has no such address" },
  ECONNREFUSED: { code: "NET_CONNECTION_REFUSED", sentence: "nobody listens there" },
  ENETUNREACH: { code: "NET_SOCKET_FAILED", sentence: "no route leads there; is this machine on the network?" },
  EHOSTUNREACH: { code: "NET_SOCKET_FAILED", sentence: "no route leads there; is that machine on the network?" },
  EAFNOSUPPORT: { code: "NET_SOCKET_FAILED", sentence: "this machine has no IPv6" },
  EACCES: { code: "NET_PERMISSION_DENIED", sentence: "not permitted; ports below 1024 need privileges" },
  ENOTFOUND: NAME_NOT_FOUND,
  EAI_AGAIN: NAME_NOT_FOUND,
};
