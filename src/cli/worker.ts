import { rmSync } from "node:fs";
import { exitWith } from "./exit.js";
import { runServer } from "./run-server.js";
import { SIGN_OF_LIFE, SIGN_OF_LIFE_MS, type WorkerPlace } from "./worker-place.js";

/** One process of `dpe server --workers N`, started by its parent, which tells it its place. */
process.once("message", (place: WorkerPlace) => {
  setInterval(() => tellParent(SIGN_OF_LIFE), SIGN_OF_LIFE_MS).unref();
  runServer(place.file, { place, onReady: tellParent })
    .then(() => {
      if (process.connected) process.disconnect();
      // Its parent has ended, which would have done so.
      else rmSync(place.folder, { recursive: true, force: true });
    })
    .catch(exitWith);
});

/** A parent that has ended is told nothing. */
function tellParent(message: unknown): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}
