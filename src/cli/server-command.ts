import { type Command, configFile } from "./command.js";

/** `dpe server`: runs until SIGINT or SIGTERM, then closes its associations. */
export const serverCommand: Command = {
  name: "server",
  synopsis: "--config FILE",
  summary: "run a DPE Server",
  run: async (words) => {
    const file = configFile(serverCommand, words);
    // What only a server needs would make every other command start later.
    const { runServer } = await import("./run-server.js");
    await runServer(file);
  },
};
