import { createRequire } from "node:module";
import type * as library from "@peculiar/x509";

/**
 * The parser of certificates, loaded when the first certificate is there to be parsed: loading it takes 0.1 s and 12 MB, and
 * an agent with a pre-shared key never needs it.
 */
export function peculiar(): Peculiar {
  loaded ??= require("./peculiar-library.cjs") as Peculiar;
  return loaded;
}

type Peculiar = typeof library;

const require = createRequire(import.meta.url);
let loaded: Peculiar | undefined;
