import type { Reading } from "#agent/index.js";
import { messageOf } from "#errors/index.js";
import type { FleetFigures } from "../report/fleet-figures.js";

/**
 * A device built from the npm packages node-dtls-client and coap-packet alone: DTLS, CoAP and SenML on its side are not this
 * project's. It authenticates by PSK, reports SenML in CBOR, and answers DPE-2 queries of its properties.
 */
export class ThirdPartyDevice {
  readonly #options: ThirdPartyOptions;
  readonly #stack: Stack;
  readonly #waiting = new Map<number, (response: Packet) => void>();
  #socket: DtlsSocket | undefined;
  #location: readonly string[] = [];
  #timer: NodeJS.Timeout | undefined;
  #messageId = 0;
  #isUp = false;
  readonly #startedAt = performance.now();

  constructor(stack: Stack, options: ThirdPartyOptions) {
    this.#stack = stack;
    this.#options = options;
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** Nothing waits: what is not acknowledged is reported as an error, and read anew. */
  readonly unsent = 0;

  start(): void {
    this.#connect().catch((error: unknown) => this.#fail(error));
  }

  quieten(): void {
    clearInterval(this.#timer);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    if (this.#isUp) await this.#request("DELETE", this.#location).catch(() => undefined);
    this.#isUp = false;
    await new Promise<void>((closed) => {
      if (this.#socket === undefined) closed();
      else this.#socket.close(closed);
    });
  }

  async #connect(): Promise<void> {
    const { host, port, identity, key, endpoint, everyMs, figures } = this.#options;
    const socket = this.#stack.dtls.createSocket({
      type: host.includes(":") ? "udp6" : "udp4",
      address: host,
      port,
      psk: { [identity]: key },
      timeout: HANDSHAKE_TIMEOUT_MS,
    });
    this.#socket = socket;
    socket.on("message", (datagram) => this.#receive(this.#stack.coap.parse(datagram)));
    await new Promise<void>((resolve, reject) => {
      socket.on("connected", () => resolve());
      socket.on("error", reject);
    });
    const query = [`ep=${endpoint}`, "lt=300", "dpe2=association"];
    const created = await this.#request("POST", ["dpe1", "reg"], query, this.#pack());
    if (created.code !== "2.01") throw new Error(`THIRD_PARTY_${created.code}`);
    this.#location = created.options.flatMap(({ name, value }) => (name === "Location-Path" ? value.toString() : []));
    this.#isUp = true;
    figures.add("registrations");
    this.#timer = setInterval(() => void this.#report().catch((error: unknown) => this.#fail(error)), everyMs);
  }

  async #report(): Promise<void> {
    const sentAt = performance.now();
    const answer = await this.#request("POST", [...this.#location, "p"], [], this.#pack());
    if (answer.code !== "2.04") throw new Error(`THIRD_PARTY_${answer.code}`);
    const { figures } = this.#options;
    figures.add("reports");
    figures.add("readings", this.#readings().length);
    figures.addLatency(performance.now() - sentAt);
  }

  #fail(error: unknown): void {
    const { figures } = this.#options;
    figures.add("connectionsLost");
    figures.addError(messageOf(error));
  }

  /** Confirmable, sent again with CoAP's own times until its Acknowledgement comes. */
  #request(code: string, path: readonly string[], query: readonly string[] = [], payload?: Buffer): Promise<Packet> {
    const messageId = (this.#messageId = (this.#messageId + 1) & 0xffff);
    const options = [
      ...path.map((segment) => ({ name: "Uri-Path", value: Buffer.from(segment) })),
      ...(payload === undefined ? [] : [{ name: "Content-Format", value: Buffer.of(SENML_CBOR) }]),
      ...query.map((argument) => ({ name: "Uri-Query", value: Buffer.from(argument) })),
    ];
    const token = Buffer.of(messageId >> 8, messageId & 0xff);
    const message = this.#stack.coap.generate({
      code,
      confirmable: true,
      messageId,
      token,
      options,
      payload: payload ?? Buffer.alloc(0),
    });
    return new Promise((resolve, reject) => {
      let attempts = 0;
      const send = (): void => {
        if (attempts > MAX_RETRANSMIT) {
          this.#waiting.delete(messageId);
          reject(new Error("THIRD_PARTY_TIMEOUT"));
          return;
        }
        this.#socket?.send(message);
        timer = setTimeout(send, ACK_TIMEOUT_MS * 2 ** attempts++);
      };
      let timer: NodeJS.Timeout | undefined;
      this.#waiting.set(messageId, (response) => {
        clearTimeout(timer);
        this.#waiting.delete(messageId);
        resolve(response);
      });
      send();
    });
  }

  #receive(packet: Packet): void {
    if (packet.ack) {
      this.#waiting.get(packet.messageId)?.(packet);
      return;
    }
    this.#options.figures.add("queries");
    const path = packet.options.flatMap(({ name, value }) => (name === "Uri-Path" ? value.toString() : []));
    const isKnown = path[0] === "dpe2" && path[1] === "p";
    const { token, messageId } = packet;
    const options = isKnown ? [{ name: "Content-Format", value: Buffer.of(SENML_CBOR) }] : [];
    const payload = isKnown ? this.#pack(path.slice(2).join("/")) : Buffer.alloc(0);
    this.#socket?.send(
      this.#stack.coap.generate({ code: isKnown ? "2.05" : "4.04", ack: true, messageId, token, options, payload }),
    );
  }

  #readings(): readonly Reading[] {
    return this.#options.read((performance.now() - this.#startedAt) / 1000);
  }

  /** RFC 8428 §6, by hand: labels 0 name, 1 unit, 2 value, 3 text. */
  #pack(wanted = ""): Buffer {
    const records = this.#readings()
      .filter(({ name }) => wanted === "" || name === wanted)
      .map(({ name, unit, value }) => {
        const record = new Map<number, unknown>([[0, name]]);
        if (unit !== undefined) record.set(1, unit);
        return record.set(typeof value === "string" ? 3 : 2, value);
      });
    return this.#stack.cbor.encode(records);
  }
}

export interface ThirdPartyOptions {
  readonly host: string;
  readonly port: number;
  readonly endpoint: string;
  readonly identity: string;
  /** node-dtls-client takes text only. */
  readonly key: string;
  readonly everyMs: number;
  readonly read: (seconds: number) => readonly Reading[];
  readonly figures: FleetFigures;
}

/** What is used of the packages. */
export interface Stack {
  readonly dtls: { createSocket(options: object): DtlsSocket };
  readonly coap: { parse(datagram: Buffer): Packet; generate(packet: object): Buffer };
  readonly cbor: { encode(value: unknown): Buffer };
}

/** Loads the packages, which a normal installation does not have. @throws Error that says how to get them. */
export async function loadThirdPartyStack(): Promise<Stack> {
  try {
    const [dtls, coap, cbor] = await Promise.all([import("node-dtls-client"), import("coap-packet"), import("cbor-x")]);
    return {
      dtls: dtls.default.dtls as unknown as Stack["dtls"],
      coap: coap.default as unknown as Stack["coap"],
      cbor: new cbor.Encoder({ useRecords: false, mapsAsObjects: false }),
    };
  } catch (error) {
    throw new Error("--stack third-party needs the packages node-dtls-client and coap-packet: npm install both", {
      cause: error,
    });
  }
}

interface DtlsSocket {
  on(event: "message", listener: (datagram: Buffer) => void): void;
  on(event: "connected", listener: () => void): void;
  on(event: "error", listener: (error: Error) => void): void;
  send(datagram: Buffer): void;
  close(closed: () => void): void;
}

interface Packet {
  readonly code: string;
  readonly ack: boolean;
  readonly messageId: number;
  readonly token: Buffer;
  readonly options: readonly { readonly name: string; readonly value: Buffer }[];
}

const SENML_CBOR = 112;
const HANDSHAKE_TIMEOUT_MS = 30_000;
const ACK_TIMEOUT_MS = 2000;
const MAX_RETRANSMIT = 4;
