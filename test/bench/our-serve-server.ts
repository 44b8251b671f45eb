import { router, serve } from "#api/index.js";
import { PAYLOAD, PATH } from "./workload.js";

/** The same tiny resource by the function that users call, plain. Prints no coaps port, and its coap port. */
const app = router().get(`/${PATH}`, () => PAYLOAD);
const server = await serve(app, { host: "127.0.0.1", port: 0 });
process.stdout.write(`0 ${server.address?.port ?? 0}\n`);
