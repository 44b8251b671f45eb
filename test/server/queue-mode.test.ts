import { CODE, OPTION, Options } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { BINDING_OPTION_FORMATS, CONTENT_FORMAT, DpeError } from "#dpe/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import { encodePack, type SenmlRecord } from "#senml/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { FleetRequests } from "#server/fleet-requests.js";
import { Store } from "#store/index.js";
import { until } from "#testing/until.js";
import test from "ava";

const NOW = Date.UTC(2026, 10, 24);
const AWAKE_MS = 93_000;
const DAY_MS = 86_400_000;

test("a device in queue mode is asked at once while it is awake; later 16 requests wait for it, a day at most, and are sent once", async (t) => {
  const store = await Store.open({ type: "memory" });
  t.teardown(() => store.close());
  const { registration } = await store.registrations.register(
    {
      endpoint: "pi-1",
      subscriber: undefined,
      lifetimeSeconds: 2 * 86_400,
      dpe2: { type: "association" },
      isQueueMode: true,
    },
    { records: [], server: store.server },
    NOW,
  );
  const asked: string[] = [];
  let isAway = false;
  const fleet = new FleetRequests({
    store,
    isHere: () => true,
    check: () => undefined,
    query: (_endpoint, names): Promise<readonly SenmlRecord[]> => {
      if (isAway) return Promise.reject(new DpeError("DPE_NOT_REACHABLE", "asleep again"));
      asked.push(names.join());
      return Promise.resolve([{ name: names[0] ?? "", value: asked.length }]);
    },
  });
  t.is((await fleet.ask("pi-1", ["a"], NOW + AWAKE_MS)).type, "answered");
  const asleep = NOW + AWAKE_MS + 1;
  for (let n = 0; n < 16; n++) t.is((await fleet.ask("pi-1", [`n${n}`], asleep + n)).type, "queued");
  await t.throwsAsync(fleet.ask("pi-1", ["n16"], asleep + 16), { code: "DPE_TOO_MANY_REQUESTS" });
  t.deepEqual(asked, ["a"]);

  // It wakes, and is gone before the first is answered: that one waits on, with the others.
  isAway = true;
  await fleet.deliver("pi-1", asleep + 1000);
  t.true((await store.requests.list("pi-1", asleep + 1000)).every(({ state }) => state === "waiting"));
  isAway = false;
  // Two servers hear it at the same time.
  await Promise.all([fleet.deliver("pi-1", asleep + 2000), fleet.deliver("pi-1", asleep + 2000)]);
  t.deepEqual(asked, ["a", ...Array.from({ length: 16 }, (_, n) => `n${n}`)]);
  const settled = await store.requests.list("pi-1", asleep + 2000);
  t.true(settled.every(({ state }) => state === "answered"));
  t.deepEqual(settled[0]?.records, [{ name: "n0", value: 2 }]);

  t.is((await fleet.ask("pi-1", ["late"], asleep + 3000)).type, "queued", "answered ones make way");
  await store.registrations.report(registration.id, undefined, { records: [], server: store.server }, asleep + DAY_MS);
  await fleet.deliver("pi-1", asleep + 3000 + DAY_MS);
  t.false(asked.includes("late"), "what has waited for a day is not sent any more");
  t.is((await store.requests.list("pi-1", asleep + 3000 + DAY_MS)).at(-1)?.state, "expired");
});

test("what waited is sent when the device reports, over the wire, and its answer is kept", async (t) => {
  const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0 }, connection: none, clientAuthentication: [none] }
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA));
  t.teardown(() => server.close());
  const queried: string[] = [];
  const pack = (records: readonly SenmlRecord[]) => ({
    options: Options.none.with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor),
    payload: encodePack(records, "cbor"),
  });
  const device = new CoapEndpoint({
    optionFormats: BINDING_OPTION_FORMATS,
    onRequest: ({ options }) => {
      queried.push(options.uriPath.join("/"));
      return { code: CODE.Content, ...pack([{ name: "battery", value: 87 }]) };
    },
  });
  t.teardown(() => device.close());
  const socket = await UdpSocket.bind({ host: "127.0.0.1" });
  const connection = device.addSocket(socket).connectTo({ address: "127.0.0.1", port: server.addresses.coap!.port });
  const options = Options.none
    .withAll(OPTION.UriPath, ["dpe1", "reg"])
    .withAll(OPTION.UriQuery, ["ep=sensor-1", "lt=600", "dpe2=association", "q"]);
  const registered = await connection.request({ code: CODE.POST, options, payload: new Uint8Array(0) });
  await server.store.requests.add("sensor-1", "1", ["battery"], Date.now(), DAY_MS);
  t.deepEqual(queried, []);

  const { options: format, payload } = pack([{ name: "temperature", value: 21 }]);
  const path = [...registered.options.locationPath, "p"];
  await connection.request({ code: CODE.POST, options: format.withAll(OPTION.UriPath, path), payload });
  const stateOf = async () => (await server.store.requests.list("sensor-1", Date.now()))[0];
  await until(async () => (await stateOf())?.state === "answered");
  t.deepEqual(queried, ["dpe2/p/battery"]);
  t.like((await stateOf())?.records?.[0], { name: "battery", value: 87 });
});

test("a device that sleeps is not asked for what its subscriber may not tell: that is refused at once, and nothing waits", async (t) => {
  const yaml = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0 }, connection: none, clientAuthentication: [none] }
subscribers: [{ name: dave, password: secret, properties: [battery] }]
`;
  const server = await DpeServer.start(parseConfig(yaml, "server.yaml", SERVER_SCHEMA));
  t.teardown(() => server.close());
  await server.store.registrations.register(
    {
      endpoint: "sensor-1",
      subscriber: "dave",
      lifetimeSeconds: 600,
      dpe2: { type: "association" },
      isQueueMode: true,
    },
    { records: [], server: server.store.server },
    Date.now() - AWAKE_MS - 1000,
  );
  for (const names of [["camera"], ["battery", "camera"], []])
    await t.throwsAsync(server.ask("sensor-1", names), { code: "DPE_NOT_ALLOWED" }, names.join());
  t.deepEqual(await server.store.requests.list("sensor-1", Date.now()), []);
  t.is((await server.ask("sensor-1", ["battery"])).type, "queued");
});
