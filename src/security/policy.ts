import type { ConnectionLevel } from "#dpe/index.js";

/** What one interface of a server demands of clients. */
export interface ServerPolicy {
  /** The least connection security accepted. */
  readonly connection: ConnectionLevel;
  /** In order of preference; never empty. `none`, wherever it stands, accepts who offers nothing else that is listed. */
  readonly clientAuthentication: readonly ClientAuthentication[];
}

/** What one interface of a client demands of the server. */
export interface ClientPolicy {
  /** The least connection security accepted. */
  readonly connection: ConnectionLevel;
  /** In order of preference; never empty. `none`, wherever it stands, accepts a server that shows nothing else that is listed. */
  readonly serverAuthentication: readonly ServerAuthentication[];
}

export const CLIENT_AUTHENTICATIONS = ["certificate", "rawPublicKey", "psk", "external", "digest", "none"] as const;
export type ClientAuthentication = (typeof CLIENT_AUTHENTICATIONS)[number];

export const SERVER_AUTHENTICATIONS = ["certificate", "rawPublicKey", "psk", "address", "none"] as const;
export type ServerAuthentication = (typeof SERVER_AUTHENTICATIONS)[number];
