import { createRequire } from "node:module";
import type * as library from "@peculiar/x509";

/**
 * The parser of certificates, loaded when the first certificate is there to be parsed: loading it takes 0.2 s and 12 MB, and
 * an agent with a pre-shared key never needs it.
 */
export function peculiar(): Peculiar {
  if (loaded === undefined) {
    // Its containers ask for this polyfill as they are loaded.
    require("reflect-metadata");
    loaded = require("@peculiar/x509") as Peculiar;
  }
  return loaded;
}

type Peculiar = typeof library;

const require = createRequire(import.meta.url);
let loaded: Peculiar | undefined;
