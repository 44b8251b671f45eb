import type { EndpointOutput } from "./endpoint-output.js";

/** Outputs until they are polled. Its array stays, as one that is emptied by its length costs V8 a call of its runtime, and is grown anew. */
export class OutputQueue {
  #outputs: (EndpointOutput | undefined)[] = [];
  #first = 0;
  #end = 0;

  push(output: EndpointOutput): void {
    this.#outputs[this.#end++] = output;
  }

  take(): EndpointOutput | undefined {
    if (this.#first === this.#end) {
      this.#first = this.#end = 0;
      if (this.#outputs.length > KEPT_LENGTH) this.#outputs = [];
      return undefined;
    }
    const output = this.#outputs[this.#first];
    this.#outputs[this.#first++] = undefined;
    return output;
  }
}

/** After a burst its array goes. */
const KEPT_LENGTH = 256;
