import { decimal, type HostFiles } from "./host-files.js";
import { distinct, property, segment, type Property } from "./property.js";

/**
 * Each network interface but the loopback and the container ends (`veth…`): state, addresses, bytes received and sent,
 * speed of the link, and the signal level of a wireless one.
 */
export async function readNetwork(files: HostFiles): Promise<Property[]> {
  const interfaces = (await files.list("sys/class/net")).filter((name) => name !== "lo" && !name.startsWith("veth"));
  const kept = interfaces.slice(0, MAX_INTERFACES);
  const [signals, addresses] = await Promise.all([
    readSignals(files),
    files.attempt("network addresses", async () => files.system.addresses()),
  ]);
  const names = distinct(kept.map(segment));
  const readings = kept.map(async (kernelName, index) => {
    const folder = `sys/class/net/${kernelName}`;
    const prefix = `net/${names[index]}`;
    const state = await files.text(`${folder}/operstate`);
    const [rx, tx, megabits] = await Promise.all([
      files.number(`${folder}/statistics/rx_bytes`),
      files.number(`${folder}/statistics/tx_bytes`),
      files.number(`${folder}/speed`),
    ]);
    const ofFamily = (family: "ipv4" | "ipv6"): string | undefined =>
      addresses?.[kernelName]
        ?.filter((address) => address.family === family)
        .map(({ address }) => address)
        .join(" ");
    const dBm = signals.get(kernelName);
    return [
      ...property("dynamic", `${prefix}/state`, state !== undefined && /^[a-z]+$/.test(state) ? state : undefined),
      ...property("dynamic", `${prefix}/ipv4`, ofFamily("ipv4")),
      ...property("dynamic", `${prefix}/ipv6`, ofFamily("ipv6")),
      ...property("dynamic", `${prefix}/rx`, nonNegative(rx), "B"),
      ...property("dynamic", `${prefix}/tx`, nonNegative(tx), "B"),
      // The kernel says -1 where a link has no speed.
      ...property(
        "dynamic",
        `${prefix}/speed`,
        megabits !== undefined && megabits > 0 ? megabits * 1e6 : undefined,
        "bit/s",
      ),
      // dBm is a secondary unit (RFC 8798 §3), which a pack may hold only with a feature flag (RFC 9100 §5): dBW is not.
      ...property("dynamic", `${prefix}/signal`, dBm === undefined ? undefined : dBm - 30, "dBW"),
    ];
  });
  return (await Promise.all(readings)).flat();
}

/** The levels of /proc/net/wireless that are in dBm, by interface: `wlan0: 0000   58.  -52.  -256 …`. */
async function readSignals(files: HostFiles): Promise<ReadonlyMap<string, number>> {
  const text = (await files.text("proc/net/wireless")) ?? "";
  const lines = text.matchAll(/^\s*([^\s:]+):\s+\S+\s+\S+\s+(-?\d+)\.?\s/gm);
  return new Map(
    [...lines].flatMap(([, name = "", level]): [string, number][] => {
      const dBm = decimal(level);
      // Drivers without a calibrated receiver give a level of their own, which is not negative; -256 is "none".
      return dBm !== undefined && dBm < 0 && dBm > -150 ? [[name, dBm]] : [];
    }),
  );
}

function nonNegative(value: number | undefined): number | undefined {
  return value !== undefined && value >= 0 ? value : undefined;
}

const MAX_INTERFACES = 64;
