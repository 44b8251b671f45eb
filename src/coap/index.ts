export {
  BlockwiseServer,
  type BlockwiseInput,
  type BlockwiseServerOptions,
  DEFAULT_BLOCKWISE_SERVER_OPTIONS,
} from "./blockwise/blockwise-server.js";
export {
  BlockwiseTransfer,
  type BlockwiseTransferOptions,
  DEFAULT_BLOCKWISE_TRANSFER_OPTIONS,
} from "./blockwise/blockwise-transfer.js";
export { type DropCause, type Droppable, PiecewiseServer } from "./blockwise/piecewise-server.js";
export { StreamedTransfer, type StreamStep } from "./blockwise/streamed-transfer.js";
export { DEFAULT_Q_BLOCK_PARAMETERS, type QBlockParameters } from "./q-block/q-block-parameters.js";
export { QBlockServer, type QBlockServerOptions } from "./q-block/q-block-server.js";
export { QBlockTransfer, type QBlockTransferOptions } from "./q-block/q-block-transfer.js";
export { decodeMissing, encodeMissing } from "./q-block/q-block-option.js";
export { decodeLinks, encodeLinks, type Link } from "./link-format.js";
export { filterLinks } from "./link-filter.js";
export { NO_RESPONSE_AT_ALL } from "./no-response.js";
export {
  decodeProblemDetails,
  encodeProblemDetails,
  type ProblemDetails,
  type ProblemText,
} from "./problem-details.js";
export { type CoapScheme, type CoapTarget, decomposeUri } from "./uri.js";
export { entityTag } from "./blockwise/entity-tag.js";
export { CoapError, type CoapErrorCode, type CoapFault } from "./errors.js";
export type { CloseCause, EndpointOutput, ObservationEnd } from "./exchange/endpoint-output.js";
export { Endpoint } from "./exchange/endpoint.js";
export type { EndpointCounters, EndpointOptions, PeerOptions } from "./exchange/endpoint-options.js";
export type { IncomingRequest } from "./exchange/incoming-request.js";
export { emptyResponse, NO_PAYLOAD, type RequestMessage, type ResponseMessage } from "./exchange/messages.js";
export {
  DEFAULT_ENDPOINT_LIMITS,
  DEFAULT_TRANSMISSION_PARAMETERS,
  derivedTimes,
  type EndpointLimits,
  ROUND_TRIP_ESTIMATIONS,
  type RoundTripEstimation,
  type TransmissionParameters,
} from "./exchange/parameters.js";
export { type ConditionalAttributes, conditionalAttributesOf, needsNumber } from "./observe/conditional-attributes.js";
export { NotificationGate } from "./observe/notification-gate.js";
export type { Peer } from "./exchange/peer.js";
export { encodeStreamMessage, StreamDecoder, type StreamMessage } from "./stream/stream-message.js";
export { type Capabilities, SIGNAL, SIGNAL_OPTION } from "./stream/signals.js";
export { type Exchange, getRequest } from "./exchange/exchange.js";
export { type Timed, type Timer, TimerHeap } from "./exchange/timer-heap.js";
export { type Block, BLOCK_SIZES_BYTES, decodeBlock, encodeBlock } from "./wire/block.js";
export { CONTENT_FORMAT, type ContentFormatName } from "./wire/content-format.js";
export { CODE, formatCode, isRequestCode, isSuccessCode, type Method, methodName, METHODS } from "./wire/code.js";
export {
  type Allocate,
  decodeMessage,
  encodeMessage,
  type Message,
  MESSAGE_TYPE,
  type MessageType,
  SHORT_MESSAGE_BYTES,
} from "./wire/message.js";
export {
  isCritical,
  isNoCacheKey,
  isUnsafe,
  OPTION,
  type OptionFormat,
  type OptionRegistry,
  optionRegistry,
} from "./wire/option-registry.js";
export { type Option, Options } from "./wire/options.js";
export { encodeText } from "./wire/text.js";
export { decodeUint, encodeUint } from "./wire/uint.js";
