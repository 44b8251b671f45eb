import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CoapClient } from "#api/index.js";
import { DPE } from "#testing/dpe-program.js";
import { freePort } from "#testing/free-port.js";
import { testWithMounts } from "#testing/own-mounts.js";
import { PeerProcess } from "#testing/peer-process.js";
import { folderOf } from "#testing/server-process.js";

testWithMounts(
  "on a full disk a server answers 5.03, and takes what it is told again once there is room",
  async (t) => {
    t.timeout(120_000);
    const folder = folderOf(t);
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const port = await freePort();
    const file = join(folder, "server.yaml");
    const yaml = `
store: ${join(disk, "store")}
control: ${join(folder, "control.sock")}
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: ${port} }, connection: none, clientAuthentication: [none] }
`;
    writeFileSync(file, yaml);
    const script = `mount -t tmpfs -o size=2m,mode=0700 none ${disk} && exec "$@"`;
    const words = ["-Urm", "sh", "-c", script, "sh", process.execPath, DPE, "server", "--config", file];
    const server = PeerProcess.start(t, "unshare", words);
    await server.printed('"msg":"listening"', 60_000);
    const client = new CoapClient();
    t.teardown(() => client.close());
    const register = async (): Promise<string> => {
      const payload = JSON.stringify([{ n: "text", vs: "x".repeat(900) }]);
      const uri = `coap://127.0.0.1:${port}/dpe1/reg?ep=pi-1`;
      const response = await client.request(uri, { method: "POST", payload, contentFormat: 110 });
      return response.status;
    };
    t.is(await register(), "2.01");
    const filler = `/proc/${server.pid}/root${disk}/filler`;
    t.throws(() => writeFileSync(filler, new Uint8Array(4 * 1024 * 1024)), { code: "ENOSPC" });
    for (let time = 0; time < 10; time++) t.is(await register(), "5.03");
    rmSync(filler);
    t.is(await register(), "2.01");
  },
);
