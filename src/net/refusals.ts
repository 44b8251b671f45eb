import { NetError } from "./net-error.js";
import { formatAddress, monotonicNow, type SocketAddress, type UdpSocket } from "./udp-socket.js";

/**
 * Tells `end` when the host of `to`, which the socket is connected to, says by ICMP that nobody listens there, to two messages
 * in a row. Whoever can forge that can do as much, while `isUnheard`: for callers that try again.
 */
export function watchRefusals(
  socket: UdpSocket,
  to: SocketAddress,
  isUnheard: () => boolean,
  end: (refusal: NetError) => void,
): void {
  let refusedAt: number | undefined;
  socket.onRefused = () => {
    const now = monotonicNow();
    if (refusedAt === undefined || !isUnheard()) refusedAt = now;
    else if (now - refusedAt >= LEAST_REFUSAL_MS)
      end(new NetError("NET_CONNECTION_REFUSED", `${formatAddress(to)}: nobody listens there`));
  };
}

/** Within it, it is datagrams of the same flight that are refused. */
const LEAST_REFUSAL_MS = 500;
