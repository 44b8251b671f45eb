#!/usr/bin/env node
// Joins the compiled modules of `dpe` into few files, of which a command loads its own: to load 500 modules one by one takes an
// agent longer than all that it does until it is registered. The place matches dist/src/cli: three folders below package.json.
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

/** Packages that every command loads are joined in; those with native parts or for a few commands stay outside. */
const JOINED = ["zod", "yaml", "pino", "cbor-x"];
const FOLDER = "dist/bundle";

process.chdir(join(import.meta.dirname, ".."));
const { dependencies, peerDependencies, devDependencies } = JSON.parse(readFileSync("package.json", "utf8"));
const outside = Object.keys({ ...dependencies, ...peerDependencies, ...devDependencies }).filter(
  (name) => !JOINED.includes(name),
);

rmSync(FOLDER, { recursive: true, force: true });
const options = {
  outdir: `${FOLDER}/cli`,
  bundle: true,
  platform: "node",
  target: "node20",
  // Names stay as they are: a stack is to be read.
  minifyWhitespace: true,
  minifySyntax: true,
  metafile: true,
  logLevel: "warning",
};
const program = await build({
  ...options,
  entryPoints: ["dist/src/cli/dpe.js", "dist/src/cli/worker.js"],
  external: [...outside, "cbor-extract"],
  format: "esm",
  splitting: true,
  // Packages in CommonJS ask for Node's own modules by it.
  banner: { js: 'import{createRequire as requireOf}from"node:module";const require=requireOf(import.meta.url);' },
});
// What is loaded by require when the first certificate comes, of 213 modules.
const certificates = await build({
  ...options,
  entryPoints: ["dist/src/x509/peculiar-library.cjs"],
  format: "cjs",
  outExtension: { ".js": ".cjs" },
  // The packages' ECMAScript modules, of which what is unused is left out.
  mainFields: ["module", "main"],
});
writeFileSync(
  `${FOLDER}/LICENSES.txt`,
  licences([program, certificates].flatMap(({ metafile }) => Object.keys(metafile.inputs))),
);

/** The terms of what was joined in, which are to go with every copy. */
function licences(files) {
  const packages = new Set(files.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []));
  return [...packages]
    .toSorted((one, other) => one.localeCompare(other))
    .map(licence)
    .join("\n");
}

function licence(folder) {
  const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt", "license", "LICENCE"]
    .map((one) => join(folder, one))
    .find(isFile);
  if (file === undefined && license === undefined) throw new Error(`${name} says no licence`);
  const terms = file === undefined ? `${license}\n` : readFileSync(file, "utf8");
  return `${name} ${version}\n${"=".repeat(72)}\n${terms}`;
}

function isFile(path) {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}
