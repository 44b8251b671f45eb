import type { HostFiles } from "./host-files.js";
import { distinct, property, segment, type Property } from "./property.js";

/**
 * The mounted file systems that hold data on this host: `disk/root/size` and `disk/root/free` in bytes. Each device
 * once, at its shortest mount point. Network file systems are left out: one whose server is gone blocks for ever.
 */
export async function readDisks(files: HostFiles): Promise<Property[]> {
  const mounts = decodeMounts((await files.text("proc/mounts")) ?? "");
  const names = distinct(mounts.map(({ folder }) => nameOf(folder)));
  const readings = mounts.map(async ({ folder }, index) => {
    // Containers mount single files (/etc/hosts) from the host's disk.
    if (!(await files.isFolder(folder))) return [];
    const size = await files.attempt(`disk ${folder}`, () => files.system.fileSystem(files.path(folder)));
    if (size === undefined || size.sizeBytes <= 0) return [];
    return [
      ...property("static", `disk/${names[index]}/size`, size.sizeBytes, "B"),
      ...property("dynamic", `disk/${names[index]}/free`, size.freeBytes, "B"),
    ];
  });
  return (await Promise.all(readings)).flat();
}

interface Mount {
  readonly device: string;
  readonly folder: string;
}

function decodeMounts(text: string): readonly Mount[] {
  const byDevice = new Map<string, Mount>();
  for (const line of text.split("\n")) {
    const [device, folder, type] = line.split(" ").map(unescape);
    if (device === undefined || folder === undefined || type === undefined) continue;
    if (!folder.startsWith("/") || !LOCAL_TYPES.has(type) || device.startsWith("/dev/loop")) continue;
    const known = byDevice.get(device);
    if (known === undefined || folder.length < known.folder.length) byDevice.set(device, { device, folder });
  }
  return [...byDevice.values()].slice(0, MAX_DISKS);
}

/** fstab(5): blanks and the like are written as three octal digits. */
function unescape(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function nameOf(folder: string): string {
  return folder === "/" ? "root" : segment(folder.slice(1).replaceAll("/", "-"));
}

/** File systems on disks, cards and flash; `overlay` is a container's root, squashfs images are always full. */
const LOCAL_TYPES: ReadonlySet<string> = new Set(
  "ext2 ext3 ext4 xfs btrfs f2fs vfat exfat ntfs ntfs3 fuseblk zfs bcachefs jfs nilfs2 ubifs jffs2 hfsplus overlay".split(
    " ",
  ),
);
const MAX_DISKS = 64;
