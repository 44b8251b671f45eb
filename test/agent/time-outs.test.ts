import { AGENT_SCHEMA, DpeAgent, type Source } from "#agent/index.js";
import { decodeMessage, isRequestCode } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { type SocketAddress, UdpSocket } from "#net/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

/** A path between agent and server that keeps what passed, and loses what it is told to. */
async function path(t: ExecutionContext, serverPort: number) {
  const front = await UdpSocket.bind({ host: "127.0.0.1" });
  const back = await UdpSocket.bind({ host: "127.0.0.1" });
  t.teardown(() => Promise.all([front.close(), back.close()]));
  const seen: { readonly to: "agent" | "server"; readonly text: string; readonly at: number }[] = [];
  let agent: SocketAddress | undefined;
  let isLost: (to: "agent" | "server", bytes: Uint8Array) => boolean = () => false;
  const pass = (to: "agent" | "server", bytes: Uint8Array): void => {
    seen.push({ to, text: Buffer.from(bytes).toString("hex"), at: performance.now() });
    if (isLost(to, bytes)) isLost = () => false;
    else if (to === "server") back.send(bytes, { address: "127.0.0.1", port: serverPort });
    else if (agent !== undefined) front.send(bytes, agent);
  };
  front.onDatagram = (bytes, from) => {
    agent = { address: from.address, port: from.port };
    pass("server", bytes);
  };
  back.onDatagram = (bytes) => pass("agent", bytes);
  return {
    port: front.address.port,
    loseOne: (which: typeof isLost) => (isLost = which),
    /** How long after its first transmission a request was sent again; undefined: none was. */
    gap: (to: "agent" | "server"): number | undefined => {
      const first = new Map<string, number>();
      for (const datagram of seen) {
        if (datagram.to !== to || !isRequest(Buffer.from(datagram.text, "hex"))) continue;
        const before = first.get(datagram.text);
        if (before !== undefined) return datagram.at - before;
        first.set(datagram.text, datagram.at);
      }
      return undefined;
    },
  };
}

function isRequest(datagram: Uint8Array): boolean {
  return isRequestCode(decodeMessage(datagram).code);
}

for (const timeOuts of ["none", "cocoa", "fasor"] as const) {
  test(`timeOuts: ${timeOuts} is what agent and server send again by, each toward the other`, async (t) => {
    let reports = 0;
    const server = await DpeServer.start(
      parseConfig(
        `
timeOuts: ${timeOuts}
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coap: 0 }, connection: none, clientAuthentication: [none] }
`,
        "server.yaml",
        SERVER_SCHEMA,
      ),
      ({ type }) => void (type === "report" && reports++),
    );
    t.teardown(() => server.close());
    const between = await path(t, server.addresses.coap?.port ?? 0);
    let count = 0;
    const source: Source = {
      name: "counter",
      everyMs: 20,
      read: () => Promise.resolve([{ name: "counter", value: ++count }]),
    };
    const config = `
endpoint: pi-1
server: coap://127.0.0.1:${between.port}
timeOuts: ${timeOuts}
interfaces: { dpe1: { connection: none, serverAuthentication: none } }
`;
    const agent = new DpeAgent(parseConfig(config, "agent.yaml", AGENT_SCHEMA), [source], () => undefined);
    t.teardown(() => agent.close());
    // Enough that the round trip is known where it is measured.
    await until(() => reports >= 8);
    between.loseOne((to, bytes) => to === "agent" && !isRequest(bytes));
    await until(() => between.gap("server") !== undefined);
    for (let query = 0; query < 8; query++) await server.query("pi-1", "counter");
    between.loseOne((to, bytes) => to === "agent" && isRequest(bytes));
    await server.query("pi-1", "counter");
    for (const to of ["agent", "server"] as const) {
      const gapMs = between.gap(to) ?? 0;
      t.log(`sent again to the ${to} after ${Math.round(gapMs)} ms`);
      if (timeOuts === "none") t.true(gapMs >= 2000 && gapMs < 4000);
      else t.true(gapMs > 20 && gapMs < 1900);
    }
  });
}
