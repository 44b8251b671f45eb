export { canonicalIpAddress, formatIpAddress, parseIpAddress } from "./ip-address.js";
export { formatIpPrefix, ipPrefix, type IpPrefix, isInPrefix, parseIpPrefix } from "./ip-prefix.js";
