import { CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { BINDING_OPTION_FORMATS, CONTENT_FORMAT } from "#dpe/index.js";
import { type CoapConnection, CoapEndpoint, UdpSocket } from "#net/index.js";
import { encodePack, type SenmlRecord } from "#senml/index.js";

/**
 * A device on plain CoAP that counts: each reading has the next number, and is sent again, with its own time, until it is
 * acknowledged. Registers anew when it is not known, and moves on to the next server when one does not answer.
 */
export class ReportingDevice {
  /** Readings that the server acknowledged, in order. */
  readonly acknowledged: number[] = [];
  registrations = 0;
  readonly #name: string;
  readonly #ports: readonly number[];
  readonly #endpoint: CoapEndpoint;
  readonly #connections: readonly CoapConnection[];
  #location: readonly string[] | undefined;
  #server = 0;
  #isStopped = false;

  private constructor(
    name: string,
    ports: readonly number[],
    endpoint: CoapEndpoint,
    connections: readonly CoapConnection[],
  ) {
    this.#name = name;
    this.#ports = ports;
    this.#endpoint = endpoint;
    this.#connections = connections;
  }

  static async open(name: string, ports: readonly number[]): Promise<ReportingDevice> {
    const endpoint: CoapEndpoint = new CoapEndpoint({
      optionFormats: BINDING_OPTION_FORMATS,
      parameters: { ackTimeoutMs: 300, maxRetransmit: 2 },
      onRequest: () => content([{ name: "count", value: device.acknowledged.at(-1) ?? 0 }]),
    });
    const transport = endpoint.addSocket(await UdpSocket.bind({ host: "127.0.0.1" }));
    const connections = ports.map((port) => transport.connectTo({ address: "127.0.0.1", port }));
    const device = new ReportingDevice(name, ports, endpoint, connections);
    return device;
  }

  /** Which of the servers it speaks with. */
  get port(): number {
    return this.#ports[this.#server] ?? 0;
  }

  /** Reports until it is stopped; rejects when a server says that a reading is wrong. */
  async run(everyMs: number): Promise<void> {
    for (let next = 1; !this.#isStopped; next++) {
      const reading: SenmlRecord = { name: "count", value: next, timeSeconds: Date.now() / 1000 };
      while (!this.#isStopped && !(await this.#report(reading)));
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#endpoint.close();
  }

  /** True once it is acknowledged. */
  async #report(reading: SenmlRecord): Promise<boolean> {
    try {
      if (this.#location === undefined) {
        const response = await this.#post(["dpe1", "reg"], [`ep=${this.#name}`, "lt=600"], undefined);
        if (response.code !== CODE.Created) return false;
        this.#location = response.options.locationPath;
        this.registrations += 1;
      }
      const response = await this.#post([...this.#location, "p"], [], encodePack([reading], "cbor"));
      if (response.code === CODE.NotFound) this.#location = undefined;
      if (response.code !== CODE.Changed) return false;
      this.acknowledged.push(Number(reading.value));
      return true;
    } catch {
      // No answer: the next server, with a registration of its own there.
      if (this.#ports.length > 1) {
        this.#server = (this.#server + 1) % this.#ports.length;
        this.#location = undefined;
      }
      return false;
    }
  }

  #post(path: readonly string[], query: readonly string[], payload: Uint8Array | undefined): Promise<ResponseMessage> {
    const connection = this.#connections[this.#server];
    if (connection === undefined) throw new TypeError("no server");
    const options = Options.none.withAll(OPTION.UriPath, path).withAll(OPTION.UriQuery, query);
    const message: RequestMessage = {
      code: CODE.POST,
      options: payload === undefined ? options : options.with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor),
      payload: payload ?? new Uint8Array(0),
    };
    return connection.request(message);
  }
}

function content(records: readonly SenmlRecord[]): ResponseMessage {
  const options = Options.none.with(OPTION.ContentFormat, CONTENT_FORMAT.senmlCbor);
  return { code: CODE.Content, options, payload: encodePack(records, "cbor") };
}
