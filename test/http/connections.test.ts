import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { folderOf, startServerProcess } from "#testing/server-process.js";
import { until } from "#testing/until.js";
import test from "ava";

const SERVER = `
realm: test
http: { port: 0 }
credentials: { psk: [{ identity: fleet, key: "hex:000102030405060708090a0b0c0d0e0f" }] }
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [digest] }
subscribers: [{ name: alice, password: secret }]
`;

test("who sends no whole request is cut off, and one address holds no more than its share of connections", async (t) => {
  t.timeout(90_000);
  const { http } = await startServerProcess(t, folderOf(t), SERVER);
  const { port } = new URL(http);
  const open = async (host: string, text: string): Promise<Socket> => {
    const socket = connect({ port: Number(port), host: "127.0.0.1", localAddress: host });
    t.teardown(() => socket.destroy());
    socket.on("error", () => undefined).resume();
    await once(socket, "connect");
    socket.write(text);
    return socket;
  };
  const head = "GET /api/overview HTTP/1.1\r\nhost: 127.0.0.1\r\n";
  const body = "content-type: application/json\r\ncontent-length: 60000\r\n\r\n{";
  const slow = [
    await open("127.0.0.2", ""),
    await open("127.0.0.2", `${head}x-a: `),
    await open("127.0.0.2", `${head.replace("GET", "POST")}${body}`),
  ];
  const dripping = setInterval(() => {
    for (const socket of slow.slice(1)) socket.write(" ");
  }, 500);
  t.teardown(() => clearInterval(dripping));
  const many = await Promise.all(Array.from({ length: 260 }, () => open("127.0.0.3", `${head}x-a: `)));
  await until(() => many.filter(({ closed }) => closed).length === 10);
  t.is((await fetch(`${http}/api/overview`)).status, 200, "others are served");
  // 10 s for a head, 30 s for all of it, and 5 s until that is seen.
  await until(() => many.every(({ closed }) => closed), { withinMs: 30_000 });
  await until(() => slow.every(({ closed }) => closed), { withinMs: 60_000 });
  t.pass();
});
