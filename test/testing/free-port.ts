import { createSocket } from "node:dgram";
import { createServer } from "node:net";

/**
 * A port free on 127.0.0.1 for UDP, the next one too, and both for TCP as well: libcoap's servers take DTLS on the next
 * port and listen for TCP besides. No other call gives it, in this process or another one of this machine, as long as this
 * process runs: a server may be ended, and come back on it.
 */
export function freePort(): Promise<number> {
  const next = queue.then(nextPort);
  queue = next.catch(() => undefined);
  return next;
}

async function nextPort(): Promise<number> {
  for (;;) {
    if (left.length === 0) left = portsOf(await claimedBlock());
    const port = left.shift();
    if (port !== undefined && (await isFree(port)) && (await isFree(port + 1))) return port;
  }
}

/** A block of ports is its process's that listens on the block's first one. Systems give out ports above all blocks by themselves. */
async function claimedBlock(): Promise<number> {
  const start = process.pid % BLOCKS;
  for (let tried = 0; tried < BLOCKS; tried++) {
    const first = FIRST_PORT + ((start + tried) % BLOCKS) * BLOCK_PORTS;
    if (await isNowOurs(first)) return first;
  }
  throw new Error(`the ports ${FIRST_PORT} to ${FIRST_PORT + BLOCKS * BLOCK_PORTS - 1} are all taken`);
}

function portsOf(block: number): number[] {
  return Array.from({ length: BLOCK_PORTS / 2 - 1 }, (_, index) => block + 2 * (index + 1));
}

function isNowOurs(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const claim = createServer();
    claim.once("error", () => resolve(false));
    claim.listen({ host: "127.0.0.1", port, exclusive: true }, () => resolve(true));
    claim.unref();
  });
}

async function isFree(port: number): Promise<boolean> {
  return (await isFreeForUdp(port)) && (await isFreeForTcp(port));
}

function isFreeForUdp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket("udp4");
    socket.once("error", () => {
      socket.close();
      resolve(false);
    });
    socket.bind({ address: "127.0.0.1", port, exclusive: true }, () => socket.close(() => resolve(true)));
  });
}

function isFreeForTcp(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

let queue: Promise<unknown> = Promise.resolve();
let left: number[] = [];
const FIRST_PORT = 10_000;
const BLOCK_PORTS = 100;
const BLOCKS = 220;
