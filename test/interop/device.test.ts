import { parseConfig } from "#config/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent } from "#server/index.js";
import test, { type ExecutionContext } from "ava";
import coapPacket, { type ParsedPacket } from "coap-packet";
import nodeDtls from "node-dtls-client";

const KEY = "0123456789abcdef";

/** RFC 8428 §6 by hand: [{n: "temperature", u: "Cel", v: 21.5}, {n: "model", vs: "meter"}]. */
const PACK = Buffer.concat([
  Buffer.of(0x82),
  Buffer.concat([Buffer.of(0xa3, 0x00, 0x6b), Buffer.from("temperature"), Buffer.of(0x01, 0x63), Buffer.from("Cel")]),
  Buffer.of(0x02, 0xf9, 0x4d, 0x60),
  Buffer.concat([Buffer.of(0xa2, 0x00, 0x65), Buffer.from("model"), Buffer.of(0x03, 0x65), Buffer.from("meter")]),
]);
/** [{n: "temperature", u: "Cel", v: 22.5}]. */
const WARMER = Buffer.concat([
  Buffer.concat([Buffer.of(0x81, 0xa3, 0x00, 0x6b), Buffer.from("temperature"), Buffer.of(0x01, 0x63)]),
  Buffer.concat([Buffer.from("Cel"), Buffer.of(0x02, 0xf9, 0x4d, 0xa0)]),
]);
const SENML_CBOR = Buffer.of(112);

/** A device that is node-dtls-client and coap-packet and what is written here: no line of the project is in it. */
class ForeignDevice {
  readonly queries: ParsedPacket[] = [];
  readonly #socket: nodeDtls.dtls.Socket;
  readonly #waiting = new Map<number, (response: ParsedPacket) => void>();
  #messageId = 100;

  private constructor(socket: nodeDtls.dtls.Socket) {
    this.#socket = socket;
    socket.on("message", (datagram: Buffer) => this.#receive(coapPacket.parse(datagram)));
  }

  static connect(t: ExecutionContext, port: number): Promise<ForeignDevice> {
    const options = { type: "udp4", address: "127.0.0.1", port, psk: { meter: KEY }, timeout: 10_000 } as const;
    const socket = nodeDtls.dtls.createSocket(options);
    const device = new ForeignDevice(socket);
    t.teardown(() => new Promise<void>((closed) => socket.close(() => closed())));
    return new Promise((resolve, reject) => {
      socket.on("error", reject);
      socket.on("connected", () => resolve(device));
    });
  }

  request(code: "POST" | "DELETE", path: readonly string[], query: readonly string[] = [], payload = Buffer.alloc(0)) {
    const messageId = this.#messageId++;
    const options = [
      ...path.map((segment) => ({ name: "Uri-Path" as const, value: Buffer.from(segment) })),
      ...(payload.length === 0 ? [] : [{ name: "Content-Format" as const, value: SENML_CBOR }]),
      ...query.map((argument) => ({ name: "Uri-Query" as const, value: Buffer.from(argument) })),
    ];
    const answer = new Promise<ParsedPacket>((resolve) => this.#waiting.set(messageId, resolve));
    const token = Buffer.of(messageId);
    this.#socket.send(coapPacket.generate({ code, confirmable: true, messageId, token, options, payload }));
    return answer;
  }

  /** An Acknowledgement goes to the request that waits for it; a query of the server is answered from WARMER. */
  #receive(packet: ParsedPacket): void {
    if (packet.ack) return this.#waiting.get(packet.messageId)?.(packet);
    this.queries.push(packet);
    const { token, messageId } = packet;
    const options = [{ name: "Content-Format" as const, value: SENML_CBOR }];
    this.#socket.send(coapPacket.generate({ code: "2.05", ack: true, messageId, token, options, payload: WARMER }));
  }
}

const optionsOf = (packet: ParsedPacket, name: string): string[] =>
  packet.options.filter((option) => option.name === name).map(({ value }) => value.toString());

test("R08 a device of foreign code registers by PSK, reports, answers DPE-2 over its association and deregisters", async (t) => {
  const events: ServerEvent[] = [];
  const config = `
interfaces:
  dpe1: { listen: { host: 127.0.0.1, coaps: 0 }, connection: dtls, clientAuthentication: [psk] }
  dpe2: { connection: dtls, clientAuthentication: [psk] }
subscribers:
  - { name: meters, psk: { identity: meter, key: "${KEY}" }, endpoints: ["meter-*"] }
`;
  const server = await DpeServer.start(parseConfig(config, "server.yaml", SERVER_SCHEMA), (event) =>
    events.push(event),
  );
  t.teardown(() => server.close());
  const device = await ForeignDevice.connect(t, server.addresses.coaps!.port);

  const foreign = await device.request("POST", ["dpe1", "reg"], ["ep=pi-1"]);
  t.is(foreign.code, "4.03");
  const created = await device.request("POST", ["dpe1", "reg"], ["ep=meter-1", "lt=60", "dpe2=association"], PACK);
  t.is(created.code, "2.01");
  const location = optionsOf(created, "Location-Path");
  t.deepEqual(location.slice(0, 2), ["dpe1", "reg"]);
  t.like(await server.store.registrations.ofEndpoint("meter-1", Date.now()), {
    endpoint: "meter-1",
    subscriber: "meters",
  });
  t.like(await server.store.properties.latest("meter-1"), [
    { name: "model", value: "meter" },
    { name: "temperature", unit: "Cel", value: 21.5 },
  ]);

  const reported = await device.request("POST", [...location, "p"], [], WARMER);
  t.is(reported.code, "2.04");
  t.like((await server.store.properties.latest("meter-1"))[1], { name: "temperature", value: 22.5 });

  t.like(await server.query("meter-1", "temperature"), [{ name: "temperature", unit: "Cel", value: 22.5 }]);
  t.deepEqual(optionsOf(device.queries[0]!, "Uri-Path"), ["dpe2", "p", "temperature"]);

  t.is((await device.request("DELETE", location)).code, "2.02");
  t.is(await server.store.registrations.ofEndpoint("meter-1", Date.now()), undefined);
  t.is((await device.request("POST", [...location, "p"], [], PACK)).code, "4.04");
  t.deepEqual(
    events.map(({ type }) => type).filter((type) => type === "registered" || type === "gone"),
    ["registered", "gone"],
  );
});
