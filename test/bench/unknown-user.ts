import { randomBytes, randomInt } from "node:crypto";
import { CODE, OPTION, Options, type RequestMessage } from "#coap/index.js";
import { createStoredCredential, DigestClient } from "#digest/index.js";
import { BINDING_OPTION } from "#dpe/index.js";
import {
  type AssociationFacts,
  decodeChallenge,
  encodeAuthorization,
  ServerGuard,
  Subscribers,
} from "#security/index.js";

/**
 * Whether time tells an unknown user from a wrong password: many refusals of each, in an order drawn by lot, judged by the very
 * guard of a server among 1,000 subscribers; then Welch's t over the times below the 90th percentile of both. |t| below 4.5
 * is the bound that side-channel evaluation uses (TVLA). The argument is the number of samples of each kind.
 */
const SAMPLES = Number(process.argv[2] ?? 50_000);
const REALM = "bench";
const POST: RequestMessage = {
  code: CODE.POST,
  options: Options.none.withAll(OPTION.UriPath, ["dpe1", "reg"]),
  payload: new Uint8Array(64),
};

const subscribers = Array.from({ length: 1000 }, (_, index) => {
  const username = `user-${String(index).padStart(4, "0")}`;
  return { name: username, digest: createStoredCredential({ username, realm: REALM, password: `secret ${index}` }) };
});
const guard = new ServerGuard(
  "dpe1",
  {
    connection: "none",
    clientAuthentication: ["digest"],
    digest: {
      realm: REALM,
      algorithms: ["SHA-256"],
      qops: ["auth"],
      scope: "request",
      // Back-off answers before anything is computed; here the computation is what is measured.
      failures: { burstPerSubscriber: 1e9, burstPerAddress: 1e9 },
    },
  },
  { subscribers: new Subscribers(subscribers), random: randomBytes, onAudit: () => undefined },
);
const facts: AssociationFacts = { connection: "none", address: "192.0.2.1" };

function challenge() {
  const judged = guard.judge(POST, facts, Date.now());
  const value = judged.type === "refuse" ? judged.response.options.get(BINDING_OPTION.DigestChallenge) : undefined;
  if (value === undefined) throw new Error("no challenge");
  return decodeChallenge(value);
}

/** Both kinds of name have one length and form; the answers are wrong alike. */
function wrongAnswer(isKnown: boolean): RequestMessage {
  // By lot, too: one after the other in the order of memory would be found in it sooner.
  const username = `${isKnown ? "user" : "none"}-${String(randomInt(1000)).padStart(4, "0")}`;
  const client = new DigestClient({ secret: { username, password: "wrong" }, random: randomBytes });
  client.takeChallenge(challenge());
  const authorization = client.authorize({ method: "POST", uri: "/dpe1/reg", body: POST.payload });
  if (authorization === undefined) throw new Error("no answer");
  const options = POST.options.with(BINDING_OPTION.DigestAuthorization, encodeAuthorization(authorization));
  return { ...POST, options };
}

const times: Record<"known" | "unknown", number[]> = { known: [], unknown: [] };
const warmUp = Math.min(5000, SAMPLES);
for (let index = 0; index < 2 * SAMPLES + warmUp; index++) {
  const isKnown = (randomBytes(1)[0] ?? 0) < 128;
  const message = wrongAnswer(isKnown);
  const begin = process.hrtime.bigint();
  const judged = guard.judge(message, facts, Date.now());
  const took = Number(process.hrtime.bigint() - begin);
  if (judged.type !== "refuse" || judged.error !== "invalid-credentials") throw new Error(judged.rule);
  if (index >= warmUp) times[isKnown ? "known" : "unknown"].push(took);
}

const limit = [...times.known, ...times.unknown].toSorted((a, b) => a - b)[Math.floor(1.8 * SAMPLES)] ?? Infinity;
const known = statistics(times.known.filter((time) => time < limit));
const unknown = statistics(times.unknown.filter((time) => time < limit));
const error = Math.sqrt(known.variance / known.count + unknown.variance / unknown.count);
const t = (known.mean - unknown.mean) / error;
const BOUND = 4.5;
process.stdout.write(`| refused | samples | mean, µs | standard deviation, µs |
|---|---|---|---|
| wrong password | ${known.count} | ${micro(known.mean)} | ${micro(Math.sqrt(known.variance))} |
| unknown user | ${unknown.count} | ${micro(unknown.mean)} | ${micro(Math.sqrt(unknown.variance))} |

difference ${micro(known.mean - unknown.mean)} µs ± ${micro(1.96 * error)} (95 %), Welch's t ${t.toFixed(2)}, ${
  Math.abs(t) < BOUND ? `within ±${BOUND}: not told apart` : `beyond ±${BOUND}: TOLD APART`
}
`);

function statistics(values: readonly number[]): {
  readonly count: number;
  readonly mean: number;
  readonly variance: number;
} {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  return { count: values.length, mean, variance };
}

function micro(nanoseconds: number): string {
  return (nanoseconds / 1000).toFixed(3);
}
