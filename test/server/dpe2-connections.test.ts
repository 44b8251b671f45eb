import { CODE, Options, type RequestMessage } from "#coap/index.js";
import type { Registration } from "#dpe/index.js";
import { type CoapConnection, CoapEndpoint, UdpSocket } from "#net/index.js";
import { parseConfig } from "#config/index.js";
import { Dpe2Connections } from "#server/dpe2-connections.js";
import { ServerCredentials } from "#server/server-credentials.js";
import { SERVER_SCHEMA } from "#server/index.js";
import test from "ava";

test("what is kept of endpoints that were heard is bounded by those that are registered, though nobody tells that they end", async (t) => {
  const credentials = new ServerCredentials(parseConfig(YAML, "server.yaml", SERVER_SCHEMA));
  const moved: string[] = [];
  const connections = new Dpe2Connections(
    new CoapEndpoint(),
    credentials,
    () => undefined,
    (endpoint) => moved.push(endpoint),
  );
  const supersede = (): void => undefined;
  const closed = { isClosed: true, supersede } as CoapConnection;
  const open = { isClosed: false, supersede } as CoapConnection;
  for (let index = 0; index < 5000; index++) connections.heardOn(`pi-${index}`, index % 5 === 0 ? open : closed);
  let asked = 0;
  const isRegistered = (endpoint: string): Promise<boolean> => {
    asked += 1;
    return Promise.resolve(Number(endpoint.slice(3)) % 2 === 0);
  };
  await connections.sweep(isRegistered);
  t.true(asked > 0 && asked <= 1000, "a sweep is short");
  for (let sweep = 0; sweep < 9; sweep++) await connections.sweep(isRegistered);
  t.is(connections.heardCount, 5000 - 2000, "closed and not registered");
  t.true(connections.hears("pi-5"), "an open one stays");
  t.is(connections.lastHeardOn("pi-2"), closed, "what is registered stays");
  t.is(connections.lastHeardOn("pi-1"), undefined);
  // Heard while it was being looked at: that is what is kept.
  connections.heardOn("pi-7", closed);
  const hearing = (endpoint: string): Promise<boolean> => {
    if (endpoint === "pi-7") connections.heardOn("pi-7", open);
    return isRegistered(endpoint);
  };
  for (let sweep = 0; sweep < 9; sweep++) await connections.sweep(hearing);
  t.true(connections.hears("pi-7"));
  t.is(moved.length, 5002);
});

test("endpoints that listen on IPv4 and on IPv6 are both reached, whichever is the first", async (t) => {
  const ask: RequestMessage = { code: CODE.GET, options: Options.none, payload: new Uint8Array(0) };
  for (const hosts of [
    ["127.0.0.1", "::1"],
    ["::1", "127.0.0.1"],
  ]) {
    const coap = new CoapEndpoint();
    t.teardown(() => coap.close());
    const credentials = new ServerCredentials(parseConfig(YAML, "server.yaml", SERVER_SCHEMA));
    const connections = new Dpe2Connections(
      coap,
      credentials,
      () => undefined,
      () => undefined,
    );
    for (const host of hosts) {
      const device = new CoapEndpoint({ onRequest: () => ({ ...ask, code: CODE.Content }) });
      t.teardown(() => device.close());
      const socket = await UdpSocket.bind({ host });
      device.addSocket(socket);
      const uri = `coap://${host.includes(":") ? `[${host}]` : host}:${socket.address.port}`;
      const connection = await connections.to({ endpoint: host, dpe2: { type: "uri", uri } } as Registration);
      const { code } = await connection.request(ask, { signal: AbortSignal.timeout(10_000) });
      t.is(code, CODE.Content, `${host} of ${hosts.join(", ")}`);
    }
  }
});

const YAML = "interfaces: { dpe1: { listen: { coap: 0 }, connection: none, clientAuthentication: [none] } }";
