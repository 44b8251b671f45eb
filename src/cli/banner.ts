import { formatDuration } from "#config/index.js";
import { formatAddress } from "#net/index.js";
import { DEFAULT_STORE_LIMITS } from "#store/index.js";
import type { DpeServer, ServerConfig } from "#server/index.js";

/** What a server is, once it listens: what listens where, with which policy, and where its state is. Holds no secret. */
export function bannerOf(config: ServerConfig, server: DpeServer, surroundings: BannerSurroundings): Banner {
  const { coap, coaps, coapTcp, coapsTcp, radius } = server.addresses;
  const { dpe1, dpe2 } = config.interfaces;
  const places = [
    ...(coaps === undefined ? [] : [`coaps://${formatAddress(coaps)}`]),
    ...(coap === undefined ? [] : [`coap://${formatAddress(coap)}`]),
    ...(coapsTcp === undefined ? [] : [`coaps+tcp://${formatAddress(coapsTcp)}`]),
    ...(coapTcp === undefined ? [] : [`coap+tcp://${formatAddress(coapTcp)}`]),
  ];
  const demands = ({
    connection,
    clientAuthentication,
  }: {
    connection: string;
    clientAuthentication: readonly string[];
  }): string => `connection at least ${connection}, clients by ${clientAuthentication.join(", then ")}`;
  return {
    dpe1: `${places.join(", ")}; ${demands(dpe1)}${dpe1.clientAuthentication.includes("digest") ? ` (${dpe1.digest.algorithms.join(", ")}, realm ${config.realm})` : ""}`,
    dpe2: demands(dpe2),
    ...(radius === undefined ? {} : { radius: `accounting on ${formatAddress(radius)}` }),
    store: storeSentence(config),
    http:
      surroundings.http === undefined
        ? "off"
        : `${surroundings.http}${config.http?.token === undefined ? ", for this machine alone" : ", with a token"}`,
    control: surroundings.control ?? "off",
    ...(config.mqtt === undefined
      ? {}
      : {
          mqtt: `${config.mqtt.url}, topics ${config.mqtt.topic}/…${config.mqtt.discovery === "none" ? "" : ", Home Assistant discovery"}`,
        }),
  };
}

/** For a terminal: a title, and a line for each part. */
export function bannerText(version: string, banner: Banner): string {
  const lines = Object.entries(banner).map(([name, value]) => `  ${name.padEnd(8)} ${String(value)}`);
  return `dpe-coap ${version}, a DPE Server\n${lines.join("\n")}\n`;
}

export interface Banner {
  readonly dpe1: string;
  readonly dpe2: string;
  readonly radius?: string;
  readonly store: string;
  readonly http: string;
  readonly control: string;
  readonly mqtt?: string;
  readonly workers?: string;
}

export interface BannerSurroundings {
  readonly http: string | undefined;
  readonly control: string | undefined;
}

function storeSentence({ store, history, dangerVolatileStore }: ServerConfig): string {
  const age = formatDuration(history.age);
  const kept = `history: ${history.values ?? (store === undefined ? 100 : DEFAULT_STORE_LIMITS.maxValues)} values of each property, ${age}`;
  if (store === undefined) return `in memory, forgotten when this process ends (set store: to keep it); ${kept}`;
  if (store.type === "lmdb") return `${store.folder} (LMDB), on disk before a report is answered; ${kept}`;
  const where = store.url.replace(/\/\/[^@/]*@/, "//");
  return `${where}${dangerVolatileStore ? ", which may lose what it answered" : ", on its disk before a report is answered"}; ${kept}`;
}
