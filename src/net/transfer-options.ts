import {
  BLOCK_SIZES_BYTES,
  type BlockwiseTransferOptions,
  type Capabilities,
  CoapError,
  type RequestMessage,
} from "#coap/index.js";
import type { CoapConnection, RequestOptions } from "./coap-connection.js";

/** How a request of ours is cut into blocks: by its options, and by what the peer and the transport take. */
export function transferOptions(
  connection: CoapConnection,
  request: RequestMessage,
  options: RequestOptions,
): Partial<BlockwiseTransferOptions> {
  const { responseBlockBytes, maxBodyBytes } = options;
  const capabilities = connection.peer.stream?.capabilities;
  const blockBytes =
    options.blockBytes ??
    (capabilities === undefined
      ? undefined
      : streamCutBytes(capabilities, request.options.encodedBytes, request.payload.length));
  return {
    mayBeBert: capabilities !== undefined,
    ...(blockBytes === undefined ? {} : { blockBytes }),
    ...(responseBlockBytes === undefined ? {} : { responseBlockBytes }),
    ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
  };
}

/**
 * Into how many bytes a body is cut for a peer on a reliable transport: what its Max-Message-Size leaves room for, beside this
 * many bytes of options. One that takes no blocks gets all in one message.
 *
 * @throws CoapError COAP_BODY_TOO_LARGE when it takes no blocks and that message is too long for it.
 */
export function streamCutBytes(capabilities: Capabilities, optionBytes: number, bodyBytes: number): number {
  const { maxMessageBytes, hasBlocks } = capabilities;
  const room = maxMessageBytes - optionBytes - HEAD_AND_BLOCK_OPTIONS_BYTES;
  if (!hasBlocks) {
    if (bodyBytes > room)
      throw new CoapError("COAP_BODY_TOO_LARGE", `the peer takes no blocks, and ${maxMessageBytes} bytes at most`);
    return Math.max(2, Math.ceil(bodyBytes / UNIT_BYTES)) * UNIT_BYTES;
  }
  if (room >= 2 * UNIT_BYTES) return Math.floor(room / UNIT_BYTES) * UNIT_BYTES;
  return BLOCK_SIZES_BYTES.findLast((size) => size <= room) ?? 16;
}

const UNIT_BYTES = 1024;
/** Length, code, token, payload marker; Block1, Block2, sizes, ETag and Request-Tag. */
const HEAD_AND_BLOCK_OPTIONS_BYTES = 64;
