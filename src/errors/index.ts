export { codeOf, messageOf } from "./unknown-error.js";
