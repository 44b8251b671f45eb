import type { AssociationCounters, AssociationOutput, ClosingAlert, DropReason } from "./association-output.js";
import { alertOfError, DtlsError } from "./errors.js";
import { IP_UDP_HEADER_BYTES, type ResolvedClientOptions, type ResolvedServerOptions } from "./options.js";
import type { PathValidation } from "./path-validation.js";
import { RecordLayer } from "./record-layer.js";
import type { SavePolicy } from "./save-policy.js";
import { type AlertDescription, type AlertLevel, encodeAlert } from "./wire/alert.js";
import { CONTENT_TYPES } from "./wire/record.js";

/**
 * What an association has from its beginning to its end: the record layer, the outputs, the counters, and how it ends.
 * The classes that build on it are one object with it, as an association is held in as few as possible.
 */
export abstract class AssociationCore {
  readonly role: "client" | "server";
  protected readonly options: ResolvedClientOptions | ResolvedServerOptions;
  protected readonly records: RecordLayer;
  /** Once connected, with the option `isSaved`. */
  protected saving: SavePolicy | undefined;
  /** While the peer is asked at a new address. */
  protected path: PathValidation | undefined;
  protected isClosed = false;
  protected recordsIn = 0;
  protected bytesIn = 0;
  protected retransmissions = 0;
  #bytesOut = 0;
  /** The next output, and those after it: a record has one, and needs no array. */
  #output: AssociationOutput | undefined;
  #later: AssociationOutput[] = NO_OUTPUTS;
  #dropped: Partial<Record<DropReason, number>> | undefined;

  protected constructor(
    role: "client" | "server",
    options: ResolvedClientOptions | ResolvedServerOptions,
    firstSequenceNumber: number | undefined,
  ) {
    this.role = role;
    this.options = options;
    this.records = new RecordLayer(firstSequenceNumber);
  }

  /** Ours, once negotiated: what the peer's records carry (RFC 9146). Empty when they carry none. */
  get connectionId(): Uint8Array {
    return this.records.ownConnectionId;
  }

  get counters(): AssociationCounters {
    return {
      recordsIn: this.recordsIn,
      recordsOut: this.records.sealedRecords,
      bytesIn: this.bytesIn,
      bytesOut: this.#bytesOut,
      retransmissions: this.retransmissions,
      dropped: { ...this.#dropped },
    };
  }

  /** The most that `send` takes at once. */
  get maxDataBytes(): number {
    const room = this.maxDatagramBytes - this.records.overheadBytes(1);
    return Math.min(room, this.records.maxPlaintextBytes(1));
  }

  /** The longest datagram that the path takes. */
  get maxDatagramBytes(): number {
    return this.options.mtuBytes - IP_UDP_HEADER_BYTES;
  }

  poll(): AssociationOutput | undefined {
    const output = this.#output;
    if (output === undefined || this.#later === NO_OUTPUTS) {
      this.#output = undefined;
      return output;
    }
    this.#output = this.#later.shift();
    if (this.#later.length === 0) this.#later = NO_OUTPUTS;
    return output;
  }

  protected get hasOutputs(): boolean {
    return this.#output !== undefined;
  }

  protected sendAlert(level: AlertLevel, description: AlertDescription, to?: "peer" | "source"): void {
    try {
      const epoch = this.records.writeEpoch;
      this.emitDatagram(this.records.seal(epoch, CONTENT_TYPES.alert, encodeAlert(level, description)), to);
    } catch (error) {
      // No sequence number is left for it.
      if (!(error instanceof DtlsError)) throw error;
    }
  }

  /** A step of the handshake threw: that ends this association. */
  protected failBy(cause: unknown): void {
    this.fail(cause instanceof DtlsError ? cause : new DtlsError("DTLS_INTERNAL_ERROR", undefined, { cause }));
  }

  protected fail(error: DtlsError, alert: AlertDescription | undefined = alertOfError(error)): void {
    if (this.isClosed) return;
    if (alert !== undefined) this.sendAlert("fatal", alert);
    this.end(error, alert && { sent: true, received: false, level: "fatal", description: alert });
  }

  protected end(error: DtlsError | undefined, alert: ClosingAlert | undefined): void {
    this.isClosed = true;
    this.records.release();
    this.path = undefined;
    const closed: { -readonly [Key in keyof Closed]: Closed[Key] } = { type: "closed" };
    if (error !== undefined) closed.error = error;
    if (alert !== undefined) closed.alert = alert;
    this.emit(closed);
  }

  protected emit(output: AssociationOutput): void {
    if (this.#output === undefined) this.#output = output;
    else if (this.#later === NO_OUTPUTS) this.#later = [output];
    else this.#later.push(output);
  }

  /** `to`: by default the candidate, while there is one that may be sent as much, or else the peer's address. */
  protected emitDatagram(bytes: Uint8Array, to?: "peer" | "candidate" | "source"): void {
    if (this.saving?.mustSaveToSend(this.records.nextSequenceNumber - 1) === true) this.emit({ type: "save" });
    this.#bytesOut += bytes.length;
    const target = to ?? (this.path?.takes(bytes.length) === true ? "candidate" : undefined);
    this.emit(
      target === undefined || target === "peer" ? { type: "datagram", bytes } : { type: "datagram", bytes, to: target },
    );
  }

  protected drop(reason: DropReason | undefined): void {
    if (reason === undefined) return;
    this.options.onDrop?.(reason);
    this.#dropped ??= {};
    this.#dropped[reason] = (this.#dropped[reason] ?? 0) + 1;
  }
}

type Closed = Extract<AssociationOutput, { readonly type: "closed" }>;

/** Shared by all associations that have no more to say; never added to. */
const NO_OUTPUTS: AssociationOutput[] = [];
