import { execFile } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { DPE } from "#testing/dpe-program.js";
import { folderOf } from "#testing/server-process.js";
import test, { type ExecutionContext } from "ava";
import { chromium } from "playwright-core";

interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function dpe(folder: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const environment = { ...process.env, XDG_RUNTIME_DIR: folder, RUNTIME_DIRECTORY: folder };
    const options = { timeout: 60_000, cwd: folder, env: environment };
    const child = execFile(process.execPath, [DPE, ...args], options, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

/** `dpe init server` and `dpe server`, at ports that are free. */
async function start(
  t: ExecutionContext,
): Promise<{ readonly folder: string; readonly http: string; readonly port: number; readonly server: PeerProcess }> {
  t.timeout(240_000);
  const folder = folderOf(t);
  const made = await dpe(folder, "init", "server");
  t.is(made.code, 0, made.stderr);
  t.regex(made.stdout, /Start it: +dpe server\nAdd a device: +dpe pair\n$/);
  const file = join(folder, "server.yaml");
  const text = readFileSync(file, "utf8").replace("coaps: 5684", "coaps: 0").replace("port: 8080", "port: 0");
  writeFileSync(file, text);
  const environment = { ...process.env, RUNTIME_DIRECTORY: folder };
  const server = PeerProcess.start(t, process.execPath, [DPE, "server"], { cwd: folder, env: environment });
  await server.printed('"msg":"listening"', 60_000);
  const line = server.output.split("\n").find((one) => one.includes('"msg":"listening"')) ?? "{}";
  const banner = JSON.parse(line) as { readonly http: string; readonly coaps: string };
  return { folder, http: banner.http.split(",")[0] ?? "", port: Number(banner.coaps.split(":").at(-1)), server };
}

test.serial("a new user's path: server made and started, code shown, device paired, run, and seen", async (t) => {
  const { folder, http, port } = await start(t);
  const shown = await dpe(folder, "pair", "--endpoint", "pi-*");
  t.is(shown.code, 0, shown.stderr);
  const code = /^code +(\S+)$/m.exec(shown.stdout)?.[1] ?? "";
  t.regex(shown.stdout, new RegExp(`^  dpe pair coaps://\\S+:${port} ${code}$`, "m"));
  t.regex(shown.stdout, /^expires .* \(10 min\)/m);

  // Where nothing can be written the code is not spent.
  const file = join(folder, "server.yaml");
  const blocked = await dpe(folder, "pair", `coaps://127.0.0.1:${port}`, code, "--dir", file, "--endpoint", "pi-1");
  t.is(blocked.code, 2);
  t.regex(blocked.stderr, /^dpe: the files cannot be written: .*server\.yaml: .*\n$/);
  const device = join(folder, "device");
  const paired = await dpe(folder, "pair", `coaps://127.0.0.1:${port}`, code, "--dir", device, "--endpoint", "pi-1");
  t.is(paired.code, 0, paired.stderr);
  t.regex(paired.stdout, /^paired as pi-1; wrote .*agent\.yaml\nregistered at /);
  t.deepEqual(readdirSync(device).toSorted(), ["agent.yaml", "ca.pem", "device.pem"]);
  for (const name of readdirSync(device)) t.is(statSync(join(device, name)).mode & 0o777, 0o600, name);
  t.is((await dpe(folder, "check", "--config", join(device, "agent.yaml"))).code, 0);

  const agent = PeerProcess.start(t, process.execPath, [DPE, "agent"], { cwd: device, env: process.env });
  await agent.printed("registered", 60_000);
  let devices = "";
  while (!devices.includes('"state":"registered"') || !devices.includes("lastHeardAt"))
    devices = (await dpe(folder, "devices", "--json")).stdout;
  t.regex(devices, /"endpoint":"pi-1"/);
  t.regex((await dpe(folder, "device", "pi-1")).stdout, /cpu\/count/);
  t.regex((await dpe(folder, "subscriber", "list")).stdout, /^pi-1 +certificate +pi-1 +store +allowed$/m);
  t.regex(
    (await dpe(folder, "pair", "list")).stdout,
    new RegExp(`^${code.replaceAll("-", "").slice(0, 6)} +paired`, "m"),
  );
  const audit = await (await fetch(`${http}/api/audit`)).text();
  t.regex(audit, /"type":"pairing-issued"/);
  t.regex(audit, /"type":"pairing-paired"/);
  t.false(audit.includes(code) || audit.includes(code.replaceAll("-", "").slice(6)));
  t.regex(await (await fetch(`${http}/metrics`)).text(), /^dpe_pairings_total\{outcome="paired"\} 1$/m);

  // Never over what is there, and the code is not asked for before that is known.
  const again = await dpe(folder, "pair", `coaps://127.0.0.1:${port}`, code, "--dir", device, "--endpoint", "pi-1");
  t.is(again.code, 2);
  t.regex(again.stderr, /agent\.yaml are there already/);
  const used = await dpe(folder, "pair", `coaps://127.0.0.1:${port}`, code, "--dir", join(folder, "other"));
  t.is(used.code, 3);
  t.regex(used.stderr, /does not accept the code.*\(SECURITY_PAIRING_REFUSED\)\n$/);
});

test.serial(
  "dpe renew: a server that runs takes its new certificate, tells its end, and keeps its devices",
  async (t) => {
    const { folder, http, port, server } = await start(t);
    const { code } = JSON.parse((await dpe(folder, "pair", "--json")).stdout) as { readonly code: string };
    t.is((await dpe(folder, "pair", `coaps://127.0.0.1:${port}`, code, "--dir", "d", "--endpoint", "pi-1")).code, 0);
    const agent = PeerProcess.start(t, process.execPath, [DPE, "agent"], { cwd: join(folder, "d"), env: process.env });
    await agent.printed("registered", 60_000);
    const before = readFileSync(join(folder, "server.pem"), "utf8");
    const renewed = await dpe(folder, "renew", "--days", "20");
    t.is(renewed.code, 0, renewed.stderr);
    t.regex(renewed.stdout, /^server certificate +until \d{4}-/);
    t.not(readFileSync(join(folder, "server.pem"), "utf8"), before);
    await server.printed('"msg":"reloaded"', 60_000);
    t.regex(server.output, /"associationsEnded":0,"msg":"reloaded"/);
    const overview = (await (await fetch(`${http}/api/overview`)).json()) as {
      readonly certificates: readonly { readonly role: string; readonly state: string; readonly validUntil: string }[];
    };
    const own = overview.certificates.find(({ role }) => role === "server");
    const days = (Date.parse(own?.validUntil ?? "") - Date.now()) / 86_400_000;
    t.true(days > 19 && days < 21, `${days} days`);
    t.regex(await (await fetch(`${http}/metrics`)).text(), /^dpe_certificate_end_seconds\{role="server"\} \d+$/m);
    const checked = await dpe(folder, "check", "--config", "server.yaml");
    t.is(checked.code, 0);
    t.regex(checked.stderr, /^server certificate CN=DPE Server: until .*, (19|20) days left/m);
    t.regex(checked.stderr, /^CA of paired devices CN=DPE CA .* days left$/m);
    t.notRegex(agent.output, /"msg":"(lost|moved|silent)"/);

    t.is((await dpe(folder, "renew", "--ca", "--new-key")).code, 0);
    t.is((await dpe(folder, "renew", "--days", "0")).code, 2);
    t.is((await dpe(folder, "renew", "--config", join("d", "agent.yaml"))).code, 2);
  },
);

test.serial("codes: by URI, revoked, waited for; mistyped ones are refused without asking the server", async (t) => {
  const { folder, port } = await start(t);
  const issued = JSON.parse((await dpe(folder, "pair", "--host", "127.0.0.1", "--json")).stdout) as {
    readonly id: string;
    readonly code: string;
    readonly uris: readonly string[];
  };
  t.is(issued.uris[0], `coaps+dpe-pair://127.0.0.1:${port}/${issued.code}`);
  const mistyped = await dpe(
    folder,
    "pair",
    "coaps://127.0.0.1:1",
    issued.code.replace(/.$/, (last) => (last === "0" ? "1" : "0")),
  );
  t.is(mistyped.code, 2);
  t.regex(mistyped.stderr, /mistyped/);
  t.is((await dpe(folder, "pair", "coaps://127.0.0.1:1")).code, 2);
  t.is((await dpe(folder, "pair", "revoke", issued.id)).code, 0);
  t.is((await dpe(folder, "pair", issued.uris[0] ?? "", "--dir", "a")).code, 3);

  const waiting = PeerProcess.start(t, process.execPath, [DPE, "pair", "--host", "127.0.0.1", "--wait"], {
    cwd: folder,
    env: { ...process.env, RUNTIME_DIRECTORY: folder },
  });
  await waiting.printed("uri ", 60_000);
  const uri = /coaps\+dpe-pair:\S+/.exec(waiting.output)?.[0] ?? "";
  t.is((await dpe(folder, "pair", uri, "--dir", "b", "--endpoint", "pi-2")).code, 0);
  await waiting.printed("paired: pi-2", 60_000);
});

test.serial(
  "dpe init writes configurations that pass dpe check, for their owner alone, and never over another",
  async (t) => {
    t.timeout(120_000);
    const folder = folderOf(t);
    for (const [what, file] of [
      ["agent", "agent.yaml"],
      ["server", "server.yaml"],
    ] as const) {
      const dir = join(folder, what);
      const made = await dpe(folder, "init", what, "--dir", dir);
      t.is(made.code, 0, made.stderr);
      for (const name of readdirSync(dir)) t.is(statSync(join(dir, name)).mode & 0o777, 0o600, name);
      const checked = await dpe(folder, "check", "--config", join(dir, file));
      t.is(checked.code, 0, checked.stderr);
      t.notRegex(checked.stdout, /hex:/);
      t.regex(checked.stdout, /: \d+[smhd]$/m, "durations as one writes them");
      const before = readFileSync(join(dir, file), "utf8");
      t.regex(before, /^# /);
      const again = await dpe(folder, "init", what, "--dir", dir);
      t.is(again.code, 2);
      t.regex(again.stderr, /already, and stay as they are/);
      t.is(readFileSync(join(dir, file), "utf8"), before);
    }
    mkdirSync(join(folder, "half"));
    writeFileSync(join(folder, "half", "ca.key"), "mine");
    t.is((await dpe(folder, "init", "server", "--dir", "half")).code, 2);
    t.deepEqual(readdirSync(join(folder, "half")), ["ca.key"]);
    t.is((await dpe(folder, "init", "server", "--dir", "named", "--name", "not a name")).code, 2);
    const named = await dpe(folder, "init", "server", "--dir", "named", "--name", "dpe.example", "--name", "192.0.2.9");
    t.regex(named.stdout, /dpe\.example, 192\.0\.2\.9/);
  },
);

testWith("chromium", "the page shows a device that was paired", async (t) => {
  const { folder, http, port } = await start(t);
  const { code } = JSON.parse((await dpe(folder, "pair", "--json")).stdout) as { readonly code: string };
  t.is((await dpe(folder, "pair", `coaps://127.0.0.1:${port}`, code, "--dir", "d", "--endpoint", "pi-1")).code, 0);
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu"],
  });
  t.teardown(() => browser.close());
  const page = await browser.newPage();
  await page.goto(http);
  await page.getByRole("link", { name: "pi-1" }).waitFor();
  t.regex(await page.locator("tbody").innerText(), /certificate/);
  await page.goto(`${http}/#/errors`);
  await page.getByText("device paired").waitFor();
});
