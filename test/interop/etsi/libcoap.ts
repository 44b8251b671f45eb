import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, type Scoped } from "#testing/peer-process.js";
import type { Step } from "./cases.js";
import {
  type ClientSide,
  IDENTITY,
  isSecure,
  isStream,
  KEY,
  type Place,
  type ServerSide,
  type Transport,
} from "./sides.js";

export type Flavour = "notls" | "openssl" | "gnutls";

/** libcoap's own program, coap-client. */
export function libcoapClient(flavour: Flavour, transports: readonly Transport[]): ClientSide {
  return {
    name: `libcoap-${flavour}`,
    needs: `libcoap-${flavour}`,
    transports,
    cannot: ({ id }, transport) =>
      id === "BLOCK_05" && isStream(transport)
        ? "coap-client asks for no blocks in the answer to a POST, and so short a body is one message there"
        : CLIENT_CANNOT[id],
    fails: () => undefined,
    perform: async (scope, place, steps) => {
      for (const step of steps) await perform(scope, flavour, place, step);
    },
  };
}

const CLIENT_CANNOT: Readonly<Record<string, string>> = {
  CORE_12: "coap-client gives each request a token",
  OBS_04: "coap-client observes once, and does not look at Max-Age",
  OBS_06: "coap-client ends an observation by GET only",
  OBS_10: "coap-client sends one request, and another run of it is another client",
};

async function perform(scope: Scoped, flavour: Flavour, place: Place, step: Step): Promise<void> {
  const { observing } = step;
  const peer = PeerProcess.start(scope, `coap-client-${flavour}`, wordsOf(place, step));
  if (observing?.meanwhile !== undefined) {
    await peer.printed("state");
    await perform(scope, flavour, { ...place, port: place.directPort }, observing.meanwhile);
  }
  const code = await peer.exited;
  if (code !== 0) throw new Error(`coap-client-${flavour} ended with ${code}:\n${peer.output}`);
}

function wordsOf({ transport, port }: Place, step: Step): string[] {
  const { method, path, query, payload, isNon, token, options = [], blockBytes, observing } = step;
  const words = ["-B", "20"];
  if (isSecure(transport)) words.push("-u", IDENTITY, "-k", KEY);
  // A ping comes after a second without anything else: while what it observes does not change.
  if (method === "PING") words.push("-m", "get", "-s", "2", "-K", "1");
  else words.push("-m", method.toLowerCase());
  if (payload !== undefined) words.push("-e", payload);
  if (isNon === true) words.push("-N");
  if (token !== undefined) words.push("-T", token);
  if (blockBytes !== undefined) words.push("-b", String(blockBytes));
  if (observing !== undefined) words.push("-s", String(Math.min(20, Math.ceil(observing.states / 10))));
  for (const [number, hex] of options) words.push("-O", `${number},0x${hex}`);
  const scheme = `coap${isSecure(transport) ? "s" : ""}${isStream(transport) ? "+tcp" : ""}`;
  const target = method === "PING" ? "/obs-changed" : path;
  return [...words, `${scheme}://127.0.0.1:${port}${target}${query === undefined ? "" : `?${query}`}`];
}

/** A server on the library, with the resources that its own program has not: test/peers/libcoap-server.c. */
export function libcoapServer(flavour: Flavour, transports: readonly Transport[]): ServerSide {
  return {
    name: `libcoap-${flavour}`,
    needs: "libcoap-dev",
    transports,
    cannot: ({ id }) => SERVER_CANNOT[id],
    fails: () => undefined,
    start: async (scope, transport) => {
      const port = await freePort();
      const words = isSecure(transport) ? [String(port), KEY] : [String(port)];
      let peer = PeerProcess.start(scope, compiled(flavour), words);
      await peer.printed("ready");
      return {
        port: isSecure(transport) ? port + 1 : port,
        restart: async () => {
          await peer.end();
          peer = PeerProcess.start(scope, compiled(flavour), words);
          await peer.printed("ready");
        },
      };
    },
  };
}

const SERVER_CANNOT: Readonly<Record<string, string>> = {
  OBS_08: "libcoap 4.3.1 faults, in its check for notifications, where a handler answers one by an error",
};

const programs = new Map<Flavour, string>();

/** Compiled once for each run, outside the project. */
function compiled(flavour: Flavour): string {
  let program = programs.get(flavour);
  if (program === undefined) {
    const folder = mkdtempSync(join(tmpdir(), "dpe-peers-"));
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
    program = join(folder, `libcoap-server-${flavour}`);
    const source = fileURLToPath(new URL("../../../../test/peers/libcoap-server.c", import.meta.url));
    const warnings = ["-std=c99", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror"];
    execFileSync("cc", [...warnings, "-o", program, source, `-lcoap-3-${flavour}`]);
    programs.set(flavour, program);
  }
  return program;
}
