import { createSocket } from "node:dgram";
import { PAYLOAD } from "./workload.js";

/**
 * The floor: what a dgram socket of Node takes to receive a datagram and answer it, with no protocol at all. It answers
 * with the bytes that a CoAP server would. Prints no coaps port, and its coap port.
 */
const socket = createSocket({ type: "udp4", lookup: (name, _options, callback) => callback(null, name, 4) });
const payload = new TextEncoder().encode(PAYLOAD);
socket.on("message", (request, from) => {
  const answer = Buffer.allocUnsafe(6 + payload.length);
  answer[0] = 0x61;
  answer[1] = 0x45;
  for (let i = 2; i < 5; i++) answer[i] = request[i] ?? 0;
  answer[5] = 0xff;
  answer.set(payload, 6);
  socket.send(answer, from.port, from.address);
});
socket.bind(0, "127.0.0.1", () => process.stdout.write(`0 ${socket.address().port}\n`));
