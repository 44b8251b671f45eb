import { type CoapConnection, CoapEndpoint } from "#net/index.js";
import { parseConfig } from "#config/index.js";
import { Dpe2Connections } from "#server/dpe2-connections.js";
import { ServerCredentials } from "#server/server-credentials.js";
import { SERVER_SCHEMA } from "#server/index.js";
import test from "ava";

test("what is kept of endpoints that were heard is bounded by those that are registered, though nobody tells that they end", async (t) => {
  const yaml = "interfaces: { dpe1: { listen: { coap: 0 }, connection: none, clientAuthentication: [none] } }";
  const credentials = new ServerCredentials(parseConfig(yaml, "server.yaml", SERVER_SCHEMA));
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
