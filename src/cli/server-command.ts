import { canSharePorts } from "#net/index.js";
import { type Command, misuse, parseWords, usualFile } from "./command.js";

/** `dpe server`: runs until SIGINT or SIGTERM, then closes its associations. */
export const serverCommand: Command = {
  name: "server",
  synopsis: "[--config FILE] [--workers N]",
  summary: "run a DPE Server",
  help: `  --config FILE   its configuration; default: server.yaml here (dpe init server makes one)
  --workers N     as so many processes on its ports, 1 to 64; needs Linux, Node.js 22.12 and store: redis://…
SIGTERM ends it in order, SIGHUP has it read credentials and subscribers again.`,
  example: "dpe server --config /etc/dpe/server.yaml",
  run: async (words) => {
    const { config: given, workers = "1" } = parseWords(serverCommand, words, {
      config: { type: "string" },
      workers: { type: "string" },
    }).values;
    const count = Number(workers);
    if (!Number.isInteger(count) || count < 1 || count > MAX_WORKERS)
      throw misuse(serverCommand, `--workers: a whole number from 1 to ${MAX_WORKERS} is expected, not ${workers}`);
    const config = given ?? usualFile(serverCommand, "server.yaml");
    // What only a server needs would make every other command start later.
    if (count > 1 && canSharePorts()) {
      const { runWorkers } = await import("./run-workers.js");
      return runWorkers(config, count);
    }
    if (count > 1)
      process.stderr.write(
        `dpe: Node.js ${process.versions.node} on ${process.platform} cannot share a UDP port between processes ` +
          "(22.12 and later can, on Linux): one process is used\n",
      );
    const { runServer } = await import("./run-server.js");
    return runServer(config);
  },
};

const MAX_WORKERS = 64;
