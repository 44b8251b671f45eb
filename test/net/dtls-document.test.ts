import { readFileSync } from "node:fs";
import test from "ava";
import { DROP_REASONS, DTLS_DEFAULTS, ENDPOINT_DEFAULTS, ENDPOINT_DROP_REASONS } from "#net/index.js";

const read = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");
const DOCUMENT = read("docs/dtls.md");

/** The names that the first column of the tables with this heading has; with each, what the second column says. */
function tables(heading: string): Map<string, string> {
  const found = new Map<string, string>();
  let isOurs = false;
  for (const line of DOCUMENT.split("\n")) {
    const [, first = "", second = ""] = line.split("|").map((cell) => cell.trim());
    if (!line.startsWith("|")) isOurs = false;
    else if (first === heading) isOurs = true;
    if (!isOurs) continue;
    for (const [, name = ""] of first.matchAll(/`(\w[\w-]*)[^`]*`/g)) {
      if (found.has(name)) throw new Error(`${name} has two rows`);
      found.set(name, second);
    }
  }
  return found;
}

function fieldsOf(path: string, name: string): string[] {
  const [, body = ""] = new RegExp(`^export interface ${name}\\b[^]*?\\{\\n([^]*?)\\n\\}`, "m").exec(read(path)) ?? [];
  return [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, field = ""]) => field);
}

/** What a class shows, less what its docstring keeps for the endpoint. */
function membersOf(path: string, kept: readonly string[]): string[] {
  const source = read(path)
    .replaceAll(/ {2}\/\*\* For the endpoint[^]*?\*\/\n.*\n/g, "")
    .replaceAll(/ {2}\/\*\*\n {3}\* For the endpoint[^]*?\*\/\n.*\n/g, "");
  const members = source.matchAll(/^ {2}(?:readonly |async |get )?([a-z]\w*)(?:\(|: |$)/gm);
  return [...new Set([...members].map(([, member = ""]) => member))].filter(
    (member) => member !== "constructor" && member !== "set" && !kept.includes(member),
  );
}

test("docs/dtls.md has a row for each option and event, and for nothing else", (t) => {
  const named = [...tables("option").keys(), ...tables("event").keys()];
  const options = "src/dtls/options.ts";
  const fields = [
    ...fieldsOf(options, "CommonOptions"),
    ...fieldsOf(options, "ClientOptions"),
    ...fieldsOf(options, "ServerOptions"),
    ...fieldsOf("src/net/endpoint-options.ts", "EndpointOptions"),
    ...fieldsOf("src/net/dtls-connect.ts", "ConnectOptions"),
  ];
  t.true(fields.length > 50);
  t.deepEqual([...new Set(named)].toSorted(), [...new Set(fields)].toSorted());
});

test("docs/dtls.md has the default of each limit, as the code has it", (t) => {
  const rows = tables("option");
  const defaults = Object.entries({ ...DTLS_DEFAULTS, ...ENDPOINT_DEFAULTS });
  for (const [name, value] of defaults) {
    if (typeof value === "number") t.is(/^[\d,]+/.exec(rows.get(name) ?? "")?.[0], value.toLocaleString("en-US"), name);
    if (typeof value === "boolean" && name !== "isSaved" && name !== "sessionCache")
      t.is(rows.get(name), String(value), name);
  }
});

test("docs/dtls.md tells of each reason for a drop, and each has a place in the code", (t) => {
  t.deepEqual([...tables("reason").keys()].toSorted(), [...DROP_REASONS, ...ENDPOINT_DROP_REASONS].toSorted());
  const layers = ["association", "association-core", "association-handshake", "association-path", "record-layer"];
  const others = ["handshake/handshake-driver", "handshake/reassembly", "wire/record", "wire/client-hello-start"];
  const source = [...layers, ...others].map((name) => read(`src/dtls/${name}.ts`)).join("");
  const code = source + read("src/dtls/server-gate.ts") + read("src/net/dtls-endpoint.ts");
  t.deepEqual(
    [...DROP_REASONS, ...ENDPOINT_DROP_REASONS].filter((reason) => !code.includes(`"${reason}"`)),
    [],
  );
});

test("docs/dtls.md names what a session and an endpoint have, and the states and faults", (t) => {
  const rows = DOCUMENT.split("\n").filter((line) => line.startsWith("|"));
  const listed = (start: string): string[] => {
    const [, , cell = ""] = rows.find((row) => row.startsWith(start))?.split("|") ?? [];
    return [...cell.matchAll(/`(\w+)[^`]*`/g)].map(([, name = ""]) => name).toSorted();
  };
  const forEndpoint = ["timer", "pump", "supersede", "isStale", "handshakeAddress", "maxDatagramBytes", "beganWith"];
  t.deepEqual(listed("| `session` |"), membersOf("src/net/dtls-session.ts", forEndpoint).toSorted());
  t.deepEqual(listed("| `new DtlsEndpoint"), membersOf("src/net/dtls-endpoint.ts", []).toSorted());
  const union = (path: string, type: string): string[] => {
    const [, names = ""] = new RegExp(`^export type ${type} =([^;]*);`, "m").exec(read(path)) ?? [];
    return [...names.matchAll(/"([\w-]+)"/g)].map(([, name = ""]) => name);
  };
  const states = union("src/dtls/association-output.ts", "AssociationState");
  const faults = union("src/dtls/errors.ts", "DtlsFault");
  t.is(states.length + faults.length, 8);
  for (const name of [...states, ...faults]) t.true(DOCUMENT.includes(`\`${name}\``), name);
});
