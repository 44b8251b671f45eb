import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Silence } from "#agent/silence.js";
import test from "ava";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function live(): number {
  collectGarbage();
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test.serial("what is asked and heard over a long association leaves nothing behind", async (t) => {
  const silence = new Silence();
  const over = new AbortController();
  t.teardown(() => over.abort());
  const watching = silence.lasts(60_000, over.signal);
  const converse = async (times: number): Promise<void> => {
    for (let count = 0; count < times; count++) {
      silence.asked();
      await turn();
      silence.heard();
      silence.settled();
      await turn();
    }
  };
  await converse(1000);
  const before = live();
  await converse(30_000);
  t.true(live() - before < 1_000_000, `${live() - before} bytes more are live`);
  over.abort();
  await watching;
});

test("silence lasts until something is heard, and ends with its signal", async (t) => {
  const silence = new Silence();
  const { signal } = new AbortController();
  silence.asked();
  const ended = silence.ends(60_000, signal);
  await turn();
  silence.heard();
  t.true(await ended);
  t.false(await silence.ends(1, signal), "nothing more came");
  t.false(await silence.ends(60_000, AbortSignal.abort()));
  const over = new AbortController();
  const aborted = silence.ends(60_000, over.signal);
  await turn();
  over.abort();
  t.false(await aborted);
  await silence.lasts(1, signal);
  t.pass("asked, and silent for so long");
});
