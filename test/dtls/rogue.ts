import { decodeAlert, type Alert } from "#dtls/wire/alert.js";
import { packFlight } from "#dtls/handshake/flight.js";
import {
  type HandshakeChannel,
  HandshakeDriver,
  type HandshakeMachine,
  type HandshakeTiming,
} from "#dtls/handshake/handshake-driver.js";
import { type Epoch, RecordLayer } from "#dtls/record-layer.js";
import {
  decodeHandshakeFragment,
  encodeHandshakeFragment,
  HANDSHAKE_HEADER_BYTES,
} from "#dtls/wire/handshake-header.js";
import {
  CONTENT_TYPES,
  decodeRecordHeader,
  encodeRecordHeader,
  RECORD_HEADER_BYTES,
  TLS12_CID,
} from "#dtls/wire/record.js";
import { DTLS_DEFAULTS } from "#dtls/index.js";
import type { LinkPeer } from "#testing/virtual-link.js";

/** What a rogue does instead of adding a message to its flight, or its ChangeCipherSpec; by default the same. */
export interface Tampering {
  readonly add?: (message: OwnMessage, channel: HandshakeChannel) => void;
  readonly changeCipherSpec?: (channel: HandshakeChannel) => void;
}

export interface OwnMessage {
  readonly type: number;
  readonly body: Uint8Array;
  readonly epoch: Epoch;
}

/** A peer that holds all the right keys, and breaks the protocol as told. It takes and trusts everything. */
export class RogueEnd implements LinkPeer {
  readonly records: RecordLayer = new RecordLayer();
  readonly driver: HandshakeDriver;
  readonly alerts: Alert[] = [];
  /** Of the records received: content type, and for handshake the message type. */
  readonly received: { readonly epoch: number; readonly type: number; readonly message?: number }[] = [];
  isConnected = false;
  readonly #queue: Uint8Array[] = [];
  readonly #psk: Uint8Array | undefined;
  readonly #role: "client" | "server";

  constructor(
    role: "client" | "server",
    machine: HandshakeMachine,
    tampering: Tampering = {},
    options: { readonly psk?: Uint8Array; readonly timing?: Partial<HandshakeTiming>; readonly firstSeq?: number } = {},
  ) {
    this.#role = role;
    this.#psk = options.psk;
    const timing = { ...DTLS_DEFAULTS, ...options.timing };
    this.driver = new HandshakeDriver(tamper(machine, tampering), timing, options.firstSeq ?? 0, 0);
    this.driver.start(0);
    this.#drain(0);
  }

  /** Queues a record of its own making. */
  send(epoch: Epoch, type: (typeof CONTENT_TYPES)[keyof typeof CONTENT_TYPES], plaintext: Uint8Array): void {
    this.#queue.push(this.records.seal(epoch, type, plaintext));
  }

  sendMessage(epoch: Epoch, type: number, messageSeq: number, body: Uint8Array): void {
    this.send(epoch, CONTENT_TYPES.handshake, wholeMessage(type, messageSeq, body));
  }

  handleDatagram(bytes: Uint8Array, now: number): void {
    for (let offset = 0; offset < bytes.length;) {
      const connectionIdBytes = this.records.ownConnectionId.length;
      const header = decodeRecordHeader(bytes, offset, connectionIdBytes);
      if ("drop" in header) return;
      const start = offset + RECORD_HEADER_BYTES + (header.type === TLS12_CID ? connectionIdBytes : 0);
      offset = start + header.length;
      const sealed = bytes.subarray(start, offset);
      const plaintext = header.epoch === 0 ? sealed : this.records.open(header, sealed);
      if (typeof plaintext === "string") continue;
      const type = header.epoch === 0 ? header.type : this.records.openedType;
      if (type === CONTENT_TYPES.alert) {
        const alert = decodeAlert(plaintext);
        if (alert !== undefined) this.alerts.push(alert);
      }
      if (type === CONTENT_TYPES.changeCipherSpec) this.driver.handleChangeCipherSpec(now);
      const fragment = type === CONTENT_TYPES.handshake ? decodeHandshakeFragment(plaintext, 0) : undefined;
      this.received.push({
        epoch: header.epoch,
        type,
        ...(fragment === undefined ? {} : { message: fragment.type }),
      });
      if (fragment !== undefined && !this.isConnected) {
        this.driver.handleFragment(fragment, header.epoch === 0 ? 0 : 1, now);
      }
      this.#drain(now);
    }
  }

  handleTimeout(): void {
    return;
  }

  nextTimeout(): undefined {
    return undefined;
  }

  pollDatagram(): Uint8Array | undefined {
    return this.#queue.shift();
  }

  #drain(now: number): void {
    for (let output = this.driver.poll(); output !== undefined; output = this.driver.poll()) {
      switch (output.type) {
        case "transmit":
          this.#queue.push(...packFlight(output.flight, this.records, this.driver.datagramBytes));
          break;
        case "record-limits":
        case "exporter":
        case "session":
          break;
        case "connection-ids":
          this.records.useConnectionIds(output.own, output.peers, 1);
          break;
        case "keys":
          this.records.installKeys(output.suite.aead, output.keyBlock, this.#role);
          break;
        case "ask":
          if (output.question.type === "need-psk") this.driver.answerPsk(output.question.identity, this.#psk, now);
          else this.driver.answerPeerCertificate({ ok: true }, now);
          break;
        case "complete":
          this.isConnected = true;
      }
    }
  }
}

/** One unfragmented handshake message. */
export function wholeMessage(type: number, messageSeq: number, body: Uint8Array): Uint8Array {
  return encodeHandshakeFragment({ type, length: body.length, messageSeq, fragmentOffset: 0, fragment: body });
}

/** A record in the clear, whatever epoch its header claims. */
export function plainRecord(
  type: number,
  fragment: Uint8Array,
  header: { readonly epoch?: number; readonly sequenceNumber?: number; readonly version?: number } = {},
): Uint8Array {
  const record = new Uint8Array(RECORD_HEADER_BYTES + fragment.length);
  const { epoch = 0, sequenceNumber = 0, version = 0xfefd } = header;
  encodeRecordHeader({ type: 22, version, epoch, sequenceNumber, length: fragment.length }, record);
  record[0] = type;
  record.set(fragment, RECORD_HEADER_BYTES);
  return record;
}

/** The records of a datagram, each whole. */
export function splitRecords(datagram: Uint8Array, connectionIdBytes = 6): Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let offset = 0; offset < datagram.length;) {
    const header = decodeRecordHeader(datagram, offset, connectionIdBytes);
    if ("drop" in header) throw new Error(header.drop);
    const end = offset + RECORD_HEADER_BYTES + (header.type === TLS12_CID ? connectionIdBytes : 0) + header.length;
    records.push(datagram.slice(offset, end));
    offset = end;
  }
  return records;
}

/** The handshake type of a plaintext handshake record; undefined of others. */
export function messageTypeOf(record: Uint8Array): number | undefined {
  const isPlainHandshake = record[0] === CONTENT_TYPES.handshake && record[3] === 0 && record[4] === 0;
  return isPlainHandshake && record.length >= RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES
    ? record[RECORD_HEADER_BYTES]
    : undefined;
}

function tamper(machine: HandshakeMachine, tampering: Tampering): HandshakeMachine {
  const wrap = (channel: HandshakeChannel): HandshakeChannel => ({
    transcript: channel.transcript,
    startFlight: () => channel.startFlight(),
    add: (type, body, epoch = 0) => {
      if (tampering.add === undefined) channel.add(type, body, epoch);
      else tampering.add({ type, body, epoch }, channel);
    },
    addChangeCipherSpec: () => {
      if (tampering.changeCipherSpec === undefined) channel.addChangeCipherSpec();
      else tampering.changeCipherSpec(channel);
    },
    sendFlight: (now) => channel.sendFlight(now),
    allowChangeCipherSpec: () => channel.allowChangeCipherSpec(),
    useConnectionIds: (own, peers) => channel.useConnectionIds(own, peers),
    limitRecords: (limits) => channel.limitRecords(limits),
    keepExporter: (secrets) => channel.keepExporter(secrets),
    offerSession: (session) => channel.offerSession(session),
    installKeys: (suite, keyBlock) => channel.installKeys(suite, keyBlock),
    ask: (question) => channel.ask(question),
    complete: (peer, isOurFlightLast) => channel.complete(peer, isOurFlightLast),
  });
  return {
    get expects() {
      return machine.expects;
    },
    get finishedFault() {
      return machine.finishedFault;
    },
    start: (channel, now) => machine.start(wrap(channel), now),
    handleMessage: (message, channel, now) => machine.handleMessage(message, wrap(channel), now),
    answerPsk: (identity, key, channel, now) => machine.answerPsk(identity, key, wrap(channel), now),
    answerSession: (id, state, channel, now) => machine.answerSession(id, state, wrap(channel), now),
    answerPeerCertificate: (verdict, channel, now) => machine.answerPeerCertificate(verdict, wrap(channel), now),
  };
}
