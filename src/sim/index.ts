export { DEVICE_PROFILES, type DeviceProfile, PROFILE_NAMES, type ProfileName } from "./devices/device-profile.js";
export { Fleet, type FleetOptions } from "./fleet.js";
export type { LinkChange, LinkConditions } from "./link/link-conditions.js";
export { parseLinkChange, parseLinkConditions } from "./link/parse-conditions.js";
export { UdpLink, type UdpLinkOptions } from "./link/udp-link.js";
export { type Expectation, parseExpectation } from "./report/expectation.js";
export { FleetFigures, type FleetReport, type FleetSample } from "./report/fleet-figures.js";
export { htmlReport } from "./report/html-report.js";
