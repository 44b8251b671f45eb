import { CODE, OPTION, Options } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { DigestClient } from "#digest/index.js";
import { BINDING_OPTION_FORMATS } from "#dpe/index.js";
import { CoapEndpoint, connect } from "#net/index.js";
import { ClientAuthenticator } from "#security/index.js";
import { DpeServer, SERVER_SCHEMA } from "#server/index.js";
import { randomBytes } from "node:crypto";

/**
 * What Digest costs: refreshes per second of processor time over DTLS with Digest for each request, for the association, and with none.
 * Client and server share one process and one core, so the client's own Digest is in the figure; the ratios count, each the median
 * of those within a round. Prints a Markdown table; the argument is the seconds for each sample.
 */
const KEY = randomBytes(16).toString("hex");
const OUTSTANDING = 16;
const REPETITIONS = 7;
const sampleMs = Number(process.argv[2] ?? 1) * 1000;

const CASES = [
  ["no client authentication", "clientAuthentication: [none]"],
  ["Digest SHA-256, scope association", "clientAuthentication: [digest], digest: { scope: association }"],
  ["Digest SHA-256, scope request, auth", "clientAuthentication: [digest], digest: { scope: request, qop: [auth] }"],
  [
    "Digest SHA-256, scope request, auth-int",
    "clientAuthentication: [digest], digest: { scope: request, qop: [auth-int] }",
  ],
] as const;

/** By round, in the order of {@link CASES}. */
const rounds: number[][] = [];
// The first round is not counted: it warms the code up. The others go there and back.
for (let round = 0; round <= REPETITIONS; round++) {
  const rates: number[] = [];
  const order = [...CASES.keys()];
  for (const index of round % 2 === 0 ? order : order.toReversed())
    rates[index] = await measure(CASES[index]?.[1] ?? "");
  if (round > 0) rounds.push(rates);
}

process.stdout.write("| DPE-1 over DTLS, both sides | requests/CPU-s | of none |\n|---|---|---|\n");
for (const [index, [title]] of CASES.entries()) {
  const rate = median(rounds.map((rates) => rates[index] ?? 0));
  const ratio = median(rounds.map((rates) => (rates[index] ?? 0) / (rates[0] ?? 1)));
  process.stdout.write(`| ${title} | ${Math.round(rate)} | ${ratio.toFixed(2)} |\n`);
}

async function measure(policy: string): Promise<number> {
  const server = await DpeServer.start(
    parseConfig(
      `
realm: bench
credentials: { psk: [{ identity: fleet, key: "hex:${KEY}" }] }
interfaces: { dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, ${policy} } }
subscribers: [{ name: alice, password: secret }]
`,
      "bench.yaml",
      SERVER_SCHEMA,
    ),
  );
  const digest = new DigestClient({ secret: { username: "alice", password: "secret" }, random: randomBytes });
  const authenticator = new ClientAuthenticator(digest);
  const coap = new CoapEndpoint({
    optionFormats: BINDING_OPTION_FORMATS,
    parameters: { nstart: OUTSTANDING },
    onSend: (message, _connection, send) => authenticator.send(message, send),
  });
  const session = await connect(
    { host: "127.0.0.1", port: server.addresses.coaps?.port ?? 0 },
    { psk: { identity: new TextEncoder().encode("fleet"), key: Buffer.from(KEY, "hex") } },
  );
  await session.opened;
  const connection = coap.addSession(session);
  const post = (path: readonly string[], query: readonly string[]) =>
    connection.request({
      code: CODE.POST,
      options: Options.none.withAll(OPTION.UriPath, path).withAll(OPTION.UriQuery, query),
      payload: new Uint8Array(0),
    });
  const created = await post(["dpe1", "reg"], ["ep=bench"]);
  if (created.code !== CODE.Created) throw new Error(`the registration was answered by ${created.code}`);
  const { locationPath } = created.options;
  let done = 0;
  const before = process.cpuUsage();
  const begin = performance.now();
  const work = async (): Promise<void> => {
    while (performance.now() - begin < sampleMs) {
      const { code } = await post(locationPath, []);
      if (code !== CODE.Changed) throw new Error(`a refresh was answered by ${code}`);
      done++;
    }
  };
  await Promise.all(Array.from({ length: OUTSTANDING }, work));
  const { user, system } = process.cpuUsage(before);
  const rate = (done * 1e6) / (user + system);
  await connection.close();
  await coap.close();
  await server.close();
  return rate;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
