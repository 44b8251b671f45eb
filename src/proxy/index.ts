export { checkProxyCredentials, DpeProxy, type ProxyEvent } from "./dpe-proxy.js";
export { PROXY_SCHEMA } from "./proxy-config.js";
