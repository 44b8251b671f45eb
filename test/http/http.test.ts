import { execFile } from "node:child_process";
import { chmodSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { join } from "node:path";
import { PeerProcess, testWith } from "#testing/peer-process.js";
import { DPE } from "#testing/dpe-program.js";
import { folderOf, startServerProcess, type ServerProcess } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";
import { chromium } from "playwright-core";

const KEY = "000102030405060708090a0b0c0d0e0f";
const SERVER = `
realm: test
http: { port: 0 }
credentials: { psk: [{ identity: fleet, key: "hex:${KEY}" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0, coaps: 0, coapTcp: 0 }, connection: dtls, clientAuthentication: [digest] }
subscribers:
  - { name: alice, password: secret, endpoints: ["pi-*"] }
`;
const agentYaml = (port: number, file: string, { endpoint = "pi-1", password = "secret" } = {}) => `
endpoint: ${endpoint}
server: coaps://127.0.0.1:${port}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { username: alice, password: ${password}, psk: { identity: fleet, key: "hex:${KEY}" } } }
sources: [{ use: file, path: ${file}, name: kitchen/temperature, unit: Cel, every: 1s }]
`;

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  readonly json: Readonly<Record<string, unknown>>;
}

function send(
  url: string,
  options: {
    method?: string;
    headers?: Record<string, string>;
    body?: string;
    socketPath?: string;
    path?: string;
  } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { body, socketPath, ...rest } = options;
    const sent = request(url, { ...rest, ...(socketPath === undefined ? {} : { socketPath }) }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
      answer.on("end", () => {
        const isJson = answer.headers["content-type"]?.includes("json") === true;
        resolve({
          status: answer.statusCode ?? 0,
          headers: answer.headers,
          text,
          json: isJson ? (JSON.parse(text) as Record<string, unknown>) : {},
        });
      });
    });
    sent.once("error", reject);
    sent.end(body);
  });
}

function dpe(
  ...args: string[]
): Promise<{ readonly code: number | null; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [DPE, ...args], { timeout: 40_000 }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

/** A server process and an agent process that reports a temperature from a file; one wrong password was refused. */
async function operate(t: ExecutionContext): Promise<ServerProcess & { readonly reading: (value: number) => void }> {
  t.timeout(240_000);
  const folder = folderOf(t);
  const server = await startServerProcess(t, folder, SERVER);
  const file = join(folder, "temperature");
  const reading = (value: number): void => writeFileSync(file, String(value));
  reading(20.5);
  writeFileSync(join(folder, "agent.yaml"), agentYaml(server.coaps, file));
  writeFileSync(join(folder, "wrong.yaml"), agentYaml(server.coaps, file, { endpoint: "pi-2", password: "wrong" }));
  PeerProcess.start(t, process.execPath, [DPE, "agent", "--config", join(folder, "agent.yaml")]);
  t.is((await dpe("agent", "--config", join(folder, "wrong.yaml"))).code, 3);
  await until(async () => (await send(`${server.http}/api/devices/pi-1/properties`)).text.includes("20.5"));
  return { ...server, reading };
}

test.serial("the API tells of devices, properties, history, audit, answers DPE-2 and follows the fleet", async (t) => {
  const { http, control, reading } = await operate(t);
  const { json: fleet } = await send(`${http}/api/devices?limit=1`);
  t.like((fleet["devices"] as object[])[0], { endpoint: "pi-1", subscriber: "alice", state: "registered", overdue: 0 });
  const { json: device } = await send(`${http}/api/devices/pi-1`);
  t.like((device["security"] as { dpe1: object }).dpe1, { connection: "dtls", authentication: "digest" });
  t.like((device["properties"] as object[])[0], { name: "kitchen/temperature", unit: "Cel", value: 20.5 });

  const events = new AbortController();
  t.teardown(() => events.abort());
  const stream = await fetch(`${http}/api/events?endpoint=pi-1`, { signal: events.signal });
  t.is(stream.headers.get("content-type"), "text/event-stream");
  for (const path of ["events", "devices/pi-1/observe"])
    t.is((await fetch(`${http}/api/${path}`, { method: "HEAD", signal: AbortSignal.timeout(5000) })).status, 404, path);
  reading(21.5);
  let heard = "";
  const reader = stream.body!.pipeThrough(new TextDecoderStream()).getReader();
  while (!heard.includes("21.5")) heard += (await reader.read()).value ?? "";
  t.regex(heard, /event: report\ndata: \{"endpoint":"pi-1"/);

  const history = await send(`${http}/api/devices/pi-1/history?name=kitchen/temperature`);
  t.deepEqual((history.json["values"] as { value: number }[]).map(({ value }) => value).slice(-2), [20.5, 21.5]);
  const json = { "content-type": "application/json" };
  const asked = await send(`${http}/api/devices/pi-1/query`, {
    method: "POST",
    headers: json,
    body: '{"names":["kitchen/temperature"]}',
  });
  t.like(asked.json["properties"], [{ name: "kitchen/temperature", value: 21.5 }]);
  t.is((await send(`${http}/api/devices/pi-9/query`, { method: "POST", headers: json, body: "{}" })).status, 404);
  t.is((await send(`${http}/api/devices/pi-9`)).status, 404);
  t.is((await send(`${http}/api/devices/pi-1/history`)).status, 400);
  t.is((await send(`${http}/api/devices?limit=0`)).status, 400);
  t.is((await send(`${http}/api/nothing`)).status, 404);

  const { json: audit } = await send(`${http}/api/audit`);
  const failure = (audit["events"] as { error?: string; cause?: string; peer?: string }[]).find(
    ({ error, cause }) => (error ?? cause) === "invalid-credentials",
  );
  t.regex(failure?.peer ?? "", /^127\.0\.0\.1:\d+$/);
  const { text: metrics } = await send(`${http}/metrics`);
  t.regex(metrics, /^dpe_registrations_total [1-9]/m);
  t.regex(metrics, /^dpe_authentication_errors_total\{error="invalid-credentials"\} 1$/m);
  t.regex(metrics, /^dpe_devices 1$/m);
  t.regex(metrics, /^dpe_tcp_refused\{reason="too-many-connections-of-address"\} 0$/m);

  const { json: document } = await send(`${http}/api/openapi.json`);
  t.is(document["openapi"], "3.1.0");
  for (const path of ["/api/devices", "/api/devices/{endpoint}/query", "/api/audit", "/api/events"])
    t.true(path in (document["paths"] as object), path);
  t.is(statSync(control).mode & 0o777, 0o600);
  t.is((await send("http://x/api/devices", { socketPath: control })).status, 200);
});

test.serial("without a token only this machine's names are served, and no other site changes anything", async (t) => {
  const { http } = await startServerProcess(t, folderOf(t), SERVER);
  t.is((await send(`${http}/api/overview`, { headers: { host: "evil.example" } })).json["error"], "HTTP_FOREIGN_HOST");
  const crossSite = { "content-type": "application/json", "sec-fetch-site": "cross-site" };
  const post = (headers: Record<string, string>) =>
    send(`${http}/api/devices/pi-1/query`, { method: "POST", headers, body: "{}" });
  t.is((await post(crossSite)).json["error"], "HTTP_CROSS_SITE");
  t.is((await post({ "content-type": "text/plain" })).json["error"], "HTTP_NOT_JSON");
  t.is((await send(`${http}/api/devices/pi-1`, { method: "DELETE", headers: crossSite })).status, 403);
  const page = await send(`${http}/`);
  t.regex(String(page.headers["content-security-policy"]), /default-src 'none'; script-src 'self'/);
  t.is((await send(`${http}/page/page.js`)).status, 200);
  t.is((await send(`${http}/page/../package.json`)).status, 404);
  const next = "c27a400000000000.000000001.0a1b2c3d4e5f-1";
  t.is((await send(`${http}/api/audit?before=${next}`)).status, 200, "a key of one of several processes");
});

test.serial("with a token the API, events and metrics are for its holder alone", async (t) => {
  const config = SERVER.replace("http: { port: 0 }", "http: { port: 0, token: a-long-enough-token }");
  const { http, control } = await startServerProcess(t, folderOf(t), config);
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  for (const path of ["/api/devices", "/api/events", "/metrics", "/api/openapi.json"]) {
    t.is((await send(http + path)).status, 401, path);
    t.is((await send(http + path, bearer("a-long-enough-tokeN"))).status, 401, path);
  }
  // One route has many URLs.
  for (const path of ["/%61pi/devices", `${http}/api/devices`, "/%6detrics", "/metrics#", "/ap%69/openapi.json"])
    t.is((await send(http, { path })).status, 401, path);
  t.is((await send(`${http}/`)).status, 200);
  t.is((await send(`${http}/page/page.js`)).status, 200);
  t.is((await send(`${http}/api/devices`, bearer("a-long-enough-token"))).status, 200);
  t.is(
    (await send(`${http}/api/devices`, { headers: { ...bearer("a-long-enough-token").headers, host: "dpe.example" } }))
      .status,
    200,
  );
  t.is((await send("http://x/api/devices", { socketPath: control })).status, 200);
});

test.serial("a control socket is neither made nor asked where anybody may put another in its place", async (t) => {
  const folder = folderOf(t);
  const open = join(folder, "open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  const control = join(open, "control.sock");
  const file = join(folder, "server.yaml");
  writeFileSync(file, `control: ${control}\n${SERVER}`, { mode: 0o600 });
  const server = await dpe("server", "--config", file);
  t.not(server.code, 0);
  t.regex(server.stderr + server.stdout, /all may write there \(HTTP_SOCKET_FAILED\)/);
  const answerer = createServer((_request, response) => response.end("{}")).listen(control);
  t.teardown(() => answerer.close());
  await new Promise((resolve) => answerer.once("listening", resolve));
  t.regex((await dpe("devices", "--control", control)).stderr, /all may write there \(CONTROL_NOT_REACHABLE\)/);
});

test.serial("the commands show devices, ask and observe over the control socket", async (t) => {
  const { control, file, reading } = await operate(t);
  const devices = await dpe("devices", "--config", file);
  t.is(devices.code, 0, devices.stderr);
  t.regex(devices.stdout, /^ENDPOINT +SUBSCRIBER +STATE .*\npi-1 +alice +registered /);
  const device = await dpe("device", "pi-1", "--json", "--control", control);
  t.like(JSON.parse(device.stdout), { endpoint: "pi-1", subscriber: "alice" });
  t.regex((await dpe("device", "pi-1", "--control", control)).stdout, /kitchen\/temperature +20\.5 +Cel/);
  t.regex((await dpe("query", "pi-1", "kitchen/temperature", "--control", control)).stdout, /20\.5 +Cel/);
  const observing = PeerProcess.start(t, process.execPath, [
    DPE,
    "observe",
    "pi-1",
    "kitchen/temperature",
    "--control",
    control,
  ]);
  await observing.printed("20.5 Cel", 30_000);
  reading(23.25);
  await observing.printed("23.25 Cel", 30_000);
  const unknown = await dpe("query", "pi-9", "--control", control);
  t.is(unknown.code, 1);
  t.is(unknown.stderr, "dpe: no endpoint pi-9 is registered (DPE_UNKNOWN_REGISTRATION)\n");
  const absent = await dpe("devices", "--control", `${control}.not`);
  t.regex(
    absent.stderr,
    /^dpe: no server answers at .*control\.sock\.not; is it running.* \(CONTROL_NOT_REACHABLE\)\n$/,
  );
  t.is((await dpe("device")).code, 2);
});

test.serial(
  "a subscriber is added, used, banned with its associations ended, and removed, and shows no credential",
  async (t) => {
    t.timeout(240_000);
    const folder = folderOf(t);
    const server = await startServerProcess(t, folder, SERVER);
    const { control } = server;
    const subscriber = (...words: string[]) => dpe("subscriber", ...words, "--control", control);
    writeFileSync(join(folder, "password"), "a new password\n");
    t.regex(
      (await subscriber("add", "bob", "--password-file", join(folder, "password"), "--endpoint", "lab-*")).stdout,
      /bob added/,
    );
    t.regex(
      (await subscriber("add", "bob", "--password-file", join(folder, "password"))).stderr,
      /DPE_SUBSCRIBER_EXISTS/,
    );
    const listed = await send(`${server.http}/api/subscribers`);
    t.deepEqual(listed.json["subscribers"], [
      { name: "alice", credentials: ["digest"], endpoints: ["pi-*"], isBanned: false, isConfigured: true },
      { name: "bob", credentials: ["digest"], endpoints: ["lab-*"], isBanned: false, isConfigured: false },
    ]);
    const file = join(folder, "temperature");
    writeFileSync(file, "20");
    const yaml = agentYaml(server.coaps, file, { endpoint: "lab-1", password: "a new password" }).replace(
      "alice",
      "bob",
    );
    writeFileSync(join(folder, "bob.yaml"), yaml);
    const agent = PeerProcess.start(t, process.execPath, [DPE, "agent", "--config", join(folder, "bob.yaml")]);
    await until(async () => (await send(`${server.http}/api/devices/lab-1`)).status === 200);
    t.regex((await subscriber("ban", "bob")).stdout, /bob banned/);
    await agent.printed("invalid-credentials", 60_000);
    t.like((await send(`${server.http}/api/devices/lab-1`)).json, { state: "deregistered" });
    t.regex((await subscriber("list")).stdout, /^bob +digest +lab-\* +store +banned$/m);
    t.regex((await subscriber("remove", "alice")).stderr, /DPE_SUBSCRIBER_CONFIGURED/);
    t.regex((await subscriber("remove", "bob")).stdout, /bob removed/);
    t.regex((await subscriber("remove", "bob")).stderr, /DPE_UNKNOWN_SUBSCRIBER/);
  },
);

testWith(
  "chromium",
  "the page shows the fleet, a device live with its chart, and refused clients, and talks to nobody else",
  async (t) => {
    const { http, coaps, reading } = await operate(t);
    const browser = await chromium.launch({
      executablePath: "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-gpu"],
    });
    t.teardown(() => browser.close());
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
    const page = await context.newPage();
    const faults: string[] = [];
    page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
    page.on("pageerror", (error) => faults.push(String(error)));
    page.on("request", (one) => !one.url().startsWith(http) && faults.push(`asked ${one.url()}`));

    await page.goto(http);
    await page.getByRole("row", { name: /pi-1.*alice.*registered.*DTLS.*digest/ }).waitFor();
    await page.getByText("live", { exact: true }).waitFor();
    const shots = process.env["DPE_SCREENSHOTS"];
    await page.getByRole("link", { name: "pi-1" }).click();
    await page.getByRole("heading", { name: "kitchen/temperature" }).waitFor();
    await page.getByText("live", { exact: true }).waitFor();
    reading(22.75);
    await page.getByText("22.75").first().waitFor();
    await page.getByRole("img", { name: /kitchen\/temperature: \d+ values, 20\.5 °C to 22\.75 °C/ }).waitFor();
    await page.getByRole("button", { name: "Ask the device now" }).click();
    await page.getByRole("button", { name: "Ask the device now", disabled: false }).waitFor();
    t.false(await page.getByRole("alert").isVisible());
    await page.getByRole("link", { name: "Authentication errors" }).click();
    await page.getByRole("row", { name: /refused.*invalid-credentials.*127\.0\.0\.1/ }).waitFor();
    if (shots !== undefined) await page.screenshot({ path: `${shots}/errors.png` });

    // Devices choose their names: one that every object of JavaScript has too.
    const event = { key: "1", at: new Date().toISOString(), type: "pairing-paired", peer: "192.0.2.1:1" };
    await page.route("**/api/audit?*", (route) =>
      route.fulfill({ json: { events: [{ ...event, endpoint: "constructor" }] } }),
    );
    await page.reload();
    await page.getByRole("row", { name: /device paired.*constructor/ }).waitFor();

    // By keyboard alone: the first stop leads past the header, the second to the fleet.
    await page.goto(`${http}/`);
    await page.getByRole("row", { name: /pi-1/ }).waitFor();
    await page.keyboard.press("Tab");
    t.is(await page.evaluate("document.activeElement.textContent"), "Skip to the content");
    // On a phone nothing is wider than the screen.
    await page.setViewportSize({ width: 360, height: 740 });
    t.true(await page.evaluate("document.documentElement.scrollWidth <= 360"));
    await page.setViewportSize({ width: 1200, height: 800 });

    // A device that registers takes its place, and what is being typed stays.
    const prefix = page.getByLabel("Name begins with");
    await prefix.fill("pi");
    const folder = folderOf(t);
    const many = Object.fromEntries(Array.from({ length: 14 }, (_, index) => [`p${index}`, index]));
    const source = `{ use: exec, name: many, command: [echo, '${JSON.stringify(many)}'], every: 1s }`;
    const text = agentYaml(coaps, "x", { endpoint: "pi-0" }).replace(/sources: .*/, `sources: [${source}]`);
    writeFileSync(join(folder, "many.yaml"), text);
    PeerProcess.start(t, process.execPath, [DPE, "agent", "--config", join(folder, "many.yaml")]);
    await page.getByRole("row", { name: /pi-0/ }).waitFor();
    t.deepEqual(await page.locator("tbody a").allTextContents(), ["pi-0", "pi-1"]);
    t.is(await prefix.inputValue(), "pi");
    // The ends of a chart have as many digits as tell them apart.
    const close = [20.500_01, 20.500_02].map((value, index) => ({ time: `2100-01-01T00:00:0${index}Z`, value }));
    await page.route("**/history?name=many%2Fp3&*", (route) => route.fulfill({ json: { values: close } }));
    // Of many properties some are found by a part of their name; they stand in the order that people count in.
    await page.getByRole("link", { name: "pi-0" }).click();
    await page.getByRole("heading", { name: "many/p10" }).waitFor();
    const names = await page.locator(".card h2").allTextContents();
    t.true(names.indexOf("many/p9") < names.indexOf("many/p10"));
    await page.getByRole("img", { name: "many/p3: 2 values, 20.50001 to 20.50002" }).waitFor();
    await page.getByLabel(/^Find one of/).fill("P1");
    await page.getByRole("heading", { name: "many/p2" }).waitFor({ state: "hidden" });
    t.is(await page.locator(".card:visible").count(), 5);
    t.deepEqual(faults, []);
    // What is not there says so, and leads back. (The console tells of the 404.)
    await page.goto(`${http}/#/device/nobody`);
    await page.getByRole("alert").getByText("nobody").waitFor();
    t.is(await page.title(), "nobody – DPE Server");
    await page.getByRole("link", { name: "← Fleet" }).click();
    await page.getByRole("row", { name: /pi-0/ }).waitFor();
  },
  test.serial,
);
