import { Dpe2Resources } from "#agent/dpe2-resources.js";
import { Properties } from "#agent/properties.js";
import { CODE, type Method, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { CONTENT_FORMAT } from "#dpe/index.js";
import { decodePack, encodeFetchPack, type SenmlFormat } from "#senml/index.js";
import test from "ava";

const NOW = 1_700_000_000;

function resources() {
  const properties = new Properties();
  properties.update(
    [
      { name: "cpu/load", value: 0.5 },
      { name: "cpu/count", value: 4 },
      { name: "cpus", value: 1 },
      { name: "uptime", unit: "s", value: 10 },
    ],
    NOW,
  );
  return { properties, dpe2: new Dpe2Resources(properties, () => undefined) };
}

function request(method: Method, path: string, with_: { format?: number; accept?: number; payload?: Uint8Array } = {}) {
  let options = Options.none.withAll(OPTION.UriPath, path.split("/"));
  if (with_.format !== undefined) options = options.with(OPTION.ContentFormat, with_.format);
  if (with_.accept !== undefined) options = options.with(OPTION.Accept, with_.accept);
  return { code: CODE[method], options, payload: with_.payload ?? new Uint8Array(0) } satisfies RequestMessage;
}

function names(response: ResponseMessage, format: SenmlFormat = "cbor"): string[] {
  return decodePack(response.payload, format, NOW).map(({ name }) => name);
}

test("GET of a name answers that property or those below it, never those that only begin like it", (t) => {
  const { dpe2 } = resources();
  t.deepEqual(names(dpe2.handle(request("GET", "dpe2/p/cpu"))), ["cpu/load", "cpu/count"]);
  t.deepEqual(names(dpe2.handle(request("GET", "dpe2/p/uptime"))), ["uptime"]);
  t.is(dpe2.handle(request("GET", "dpe2/p/up")).code, CODE.NotFound);
  t.is(names(dpe2.handle(request("GET", "dpe2/p"))).length, 4);
});

test("FETCH with SenML-ETCH answers the named properties in either format, by Content-Format and Accept (RFC 8790)", (t) => {
  const { dpe2 } = resources();
  const wanted = [{ name: "uptime" }, { name: "cpu/load" }, { name: "absent" }];
  for (const [format, packFormat] of [
    [CONTENT_FORMAT.senmlEtchCbor, "cbor"],
    [CONTENT_FORMAT.senmlEtchJson, "json"],
  ] as const) {
    const payload = encodeFetchPack(wanted, packFormat);
    const inCbor = dpe2.handle(request("FETCH", "dpe2/p", { format, payload }));
    t.is(inCbor.options.contentFormat, CONTENT_FORMAT.senmlCbor);
    t.deepEqual(names(inCbor), ["cpu/load", "uptime"]);
    const inJson = dpe2.handle(request("FETCH", "dpe2/p", { format, accept: CONTENT_FORMAT.senmlJson, payload }));
    t.is(inJson.options.contentFormat, CONTENT_FORMAT.senmlJson);
    t.deepEqual(names(inJson, "json"), ["cpu/load", "uptime"]);
  }
  const payload = encodeFetchPack([{ name: "uptime", timeSeconds: NOW - 5 }], "cbor");
  t.deepEqual(names(dpe2.handle(request("FETCH", "dpe2/p", { format: 322, payload }))), [], "another time");
});

test("FETCH is refused by the code that says why", (t) => {
  const { dpe2 } = resources();
  const payload = encodeFetchPack([{ name: "uptime" }], "cbor");
  const format = CONTENT_FORMAT.senmlEtchCbor;
  for (const [what, message, code] of [
    ["no content format", request("FETCH", "dpe2/p", { payload }), CODE.UnsupportedContentFormat],
    ["SenML, not SenML-ETCH", request("FETCH", "dpe2/p", { format: 112, payload }), CODE.UnsupportedContentFormat],
    ["no pack", request("FETCH", "dpe2/p", { format, payload: Uint8Array.of(0xff) }), CODE.BadRequest],
    ["an answer in XML", request("FETCH", "dpe2/p", { format, accept: 41, payload }), CODE.NotAcceptable],
    ["below the collection", request("FETCH", "dpe2/p/uptime", { format, payload }), CODE.MethodNotAllowed],
    ["another method", request("PUT", "dpe2/p", { format, payload }), CODE.MethodNotAllowed],
  ] as const)
    t.is(dpe2.handle(message).code, code, what);
});

test("a FETCH is observed: a change of what it names is told, another's is not", (t) => {
  const { properties, dpe2 } = resources();
  const payload = encodeFetchPack([{ name: "uptime" }], "cbor");
  const response = dpe2.handle(request("FETCH", "dpe2/p", { format: CONTENT_FORMAT.senmlEtchCbor, payload }));
  const told: unknown[] = [];
  const stop = response.observe?.((notification) => told.push(decodePack(notification.payload, "cbor", NOW)[0]?.value));
  properties.update([{ name: "cpu/load", value: 0.7 }], NOW + 1);
  properties.update([{ name: "uptime", unit: "s", value: 11 }], NOW + 1);
  stop?.();
  properties.update([{ name: "uptime", unit: "s", value: 12 }], NOW + 2);
  t.deepEqual(told, [11]);
});

test("conditional attributes decide what an observer is told, and are refused where there is no number", (t) => {
  const { properties, dpe2 } = resources();
  const observed = (query: string, path = "dpe2/p/uptime") => {
    const base = request("GET", path);
    return dpe2.handle({ ...base, options: base.options.withAll(OPTION.UriQuery, query.split("&")) });
  };
  const told: unknown[] = [];
  const stop = observed("c.st=5").observe?.(({ payload }) => told.push(decodePack(payload, "cbor", NOW)[0]?.value));
  for (const value of [12, 14, 15, 19, 20]) properties.update([{ name: "uptime", unit: "s", value }], NOW);
  stop?.();
  t.deepEqual(told, [15, 20]);
  t.is(observed("c.gt=1", "dpe2/p").code, CODE.BadRequest, "several properties");
  t.is(observed("c.pmin=-1").code, CODE.BadRequest);
  t.is(observed("c.pmin=1", "dpe2/p").code, CODE.Content);
});
