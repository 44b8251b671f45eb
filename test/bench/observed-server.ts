import { CODE, Options, type ResponseMessage } from "#coap/index.js";
import { CoapEndpoint, UdpSocket } from "#net/index.js";
import { createInterface } from "node:readline";
import { PAYLOAD } from "./workload.js";

/**
 * One observable resource, at any path, on plain CoAP. Prints no coaps port, and its coap port; then, for each line that it
 * reads, a number. live: bytes alive after a collection. cpu: processor time so far, µs. notify: tells all observers of a
 * change, and how many they are.
 */
const payload = new TextEncoder().encode(PAYLOAD);
const state: ResponseMessage = { code: CODE.Content, options: Options.none, payload };
const observers = new Set<(response: ResponseMessage) => void>();
const server = new CoapEndpoint({
  maxPlainPeers: 20_000,
  // Whose address is in doubt gets its first notification Confirmable: these are not.
  maxAmplification: Infinity,
  limits: { maxObservations: 200_000 },
  onRequest: () => ({
    ...state,
    observe: (notify) => {
      observers.add(notify);
      return () => observers.delete(notify);
    },
  }),
});
const socket = await UdpSocket.bind({ host: "127.0.0.1", receiveBufferBytes: 8 * 1024 * 1024 });
server.addSocket(socket);
process.stdout.write(`0 ${socket.address.port}\n`);

const answers: Readonly<Record<string, () => number>> = {
  live: () => {
    for (let i = 0; i < 2; i++) globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  },
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
  notify: () => {
    for (const notify of observers) notify(state);
    return observers.size;
  },
};
for await (const line of createInterface({ input: process.stdin })) process.stdout.write(`${answers[line]?.() ?? 0}\n`);
