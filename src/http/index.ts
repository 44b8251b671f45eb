export { type HttpListener, listenControl, listenHttp } from "./http-server.js";
export { Metrics } from "./metrics.js";
export type { Operation } from "./operation.js";
