import type { Association } from "./association.js";
import type { DropReason } from "./association-output.js";
import type { ServerOptions } from "./options.js";

export declare class ServerGate {
  constructor(options: ServerOptions);
  handleDatagram(datagram: Uint8Array, peerAddress: Uint8Array, now: number): GateAnswer;
}

export type GateAnswer =
  | { readonly type: "reply"; readonly bytes: Uint8Array }
  | { readonly type: "accept"; readonly association: Association }
  | { readonly type: "drop"; readonly reason: DropReason };
