import { CONNECTION_LEVEL, INTERFACES } from "#dpe/index.js";
import {
  CLIENT_AUTHENTICATIONS,
  type ClientAuthentication,
  type ClientOffer,
  type Decision,
  decide,
  SERVER_AUTHENTICATIONS,
  type ServerAuthentication,
  type ServerOffer,
  type Subscriber,
} from "#security/index.js";
import test from "ava";

/*
 * The whole matrix is generated, and each cell looked up in the tables below, which were written from the binding and not
 * from the code. A cell is known by the kinds of the policy's modes and by what was offered for each of them:
 *
 *   kinds    L a lower layer or a function outside of DPE, d Digest, n none
 *   offers   V of a subscriber, W of a subscriber without the interface, U of nobody known, I a wrong answer, - nothing
 *   results  1, 2 accepted by the first or second mode; creds, author, fault the refusals credentials-required,
 *            not-authorized, and the fault of the Digest answer
 */
const ON_CLIENTS: Readonly<Record<string, string>> = table(`
  L V=1 W=author U=author -=creds
  d V=1 W=author I=fault  -=creds
  n -=1 I=fault
  LL VV=1 VW=1 VU=1 V-=1 WV=author WW=author WU=author W-=author UV=2 UW=author UU=author U-=author -V=2 -W=author -U=author --=creds
  Ld VV=1 VW=1 VI=1 V-=1 WV=author WW=author WI=author W-=author UV=2 UW=author UI=fault U-=creds -V=2 -W=author -I=fault --=creds
  dL VV=1 VW=1 VU=1 V-=1 WV=author WW=author WU=author W-=author IV=fault IW=fault IU=fault I-=fault -V=2 -W=author -U=creds --=creds
  Ln V-=1 VI=1 W-=author WI=author U-=2 UI=fault --=2 -I=fault
  nL -V=2 IV=2 -W=author IW=author -U=1 IU=fault --=1 I-=fault
  dn V-=1 W-=author II=fault --=2
  nd -V=2 -W=author II=fault --=1
`);

/** V holds, I does not, - not shown; M a mode that proves something. */
const ON_SERVERS: Readonly<Record<string, string>> = table(`
  M V=1 I=server -=server
  n -=1
  MM VV=1 VI=1 V-=1 IV=2 II=server I-=server -V=2 -I=server --=server
  Mn V-=1 I-=server --=2
  nM -V=2 -I=server --=1
`);

const ALICE: Subscriber = { name: "alice", interfaces: ["dpe1", "dpe2"] };
const OUTCAST: Subscriber = { name: "outcast", interfaces: [] };
const LEVELS = ["none", "dtls"] as const;
const CREDENTIALS = [undefined, "unknown", ALICE, OUTCAST] as const;
const DIGESTS = [undefined, "invalid-credentials", ALICE, OUTCAST] as const;

test("a server's decision on a client is that of the table, in the whole matrix of policies and offers", (t) => {
  const wrong: string[] = [];
  const used = new Set<string>();
  let cells = 0;
  for (const [policy, offer] of clientMatrix()) {
    for (const interfaceName of INTERFACES) {
      const decision = decide({ interface: interfaceName, side: "server", policy, offer });
      const expected = expectedOnClient(policy, offer, used);
      cells++;
      const actual = decision.type === "accept" ? decision.mode : decision.error;
      const isSubscriber =
        decision.type === "refuse" || decision.subscriber === (actual === "none" ? undefined : ALICE);
      if (actual !== expected || !isSubscriber || !decision.rule.startsWith(interfaceName))
        wrong.push(`${JSON.stringify({ interfaceName, policy, offer, decision })} expected ${expected}`);
    }
  }
  t.deepEqual(wrong.slice(0, 5), []);
  t.true(cells > 1_000_000);
  t.deepEqual([...used].toSorted(), Object.keys(ON_CLIENTS).toSorted(), "every row of the table was met");
});

test("a client's decision on a server is that of the table, in the whole matrix of policies and offers", (t) => {
  const wrong: string[] = [];
  const used = new Set<string>();
  for (const [policy, offer] of serverMatrix()) {
    for (const interfaceName of INTERFACES) {
      const decision = decide({ interface: interfaceName, side: "client", policy, offer });
      const { serverAuthentication: modes } = policy;
      const cell = modes
        .map((mode) => (mode === "none" ? "-" : offer[mode] === undefined ? "-" : offer[mode] === "valid" ? "V" : "I"))
        .join("");
      const key = `${modes.map((mode) => (mode === "none" ? "n" : "M")).join("")} ${cell}`;
      const isBelow = CONNECTION_LEVEL[offer.connection] < CONNECTION_LEVEL[policy.connection];
      if (!isBelow) used.add(key);
      const found = ON_SERVERS[key] ?? "no row";
      const expected = isBelow
        ? "security-required"
        : found === "server"
          ? "server-not-accepted"
          : (modes[Number(found) - 1] ?? found);
      const actual: string = decision.type === "accept" ? decision.mode : decision.error;
      if (actual !== expected || !decision.rule.startsWith(interfaceName))
        wrong.push(`${JSON.stringify({ policy, offer, decision })} expected ${expected}`);
    }
  }
  t.deepEqual(wrong.slice(0, 5), []);
  t.deepEqual([...used].toSorted(), Object.keys(ON_SERVERS).toSorted(), "every row of the table was met");
});

test("each fault of a Digest answer is refused by its own name, and each side names its rule", (t) => {
  for (const digest of ["stale-nonce", "replayed", "unsupported-method", "too-many-failures"] as const) {
    for (const clientAuthentication of [["digest"], ["digest", "none"], ["psk", "digest"]] as const) {
      const offer = { connection: "dtls", digest } as const;
      const decision = decide({
        interface: "dpe1",
        side: "server",
        policy: { connection: "none", clientAuthentication },
        offer,
      });
      t.like(decision, { type: "refuse", error: digest });
    }
  }
  const rules = new Map<string, Decision>(
    (["none", "dtls"] as const).map((connection) => {
      const policy = { connection: "dtls", serverAuthentication: ["certificate"] } as const;
      return [connection, decide({ interface: "dpe2", side: "client", policy, offer: { connection } })];
    }),
  );
  t.is(rules.get("none")?.rule, "dpe2.connection: dtls is the least accepted");
  t.is(rules.get("dtls")?.rule, "dpe2.serverAuthentication: one of certificate");
});

type OnClient = {
  readonly connection: (typeof LEVELS)[number];
  readonly clientAuthentication: readonly ClientAuthentication[];
};
type OnServer = {
  readonly connection: (typeof LEVELS)[number];
  readonly serverAuthentication: readonly ServerAuthentication[];
};

function expectedOnClient(policy: OnClient, offer: ClientOffer, used: Set<string>): string {
  const level = CONNECTION_LEVEL[offer.connection];
  if (level < Math.max(CONNECTION_LEVEL[policy.connection], CONNECTION_LEVEL[offer.requestedConnection ?? "none"]))
    return "security-required";
  if (offer.external === "untrusted") return "untrusted-identity";
  const modes = policy.clientAuthentication;
  const kinds = modes.map((mode) => (mode === "none" ? "n" : mode === "digest" ? "d" : "L")).join("");
  const cell = modes
    .map((mode) => {
      const offered = mode === "none" ? undefined : offer[mode];
      if (mode === "none" || offered === undefined)
        return mode === "none" && typeof offer.digest === "string" ? "I" : "-";
      return offered === ALICE ? "V" : offered === OUTCAST ? "W" : offered === "unknown" ? "U" : "I";
    })
    .join("");
  const key = `${kinds} ${cell}`;
  used.add(key);
  switch (ON_CLIENTS[key]) {
    case "creds":
      return "credentials-required";
    case "author":
      return "not-authorized";
    case "fault":
      return "invalid-credentials";
    case undefined:
      return `no row ${key}`;
    default:
      return modes[Number(ON_CLIENTS[key]) - 1] ?? "no mode";
  }
}

/** Every policy of one mode or two in order, with every offer. */
function* clientMatrix(): Generator<readonly [OnClient, ClientOffer]> {
  const offers = [...clientOffers()];
  for (const clientAuthentication of lists(CLIENT_AUTHENTICATIONS)) {
    for (const connection of LEVELS) for (const offer of offers) yield [{ connection, clientAuthentication }, offer];
  }
}

function* clientOffers(): Generator<ClientOffer> {
  for (const connection of LEVELS)
    for (const requestedConnection of [undefined, ...LEVELS])
      for (const certificate of CREDENTIALS)
        for (const rawPublicKey of CREDENTIALS)
          for (const psk of CREDENTIALS)
            for (const external of [...CREDENTIALS, "untrusted"] as const)
              for (const digest of DIGESTS)
                yield {
                  connection,
                  ...(requestedConnection === undefined ? {} : { requestedConnection }),
                  ...(certificate === undefined ? {} : { certificate }),
                  ...(rawPublicKey === undefined ? {} : { rawPublicKey }),
                  ...(psk === undefined ? {} : { psk }),
                  ...(external === undefined ? {} : { external }),
                  ...(digest === undefined ? {} : { digest }),
                };
}

function* serverMatrix(): Generator<readonly [OnServer, ServerOffer]> {
  const shown = [undefined, "valid", "invalid"] as const;
  for (const serverAuthentication of lists(SERVER_AUTHENTICATIONS))
    for (const connection of LEVELS)
      for (const offered of LEVELS)
        for (const certificate of shown)
          for (const rawPublicKey of shown)
            for (const psk of shown)
              for (const address of shown)
                yield [
                  { connection, serverAuthentication },
                  {
                    connection: offered,
                    ...(certificate === undefined ? {} : { certificate }),
                    ...(rawPublicKey === undefined ? {} : { rawPublicKey }),
                    ...(psk === undefined ? {} : { psk }),
                    ...(address === undefined ? {} : { address }),
                  },
                ];
}

function lists<Mode>(modes: readonly Mode[]): readonly (readonly Mode[])[] {
  return modes.flatMap((first) => [
    [first],
    ...modes.filter((mode) => mode !== first).map((second) => [first, second]),
  ]);
}

/** Lines of kinds and then `offers=result`; the key is both with a blank between. */
function table(text: string): Record<string, string> {
  const rows = text.trim().split("\n");
  return Object.fromEntries(
    rows.flatMap((row) => {
      const [kinds, ...cells] = row.trim().split(/\s+/);
      return cells.map((cell) => {
        const [offers = "", result = ""] = cell.split("=");
        return [`${kinds} ${offers}`, result] as const;
      });
    }),
  );
}
