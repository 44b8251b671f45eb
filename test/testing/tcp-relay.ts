import { connect, createServer, type Server, type Socket } from "node:net";
import type { ExecutionContext } from "ava";

/** A path of TCP to a port of 127.0.0.1 that is slow, cuts what it carries, or lets nothing through any more. */
export class TcpRelay {
  /** Of each way. */
  delayMs = 0;
  /** Every so many replies one is cut in its middle, and its connection ended; 0: none. */
  cutsEvery = 0;
  readonly #server: Server;
  readonly #paths = new Set<Path>();
  #replies = 0;

  private constructor(server: Server, target: number) {
    this.#server = server;
    server.on("connection", (near: Socket) => this.#join(near, connect(target, "127.0.0.1")));
  }

  static async start(t: Pick<ExecutionContext, "teardown">, target: number): Promise<TcpRelay> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const relay = new TcpRelay(server, target);
    t.teardown(() => relay.#close());
    return relay;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === "object" ? (address?.port ?? 0) : 0;
  }

  /** What is connected now stays so, and carries nothing: as where a host is gone without a word. */
  swallow(): void {
    for (const path of this.#paths) path.isSilent = true;
  }

  #join(near: Socket, far: Socket): void {
    const path: Path = { near, far, isSilent: false };
    this.#paths.add(path);
    const end = (): void => {
      this.#paths.delete(path);
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) socket.on("error", end).on("close", end);
    near.on("data", (bytes: Buffer) => this.#carry(path, bytes, far));
    far.on("data", (bytes: Buffer) => {
      const isCut = this.cutsEvery > 0 && ++this.#replies % this.cutsEvery === 0;
      this.#carry(path, isCut ? bytes.subarray(0, bytes.length >> 1) : bytes, near, isCut ? end : undefined);
    });
  }

  #carry(path: Path, bytes: Buffer, to: Socket, after: () => void = () => undefined): void {
    if (path.isSilent) return;
    const write = (): void => void (to.writable && to.write(bytes, after));
    if (this.delayMs === 0) write();
    else setTimeout(write, this.delayMs);
  }

  #close(): void {
    this.#server.close();
    for (const { near, far } of this.#paths) for (const socket of [near, far]) socket.destroy();
  }
}

interface Path {
  readonly near: Socket;
  readonly far: Socket;
  isSilent: boolean;
}
