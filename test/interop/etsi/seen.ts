import { CODE, decodeMessage, formatCode, type Message, MESSAGE_TYPE, StreamDecoder } from "#coap/index.js";
import type { CoapStream, DtlsSession } from "#net/index.js";

/** A message between a client and a server; on a stream its type and messageId mean nothing. */
export interface SeenMessage extends Message {
  readonly isFromClient: boolean;
  readonly atMs: number;
}

/** The messages between a client and a server, in the order in which they passed. */
export class Seen {
  /** On a stream there are no types, no Acknowledgements and no repetitions (RFC 8323 §2.2). */
  readonly isStream: boolean;
  readonly messages: SeenMessage[] = [];
  /** When the server sent something after its client had vanished. */
  readonly afterVanishing: number[] = [];
  readonly #fromClient = new StreamDecoder(MAX_MESSAGE_BYTES);
  readonly #fromServer = new StreamDecoder(MAX_MESSAGE_BYTES);

  constructor(isStream: boolean) {
    this.isStream = isStream;
  }

  /** Takes a datagram, or the next bytes of a stream. */
  take(bytes: Uint8Array, isFromClient: boolean): void {
    const atMs = performance.now();
    if (!this.isStream) {
      this.messages.push({ ...decodeMessage(Uint8Array.from(bytes)), isFromClient, atMs });
      return;
    }
    for (const message of (isFromClient ? this.#fromClient : this.#fromServer).push(bytes)) {
      const messageId = this.messages.length;
      this.messages.push({ ...message, type: MESSAGE_TYPE.Confirmable, messageId, isFromClient, atMs });
    }
  }

  /** Requests, without repetitions. */
  get requests(): SeenMessage[] {
    return this.#unique(({ isFromClient, code }) => isFromClient && code > 0 && code < 0x20);
  }

  get responses(): SeenMessage[] {
    return this.#unique(({ isFromClient, code }) => !isFromClient && code >= 0x40 && code < 0xc0);
  }

  get notifications(): SeenMessage[] {
    return this.responses.filter(({ options }) => options.observe !== undefined);
  }

  /** Empty messages of the client: Acknowledgements, Resets and pings. */
  get clientEmpties(): SeenMessage[] {
    return this.#unique(({ isFromClient, code }) => isFromClient && code === CODE.Empty);
  }

  get serverEmpties(): SeenMessage[] {
    return this.#unique(({ isFromClient, code }) => !isFromClient && code === CODE.Empty);
  }

  /** Signalling messages of a stream. */
  signals(code: number): SeenMessage[] {
    return this.messages.filter((message) => message.code === code);
  }

  /** What passed, a line each. */
  get trace(): string {
    const start = this.messages[0]?.atMs ?? 0;
    return this.messages
      .map(({ isFromClient, type, code, messageId, token, options, payload, atMs }) => {
        const head = this.isStream ? "" : `${["CON", "NON", "ACK", "RST"][type]} ${messageId} `;
        const listed = [...options].map(({ number, value }) => `${number}=${Buffer.from(value).toString("hex")}`);
        return `${(atMs - start).toFixed(0).padStart(6)} ${isFromClient ? "→" : "←"} ${head}${formatCode(code)} [${Buffer.from(token).toString("hex")}] ${listed.join(" ")} (${payload.length})`;
      })
      .concat(this.afterVanishing.map((atMs) => `${(atMs - start).toFixed(0).padStart(6)} ← to nobody`))
      .join("\n");
  }

  #unique(isWanted: (message: SeenMessage) => boolean): SeenMessage[] {
    const found = new Map<string, SeenMessage>();
    for (const message of this.messages) {
      const key = `${message.type} ${message.messageId}`;
      if (isWanted(message) && !found.has(key)) found.set(key, message);
    }
    return [...found.values()];
  }
}

/** Hands what passes through a session or a stream of ours on to `seen`, and lets it pass. */
export function tap<T extends DtlsSession | CoapStream>(transport: T, seen: Seen, isClient: boolean): T {
  const send = transport.send.bind(transport);
  transport.send = (bytes: Uint8Array): void => {
    seen.take(bytes, isClient);
    send(bytes);
  };
  let inner: ((bytes: Uint8Array) => void) | undefined;
  Object.defineProperty(transport, "onData" in transport ? "onData" : "onmessage", {
    get: () =>
      inner === undefined
        ? undefined
        : (bytes: Uint8Array): void => {
            seen.take(bytes, !isClient);
            inner?.(bytes);
          },
    set: (listener: typeof inner) => {
      inner = listener;
    },
  });
  return transport;
}

const MAX_MESSAGE_BYTES = 1024 * 1024;
