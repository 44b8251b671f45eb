export { isForeignFolder } from "./foreign-folder.js";
export { readKeyFile } from "./key-file.js";
export { bootId, LockFile } from "./lock-file.js";
export { replaceFile } from "./replace-file.js";
export { syncFolder } from "./sync-folder.js";
