import { readFileSync } from "node:fs";
import type { RequestMessage } from "#coap/index.js";
import { BINDING_OPTION_FORMATS, formatDpe2Uri } from "#dpe/index.js";
import { CoapEndpoint, type DtlsEndpoint, formatAddress, listen, type Answer, UdpSocket } from "#net/index.js";
import { type AuditEvent, handshakeFailure } from "#security/index.js";
import { inFile, loadTrustAnchors, peerNameOf, verifyPeerCertificates } from "#x509/index.js";
import type { AgentConfig } from "./agent-config.js";
import type { Dpe2Guard } from "./dpe2-guard.js";
import { clientPolicy, credentialsOf, keyVerifier, rawPublicKeyOf } from "./server-authentication.js";
import { serversOf } from "./server-list.js";

/** DPE-2 at addresses of the agent's own, for servers that are to reach it there and not over its association. */
export class Dpe2Listener {
  readonly #config: AgentConfig;
  readonly #coap: CoapEndpoint;
  readonly #onAudit: (event: AuditEvent) => void;
  #dtls: DtlsEndpoint | undefined;
  #plain: UdpSocket | undefined;

  private constructor(config: AgentConfig, { guard, onRequest, onAudit }: Dpe2ListenerParts) {
    this.#config = config;
    this.#onAudit = onAudit;
    this.#coap = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      parameters: { roundTripEstimation: config.timeOuts },
      onMessage: guard.onMessage,
      onRequest: (request) => onRequest(request),
    });
  }

  /** @throws NetError of binding; X509Error for files that do not serve. */
  static async open(config: AgentConfig, parts: Dpe2ListenerParts): Promise<Dpe2Listener> {
    const listener = new Dpe2Listener(config, parts);
    try {
      await listener.#listen();
    } catch (error) {
      await listener.close();
      throw error;
    }
    return listener;
  }

  /** The port that takes DTLS. */
  get securePort(): number | undefined {
    return this.#dtls?.address.port;
  }

  /** What a registration says: over DTLS where the policy asks for it, or nothing else is bound. */
  get uri(): string {
    const isSecure = this.#plain === undefined || this.#config.interfaces.dpe2.connection === "dtls";
    const address = (isSecure ? this.#dtls : this.#plain)?.address ?? this.#dtls?.address ?? this.#plain?.address;
    if (address === undefined) throw new Error("a listener is open");
    return formatDpe2Uri({ isSecure: isSecure && this.#dtls !== undefined, ...address });
  }

  async close(): Promise<void> {
    await this.#dtls?.close();
    await this.#coap.close();
  }

  async #listen(): Promise<void> {
    const { dpe2 } = this.#config.interfaces;
    if (typeof dpe2.bind === "string") return;
    for (const { scheme, host, port } of dpe2.bind) {
      if (scheme === "coap") {
        this.#plain = await UdpSocket.bind({ host, port });
        this.#coap.addSocket(this.#plain);
      } else {
        await this.#listenSecure(host, port);
      }
    }
  }

  async #listenSecure(host: string, port: number): Promise<void> {
    const { dpe1, dpe2 } = this.#config.interfaces;
    const { psk } = dpe1.credentials;
    const certificate = credentialsOf(dpe1.credentials);
    const modes = clientPolicy(dpe2).serverAuthentication;
    const { ca } = dpe2;
    const anchors = ca === undefined ? [] : inFile(ca, () => loadTrustAnchors(readFileSync(ca, "utf8")));
    const names = serversOf(this.#config).map(({ server: { host: server } }) => peerNameOf(server));
    const text = new TextDecoder();
    const types = [
      ...(modes.includes("certificate") ? (["X.509"] as const) : []),
      ...(modes.includes("rawPublicKey") ? (["RawPublicKey"] as const) : []),
    ];
    this.#dtls = await listen((session) => this.#coap.addSession(session), {
      host,
      port,
      server: {
        pskEnabled: psk !== undefined,
        ...(certificate === undefined ? {} : { certificate }),
        ...rawPublicKeyOf(dpe1.credentials),
        ...(types.length === 0
          ? { clientCertificate: "none" as const }
          : {
              clientCertificate: types.length === modes.length ? ("require" as const) : ("request" as const),
              peerCertificateTypes: types,
            }),
      },
      pskOf: (identity) => (psk !== undefined && text.decode(identity) === psk.identity ? psk.key.reveal() : undefined),
      // The server is itself on both interfaces: it shows the certificate that it has as a server, of one of the names listed.
      verify: async (certificates) => {
        const verdicts = names.map((name) =>
          verifyPeerCertificates(certificates, { anchors, purpose: "serverAuth", atMs: Date.now(), name }),
        );
        const [first = UNNAMED, ...others] = await Promise.all(verdicts);
        return [first, ...others].find(({ ok }) => ok) ?? first;
      },
      verifyRawPublicKey: keyVerifier(dpe2),
      onHandshakeFailed: (remote, error) => {
        const where = { time: Date.now(), interface: "dpe2", side: "client", peer: formatAddress(remote) } as const;
        this.#onAudit(handshakeFailure(error, where));
      },
    });
  }
}

/** What a listener is given by its agent. */
export interface Dpe2ListenerParts {
  readonly guard: Dpe2Guard;
  readonly onRequest: (request: RequestMessage) => Answer;
  readonly onAudit: (event: AuditEvent) => void;
}

const UNNAMED = { ok: false, alert: "certificate_unknown", reason: "no server is configured" } as const;
