import { createServer } from "coap";

/** The same tiny resource by node-coap, plain. Prints its port. */
const server = createServer((_request, response) => response.end("hello"));
const port = Number(process.argv[2]);
server.listen(port, "127.0.0.1", () => process.stdout.write(`0 ${port}\n`));
