import {
  decodeProblemDetails,
  CONTENT_FORMAT,
  formatCode,
  isSuccessCode,
  type Options,
  type ProblemDetails,
  type ResponseMessage,
} from "#coap/index.js";

/** A whole response, as `request` and `observe` give it. */
export class CoapResponse implements ResponseMessage {
  /** As its byte, such as `CODE.Content`. */
  readonly code: number;
  readonly options: Options;
  /** The caller's to keep. */
  readonly payload: Uint8Array;

  constructor(message: ResponseMessage) {
    this.code = message.code;
    this.options = message.options;
    this.payload = message.payload;
  }

  /** Whether it tells of success: 2.xx. */
  get ok(): boolean {
    return isSuccessCode(this.code);
  }

  /** The code as "2.05". */
  get status(): string {
    return formatCode(this.code);
  }

  get contentFormat(): number | undefined {
    return this.options.contentFormat;
  }

  get etag(): Uint8Array | undefined {
    return this.options.etag;
  }

  /** The path of what was created, such as "/reg/17"; undefined where there is none. */
  get location(): string | undefined {
    const path = this.options.locationPath;
    const query = this.options.locationQuery;
    if (path.length === 0 && query.length === 0) return undefined;
    const segments = path.map((segment) => encodeURIComponent(segment)).join("/");
    return `/${segments}${query.length === 0 ? "" : `?${query.map((part) => encodeURIComponent(part)).join("&")}`}`;
  }

  /** The payload as UTF-8 text. */
  text(): string {
    return TEXT_DECODER.decode(this.payload);
  }

  /** The payload as JSON. @throws SyntaxError */
  json(): unknown {
    return JSON.parse(this.text());
  }

  /** What an error response says went wrong (RFC 9290), or its diagnostic text (RFC 7252 §5.5.2) as title. */
  problem(): ProblemDetails | undefined {
    if (this.ok) return undefined;
    if (this.contentFormat === CONTENT_FORMAT["application/concise-problem-details+cbor"]) {
      try {
        return decodeProblemDetails(this.payload);
      } catch {
        return undefined;
      }
    }
    return this.payload.length > 0 && this.contentFormat === undefined ? { title: this.text() } : undefined;
  }
}

const TEXT_DECODER = new TextDecoder();
