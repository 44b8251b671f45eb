import type { RequestMessage, ResponseMessage } from "#coap/index.js";
import type { DigestClient } from "#digest/index.js";
import { BINDING_OPTION } from "#dpe/index.js";
import { decodeChallenge, encodeAuthorization } from "./digest-options.js";
import { digestUri } from "./digest-uri.js";
import { SecurityError } from "./errors.js";

/**
 * The client's proof on DPE-2: what signs each response to a request that carries a challenge, notifications too. Undefined
 * where there is no challenge, or it is not one; that the server may be answered at all is the caller's policy.
 */
export function answerProof(
  request: RequestMessage,
  client: DigestClient,
): ((response: ResponseMessage) => ResponseMessage) | undefined {
  const value = request.options.get(BINDING_OPTION.DigestChallenge);
  if (value === undefined) return undefined;
  let challenge: ReturnType<typeof decodeChallenge>;
  try {
    challenge = decodeChallenge(value);
  } catch (error) {
    if (error instanceof SecurityError) return undefined;
    throw error;
  }
  const uri = digestUri(request.options);
  return (response) => {
    const proof = client.prove(challenge, { uri, body: response.payload });
    if (typeof proof === "string") return response;
    return { ...response, options: response.options.with(BINDING_OPTION.DigestProof, encodeAuthorization(proof)) };
  };
}
