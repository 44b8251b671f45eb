import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { DPE } from "#testing/dpe-program.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import test from "ava";

const UNITS = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..", "scripts", "systemd");
const MOST_EXPOSURE = 20;
const SERVER = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0 }, connection: none, clientAuthentication: [none] }
`;
const agentYaml = (port: number, endpoint: string): string => `
endpoint: ${endpoint}
server: coap://127.0.0.1:${port}
interfaces: { dpe1: { connection: none, serverAuthentication: none } }
sources: []
`;
/** A socket as systemd has it, which prints what it is told. */
const NOTIFIED = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
while True: print(s.recv(4096).decode().replace("\\n", " "), flush=True)
`;

for (const name of ["dpe-server", "dpe-agent"]) {
  testWith("systemd", `the unit ${name} is what systemd understands, and exposes little`, (t) => {
    const file = join(UNITS, `${name}.service`);
    t.is(
      execFileSync("systemd-analyze", ["verify", file], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }),
      "",
    );
    const words = ["security", "--offline=yes", `--threshold=${MOST_EXPOSURE}`, file];
    t.regex(execFileSync("systemd-analyze", words, { encoding: "utf8" }), /Overall exposure level .*: 1\.\d/);
    const text = readFileSync(file, "utf8");
    for (const line of ["Type=notify", "NoNewPrivileges=yes", "ProtectSystem=strict", `User=${name}`])
      t.true(text.includes(`\n${line}\n`), line);
  });
}

testWith("systemd", "systemd is told that a service is ready, alive, what it does, and that it stops", async (t) => {
  t.timeout(120_000);
  const folder = folderOf(t);
  const socket = join(folder, "notify");
  const systemd = PeerProcess.start(t, "python3", ["-c", NOTIFIED, socket]);
  await systemd.printed("bound");
  const { coap } = await startServerProcess(t, folder, SERVER);
  writeFileSync(join(folder, "agent.yaml"), agentYaml(coap, "pi-1"));
  const agent = PeerProcess.start(t, process.execPath, [DPE, "agent"], {
    cwd: folder,
    env: { ...process.env, NOTIFY_SOCKET: socket, WATCHDOG_USEC: "1000000" },
  });
  await systemd.printed("READY=1", 60_000);
  await systemd.printed("STATUS=registered as pi-1", 60_000);
  await systemd.printed("WATCHDOG=1", 60_000);
  agent.signal("SIGTERM");
  await systemd.printed("STOPPING=1", 60_000);
  t.notRegex(systemd.output, /ERRNO/);
});

test("SIGHUP has an agent read its configuration again, and go on with the old one where it is wrong", async (t) => {
  t.timeout(120_000);
  const folder = folderOf(t);
  const { coap, process: server } = await startServerProcess(t, folder, SERVER);
  const file = join(folder, "agent.yaml");
  writeFileSync(file, agentYaml(coap, "pi-1"));
  const agent = PeerProcess.start(t, process.execPath, [DPE, "agent", "--config", file]);
  await agent.printed('"endpoint":"pi-1"', 60_000);
  writeFileSync(file, "endpoint: [");
  agent.signal("SIGHUP");
  await agent.printed("reload-failed", 60_000);
  writeFileSync(file, agentYaml(coap, "pi-2"));
  agent.signal("SIGHUP");
  await agent.printed('"endpoint":"pi-2"', 60_000);
  await server.printed('"endpoint":"pi-2"', 60_000);
  t.regex(agent.output, /"msg":"reloaded"/);
});
