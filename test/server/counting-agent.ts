import { AGENT_SCHEMA, DpeAgent } from "#agent/index.js";
import { parseConfig } from "#config/index.js";
import type { FollowStep } from "#server/index.js";
import type { ExecutionContext } from "ava";

/** Of the identity `fleet`. */
export const FLEET_KEY = "000102030405060708090a0b0c0d0e0f";

/** The agent `pi-1` of alice, which counts up from `first`, each tenth of a second. */
export function countingAgent(t: ExecutionContext, scheme: "coap" | "coaps", port: number, first: number): DpeAgent {
  const isSecure = scheme === "coaps";
  const psk = isSecure ? `, psk: { identity: fleet, key: "hex:${FLEET_KEY}" }` : "";
  const yaml = `
endpoint: pi-1
server: ${scheme}://127.0.0.1:${port}
interfaces:
  dpe1: { connection: ${isSecure ? "dtls" : "none"}, serverAuthentication: ${isSecure ? "psk" : "none"}, credentials: { username: alice, password: secret${psk} } }
`;
  let value = first;
  const source = { name: "s", everyMs: 100, read: () => Promise.resolve([{ name: "a", value: value++ }]) };
  const agent = new DpeAgent(parseConfig(yaml, "agent.yaml", AGENT_SCHEMA), [source]);
  t.teardown(() => agent.close());
  return agent;
}

/** The next value of at least `least` that a follower is told. */
export async function told(steps: AsyncGenerator<FollowStep, void>, least: number): Promise<number> {
  for (;;) {
    const step = await steps.next();
    if (step.done === true) throw new Error("it has ended");
    const value = step.value.type === "properties" ? Number(step.value.records[0]?.value) : -1;
    if (value >= least) return value;
  }
}
