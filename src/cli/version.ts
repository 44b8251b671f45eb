import { readFileSync } from "node:fs";

const packageFile = new URL("../../../package.json", import.meta.url);
/** Of the package, such as `1.2.3`. */
export const VERSION: string = (JSON.parse(readFileSync(packageFile, "utf8")) as { readonly version: string }).version;
