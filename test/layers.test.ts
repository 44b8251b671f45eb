import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";

/** What each layer may import, besides itself. `node:*` and packages are listed where a layer may use them. */
const LAYERS: Readonly<Record<string, { readonly layers: readonly string[]; readonly packages: readonly string[] }>> = {
  dtls: { layers: [], packages: ["node:crypto"] },
  coap: { layers: ["cbor"], packages: [] },
  digest: { layers: [], packages: ["node:crypto"] },
  cbor: { layers: [], packages: ["cbor-x"] },
  senml: { layers: ["cbor"], packages: [] },
  x509: { layers: ["ip"], packages: ["node:crypto", "node:module", "node:net", "@peculiar/x509", "reflect-metadata"] },
  config: { layers: ["ip", "errors"], packages: ["node:fs", "node:path", "yaml", "zod"] },
  net: {
    layers: ["dtls", "coap", "x509", "files", "errors"],
    packages: [
      "node:buffer",
      "node:crypto",
      "node:dgram",
      "node:dns",
      "node:events",
      "node:fs",
      "node:net",
      "node:path",
      "node:perf_hooks",
      "node:tls",
    ],
  },
  ip: { layers: [], packages: ["node:net"] },
  waiting: { layers: [], packages: [] },
  errors: { layers: [], packages: [] },
  files: { layers: ["errors"], packages: ["node:crypto", "node:fs", "node:path"] },
  radius: { layers: ["ip", "net", "config", "security", "dpe"], packages: ["node:crypto", "zod"] },
  api: { layers: ["coap", "net", "x509", "waiting"], packages: ["node:net"] },
  "node-coap": { layers: ["net"], packages: ["node:dgram", "node:net"] },
  dpe: { layers: ["coap", "senml"], packages: [] },
  security: { layers: ["cbor", "coap", "digest", "dpe", "ip"], packages: ["node:crypto", "node:net"] },
  store: {
    layers: ["dpe", "senml", "waiting", "files", "errors"],
    packages: ["cbor-x", "lmdb", "redis", "node:crypto", "node:fs", "node:fs/promises", "node:path", "node:zlib"],
  },
  bridge: {
    layers: ["cbor", "coap", "senml", "waiting", "errors"],
    packages: ["node:crypto", "node:fs", "node:net", "node:path", "node:tty", "serialport"],
  },
  server: {
    layers: [
      "ip",
      "radius",
      "cbor",
      "coap",
      "digest",
      "senml",
      "x509",
      "config",
      "net",
      "dpe",
      "security",
      "store",
      "waiting",
      "files",
      "errors",
    ],
    packages: ["node:crypto", "node:fs", "node:path", "node:os", "node:net", "node:util", "zod", "pino"],
  },
  http: {
    layers: ["dpe", "senml", "server", "store", "config", "files", "errors"],
    packages: [
      "@fastify/swagger",
      "fastify",
      "node:crypto",
      "node:fs",
      "node:http",
      "node:net",
      "node:path",
      "node:url",
      "prom-client",
    ],
  },
  mqtt: { layers: ["senml", "store", "waiting"], packages: ["mqtt"] },
  agent: {
    layers: [
      "bridge",
      "cbor",
      "coap",
      "digest",
      "senml",
      "x509",
      "config",
      "net",
      "dpe",
      "security",
      "store",
      "waiting",
      "ip",
      "files",
      "errors",
    ],
    packages: [
      "node:child_process",
      "node:crypto",
      "node:fs",
      "node:fs/promises",
      "node:path",
      "node:os",
      "node:net",
      "zod",
      "pino",
    ],
  },
  proxy: {
    layers: ["coap", "config", "dpe", "ip", "net", "radius", "security", "x509", "waiting"],
    packages: ["node:crypto", "node:fs", "node:net", "node:os", "zod"],
  },
  sim: {
    layers: ["coap", "digest", "senml", "x509", "config", "net", "dpe", "security", "agent", "waiting", "errors"],
    packages: ["node-dtls-client", "coap-packet", "cbor-x"],
  },
};

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const source = join(root, "src");

function filesBelow(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? filesBelow(path) : path.endsWith(".ts") ? [path] : [];
  });
}

function importsOf(text: string): string[] {
  const pattern =
    /(?:^|\n)\s*(?:import|export)\s*(?:[\w*{}\s,$]+?\s+from\s*)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/g;
  return [...text.matchAll(pattern)].flatMap((match) => match[1] ?? match[2] ?? []);
}

function faultOf(file: string, specifier: string): string | undefined {
  const layer = relative(source, file).split("/")[0] ?? "";
  const where = relative(root, file);
  if (specifier.startsWith("./")) return undefined;
  if (specifier.startsWith("../")) {
    const target = relative(source, join(dirname(file), specifier)).split("/")[0];
    return target === layer ? undefined : `${where}: reach ${target} by #${target}/index.js, not ${specifier}`;
  }
  const between = /^#([^/]+)\/(.*)$/.exec(specifier);
  if (layer === "cli")
    return between?.[2] !== undefined && between[2] !== "index.js" ? `${where}: ${specifier}` : undefined;
  const allowed = LAYERS[layer];
  if (allowed === undefined) return `${where}: the layer ${layer} is not in the table`;
  if (between !== null) {
    const [, target = "", path] = between;
    if (path !== "index.js") return `${where}: import #${target}/index.js, not ${specifier}`;
    return allowed.layers.includes(target) ? undefined : `${where}: ${layer} may not import ${target}`;
  }
  return allowed.packages.includes(specifier) ? undefined : `${where}: ${layer} may not import ${specifier}`;
}

test("every import in src obeys the layer table", (t) => {
  const files = filesBelow(source);
  t.true(files.length > 0);
  const faults = files.flatMap((file) =>
    importsOf(readFileSync(file, "utf8")).flatMap((specifier) => faultOf(file, specifier) ?? []),
  );
  t.deepEqual(faults, []);
});

test("the layer table catches each kind of fault", (t) => {
  const file = join(source, "dtls", "wire", "record.ts");
  t.regex(faultOf(file, "#coap/index.js") ?? "", /dtls may not import coap/);
  t.regex(faultOf(file, "../../coap/index.js") ?? "", /reach coap/);
  t.regex(faultOf(file, "node:dgram") ?? "", /may not import node:dgram/);
  t.regex(faultOf(join(source, "net", "x.ts"), "#dtls/wire/record.js") ?? "", /import #dtls\/index.js/);
  t.regex(faultOf(join(source, "server", "x.ts"), "#cli/index.js") ?? "", /may not import cli/);
  t.regex(faultOf(join(source, "nowhere", "x.ts"), "node:fs") ?? "", /not in the table/);
  t.is(faultOf(file, "../crypto/aead.js"), undefined);
  t.deepEqual(
    importsOf('import { a } from "#x/index.js";\nexport * from "./y.js";\nawait import("z");\nexport const b = "w";'),
    ["#x/index.js", "./y.js", "z"],
  );
});
