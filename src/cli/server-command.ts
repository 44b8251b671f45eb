import { canSharePorts } from "#net/index.js";
import { type Command, parseWords, usualFile } from "./command.js";
import { UsageError } from "./exit.js";

/** `dpe server`: runs until SIGINT or SIGTERM, then closes its associations. */
export const serverCommand: Command = {
  name: "server",
  synopsis: "[--config FILE] [--workers N]",
  summary: "run a DPE Server; FILE: server.yaml here",
  help: `  --workers N         as so many processes on its ports, 1 to 64; needs Node.js 22.12 and store: redis://…`,
  run: async (words) => {
    const { config: given, workers = "1" } = parseWords(serverCommand, words, {
      config: { type: "string" },
      workers: { type: "string" },
    }).values;
    const config = given ?? usualFile(serverCommand, "server.yaml");
    const count = Number(workers);
    if (!Number.isInteger(count) || count < 1 || count > MAX_WORKERS)
      throw new UsageError(`--workers: a whole number from 1 to ${MAX_WORKERS} is expected, not ${workers}`);
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
