import { type FirmwareConfig, firmwareSchema } from "../firmware-config.js";
import { duration, listOf, oneOf, path, refuse, secret, section, text } from "#config/index.js";
import * as z from "zod";
import { IMPORTANCES } from "../queue/outbox.js";
import type { ChangeRule } from "./change-rule.js";
import type { ExecOptions } from "./exec-source.js";
import type { FileOptions } from "./file-source.js";
import type { HttpOptions } from "./http-source.js";

/** One entry of `sources` in an agent's file. */
export type SourceConfig = { readonly rules: readonly ChangeRule[] } & (
  | FirmwareConfig
  | { readonly use: "host"; readonly every: number; readonly units: readonly string[] }
  | ({ readonly use: "exec" } & ExecOptions)
  | ({ readonly use: "file" } & FileOptions)
  | ({ readonly use: "http" } & HttpOptions)
);

const every = duration({ minMs: 1000, maxMs: 86_400_000 }).default(10_000);
const timeout = duration({ minMs: 100, maxMs: 300_000 }).default(5000);
const name = text().refine(
  (given) => /^[A-Za-z0-9][A-Za-z0-9:._/-]*$/.test(given),
  "a property's name is of A-Z a-z 0-9 - : . / _ and starts with a letter or digit",
);
/** Mostly a token. RFC 9110 §5.5; one that fetch would refuse it would show. */
const headerValue = secret().refine(
  (given) => /^[\t\x20-\x7e\x80-\xff]*$/.test(given.text()),
  "a header's value is one line of Latin-1",
);
/** What is after its path may hold a key, and is not shown. */
const webUrl = z.codec(
  text().superRefine((given, context) => {
    const url = /^https?:\/\//.test(given) && URL.canParse(given) ? new URL(given) : undefined;
    if (url === undefined) refuse(context, { problem: "expected a URL of http or https", isConcealed: true });
    else if (url.username !== "" || url.password !== "")
      refuse(context, {
        problem: "the URL holds a user name or a password",
        hint: "write headers: { authorization: file:PATH }",
        isConcealed: true,
      });
  }),
  z.string(),
  { decode: (given) => given, encode: (url) => url.replace(/[?#].*/s, "?[secret]") },
);
const rules = listOf(
  section({
    match: text(),
    deadBand: z.number().nonnegative().default(0),
    minInterval: duration().default(0),
    maxInterval: duration({ minMs: 1000 }).default(300_000),
    importance: oneOf(...IMPORTANCES).default("normal"),
  }).superRefine(({ minInterval, maxInterval }, context) => {
    if (minInterval <= maxInterval) return;
    const problem = `minInterval is longer than maxInterval, ${maxInterval / 1000}s, after which a value is reported in any case`;
    refuse(context, { problem, hint: "write a longer maxInterval" }, ["minInterval"]);
  }),
).default([]);

/** What a file is checked to. */
export const SOURCE_SCHEMA: z.ZodType<SourceConfig, unknown> = z.discriminatedUnion("use", [
  firmwareSchema(rules),
  section({ use: z.literal("host"), every, rules, units: listOf(text()).default([]) }),
  section({
    use: z.literal("exec"),
    name,
    command: listOf(text(), { minItems: 1, mayRepeat: true }),
    every,
    timeout,
    unit: text().optional(),
    rules,
  }),
  section({
    use: z.literal("file"),
    name,
    path: path(),
    every,
    unit: text().optional(),
    scale: z.number().default(1),
    rules,
  }),
  section({
    use: z.literal("http"),
    name,
    url: webUrl,
    every,
    timeout,
    unit: text().optional(),
    headers: z.record(z.string(), headerValue).optional(),
    rules,
  }),
]);
