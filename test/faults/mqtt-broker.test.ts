import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "#testing/free-port.js";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { ReportingDevice } from "#testing/reporting-device.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test from "ava";

testWith(
  "mosquitto",
  "a broker that refused, was away or hangs is gone on with by itself, and keeps no server from its end",
  async (t) => {
    t.timeout(120_000);
    const folder = folderOf(t);
    const [coap, port] = [await freePort(), await freePort()];
    const file = join(folder, "mosquitto.conf");
    const broker = async (more: string): Promise<PeerProcess> => {
      writeFileSync(file, `listener ${port} 127.0.0.1\npersistence false\n${more}\n`);
      const mosquitto = PeerProcess.start(t, "/usr/sbin/mosquitto", ["-v", "-c", file]);
      await mosquitto.printed("running", 30_000);
      return mosquitto;
    };
    const yaml = `
store: ${join(folder, "store")}
http: { port: 0 }
mqtt: { url: "mqtt://127.0.0.1:${port}" }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: ${coap} }, connection: none, clientAuthentication: [none] }
`;
    const refusing = await broker("allow_anonymous false");
    const server = await startServerProcess(t, folder, yaml);
    const device = await ReportingDevice.open("pi-1", [coap]);
    const running = device.run(50);
    t.teardown(async () => {
      await device.stop();
      await running;
    });
    const forwarded = async (): Promise<number> => {
      const metrics = await (await fetch(`${server.http}/metrics`)).text();
      return Number(/^dpe_forwarded_total (\d+)/m.exec(metrics)?.[1] ?? 0);
    };
    const goesOn = async (): Promise<void> => {
      const enough = (await forwarded()) + 3;
      await until(async () => (await forwarded()) >= enough);
    };
    await until(() => refusing.output.split("not authorised").length > 2, { what: "it to be asked again" });
    t.is(await forwarded(), 0);
    await refusing.end();
    const first = await broker("allow_anonymous true");
    await goesOn();
    t.is(server.process.output.split("Not authorized").length - 1, 1, "a line for the cause, not for each time");

    await first.end();
    const second = await broker("allow_anonymous true");
    await goesOn();

    second.signal("SIGSTOP");
    server.process.signal("SIGTERM");
    const begun = performance.now();
    t.is(await server.process.exited, 0);
    t.true(performance.now() - begun < 12_000);
    second.signal("SIGCONT");
  },
  test.serial,
);
