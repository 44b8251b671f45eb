import { join } from "node:path";
import { type ServerWorker, type ServerConfig } from "#server/index.js";
import { WorkerSteering } from "#net/index.js";
import type { Banner } from "./banner.js";

/** What one of several processes of a server is told by the one that started it. */
export interface WorkerPlace {
  readonly file: string;
  /** From 0. The first has what there can be one of: HTTP, the control socket, the MQTT client. */
  readonly index: number;
  readonly count: number;
  /** Of this run of all of them; see {@link serverIdOf}. */
  readonly run: string;
  /** Where the sockets between them are; mode 0700. */
  readonly folder: string;
  /** 32 bytes in hexadecimal. */
  readonly secret: string;
  /** What the first was given, where the configuration asks for any port. */
  readonly ports: BoundPorts;
}

export type BoundPorts = Partial<Record<"coap" | "coaps" | "coapTcp" | "coapsTcp" | "http", number>>;

/** What it says once it listens. */
export interface WorkerReady {
  readonly banner: Banner;
  readonly ports: BoundPorts;
  readonly addresses: Readonly<Record<string, string>>;
}

/** What it says every so many ms, for as long as it runs. */
export const SIGN_OF_LIFE = "alive";
export const SIGN_OF_LIFE_MS = 5000;

/** By which the store knows one process: the same after a restart of that process. */
export function serverIdOf({ run }: WorkerPlace, index: number): string {
  return `${run}-${index}`;
}

/** Where one process serves its own API, to the first. */
export function apiSocketOf({ folder }: WorkerPlace, index: number): string {
  return join(folder, `api-${index}.sock`);
}

/** The configuration as it is for one of them. */
export function configAt(config: ServerConfig, { index, ports }: WorkerPlace): ServerConfig {
  const { dpe1 } = config.interfaces;
  const { associations } = config.dtls;
  const { http: httpPort, ...listenPorts } = ports;
  return {
    ...config,
    ...(config.http === undefined ? {} : { http: index > 0 ? undefined : withPort(config.http, httpPort) }),
    dtls: {
      ...config.dtls,
      ...(associations === undefined ? {} : { associations: `${associations}.${index}` }),
    },
    interfaces: { ...config.interfaces, dpe1: { ...dpe1, listen: { ...dpe1.listen, ...listenPorts } } },
  };
}

/** Its part in the port. */
export async function steeringAt({ folder, index, count, secret }: WorkerPlace): Promise<ServerWorker> {
  return { steering: await WorkerSteering.open({ folder, index, count }), secret: Buffer.from(secret, "hex") };
}

function withPort<Http extends { readonly port: number }>(http: Http, port: number | undefined): Http {
  return port === undefined ? http : { ...http, port };
}
