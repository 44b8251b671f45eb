export { DEVICE_PROFILES, PROFILE_NAMES, type ProfileName } from "./devices/device-profile.js";
export { Fleet, type FleetOptions } from "./fleet.js";
export { parseLinkChange, parseLinkConditions } from "./link/parse-conditions.js";
export { UdpLink } from "./link/udp-link.js";
export { parseExpectation } from "./report/expectation.js";
export { FleetFigures, type FleetReport, type FleetSample } from "./report/fleet-figures.js";
export { htmlReport } from "./report/html-report.js";
