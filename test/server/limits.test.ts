import { CODE, OPTION } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { CONTENT_FORMAT } from "#dpe/index.js";
import { connect, formatAddress } from "#net/index.js";
import { encodePack } from "#senml/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { plainClient, registrationOf } from "#testing/dpe-run.js";
import { testWith } from "#testing/peer-process.js";
import { startRedis } from "#testing/redis-peer.js";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import test, { type ExecutionContext } from "ava";

const PSK = { identity: new TextEncoder().encode("fleet"), key: Uint8Array.from({ length: 16 }, (_, index) => index) };
const serverYaml = (more: string): string => `
credentials: { psk: [{ identity: fleet, key: "hex:000102030405060708090a0b0c0d0e0f" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0, coaps: 0 }, connection: none, clientAuthentication: [none] }
${more}
`;

/** The codes that devices of these names are answered with when they register one after the other. */
async function registering(t: ExecutionContext, port: number, names: readonly string[]): Promise<string[]> {
  const send = await plainClient(t);
  const codes: string[] = [];
  for (const name of names) {
    const { code } = await send({ address: "127.0.0.1", port }, registrationOf(name));
    codes.push(`${code >> 5}.${String(code & 31).padStart(2, "0")}`);
  }
  return codes;
}

const DEVICES = ["pi-1", "pi-2", "pi-3", "pi-1"];
const TAKEN = ["2.01", "2.01", "5.03", "2.01"];

test("limits.devices is how many devices dpe server keeps, in memory and in LMDB; those that it knows go on", async (t) => {
  t.timeout(120_000);
  for (const store of ["", "store: ./data"]) {
    const { coap } = await startServerProcess(t, folderOf(t), serverYaml(`limits: { devices: 2 }\n${store}`));
    t.deepEqual(await registering(t, coap, DEVICES), TAKEN, store);
  }
});

testWith("redis", "limits.devices holds on Redis", async (t) => {
  t.timeout(120_000);
  const url = await startRedis(t);
  const { coap } = await startServerProcess(t, folderOf(t), serverYaml(`limits: { devices: 2 }\nstore: ${url}`));
  t.deepEqual(await registering(t, coap, DEVICES), TAKEN);
});

test("each other limit is obeyed", async (t) => {
  const config = `limits: { properties: 2, minLifetime: 60s, maxLifetime: 2h, sessions: 1, plainPeers: 2, queuedRequests: 1 }`;
  const server = await DpeServer.start(parseConfig(serverYaml(config), "server.yaml", SERVER_SCHEMA));
  t.teardown(() => server.close());
  const { coap, coaps } = server.addresses;
  const to = { address: "127.0.0.1", port: coap?.port ?? 0 };
  const send = await plainClient(t);
  const asking = (query: string) => ({
    ...registrationOf("pi-1"),
    options: registrationOf("pi-1").options.withAll(OPTION.UriQuery, ["ep=pi-1", query]),
  });
  t.is((await send(to, asking("lt=59"))).code, CODE.BadRequest);
  t.is((await send(to, asking("lt=7201"))).code, CODE.BadRequest);
  t.is((await send(to, asking("lt=7200"))).code, CODE.Created);

  const readings = (...names: string[]) => ({
    ...registrationOf("pi-2"),
    options: registrationOf("pi-2").options.with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor),
    payload: encodePack(
      names.map((name) => ({ name, value: 1 })),
      "cbor",
    ),
  });
  t.is((await send(to, readings("a", "b", "c"))).code, CODE.RequestEntityTooLarge);
  t.is((await send(to, readings("a", "b"))).code, CODE.Created);

  const first = await connect({ host: "127.0.0.1", port: coaps?.port ?? 0 }, { psk: PSK });
  await first.opened;
  const second = await connect({ host: "127.0.0.1", port: coaps?.port ?? 0 }, { psk: PSK, handshakeTimeoutMs: 1500 });
  await t.throwsAsync(second.opened, undefined, `${formatAddress(second.remoteAddress)} is one too many`);
  t.true((server.dtlsDropped["too-many-sessions"] ?? 0) > 0);
  await first.close();

  t.truthy(await server.store.requests.add("pi-1", "1", [], Date.now(), 60_000));
  t.is(await server.store.requests.add("pi-1", "2", [], Date.now(), 60_000), undefined);
  for (let one = 0; one < 5; one++) await (await plainClient(t))(to, registrationOf("pi-1"));
  t.true(server.connections <= 2, `${server.connections} addresses`);
});
