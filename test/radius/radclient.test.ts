import { execFile } from "node:child_process";
import { parseIpPrefix } from "#ip/index.js";
import { RadiusListener } from "#radius/index.js";
import test, { type ExecutionContext } from "ava";
import { testWith } from "#testing/peer-process.js";

/** Sends one Accounting-Request as radclient's dictionaries have it, and gives all that it prints. */
function radclient(port: number, attributes: string, secret = "testing123"): Promise<string> {
  return new Promise((resolve) => {
    const child = execFile(
      "radclient",
      ["-x", "-r", "1", "-t", "2", `127.0.0.1:${port}`, "acct", secret],
      { timeout: 20_000 },
      (_error, stdout, stderr) => resolve(`${stdout}${stderr}`),
    );
    child.stdin?.end(`${attributes}\n`);
  });
}

async function listen(t: ExecutionContext) {
  const events: string[] = [];
  const listener = await RadiusListener.listen(
    { host: "127.0.0.1", port: 0 },
    {
      clients: [{ address: parseIpPrefix("127.0.0.0/8")!, secret: new TextEncoder().encode("testing123") }],
      identity: "3GPP-IMSI",
      identify: (value) => value,
    },
    (event) => events.push(event.type === "silent" ? event.reason : event.status),
  );
  t.teardown(() => listener.close());
  return { listener, events, port: listener.address.port };
}

testWith("radclient", "R06 radclient's Start, Interim-Update and Stop are answered and acted upon", async (t) => {
  const { listener, events, port } = await listen(t);
  const session = 'Acct-Session-Id="A1",NAS-IP-Address=192.0.2.1,3GPP-IMSI="262011234567890"';
  t.regex(
    await radclient(port, `Acct-Status-Type=Start,${session},Framed-IP-Address=10.0.0.1,Message-Authenticator=0x00`),
    /Received Accounting-Response/,
  );
  t.is(listener.identityOf("10.0.0.1"), "262011234567890");
  t.regex(
    await radclient(
      port,
      `Acct-Status-Type=Interim-Update,${session},Framed-IPv6-Prefix="2001:db8:7::/64",Framed-IPv6-Address=2001:db8:8::1,Delegated-IPv6-Prefix="2001:db8:9::/56"`,
    ),
    /Received Accounting-Response/,
  );
  for (const address of ["10.0.0.1", "2001:db8:7::abcd", "2001:db8:8::1", "2001:db8:9:ff::1"])
    t.is(listener.identityOf(address), "262011234567890", address);
  t.regex(await radclient(port, `Acct-Status-Type=Stop,${session}`), /Received Accounting-Response/);
  t.is(listener.identityOf("10.0.0.1"), undefined);
  t.is(listener.identityOf("2001:db8:8::1"), undefined);
  t.deepEqual(events, ["start", "interim", "stop"]);
});

testWith(
  "radclient",
  "radclient with another secret gets no answer, and Accounting-On ends what was open",
  async (t) => {
    const { listener, events, port } = await listen(t);
    const start = 'Acct-Status-Type=Start,Acct-Session-Id="A1",Framed-IP-Address=10.0.0.1,3GPP-IMSI="262011234567890"';
    t.regex(await radclient(port, start, "wrong"), /No reply from server/);
    t.is(listener.identityOf("10.0.0.1"), undefined);
    t.deepEqual(events, ["bad-authenticator"]);
    await radclient(port, `${start},NAS-Identifier="gw"`);
    t.is(listener.identityOf("10.0.0.1"), "262011234567890");
    await radclient(port, 'Acct-Status-Type=Accounting-On,NAS-Identifier="gw"');
    t.is(listener.identityOf("10.0.0.1"), undefined);
  },
);

test("two listeners cannot have one port", async (t) => {
  const { port } = await listen(t);
  await t.throwsAsync(
    RadiusListener.listen(
      { host: "127.0.0.1", port },
      { clients: [], identity: "User-Name", identify: (value) => value },
    ),
    { code: "NET_PORT_IN_USE" },
  );
});
