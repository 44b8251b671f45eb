import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Builds the example's image for a Cortex-M3 and boots it in QEMU, its UART on a Unix socket. It runs until `end`.
 *
 * @throws Error in plain words where the compiler or the emulator is missing, or either fails.
 */
export async function bootFirmware(): Promise<EmulatedBoard> {
  const sources = join(dirname(fileURLToPath(import.meta.url)), "../../../firmware-bridge");
  for (const [program, debian] of PROGRAMS) {
    if (!isThere(program)) throw new Error(`${program} is not installed: scripts/peers, or apt-get install ${debian}`);
  }
  if (!existsSync(sources))
    throw new Error(`the firmware's sources are not at ${sources}: they come with the repository`);
  const folder = mkdtempSync(join(tmpdir(), "dpe-firmware-"));
  const uart = join(folder, "uart");
  const image = join(folder, "firmware.elf");
  try {
    execFileSync("make", ["-s", "-C", sources, "firmware", `BUILD=${folder}`], {
      stdio: ["ignore", "ignore", "inherit"],
    });
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  const qemu = spawn(
    "qemu-system-arm",
    ["-M", BOARD, "-display", "none", "-monitor", "none"].concat([
      "-chardev",
      `socket,id=uart,path=${uart},server=on,wait=off`,
      "-serial",
      "chardev:uart",
      "-kernel",
      image,
    ]),
    { stdio: "ignore" },
  );
  const exited = new Promise<void>((resolve) => {
    qemu.once("error", () => resolve());
    qemu.once("exit", () => resolve());
  });
  const endWithUs = (): void => void qemu.kill("SIGKILL");
  process.once("exit", endWithUs);
  return {
    board: BOARD,
    port: `unix:${uart}`,
    end: async () => {
      process.off("exit", endWithUs);
      qemu.kill("SIGKILL");
      await exited;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export interface EmulatedBoard {
  readonly board: string;
  /** As a source's `port` takes it. */
  readonly port: string;
  end(): Promise<void>;
}

function isThere(program: string): boolean {
  const folders = (process.env["PATH"] ?? "").split(":");
  return folders.some((folder) => existsSync(join(folder, program)));
}

const BOARD = "lm3s6965evb";
const PROGRAMS = [
  ["make", "make"],
  ["arm-none-eabi-gcc", "gcc-arm-none-eabi"],
  ["qemu-system-arm", "qemu-system-arm"],
] as const;
