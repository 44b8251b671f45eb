import { execSource } from "./exec-source.js";
import { fileSource } from "./file-source.js";
import { hostSource } from "./host-source.js";
import { httpSource } from "./http-source.js";
import type { SourceConfig } from "./source-config.js";
import type { Source } from "./source.js";

/** The sources that a file asks for. */
export function sourcesOf(configs: readonly SourceConfig[]): readonly Source[] {
  return configs.map((config) => ({ ...sourceOf(config), rules: config.rules }));
}

function sourceOf(config: SourceConfig): Source {
  switch (config.use) {
    case "host":
      return hostSource(config.every, config.units);
    case "exec":
      return execSource(config);
    case "file":
      return fileSource(config);
    case "http":
      return httpSource(config);
  }
}
