import { CoapClient, type CoapClientOptions } from "./coap-client.js";
import type { CoapResponse } from "./coap-response.js";
import { leftAtOnce } from "./left-at-once.js";
import type { RequestInit } from "./request-init.js";

/**
 * One request: `const { payload } = await request("coap://[::1]/temperature")`. For many to the same server keep a
 * {@link CoapClient}, which keeps its connections.
 *
 * @throws CoapError COAP_BAD_URI, COAP_TIMEOUT, COAP_CANCELLED, COAP_RESET and others; NetError, DtlsError, X509Error.
 */
export async function request(uri: string, init: RequestInit & CoapClientOptions = {}): Promise<CoapResponse> {
  const client = new CoapClient(init);
  try {
    return await client.request(uri, init);
  } finally {
    await client.close();
  }
}

/** Observes one resource: `for await (const { payload } of observe(uri)) …`. It ends when the loop is left. */
export function observe(
  uri: string,
  init: RequestInit & CoapClientOptions = {},
): AsyncGenerator<CoapResponse, void, undefined> {
  const client = new CoapClient(init);
  const responses = client.observe(uri, init)[Symbol.asyncIterator]();
  return leftAtOnce(closing(client, responses), () => void responses.return());
}

async function* closing(
  client: CoapClient,
  responses: AsyncGenerator<CoapResponse, void, undefined>,
): AsyncGenerator<CoapResponse, void, undefined> {
  try {
    yield* responses;
  } finally {
    await client.close();
  }
}
