import type { Allocate } from "../wire/message.js";
import { OPTION, type OptionFormat, type OptionRegistry, optionRegistry } from "../wire/option-registry.js";
import type { EndpointLimits, TransmissionParameters } from "./parameters.js";

export interface EndpointOptions {
  /** Unguessable bytes, for tokens and first messageIds. */
  readonly random: (size: number) => Uint8Array;
  /**
   * Default: of an array's own. Makes what datagrams are written to, for a transport that wants their bytes in memory of a kind.
   * Those of up to `SHORT_MESSAGE_BYTES` are not kept once they are handed out, and may share memory; longer ones may be kept.
   */
  readonly allocate?: Allocate;
  readonly parameters?: Partial<TransmissionParameters>;
  readonly limits?: Partial<EndpointLimits>;
  /** Options that the application understands besides those of the RFCs. */
  readonly optionFormats?: readonly OptionFormat[];
  /**
   * Numbers of critical options that only an application can obey, and this one does: If-Match, If-None-Match, Proxy-Uri,
   * Proxy-Scheme, Q-Block1, Q-Block2. Default none: a request with one is refused with 4.02, or 5.05 for the proxy's.
   */
  readonly applicationOptions?: readonly number[];
  /** Default false. true: unknown options that are safe to forward stay in messages, for a proxy (RFC 7252 §5.7.2). */
  readonly isProxy?: boolean;
  /**
   * Default: tokens are random. Else 1 to 8 bytes from which they count up, to find requests again in a trace: whoever can
   * guess them can answer in a peer's place on plain UDP (RFC 7252 §5.3.1).
   */
  readonly dangerFirstToken?: Uint8Array;
}

export interface PeerOptions {
  /**
   * Default false: tokens are random. true: they count up from 1, in as few bytes as that takes, so that none is used twice (RFC
   * 9175 §4.2). For a secure connection whose keys are new and that is not gone on with after this process, and nothing else:
   * whoever can guess a token can answer on plain UDP.
   */
  readonly countsTokens?: boolean;
}

export interface EndpointCounters {
  received: number;
  malformed: number;
  duplicates: number;
  /** Unknown critical options, and responses that nobody waits for. */
  rejected: number;
}

/** The registry without the options that neither this layer nor the application obeys. */
export function understoodOptions(options: EndpointOptions): OptionRegistry {
  const registry = new Map(optionRegistry(options.optionFormats));
  for (const number of APPLICATION_OPTIONS)
    if (options.applicationOptions?.includes(number) !== true) registry.delete(number);
  return registry;
}

const APPLICATION_OPTIONS = [
  OPTION.IfMatch,
  OPTION.IfNoneMatch,
  OPTION.ProxyUri,
  OPTION.ProxyScheme,
  OPTION.QBlock1,
  OPTION.QBlock2,
];
