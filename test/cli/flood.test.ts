import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CODE, OPTION, Options } from "#coap/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import { DPE } from "#testing/dpe-program.js";
import { freePort } from "#testing/free-port.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test from "ava";

const SERVER = `
realm: test
http: { port: 0 }
limits: { auditEvents: 100 }
credentials: { psk: [{ identity: fleet, key: "hex:000102030405060708090a0b0c0d0e0f" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0, coaps: 0 }, connection: dtls, clientAuthentication: [digest] }
subscribers: [{ name: alice, password: secret }]
`;

test("errors that anybody may report displace no change from the audit trail, and fill no log", async (t) => {
  t.timeout(60_000);
  const { http, coap: port, process } = await startServerProcess(t, folderOf(t), SERVER);
  const added = await fetch(`${http}/api/subscribers`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: "bob", password: "a password" }),
  });
  t.is(added.status, 201);
  const coap = new CoapEndpoint();
  t.teardown(() => coap.close());
  const server = coap.addSocket(await UdpSocket.bind({ host: "127.0.0.1" })).connectTo({ address: "127.0.0.1", port });
  const error = {
    code: CODE.POST,
    options: Options.none.withAll(OPTION.UriPath, ["dpe1", "err"]),
    payload: new Uint8Array(0),
  };
  for (let sent = 0; sent < 2000; sent++) t.is((await server.request(error)).code, CODE.Changed);
  const { events } = (await (await fetch(`${http}/api/audit?limit=200`)).json()) as {
    readonly events: readonly { readonly type: string; readonly name?: string }[];
  };
  t.true(events.some(({ type, name }) => type === "subscriber-added" && name === "bob"));
  t.true(events.filter(({ type }) => type === "authentication").length <= 60);
  const lines = process.output.split("\n").filter((line) => line.includes('"client-error"'));
  t.true(lines.length >= 20 && lines.length < 1000, `${lines.length} lines`);
  t.regex(lines[0] ?? "", /"peer":"127\.0\.0\.1:\d+"/);
  // The next line after a second tells how many there were besides.
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await server.request(error);
  await process.printed("client-error: left out", 5000);
  t.pass();
});

test("what an agent that listens refuses to strangers fills no log", async (t) => {
  t.timeout(60_000);
  const folder = folderOf(t);
  const port = await freePort();
  const config = join(folder, "agent.yaml");
  writeFileSync(
    config,
    `
endpoint: pi-1
server: coaps://127.0.0.1:9
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: a, key: a key } } }
  dpe2: { bind: ["coap://127.0.0.1:${port}"], connection: dtls, serverAuthentication: psk }
sources: []
`,
  );
  const agent = spawn(process.execPath, [DPE, "agent", "--config", config], { stdio: ["ignore", "pipe", "inherit"] });
  t.teardown(() => agent.kill("SIGKILL"));
  let output = "";
  agent.stdout.on("data", (data: Buffer) => (output += data.toString()));
  await until(() => output.includes('"lost"'));
  const coap = new CoapEndpoint();
  t.teardown(() => coap.close());
  const asking = coap.addSocket(await UdpSocket.bind({ host: "127.0.0.1" })).connectTo({ address: "127.0.0.1", port });
  const question = {
    code: CODE.GET,
    options: Options.none.withAll(OPTION.UriPath, ["dpe2", "p"]),
    payload: new Uint8Array(0),
  };
  const beganAt = performance.now();
  const refusals = (): number => output.split("\n").filter((line) => line.includes('"msg":"audit"')).length;
  for (let sent = 0; sent < 300; sent++) t.is((await asking.request(question)).code, CODE.Unauthorized);
  await until(() => refusals() > 0);
  t.true(refusals() <= 2 + (performance.now() - beganAt) / 1000, `${refusals()} lines`);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await asking.request(question);
  await until(() => output.includes("audit: left out"));
});
