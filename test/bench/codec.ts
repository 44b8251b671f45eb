import { generate, parse } from "coap-packet";
import { decodeMessage, encodeMessage, MESSAGE_TYPE, OPTION, Options } from "#coap/index.js";

/**
 * Times our codec and that of the npm package coap-packet on the same message of 5 options and a payload, built from its
 * parts, and taken apart to their values. Prints microseconds of processor time: ours encoded, decoded, theirs.
 */
const token = Uint8Array.of(1, 2, 3, 4);
const payload = new Uint8Array(20).fill(7);
const path = ["dpe1", "values"];
const text = new TextEncoder();
const ours = (): Uint8Array =>
  encodeMessage({
    type: MESSAGE_TYPE.Confirmable,
    code: 2,
    messageId: 4711,
    token,
    options: Options.of([
      { number: OPTION.UriPath, value: text.encode(path[0]) },
      { number: OPTION.UriPath, value: text.encode(path[1]) },
      { number: OPTION.ContentFormat, value: Uint8Array.of(112) },
      { number: OPTION.UriQuery, value: text.encode("ep=pi") },
      { number: OPTION.Accept, value: Uint8Array.of(60) },
    ]),
    payload,
  });
const theirs = (): Uint8Array =>
  generate({
    confirmable: true,
    code: "0.02",
    messageId: 4711,
    token: Buffer.from(token),
    options: [
      { name: "Uri-Path", value: Buffer.from("dpe1") },
      { name: "Uri-Path", value: Buffer.from("values") },
      { name: "Content-Format", value: Buffer.of(112) },
      { name: "Uri-Query", value: Buffer.from("ep=pi") },
      { name: "Accept", value: Buffer.of(60) },
    ],
    payload: Buffer.from(payload),
  });
const message = ours();
const buffer = Buffer.from(message);
if (Buffer.compare(message, theirs()) !== 0) throw new Error("the two codecs disagree");
let sum = 0;
const decodeOurs = (): void => {
  const { options, payload: body } = decodeMessage(message);
  sum +=
    options.uriPath.length +
    options.uriQuery.length +
    (options.contentFormat ?? 0) +
    (options.accept ?? 0) +
    body.length;
};
const decodeTheirs = (): void => {
  const { options, payload: body } = parse(buffer);
  for (const { value } of options ?? []) sum += (value as Buffer).length;
  sum += body?.length ?? 0;
};

function microseconds(step: () => void): number {
  const rounds = 100_000;
  for (let i = 0; i < rounds; i++) step();
  const before = process.cpuUsage();
  for (let i = 0; i < rounds; i++) step();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / rounds;
}

const found = [ours, decodeOurs, theirs, decodeTheirs].map(microseconds);
process.stdout.write(`${found.join(" ")}${sum === 0 ? "?" : ""}\n`);
