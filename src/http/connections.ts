import type { Server } from "node:http";
import type { Socket } from "node:net";

/**
 * Bounds what clients may hold open, whoever they are: so many connections in all and of one address. Streams of events are
 * among them, whose number is bounded by the API.
 */
export function boundConnections(server: Server): void {
  server.maxConnections = MAX_CONNECTIONS;
  const perAddress = new Map<string, number>();
  server.on("connection", (socket: Socket) => {
    // Those of a Unix socket are the owner's.
    const address = socket.remoteAddress;
    if (address === undefined) return;
    const count = (perAddress.get(address) ?? 0) + 1;
    perAddress.set(address, count);
    socket.once("close", () => {
      const left = (perAddress.get(address) ?? 1) - 1;
      if (left > 0) perAddress.set(address, left);
      else perAddress.delete(address);
    });
    if (count > MAX_CONNECTIONS_PER_ADDRESS) socket.destroy();
  });
}

/** Each takes a file descriptor and some 20 kB. */
const MAX_CONNECTIONS = 1000;
/** A browser has 6. A proxy in front has one address for all. */
const MAX_CONNECTIONS_PER_ADDRESS = 250;

/** For how long a request may be on its way, whose body is 64 kB at most. Node.js looks for those that take longer now and then. */
export const TIMEOUTS = {
  requestTimeout: 30_000,
  http: { headersTimeout: 10_000, connectionsCheckingInterval: 5000 },
} as const;
