import { messageOf } from "#errors/index.js";
import { readBattery } from "./battery.js";
import { readCpu, type CpuTimes } from "./cpu.js";
import { readDisks } from "./disks.js";
import { hostFiles, type HostFiles } from "./host-files.js";
import { NODE_SYSTEM, type HostSystem } from "./host-system.js";
import { readGpio } from "./gpio.js";
import { readIndustrialIo } from "./industrial-io.js";
import { readMachine, readUptime } from "./machine.js";
import { readMemory } from "./memory.js";
import { readNetwork } from "./network.js";
import { readOneWire } from "./one-wire.js";
import type { Property } from "./property.js";
import { readTemperatures } from "./temperature.js";

/**
 * Reads the properties of this Linux host: model, system, processors, temperatures, memory, disks, network,
 * batteries, uptime, the agent's own memory, and the sensors on 1-wire, Industrial I/O and GPIO.
 *
 * A sensor that is absent, broken or gives garbage yields no property and never loses the others; what failed beyond
 * "not there" is named in `failures`. `previous` (an earlier reading) is needed for the CPU's utilisation, which is an
 * average between two readings. Never rejects.
 */
export async function readHost(options: HostOptions = {}, previous?: HostReading): Promise<HostReading> {
  const { root, sensorTimeoutMs, system } = { ...DEFAULT_HOST_OPTIONS, ...options };
  const files = hostFiles(root, system, sensorTimeoutMs);
  const failures: HostFailure[] = [];
  const attempt = async <T>(sensor: string, read: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await read();
    } catch (error) {
      failures.push({ sensor, reason: messageOf(error) });
      return undefined;
    }
  };
  const [cpu, ...others] = await Promise.all([
    attempt("cpu", () => readCpu(files, previous?.cpuTimes)),
    ...Object.entries(SENSORS).map(([name, read]) => attempt(name, () => read(files))),
  ]);
  const properties = [...(cpu?.properties ?? []), ...others.flatMap((list) => list ?? [])];
  return { properties, failures: [...failures, ...files.failures()], cpuTimes: cpu?.times };
}

export interface HostOptions {
  /** The root of the file system that is read. Default `/`; another folder is read in its place (a container's host). */
  readonly root?: string;
  /**
   * The longest wait for one file or file system, in milliseconds. Default 2000. A network disk whose server is gone
   * never answers; without the limit no report would be sent again.
   */
  readonly sensorTimeoutMs?: number;
  /**
   * What is asked of the system and not of files: addresses, sizes of file systems, architecture. Default: this
   * process's own view, which is also the host's unless `root` shows another machine.
   */
  readonly system?: HostSystem;
}

export const DEFAULT_HOST_OPTIONS: Readonly<Required<HostOptions>> = {
  root: "/",
  sensorTimeoutMs: 2000,
  system: NODE_SYSTEM,
};

export interface HostReading {
  /** Sorted by sensor; names are distinct. */
  readonly properties: readonly Property[];
  readonly failures: readonly HostFailure[];
  /** For the next reading. */
  readonly cpuTimes: CpuTimes | undefined;
}

/** A sensor that is there and could not be read. */
export interface HostFailure {
  /** `battery`, or the file. */
  readonly sensor: string;
  readonly reason: string;
}

const SENSORS: Readonly<Record<string, (files: HostFiles) => Promise<Property[]>>> = {
  machine: readMachine,
  temperature: readTemperatures,
  memory: readMemory,
  disk: readDisks,
  network: readNetwork,
  battery: readBattery,
  uptime: readUptime,
  "1-wire": readOneWire,
  iio: readIndustrialIo,
  gpio: readGpio,
};
