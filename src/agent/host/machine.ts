import { decimal, type HostFiles } from "./host-files.js";
import { property, type Property } from "./property.js";

/** What the machine is and what runs on it. */
export async function readMachine(files: HostFiles): Promise<Property[]> {
  const [model, release, kernel, name] = await Promise.all([
    readModel(files),
    readRelease(files),
    files.text("proc/sys/kernel/osrelease"),
    files.text("proc/sys/kernel/hostname"),
  ]);
  return [
    ...property("static", "device/model", model),
    ...property("static", "host/name", name),
    ...property("static", "os/name", release.get("PRETTY_NAME") ?? release.get("NAME")),
    ...property("static", "os/id", release.get("ID")),
    ...property("static", "os/version", release.get("VERSION_ID")),
    ...property("static", "os/kernel", kernel),
    ...property("static", "os/architecture", files.system.architecture()),
  ];
}

/** Time since boot, and the memory of this very process. */
export async function readUptime(files: HostFiles): Promise<Property[]> {
  const uptime = decimal((await files.text("proc/uptime"))?.split(" ", 1)[0]);
  return [
    ...property("dynamic", "uptime", uptime, "s"),
    ...property("dynamic", "agent/memory", files.system.residentBytes(), "B"),
  ];
}

/** The device tree's model (boards), else the maker and product of the DMI tables (PCs). */
async function readModel(files: HostFiles): Promise<string | undefined> {
  const board =
    (await files.text("sys/firmware/devicetree/base/model")) ?? (await files.text("proc/device-tree/model"));
  if (board !== undefined) return oneLine(board);
  const [maker, product] = (
    await Promise.all([files.text("sys/class/dmi/id/sys_vendor"), files.text("sys/class/dmi/id/product_name")])
  ).map((text) => (text === undefined || PLACEHOLDER.test(text) ? undefined : oneLine(text)));
  if (product === undefined) return maker;
  return maker === undefined || product.toLowerCase().startsWith(maker.toLowerCase()) ? product : `${maker} ${product}`;
}

/** os-release(5): shell-like assignments; only quotes and backslashes are undone, nothing is expanded. */
async function readRelease(files: HostFiles): Promise<ReadonlyMap<string, string>> {
  const text = (await files.text("etc/os-release")) ?? (await files.text("usr/lib/os-release")) ?? "";
  const assignments = text.matchAll(/^([A-Z_][A-Z0-9_]*)=(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([^"'\s]*))\s*$/gm);
  return new Map(
    [...assignments].map(([, key = "", double, single, bare]) => [
      key,
      oneLine(double?.replaceAll(/\\(.)/g, "$1") ?? single ?? bare ?? ""),
    ]),
  );
}

function oneLine(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\s\ufffd]+/gu, " ")
    .trim()
    .slice(0, MAX_LINE);
}

/** What makers of boards leave in their tables. */
const PLACEHOLDER =
  /^(to be filled|default string|system (product name|manufacturer)|not (specified|applicable)|none$|n\/a$|o\.e\.m)/i;
const MAX_LINE = 200;
