/** CoAP Content-Formats that this project meets, as their numbers in the IANA registry (RFC 7252 §12.3). */
export const CONTENT_FORMAT = {
  "text/plain": 0,
  /** RFC 6690 */
  "application/link-format": 40,
  "application/xml": 41,
  "application/octet-stream": 42,
  "application/json": 50,
  "application/cbor": 60,
  /** RFC 8428 */
  "application/senml+json": 110,
  "application/senml+cbor": 112,
  /** RFC 9290 */
  "application/concise-problem-details+cbor": 257,
  /** RFC 9177 */
  "application/missing-blocks+cbor-seq": 272,
  /** RFC 8790 */
  "application/senml-etch+json": 320,
  "application/senml-etch+cbor": 322,
} as const;

export type ContentFormatName = keyof typeof CONTENT_FORMAT;
