export { type CoapsClientOptions, CoapsClientSocket } from "./client-socket.js";
export { CoapsSocketError, type CoapsPeer } from "./datagram-socket.js";
export { CoapsServerSocket, type CoapsServerOptions, listenCoaps } from "./server-socket.js";
