export { checkProxyCredentials, DpeProxy, type ProxyEvent } from "./dpe-proxy.js";
export { PROXY_SCHEMA, type ProxyConfig } from "./proxy-config.js";
