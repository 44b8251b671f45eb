import { CODE, methodName } from "../wire/code.js";
import type { Message } from "../wire/message.js";
import { OPTION } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import { emptyResponse, type ResponseMessage } from "./messages.js";

/** Why a request whose options are understood is not handed on. */
export function refusalOf({ code, options }: Message): ResponseMessage | undefined {
  // RFC 7252 §5.8: an unknown method.
  if (methodName(code) === undefined) return emptyResponse(CODE.MethodNotAllowed);
  // RFC 8768 §3: 0, and what is above 255.
  const hopLimit = options.uint(OPTION.HopLimit) ?? 1;
  return hopLimit < 1 || hopLimit > 0xff ? emptyResponse(CODE.BadRequest) : undefined;
}

/** Why a request with a critical option that is not understood is not handed on. */
export function refusalOfOption(number: number): ResponseMessage {
  // RFC 7252 §5.10.2: who is no proxy says so.
  const isForProxy = number === OPTION.ProxyUri || number === OPTION.ProxyScheme;
  const payload = TEXT_ENCODER.encode(`option ${number} is critical and not understood`);
  return { code: isForProxy ? CODE.ProxyingNotSupported : CODE.BadOption, options: Options.none, payload };
}

const TEXT_ENCODER = new TextEncoder();
