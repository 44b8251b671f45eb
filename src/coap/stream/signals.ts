import { isCritical } from "../wire/option-registry.js";
import { Options } from "../wire/options.js";
import { encodeStreamMessage, type StreamMessage } from "./stream-message.js";

/** Codes of signaling messages (RFC 8323 §5.1). */
export const SIGNAL = { CSM: 0xe1, Ping: 0xe2, Pong: 0xe3, Release: 0xe4, Abort: 0xe5 } as const;

/** Their options (RFC 8323 §5.3 to §5.6); numbers are a signal's own. */
export const SIGNAL_OPTION = {
  MaxMessageSize: 2,
  BlockWiseTransfer: 4,
  Custody: 2,
  AlternativeAddress: 2,
  HoldOff: 4,
  BadCsmOption: 2,
} as const;

/** What the peer of a reliable transport has said of itself in its CSM (RFC 8323 §5.3). */
export interface Capabilities {
  /** Default 1152. */
  readonly maxMessageBytes: number;
  /** Whether it understands Block1 and Block2, and with larger messages BERT. */
  readonly hasBlocks: boolean;
}

export const BASE_CAPABILITIES: Capabilities = { maxMessageBytes: 1152, hasBlocks: false };

/** A Capabilities and Settings Message: what we take. */
export function encodeCsm(maxMessageBytes: number): Uint8Array {
  const options = Options.none
    .with(SIGNAL_OPTION.MaxMessageSize, maxMessageBytes)
    .with(SIGNAL_OPTION.BlockWiseTransfer, NOTHING);
  return encodeSignal(SIGNAL.CSM, NOTHING, options);
}

/** The capabilities after a CSM: what it does not name stays as it was. Its elective options that are not known are ignored. */
export function withCsm(capabilities: Capabilities, { options }: StreamMessage): Capabilities {
  return {
    maxMessageBytes: options.uint(SIGNAL_OPTION.MaxMessageSize) ?? capabilities.maxMessageBytes,
    hasBlocks: capabilities.hasBlocks || options.has(SIGNAL_OPTION.BlockWiseTransfer),
  };
}

/** The number of a critical option in a signal; none is defined yet, so that each is one that is not understood (§5.2). */
export function criticalOptionOf({ options }: StreamMessage): number | undefined {
  for (const { number } of options) if (isCritical(number)) return number;
  return undefined;
}

export function encodeSignal(code: number, token: Uint8Array, options: Options = Options.none, text = ""): Uint8Array {
  return encodeStreamMessage({ code, token, options, payload: new TextEncoder().encode(text) });
}

const NOTHING = new Uint8Array(0);
