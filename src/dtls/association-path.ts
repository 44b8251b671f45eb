import { AssociationHandshake } from "./association-handshake.js";
import type { DatagramSource } from "./association-output.js";
import { DtlsError } from "./errors.js";
import { PathValidation } from "./path-validation.js";
import { CONTENT_TYPES, type ContentType } from "./wire/record.js";
import { decodeReturnRoutabilityCheck, encodeReturnRoutabilityCheck } from "./wire/return-routability-check.js";

/**
 * Where an association's peer is (RFC 9146 §6, RFC 9853). The surroundings know the addresses; here there are the peer's,
 * and, while it is being validated, a candidate.
 */
export abstract class AssociationPath extends AssociationHandshake {
  /** Of the datagram at hand. */
  protected source: DatagramSource = "peer";

  override nextTimeout(): number | undefined {
    return this.path?.nextTimeout() ?? super.nextTimeout();
  }

  override handleTimeout(now: number): void {
    if (this.path === undefined) super.handleTimeout(now);
    else this.#goOnWithPath(this.path, this.path.handleTimeout(now), now);
  }

  /** A new record of the peer's: it is at its address after all, or elsewhere, or still at the candidate. */
  protected heardFrom(bytes: number, now: number): void {
    const type = this.records.openedType;
    if (type !== CONTENT_TYPES.applicationData && type !== CONTENT_TYPES.handshake) return;
    if (this.source === "peer") {
      this.#settlePath("refused");
    } else if (!this.#checksPaths || this.options.returnRoutabilityCheck === "none") {
      this.source = "peer";
      this.emit({ type: "peer-moved" });
    } else if (this.path === undefined) {
      this.source = "candidate";
      this.emit({ type: "path-candidate" });
      this.path = new PathValidation(this.options, now);
      this.path.heard(bytes);
      this.#challenge(this.path, now);
    } else if (this.source === "candidate") {
      this.path.heard(bytes);
    }
  }

  /** Each challenge is answered once, and where it came from (RFC 9853 §5.4). We leave no path by choice: no path_drop. */
  protected handlePathMessage(bytes: Uint8Array, now: number): void {
    const message = decodeReturnRoutabilityCheck(bytes);
    if (message === undefined || !this.#checksPaths) {
      this.drop("unexpected-path-message");
      return;
    }
    if (message.type === "path_challenge") {
      const response = encodeReturnRoutabilityCheck({ type: "path_response", cookie: message.cookie });
      this.#sendPathMessage(response, this.source === "peer" ? "peer" : "source");
      return;
    }
    const outcome = this.path?.handleAnswer(message, this.source === "candidate", now);
    if (this.path === undefined || outcome === undefined) this.drop("unexpected-path-message");
    else this.#goOnWithPath(this.path, outcome, now);
  }

  /** What the candidate may not be sent yet waits. */
  protected sendsNow(path: PathValidation, data: Uint8Array): boolean {
    if (path.allows(this.records.overheadBytes(1) + data.length)) return true;
    if (!path.hold(data)) this.drop("path-hold-limit");
    return false;
  }

  get #checksPaths(): boolean {
    return this.established?.returnRoutabilityCheck === true;
  }

  #challenge(path: PathValidation, now: number): void {
    const { to, cookie } = path.challenge(now);
    const message = encodeReturnRoutabilityCheck({ type: "path_challenge", cookie });
    if (to === "old") this.#sendPathMessage(message, "peer");
    else if (path.takes(this.records.overheadBytes(1) + message.length)) this.#sendPathMessage(message, "candidate");
  }

  #goOnWithPath(path: PathValidation, step: "validated" | "refused" | "challenge" | undefined, now: number): void {
    if (step === "challenge") this.#challenge(path, now);
    else if (step !== undefined) this.#settlePath(step);
  }

  #settlePath(outcome: "validated" | "refused"): void {
    const held = this.path?.held ?? [];
    this.path = undefined;
    if (outcome === "validated") this.source = "peer";
    else if (this.source === "candidate") this.source = "elsewhere";
    this.emit({ type: `path-${outcome}` });
    for (const data of held) this.#sealAndSend(CONTENT_TYPES.applicationData, data);
  }

  #sealAndSend(type: ContentType, plaintext: Uint8Array, to?: "peer" | "candidate" | "source"): void {
    try {
      this.emitDatagram(this.records.seal(1, type, plaintext), to);
    } catch (error) {
      if (!(error instanceof DtlsError)) throw error;
      this.end(error, undefined);
    }
  }

  #sendPathMessage(message: Uint8Array, to: "peer" | "candidate" | "source"): void {
    this.#sealAndSend(CONTENT_TYPES.returnRoutabilityCheck, message, to);
  }
}
