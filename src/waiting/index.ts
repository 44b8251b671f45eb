export { MAX_TIMER_MS, pause } from "./pause.js";
export { within } from "./within.js";
