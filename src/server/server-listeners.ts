import { createHmac } from "node:crypto";
import { codeOf } from "#errors/index.js";
import {
  CIPHER_SUITE_NAMES,
  type CoapEndpoint,
  type DtlsEndpoint,
  type DtlsSession,
  type EndpointDropReason,
  type EndpointOptions,
  FileAssociationStore,
  formatAddress,
  listen,
  type ServerOptions,
  SharedKeys,
  type SteeringCounters,
  type StreamRefusal,
  type StreamServerTls,
  type SocketAddress,
  type StreamServerCredentials,
  UdpSocket,
  type WorkerSteering,
} from "#net/index.js";
import { type AuditEvent, type ClientAuthentication, handshakeFailure } from "#security/index.js";
import type { BoundPorts } from "./discovery.js";
import { attachTrust, keptTrust } from "./kept-trust.js";
import { sessionLimits } from "./limits-config.js";
import type { Pairing } from "./pairing/pairing.js";
import type { ServerConfig } from "./server-config.js";
import type { ServerCredentials } from "./server-credentials.js";
import type { ServerEvent } from "./server-event.js";
import { listenStreams, type StreamListeners } from "./stream-listeners.js";

/** The sockets of DPE-1, and what they demand of handshakes: UDP and TCP, plain and secured, each where it is configured. */
export class ServerListeners {
  readonly #parts: ListenerParts;
  #dtls: DtlsEndpoint | undefined;
  #plain: UdpSocket | undefined;
  #streams: StreamListeners | undefined;
  /** How often credentials were replaced. */
  #generation = 0;

  constructor(parts: ListenerParts) {
    this.#parts = parts;
  }

  /** @throws NetError NET_PORT_IN_USE and those of binding. What was bound before stays so until {@link close}. */
  async open(): Promise<void> {
    const { config, coap: endpoint, credentials, onEvent, onAudit, worker } = this.#parts;
    const sharesPort = worker !== undefined;
    const { host, coap, coaps } = config.interfaces.dpe1.listen;
    if (coaps !== undefined) {
      this.#dtls = await listen((session) => this.#opened(session), {
        host,
        port: coaps,
        server: this.#dtlsOptions(),
        verify: (certificates) => credentials.verify(certificates),
        verifyRawPublicKey: (rawPublicKey) => credentials.verifyRawPublicKey(rawPublicKey),
        pskOf: (identity) => this.#parts.pairing?.keyOf(identity) ?? credentials.pskOf(identity),
        ...sessionLimits(config.limits),
        ...this.#associations(),
        ...(worker === undefined ? {} : { sharesPort, steering: worker.steering }),
        receiveBufferBytes: RECEIVE_BUFFER_BYTES,
        onHandshakeFailed: (remote, error) => {
          const where = { time: Date.now(), interface: "dpe1", side: "server", peer: formatAddress(remote) } as const;
          const failure = handshakeFailure(error, where);
          onAudit(failure);
          onEvent({ type: "handshake-failed", peer: failure.peer, cause: error?.code ?? "closed by the peer" });
        },
        onAddressChanged: (session, previous) =>
          onEvent({
            type: "address-changed",
            peer: formatAddress(session.remoteAddress),
            previous: formatAddress(previous),
          }),
        onAddressRefused: (session, candidate) =>
          onEvent({
            type: "address-refused",
            peer: formatAddress(session.remoteAddress),
            candidate: formatAddress(candidate),
          }),
      });
    }
    if (coap !== undefined) {
      this.#plain = await UdpSocket.bind({ host, port: coap, sharesPort, receiveBufferBytes: RECEIVE_BUFFER_BYTES });
      endpoint.addSocket(this.#plain);
    }
    const tls: StreamServerTls = {
      ...this.#streamCredentials(),
      clientCertificate: this.#streamClientCertificate(),
      verify: (certificates) => credentials.verify(certificates),
      onHandshakeFailed: (remote, error) => {
        const where = { time: Date.now(), interface: "dpe1", side: "server", peer: formatAddress(remote) } as const;
        const failed = tlsFailure(error);
        onAudit(handshakeFailure(failed, where));
        onEvent({ type: "handshake-failed", peer: where.peer, cause: failed.code });
      },
    };
    this.#streams = await listenStreams(config.interfaces.dpe1.listen, endpoint, tls, sharesPort);
  }

  /** DTLS associations since the start: by a full or an abbreviated handshake, or of before a restart. */
  readonly associations: AssociationCounts = { full: 0, resumed: 0, restored: 0 };

  /** Where the server listens. */
  get addresses(): ListenerAddresses {
    return {
      coap: this.#plain?.address,
      coaps: this.#dtls?.address,
      coapTcp: this.#streams?.coapTcp,
      coapsTcp: this.#streams?.coapsTcp,
    };
  }

  /** Records and datagrams that DTLS dropped since the start, by reason. */
  get dropped(): Readonly<Partial<Record<EndpointDropReason, number>>> {
    return this.#dtls?.dropped ?? {};
  }

  /** TCP connections that were closed at once since the start, by reason. */
  get refused(): Readonly<Partial<Record<StreamRefusal, number>>> {
    return this.#streams?.refused() ?? {};
  }

  get steeringCounters(): SteeringCounters | undefined {
    return this.#parts.worker?.steering.counters;
  }

  get ports(): BoundPorts {
    return { coap: this.#plain?.address.port, coaps: this.#dtls?.address.port };
  }

  /** Has new handshakes use the credentials of now. */
  replaceCredentials(): void {
    this.#generation++;
    this.#dtls?.replaceServer(this.#dtlsOptions());
    this.#streams?.replaceCredentials(this.#streamCredentials());
  }

  /** Of secured and stream sockets; the plain one is the CoAP endpoint's to close. */
  async close(): Promise<void> {
    await Promise.all([this.#dtls?.close(), this.#streams?.close()]);
  }

  #streamCredentials(): StreamServerCredentials {
    const { credentials } = this.#parts;
    const { certificate, hasPsk } = credentials;
    return {
      ...(certificate === undefined ? {} : { certificate }),
      ...(hasPsk ? { pskOf: (identity) => credentials.pskOf(identity) } : {}),
    };
  }

  #dtlsOptions(): ServerOptions {
    const { config, credentials, worker } = this.#parts;
    const { certificate, rawPublicKey, hasPsk } = credentials;
    return {
      pskEnabled: hasPsk || this.#parts.pairing !== undefined,
      // A pairing code is for ECDHE_PSK alone, and nothing else here has a key.
      ...(hasPsk || this.#parts.pairing === undefined ? {} : { cipherSuites: EPHEMERAL_SUITES }),
      ...(config.dtls.connectionId === "on" ? {} : { connectionId: false as const }),
      returnRoutabilityCheck: config.dtls.returnRoutabilityCheck,
      ...(certificate === undefined ? {} : { certificate }),
      ...(rawPublicKey === undefined ? {} : { rawPublicKey }),
      ...this.#clientCertificates(),
      ...(worker === undefined ? {} : { sharedKeys: this.#sharedKeys(worker) }),
    };
  }

  /** The same in each process of the port, of as many replacements of credentials: a ticket from before one is void. */
  #sharedKeys({ secret }: ServerWorker): SharedKeys {
    const ofNow = createHmac("sha256", secret).update(`generation ${this.#generation}`).digest();
    return new SharedKeys(ofNow, performance.timeOrigin);
  }

  /** What keeps the associations over a restart, where the configuration names a file for it. */
  #associations(): Pick<EndpointOptions, "associations" | "onRestored"> {
    const { config, onEvent } = this.#parts;
    const path = config.dtls.associations;
    if (path === undefined) return {};
    const associations = FileAssociationStore.open(path);
    const { refusal } = associations;
    return {
      associations,
      onRestored: (counts) =>
        onEvent({ type: "associations-restored", ...counts, ...(refusal === undefined ? {} : { refusal }) }),
    };
  }

  #opened(session: DtlsSession): void {
    const { config, credentials, coap } = this.#parts;
    this.associations[session.isRestored ? "restored" : session.peer?.isResumed === true ? "resumed" : "full"] += 1;
    if (session.isRestored && keptTrust(session, credentials, Date.now()) === undefined) {
      void session.close();
      return;
    }
    if (!session.isRestored && config.dtls.associations !== undefined) attachTrust(session, credentials);
    this.#parts.pairing?.opened(session.peer?.pskIdentity);
    coap.addSession(session);
  }

  /** Over TLS there are no raw public keys. */
  #streamClientCertificate(): "none" | "request" | "require" {
    const { clientCertificate = "none", peerCertificateTypes = [] } = this.#clientCertificates();
    return peerCertificateTypes.includes("X.509") ? clientCertificate : "none";
  }

  /** Demanded where nothing else would do, asked for where it is one way of several; of the kinds that policy lists. */
  #clientCertificates(): Pick<ServerOptions, "clientCertificate" | "peerCertificateTypes"> {
    const { dpe1, dpe2 } = this.#parts.config.interfaces;
    const modes = [...dpe1.clientAuthentication, ...dpe2.clientAuthentication];
    const types = [...new Set(modes.flatMap((mode) => CERTIFICATE_TYPE_OF[mode] ?? []))];
    if (types.length === 0) return { clientCertificate: "none" };
    const isOnlyWay = dpe1.clientAuthentication.every((mode) => CERTIFICATE_TYPE_OF[mode] !== undefined);
    return { clientCertificate: isOnlyWay ? "require" : "request", peerCertificateTypes: types };
  }
}

export type AssociationCounts = Record<"full" | "resumed" | "restored", number>;
const EPHEMERAL_SUITES = CIPHER_SUITE_NAMES.filter((suite) => suite.includes("ECDHE"));

export interface ListenerParts {
  readonly config: ServerConfig;
  readonly credentials: ServerCredentials;
  readonly coap: CoapEndpoint;
  readonly pairing: Pairing | undefined;
  readonly onEvent: (event: ServerEvent) => void;
  readonly onAudit: (event: AuditEvent) => void;
  readonly worker?: ServerWorker | undefined;
}

/** What makes this process one of several that listen on the same ports. */
export interface ServerWorker {
  readonly steering: WorkerSteering;
  /** 32 random bytes that all of them have: cookies and session tickets of one are taken by each. */
  readonly secret: Uint8Array;
}

export interface ListenerAddresses {
  readonly coap: SocketAddress | undefined;
  readonly coaps: SocketAddress | undefined;
  readonly coapTcp: SocketAddress | undefined;
  readonly coapsTcp: SocketAddress | undefined;
}

/** What Node.js tells of a TLS handshake that failed, in the words of DTLS: `ERR_SSL_TLSV1_ALERT_UNKNOWN_CA` was received. */
function tlsFailure(error: unknown): Parameters<typeof handshakeFailure>[0] & { readonly code: string } {
  const code = codeOf(error) ?? String(error);
  const received = /^ERR_SSL_(?:SSLV3|TLSV1(?:_3)?)_ALERT_(\w+)$/.exec(code)?.[1]?.toLowerCase();
  return {
    code,
    receivedAlert: received,
    alert: undefined,
    ...(error instanceof Error ? { cause: error.cause } : {}),
  };
}

/** A fleet that comes back at once, or a pause of ours, is some thousands of datagrams. The system grants what its limit allows. */
const RECEIVE_BUFFER_BYTES = 1024 * 1024;
const CERTIFICATE_TYPE_OF: Readonly<Partial<Record<ClientAuthentication, "X.509" | "RawPublicKey">>> = {
  certificate: "X.509",
  rawPublicKey: "RawPublicKey",
};
