import { modelTable, PARAMETERS, type Parameters } from "./fleet-model.js";

/** Arguments replace parameters, as in devices=1000000. */
const given = process.argv.slice(2).map((word) => {
  const [name = "", value] = word.split("=");
  if (!(name in PARAMETERS) || !(Number(value) > 0)) {
    process.stderr.write(`${word} is none of ${Object.keys(PARAMETERS).join(", ")} with a number above 0\n`);
    process.exit(2);
  }
  return [name, Number(value)] as const;
});
const parameters: Parameters = { ...PARAMETERS, ...Object.fromEntries(given) };
for (const [name, value] of Object.entries(parameters))
  process.stdout.write(`${name.padEnd(34)} ${Number(value.toPrecision(4))}\n`);
process.stdout.write(`\n${modelTable(parameters)}\n`);
