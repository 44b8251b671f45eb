import { type CoapClient, CoapError, type CoapResponse, OPTION, type RequestInit } from "#api/index.js";
import { encodeBlock } from "#coap/index.js";

/**
 * The blocks of a representation from one of them on, as they come (RFC 7959 §2.4), each by a request of its own. An error
 * response is the last.
 *
 * @throws CoapError COAP_BLOCK_MISMATCH: the resource changes meanwhile, or another block comes than was asked for.
 */
export async function* blocksFrom(
  client: CoapClient,
  uri: string,
  init: RequestInit,
  from: { readonly number: number; readonly sizeBytes: number },
): AsyncGenerator<CoapResponse, void, undefined> {
  let etag: string | undefined;
  for (let { number, sizeBytes } = from, isFirst = true; ; isFirst = false) {
    const wanted = encodeBlock({ number, hasMore: false, sizeBytes });
    const options = [...(init.options ?? []), [OPTION.Block2, wanted] as const];
    const response = await client.request(uri, { ...init, isBlockwise: false, options });
    const { block2 } = response.options;
    const tag = response.etag === undefined ? "" : Buffer.from(response.etag).toString("hex");
    if (response.ok && !isFirst && tag !== etag) throw mismatch("the resource has changed while it was read");
    if (response.ok && block2 !== undefined && block2.number * block2.sizeBytes !== number * sizeBytes)
      throw mismatch("another block came than was asked for");
    yield response;
    if (!response.ok || block2?.hasMore !== true) return;
    etag = tag;
    number = block2.number + 1;
    ({ sizeBytes } = block2);
  }
}

function mismatch(what: string): CoapError {
  return new CoapError("COAP_BLOCK_MISMATCH", what);
}
