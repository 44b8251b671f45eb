import { CODE, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import type { DigestClient } from "#digest/index.js";
import { BINDING_OPTION, CONNECTION_LEVEL, PATH } from "#dpe/index.js";
import type { Answer, CoapConnection } from "#net/index.js";
import { answerProof, type AuditEvent, decide, offerAsText, refusal } from "#security/index.js";
import type { AgentInterface } from "./agent-config.js";
import { clientPolicy, offerOf } from "./server-authentication.js";

/**
 * The agent's security at DPE-2: judges the server for each request, by the policy of that interface, and proves itself where
 * the request carries a challenge.
 */
export class Dpe2Guard {
  readonly #parts: Dpe2GuardParts;
  readonly #told = new WeakSet<CoapConnection>();

  constructor(parts: Dpe2GuardParts) {
    this.#parts = parts;
  }

  /** For a CoAP endpoint's `onMessage`. */
  readonly onMessage = (
    message: RequestMessage,
    connection: CoapConnection,
    serve: (message: RequestMessage) => Answer,
  ): Answer => {
    const refused = this.#judge(message, connection);
    if (refused !== undefined) return refused;
    const answer = serve(message);
    const digest = this.#parts.digest();
    const finish = digest === undefined ? undefined : answerProof(message, digest);
    if (finish === undefined) return answer;
    return answer instanceof Promise
      ? answer.then((response) => ({ ...response, ...finish(response), finish }))
      : { ...answer, ...finish(answer), finish };
  };

  /** The authentication error where the policy does not accept the server; its own errors may always be told. */
  #judge(message: RequestMessage, connection: CoapConnection): ResponseMessage | undefined {
    const { policy, host, securePort, onAudit } = this.#parts;
    const isError = message.code === CODE.POST && message.options.uriPath.join("/") === `${PATH.dpe2}/${PATH.errors}`;
    if (isError) return undefined;
    const offer = offerOf(connection, host(), policy);
    const decision = decide({ interface: "dpe2", side: "client", policy: clientPolicy(policy), offer });
    const requested = message.options.uint(BINDING_OPTION.SecurityRequest) ?? 0;
    const isTooLow = requested > CONNECTION_LEVEL[offer.connection];
    const { address, port } = connection.remoteAddress;
    const isAccepted = decision.type === "accept" && !isTooLow;
    if (!isAccepted || !this.#told.has(connection)) {
      if (isAccepted) this.#told.add(connection);
      onAudit({
        time: Date.now(),
        outcome: isAccepted ? "success" : "failure",
        interface: "dpe2",
        side: "client",
        mode: decision.type === "accept" ? decision.mode : undefined,
        subscriber: undefined,
        peer: address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`,
        connection: offer.connection,
        rule: decision.rule,
        cause: decision.type === "refuse" ? decision.error : isTooLow ? "security-required" : "accepted",
        offer: offerAsText(offer),
      });
    }
    if (isAccepted) return undefined;
    if (decision.type === "refuse" && decision.error !== "security-required") return refusal(decision.error);
    return refusal("security-required", { securityRequired: { port: securePort(), interfaceName: "dpe2" } });
  }
}

export interface Dpe2GuardParts {
  readonly policy: AgentInterface;
  /** The name or address of the server that is spoken with, as it is configured. */
  readonly host: () => string;
  /** What answers its challenges; undefined without a username. */
  readonly digest: () => DigestClient | undefined;
  /** Where the agent listens for DTLS, if it does. */
  readonly securePort: () => number | undefined;
  readonly onAudit: (event: AuditEvent) => void;
}
