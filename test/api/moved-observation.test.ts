import { CoapClient, type HandlerResult, router, serve } from "#api/index.js";
import { type DtlsSession, listen } from "#net/index.js";
import { NatRelay } from "#testing/nat-relay.js";
import { freePort } from "#testing/free-port.js";
import test, { type ExecutionContext } from "ava";

const KEY = "0123456789abcdef";
/** Short times, so that a loss is noticed while a test waits. */
const PARAMETERS = { ackTimeoutMs: 100, maxRetransmit: 2, reregistrationDelayMs: 50 };

/** A server of a state that changes until it is stopped, behind a NAT, and the handshakes with it. */
async function startBehindNat(t: ExecutionContext, hasConnectionIds: boolean) {
  let state = 0;
  const reply = (): HandlerResult => ({ payload: String(state), maxAgeSeconds: 1 });
  const observers = new Set<() => void>();
  const app = router().get("/state", () => ({
    payload: String(state),
    maxAgeSeconds: 1,
    observe: (notify: (next: HandlerResult) => void) => {
      const tell = (): void => notify(reply());
      observers.add(tell);
      return () => observers.delete(tell);
    },
  }));
  const server = await serve(app, { host: "127.0.0.1", port: 0, parameters: PARAMETERS });
  const sessions: DtlsSession[] = [];
  const dtls = await listen(
    (session) => {
      sessions.push(session);
      server.endpoint.addSession(session);
    },
    {
      host: "127.0.0.1",
      server: { pskEnabled: true, ...(hasConnectionIds ? {} : { connectionId: false as const }) },
      pskOf: () => Buffer.from(KEY),
    },
  );
  const nat = await NatRelay.start(dtls.address);
  const change = (): void => {
    state++;
    for (const tell of observers) tell();
  };
  const timer = setInterval(change, 50);
  t.teardown(async () => {
    clearInterval(timer);
    await server.close();
    await dtls.close();
    await nat.close();
  });
  const stop = (): number => {
    clearInterval(timer);
    return state;
  };
  return { nat, sessions, stop, state: () => state };
}

for (const hasConnectionIds of [true, false]) {
  const outcome = hasConnectionIds
    ? "goes on without a handshake by connection identifiers"
    : "is made anew over a new association without connection identifiers";
  test(`an observation over DTLS whose client a NAT moves ${outcome}, and comes to the last state`, async (t) => {
    t.timeout(60_000);
    const { nat, sessions, stop, state } = await startBehindNat(t, hasConnectionIds);
    const client = new CoapClient({ psk: { identity: "alice", key: KEY }, parameters: PARAMETERS });
    t.teardown(() => client.close());
    const seen: number[] = [];
    let movedAt: number | undefined;
    let last: number | undefined;
    for await (const response of client.observe(`coaps://127.0.0.1:${nat.address.port}/state`)) {
      const value = Number(response.text());
      seen.push(value);
      if (movedAt === undefined && seen.length === 3) {
        // What is acknowledged has reached the server by then: the client has nothing more to say, and is moved in silence.
        await new Promise((resolve) => setTimeout(resolve, 25));
        await nat.rebind();
        movedAt = state();
      } else if (movedAt !== undefined && value > movedAt + 5) {
        // What was sent to the old address meanwhile is lost; what comes now is to be the newest.
        last ??= stop();
        if (value === last) break;
      }
    }
    t.is(seen.at(-1), last);
    t.deepEqual(
      seen,
      [...seen].toSorted((one, other) => one - other),
      "no older state after a newer one",
    );
    t.is(sessions.length, hasConnectionIds ? 1 : 2);
  });
}

test("an observation over TCP goes on over a new connection when the server comes back, and fails by code when it does not", async (t) => {
  t.timeout(60_000);
  const app = (state: string) => router().get("/state", () => ({ payload: state, observe: () => () => undefined }));
  const port = await freePort();
  let server = await serve(app("before"), { host: "127.0.0.1", tcp: { port } });
  t.teardown(() => server.close());
  const client = new CoapClient();
  t.teardown(() => client.close());
  const seen: string[] = [];
  const observing = async (): Promise<void> => {
    for await (const response of client.observe(`coap+tcp://127.0.0.1:${port}/state`)) {
      seen.push(response.text());
      await server.close();
      if (seen.length === 1) server = await serve(app("after"), { host: "127.0.0.1", tcp: { port } });
    }
  };
  await t.throwsAsync(observing(), { code: "COAP_PEER_CLOSED" });
  t.deepEqual(seen, ["before", "after"]);
});
