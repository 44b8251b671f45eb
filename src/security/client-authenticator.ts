import { CODE, methodName, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import type { AuthenticationInfo, DigestClient, DigestRequest } from "#digest/index.js";
import { authErrorName, type AuthErrorName, BINDING_OPTION } from "#dpe/index.js";
import { decodeChallenge, decodeInfo, type DigestScope, encodeAuthorization } from "./digest-options.js";
import { digestUri } from "./digest-uri.js";
import { SecurityError } from "./errors.js";

/**
 * The client's Digest on one association: answers challenges, message by message, and checks the server's proof. Make a
 * new one for each association. It is the caller's part to use it only on a connection that its policy allows.
 */
export class ClientAuthenticator {
  readonly #client: DigestClient;
  readonly #requiresServerProof: boolean;
  #isBound = false;
  #scope: DigestScope = "request";

  constructor(client: DigestClient, options: { readonly requiresServerProof?: boolean } = {}) {
    this.#client = client;
    this.#requiresServerProof = options.requiresServerProof ?? false;
  }

  /**
   * Sends one message, with credentials where the server asks for them, and gives the last response: an authentication
   * error too, when the credentials are not accepted.
   *
   * @throws SecurityError SECURITY_SERVER_NOT_ACCEPTED, SECURITY_BAD_OPTION, and what `send` throws.
   */
  async send(
    message: RequestMessage,
    send: (message: RequestMessage) => Promise<ResponseMessage>,
  ): Promise<ResponseMessage> {
    if (this.#isBound) {
      const response = await send(message);
      if (challengeOf(response) === undefined) return response;
      this.#isBound = false;
    }
    const request: DigestRequest = {
      method: methodName(message.code) ?? "",
      uri: digestUri(message.options),
      body: message.payload,
    };
    const attempt = this.#client.attempt(request);
    for (;;) {
      const { authorization } = attempt;
      const response = await send(
        authorization === undefined
          ? message
          : {
              ...message,
              options: message.options.with(BINDING_OPTION.DigestAuthorization, encodeAuthorization(authorization)),
            },
      );
      const challenge = challengeOf(response);
      if (challenge === undefined) {
        if (authorization !== undefined)
          this.#checkProof(
            response,
            attempt.handleInfo(infoOf(response), { uri: request.uri, body: response.payload }),
          );
        return response;
      }
      const decoded = decodeChallenge(challenge);
      if (attempt.handleChallenge(decoded).type === "give-up") return response;
      this.#scope = decoded.scope;
    }
  }

  #checkProof(response: ResponseMessage, proof: "verified" | "absent" | "wrong"): void {
    if (response.code === CODE.Unauthorized) return;
    if (proof === "wrong" || (proof === "absent" && this.#requiresServerProof)) {
      throw new SecurityError("SECURITY_SERVER_NOT_ACCEPTED", "the server did not prove that it knows the credential");
    }
    if (this.#scope === "association") this.#isBound = true;
  }
}

/** The authentication error that a response carries, by name; `undefined` for any other response. */
export function authErrorOf(response: ResponseMessage): AuthErrorName | undefined {
  const value = response.options.uint(BINDING_OPTION.AuthError);
  return value === undefined ? undefined : authErrorName(value);
}

function challengeOf(response: ResponseMessage): Uint8Array | undefined {
  return response.code === CODE.Unauthorized ? response.options.get(BINDING_OPTION.DigestChallenge) : undefined;
}

function infoOf(response: ResponseMessage): AuthenticationInfo | undefined {
  const value = response.options.get(BINDING_OPTION.DigestInfo);
  return value === undefined ? undefined : decodeInfo(value);
}
