import { writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { DPE } from "#testing/dpe-program.js";
import { NatRelay } from "#testing/nat-relay.js";
import { freePort } from "#testing/free-port.js";
import { PeerProcess } from "#testing/peer-process.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";
import { countingAgent, FLEET_KEY, told } from "./counting-agent.js";

const PSK = `credentials: { psk: [{ identity: fleet, key: "hex:${FLEET_KEY}" }] }`;
const SUBSCRIBERS = "subscribers: [{ name: alice, password: secret }]";

async function serve(t: ExecutionContext): Promise<DpeServer> {
  const yaml = `
${PSK}
dtls: { connectionId: off }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0, coaps: 0 }, connection: none, clientAuthentication: [digest] }
${SUBSCRIBERS}
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA));
  t.teardown(() => server.close());
  return server;
}

async function registered(server: DpeServer): Promise<void> {
  await until(async () => (await server.store.registrations.ofEndpoint("pi-1", Date.now())) !== undefined);
}

for (const scheme of ["coap", "coaps"] as const) {
  test(`an endpoint is observed on when it comes from another address, and after its restarts (${scheme})`, async (t) => {
    t.timeout(120_000);
    const server = await serve(t);
    const { port } = server.addresses[scheme]!;
    const nat = await NatRelay.start(server.addresses[scheme]!);
    const first = countingAgent(t, scheme, nat.address.port, 0);
    await registered(server);
    const ended = new AbortController();
    t.teardown(() => ended.abort());
    const steps = server.follow("pi-1", { name: "a", signal: ended.signal });
    const early = await told(steps, 0);
    const moving = await told(steps, early + 1);

    // Without connection identifiers an agent over DTLS finds out by CoAP's time-outs only; what follows is as below.
    if (scheme === "coap") await nat.rebind();
    const moved = await told(steps, moving + 20);

    // Gone without a word, as by a loss of power; and back from another port.
    await nat.close();
    const second = countingAgent(t, scheme, port, 1_000_000);
    t.true((await told(steps, moved + 1)) > moved);
    await told(steps, 1_000_000);

    // Deregistered, and back.
    await second.close();
    for await (const step of { [Symbol.asyncIterator]: () => ({ next: () => steps.next() }) })
      if (step.type === "waiting") break;
    countingAgent(t, scheme, port, 2_000_000);
    await told(steps, 2_000_001);

    ended.abort();
    while ((await steps.next()).done !== true);
    await first.close();
  });
}

test("what cannot be observed at first fails by its code; who was there before waits for it", async (t) => {
  const server = await serve(t);
  const { signal } = new AbortController();
  await t.throwsAsync(server.follow("pi-1", { signal }).next(), { code: "DPE_UNKNOWN_REGISTRATION" });
  const steps = server.follow("pi-1", { signal, isResumed: true });
  t.like((await steps.next()).value, { type: "waiting", message: "no endpoint pi-1 is registered" });
  countingAgent(t, "coaps", server.addresses.coaps!.port, 0);
  await told(steps, 1);
  await steps.return();
  await t.throwsAsync(server.follow("pi-1", { name: "absent", signal }).next(), { code: "DPE_BAD_REQUEST" });
});

test("conditional attributes of an observation are the endpoint's to obey", async (t) => {
  const server = await serve(t);
  countingAgent(t, "coaps", server.addresses.coaps!.port, 0);
  await registered(server);
  const { signal } = new AbortController();
  const steps = server.follow("pi-1", { name: "a", conditions: ["c.st=5"], signal });
  const values = [await told(steps, 0), await told(steps, 0), await told(steps, 0)] as const;
  t.true(values[1] - values[0] >= 5 && values[2] - values[1] >= 5, values.join(", "));
  await steps.return();
  await t.throwsAsync(server.follow("pi-1", { conditions: ["c.st=-1"], signal }).next(), { code: "DPE_BAD_REQUEST" });
});

/** Follows server-sent events as a browser does: comes back with the last id, whatever ended the stream. */
function eventSource(t: ExecutionContext, url: string) {
  let text = "";
  let lastId: string | undefined;
  let isOver = false;
  t.teardown(() => (isOver = true));
  const open = (): void => {
    if (isOver) return;
    const again = (): NodeJS.Timeout => setTimeout(open, 200);
    const headers = lastId === undefined ? {} : { "last-event-id": lastId };
    const asked = request(url, { headers }, (answer) => {
      if (answer.statusCode !== 200) text += `status ${answer.statusCode}\n`;
      answer.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
        lastId = [...chunk.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? lastId;
      });
      answer.on("error", () => undefined).on("close", again);
    });
    asked.once("error", again);
    asked.end();
    t.teardown(() => asked.destroy());
  };
  open();
  return {
    printed: async (expected: string): Promise<void> => {
      await until(() => text.includes(expected));
    },
    text: () => text,
  };
}

test.serial(
  "dpe observe and an EventSource go on when the agent and the server are killed and come back",
  async (t) => {
    t.timeout(300_000);
    const folder = folderOf(t);
    const yaml = `
${PSK}
store: ${join(folder, "store")}
http: { port: ${await freePort()} }
dtls: { associations: ./associations }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: ${await freePort()} }, connection: dtls, clientAuthentication: [digest] }
${SUBSCRIBERS}
`;
    let server = await startServerProcess(t, folder, yaml);
    const file = join(folder, "temperature");
    const agentFile = join(folder, "agent.yaml");
    writeFileSync(file, "20.5");
    writeFileSync(
      agentFile,
      `
endpoint: pi-1
server: coaps://127.0.0.1:${server.coaps}
interfaces:
  dpe1: { connection: dtls, serverAuthentication: psk, credentials: { username: alice, password: secret, psk: { identity: fleet, key: "hex:${FLEET_KEY}" } } }
sources: [{ use: file, path: ${file}, name: temperature, unit: Cel, every: 1s }]
`,
    );
    const startAgent = (): PeerProcess => PeerProcess.start(t, process.execPath, [DPE, "agent", "--config", agentFile]);
    let agent = startAgent();
    await server.process.printed('"msg":"registered"', 60_000);
    const command = PeerProcess.start(t, process.execPath, [
      DPE,
      "observe",
      "pi-1",
      "temperature",
      "--control",
      server.control,
    ]);
    const source = eventSource(t, `${server.http}/api/devices/pi-1/observe?name=temperature`);
    const both = async (value: string): Promise<void> => {
      writeFileSync(file, value);
      await command.printed(`${value} Cel`, 60_000);
      await source.printed(value);
    };
    await both("21.25");

    await agent.end();
    agent = startAgent();
    await both("22.25");

    await server.process.end();
    server = await startServerProcess(t, folder, yaml);
    await both("23.25");

    // Both at once, with nothing to go on with but the store.
    await server.process.end();
    await agent.end();
    server = await startServerProcess(t, folder, yaml);
    agent = startAgent();
    await both("24.25");
    t.notRegex(source.text(), /^status/m);
  },
);
