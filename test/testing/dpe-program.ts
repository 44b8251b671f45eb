import { statSync } from "node:fs";
import { fileURLToPath } from "node:url";

const BUNDLED = fileURLToPath(new URL("../../bundle/cli/dpe.js", import.meta.url));
const COMPILED = fileURLToPath(new URL("../../src/cli/dpe.js", import.meta.url));

/**
 * The program `dpe`, to be started with Node: the bundle that users run, made by `npm run build` and scripts/test. After a
 * compilation alone it is what was compiled, so that no test runs an older program than the one it was written for.
 */
export const DPE: string = timeOf(BUNDLED) >= timeOf(COMPILED) ? BUNDLED : COMPILED;
export const IS_BUNDLED: boolean = DPE === BUNDLED;

function timeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
