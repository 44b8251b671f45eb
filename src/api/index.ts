export { CoapClient, type CoapClientOptions, CoapObservation } from "./coap-client.js";
export { CoapResponse } from "./coap-response.js";
export type { Credentials } from "./credentials.js";
export { checkPreconditions, type HandlerResult, negotiate, type Reply, ResponseError } from "./reply.js";
export { observe, request } from "./request.js";
export type { RequestInit } from "./request-init.js";
export { type Parameters, type RouteHandler, router, Router } from "./router.js";
export { CoapStreamedResponse } from "./streamed-response.js";
export { streamed, type StreamedRoute } from "./streamed.js";
export {
  CoapRequest,
  CoapServer,
  type DtlsServeOptions,
  type Handler,
  serve,
  type ServeOptions,
  type TlsServeOptions,
} from "./serve.js";
export {
  CoapConnection,
  CoapEndpoint,
  type CoapEndpointOptions,
  NetError,
  Observation,
  type StreamedBody,
} from "#net/index.js";
export {
  CODE,
  CoapError,
  type CoapErrorCode,
  CONTENT_FORMAT,
  decodeLinks,
  decodeProblemDetails,
  encodeLinks,
  encodeProblemDetails,
  entityTag,
  filterLinks,
  formatCode,
  type Link,
  type Method,
  OPTION,
  type Option,
  Options,
  type ProblemDetails,
} from "#coap/index.js";
