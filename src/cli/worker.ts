import { exitWith } from "./exit.js";
import { runServer } from "./run-server.js";
import type { WorkerPlace } from "./worker-place.js";

/** One process of `dpe server --workers N`, started by its parent, which tells it its place. */
process.once("message", (place: WorkerPlace) => {
  runServer(place.file, place)
    .then(() => process.disconnect?.())
    .catch(exitWith);
});
