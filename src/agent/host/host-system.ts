import { statfs } from "node:fs/promises";
import { machine, networkInterfaces } from "node:os";

/** What comes from system calls and not from files. */
export interface HostSystem {
  /** The machine's hardware name as `uname -m` gives it. */
  architecture(): string | undefined;
  /** The addresses of each interface, as `ADDRESS/PREFIX`. */
  addresses(): Readonly<Record<string, readonly InterfaceAddress[]>>;
  /** The size of a file system and what unprivileged users may still write, in bytes; `path` is on this machine. */
  fileSystem(path: string): Promise<{ readonly sizeBytes: number; readonly freeBytes: number }>;
  /** The resident memory of this process, in bytes. */
  residentBytes(): number;
}

export interface InterfaceAddress {
  readonly family: "ipv4" | "ipv6";
  /** With its prefix length: `192.0.2.2/24`. */
  readonly address: string;
}

export const NODE_SYSTEM: HostSystem = {
  architecture: machine,
  addresses: () =>
    Object.fromEntries(
      Object.entries(networkInterfaces()).map(([name, addresses]) => [
        name,
        (addresses ?? []).map(({ family, cidr, address }) => ({
          family: family === "IPv4" ? ("ipv4" as const) : ("ipv6" as const),
          address: cidr ?? address,
        })),
      ]),
    ),
  fileSystem: async (path) => {
    const { bsize, blocks, bavail } = await statfs(path);
    return { sizeBytes: bsize * blocks, freeBytes: bsize * bavail };
  },
  residentBytes: () => process.memoryUsage.rss(),
};
