import { generate, parse } from "coap-packet";
import { decodeMessage, encodeMessage, MESSAGE_TYPE, OPTION, Options } from "#coap/index.js";

/**
 * Times our codec and that of the npm package coap-packet on the same message of 5 options and a payload, built from its
 * parts, and taken apart to their values. Prints microseconds of processor time: ours encoded, decoded, theirs.
 */
const token = Buffer.of(1, 2, 3, 4);
const payload = Buffer.alloc(20, 7);
const value = (text: string): Buffer => Buffer.from(text);
const [dpe1, values, ep, senml, cbor] = [value("dpe1"), value("values"), value("ep=pi"), Buffer.of(112), Buffer.of(60)];
const ours = (): Uint8Array =>
  encodeMessage({
    type: MESSAGE_TYPE.Confirmable,
    code: 2,
    messageId: 4711,
    token,
    options: Options.of([
      { number: OPTION.UriPath, value: dpe1 },
      { number: OPTION.UriPath, value: values },
      { number: OPTION.ContentFormat, value: senml },
      { number: OPTION.UriQuery, value: ep },
      { number: OPTION.Accept, value: cbor },
    ]),
    payload,
  });
const theirs = (): Uint8Array =>
  generate({
    confirmable: true,
    code: "0.02",
    messageId: 4711,
    token,
    options: [
      { name: "Uri-Path", value: dpe1 },
      { name: "Uri-Path", value: values },
      { name: "Content-Format", value: senml },
      { name: "Uri-Query", value: ep },
      { name: "Accept", value: cbor },
    ],
    payload,
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
