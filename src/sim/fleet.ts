import { AGENT_SCHEMA, type AgentConfig } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import { resolveHost, type SocketAddress } from "#net/index.js";
import { pause } from "#waiting/index.js";
import { DEVICE_PROFILES, type ProfileName } from "./devices/device-profile.js";
import { HostileDevice } from "./devices/hostile-device.js";
import { SimulatedDevice } from "./devices/simulated-device.js";
import { loadThirdPartyStack, ThirdPartyDevice } from "./devices/third-party-device.js";
import { FleetFigures, type FleetReport, type FleetSample } from "./report/fleet-figures.js";

/** Many simulated devices in this process, each with its own socket, association and credentials, and what they did. */
export class Fleet {
  readonly figures: FleetFigures;
  readonly #devices: readonly Device[];
  readonly #startsPerSecond: number;
  #starter: NodeJS.Timeout | undefined;
  #sampler: NodeJS.Timeout | undefined;

  private constructor(figures: FleetFigures, devices: readonly Device[], startsPerSecond: number) {
    this.figures = figures;
    this.#devices = devices;
    this.#startsPerSecond = startsPerSecond;
  }

  /** Makes the devices; none is started. @throws ConfigError for settings that no agent could have; NetError for a name. */
  static async of(options: FleetOptions): Promise<Fleet> {
    const figures = new FleetFigures(performance.now());
    const address: SocketAddress = { address: await resolveHost(options.host), port: options.port };
    const stack = options.stack === "third-party" ? await loadThirdPartyStack() : undefined;
    const devices = Array.from({ length: options.devices }, (_, index): Device => {
      const endpoint = `${options.endpointPrefix}${index + 1}`;
      const seed = options.seed * 1_000_003 + index;
      if (options.profile === "hostile") {
        const wrongConfig = configOf({ ...options, password: "wrong password" }, endpoint);
        return new HostileDevice({ server: address, wrongConfig, datagramsPerSecond: 20, seed, figures });
      }
      const profile = DEVICE_PROFILES[options.profile];
      if (stack !== undefined) {
        return new ThirdPartyDevice(stack, {
          host: address.address,
          port: address.port,
          endpoint,
          identity: options.psk?.identity ?? "",
          key: options.psk?.key ?? "",
          everyMs: options.everyMs ?? profile.everyMs,
          read: profile.readings(seed),
          figures,
        });
      }
      const every = options.everyMs === undefined ? {} : { everyMs: options.everyMs };
      return new SimulatedDevice(configOf(options, endpoint), profile, { seed, figures, ...every });
    });
    return new Fleet(figures, devices, options.startsPerSecond);
  }

  get size(): number {
    return this.#devices.length;
  }

  /** Devices that are registered now. */
  get up(): number {
    return this.#devices.reduce((sum, device) => sum + (device.isUp ? 1 : 0), 0);
  }

  /** Readings that wait to be acknowledged. */
  get unsent(): number {
    return this.#devices.reduce((sum, device) => sum + device.unsent, 0);
  }

  /** Starts the devices one after the other; tells each second what happened. */
  start(onSample: (sample: FleetSample) => void = () => undefined): void {
    const waiting = [...this.#devices];
    const perTick = this.#startsPerSecond / (1000 / TICK_MS);
    let due = 0;
    this.#starter = setInterval(() => {
      for (due += perTick; due >= 1; due -= 1) waiting.shift()?.start();
      if (waiting.length === 0) clearInterval(this.#starter);
    }, TICK_MS);
    this.#sampler = setInterval(() => onSample(this.figures.sample(performance.now(), this.up)), 1000);
  }

  /** No device reads any more; waits until everything read is acknowledged, or that long. Returns what is not. */
  async settle(withinMs: number): Promise<number> {
    clearInterval(this.#starter);
    for (const device of this.#devices) device.quieten();
    const deadline = performance.now() + withinMs;
    while (this.unsent > 0 && performance.now() < deadline) await pause(TICK_MS);
    return this.unsent;
  }

  /** All devices leave; what they did. */
  async stop(): Promise<FleetReport> {
    clearInterval(this.#starter);
    clearInterval(this.#sampler);
    this.figures.sample(performance.now(), this.up);
    const report = this.figures.report(performance.now());
    await Promise.all(this.#devices.map((device) => device.stop()));
    return report;
  }
}

export interface FleetOptions {
  readonly scheme: "coap" | "coaps";
  readonly host: string;
  readonly port: number;
  readonly devices: number;
  readonly profile: ProfileName | "hostile";
  /** `third-party`: node-dtls-client and coap-packet in place of this project's DTLS and CoAP. */
  readonly stack: "dpe-coap" | "third-party";
  /** Endpoint names are this and a number from 1. */
  readonly endpointPrefix: string;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** The key as it stands in a configuration: text, or `hex:…`. */
  readonly psk?: { readonly identity: string; readonly key: string } | undefined;
  /** Trust anchors for the server's certificate; without it, and without a PSK, the server is not authenticated. */
  readonly ca?: string | undefined;
  /** Ms between the readings of a device; default: its profile's. */
  readonly everyMs?: number | undefined;
  readonly startsPerSecond: number;
  readonly seed: number;
}

/** Each device's configuration goes through the schema of any agent's. */
function configOf(options: FleetOptions, endpoint: string): AgentConfig {
  const { scheme, host, port, username, password, psk, ca } = options;
  const authority = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  const credentials = {
    ...(username === undefined ? {} : { username, password }),
    ...(psk === undefined ? {} : { psk }),
  };
  const isSecure = scheme === "coaps";
  const config = {
    endpoint,
    server: `${scheme}://${authority}`,
    lifetime: 600,
    interfaces: {
      dpe1: {
        connection: isSecure ? "dtls" : "none",
        serverAuthentication: !isSecure
          ? "none"
          : psk !== undefined
            ? "psk"
            : ca !== undefined
              ? "certificate"
              : "none",
        ...(ca === undefined || psk !== undefined ? {} : { ca }),
        credentials,
      },
    },
  };
  // JSON is YAML.
  return parseConfig(JSON.stringify(config), "the simulated device", AGENT_SCHEMA);
}

interface Device {
  readonly isUp: boolean;
  readonly unsent: number;
  start(): void;
  quieten(): void;
  stop(): Promise<void>;
}

const TICK_MS = 50;
