import { createServer } from "coap";
import { PAYLOAD } from "./workload.js";

/** The same tiny resource by the npm package coap, plain. Argument: its port. Prints no coaps port, and its coap port. */
const server = createServer((_request, response) => response.end(PAYLOAD));
const port = Number(process.argv[2]);
server.listen(port, "127.0.0.1", () => process.stdout.write(`0 ${port}\n`));
