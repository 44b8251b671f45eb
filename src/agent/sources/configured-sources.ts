import { firmwareSource, type FirmwareSourceEvent } from "../firmware-source.js";
import { execSource } from "./exec-source.js";
import { fileSource } from "./file-source.js";
import { hostSource } from "./host-source.js";
import { httpSource } from "./http-source.js";
import type { SourceConfig } from "./source-config.js";
import type { Source } from "./source.js";

/** The sources that a file asks for. `onFirmware` is told of microcontrollers that come and go, and what they log. */
export function sourcesOf(
  configs: readonly SourceConfig[],
  onFirmware: (event: FirmwareSourceEvent) => void = () => undefined,
): readonly Source[] {
  return configs.map((config) => ({ ...sourceOf(config, onFirmware), rules: config.rules }));
}

function sourceOf(config: SourceConfig, onFirmware: (event: FirmwareSourceEvent) => void): Source {
  switch (config.use) {
    case "firmware":
      return firmwareSource(config, onFirmware);
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
