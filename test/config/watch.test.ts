import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { changedKeys, ConfigError, ConfigWatcher, path, Secret, secret, section, text } from "#config/index.js";
import { until } from "#testing/until.js";
import test, { type ExecutionContext } from "ava";

const SCHEMA = section({ name: text(), key: secret(), certificate: path({ isReadableFile: true }) });

function watched(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), "dpe-watch-"));
  const at = (name: string): string => join(folder, name);
  const write = (name: string, content: string): void => writeFileSync(at(name), content, { mode: 0o600 });
  write("config.yaml", "name: one\nkey: file:secret\ncertificate: cert.pem\n");
  write("secret", "first");
  write("cert.pem", "A");
  const told: string[] = [];
  const watcher = new ConfigWatcher(at("config.yaml"), SCHEMA, {
    onChange: ({ name, key }) => {
      told.push(`${name} ${key.text()}`);
    },
    onFault: (error) => {
      told.push(error instanceof ConfigError ? error.code : String(error));
    },
    debounceMs: 20,
    pollMs: 100,
  });
  // A watcher by itself keeps no process running.
  const alive = setInterval(() => undefined, 1000);
  t.teardown(() => {
    clearInterval(alive);
    watcher.close();
    rmSync(folder, { recursive: true });
  });
  const tells = (last: string) => until(() => told.at(-1) === last, { what: last });
  return { at, write, watcher, told, tells };
}

test("a changed file, a changed secret and a changed certificate each are read again", async (t) => {
  const { at, write, watcher, told, tells } = watched(t);
  t.is(watcher.value.name, "one");
  write("config.yaml", "name: two\nkey: file:secret\ncertificate: cert.pem\n");
  await tells("two first");
  write("secret", "second");
  await tells("two second");
  told.length = 0;
  // By renaming, as careful writers do.
  write("new.pem", "B");
  renameSync(at("new.pem"), at("cert.pem"));
  await tells("two second");
  t.is(watcher.value.name, "two");
});

test("a broken file keeps what was read before, and is taken when it is mended", async (t) => {
  const { at, write, watcher, tells } = watched(t);
  write("config.yaml", "name: [\n");
  await tells("CONFIG_SYNTAX");
  t.is(watcher.value.name, "one");
  write("config.yaml", "name: two\nkey: file:absent\ncertificate: cert.pem\n");
  await tells("CONFIG_SECRET_MISSING");
  write("absent", "here");
  await tells("two here");
  rmSync(at("absent"));
  await tells("CONFIG_SECRET_MISSING");
  t.is(watcher.value.name, "two");
});

test("reload reads what has not changed too, and close ends the watching", async (t) => {
  const { watcher, told, tells } = watched(t);
  watcher.reload();
  await tells("one first");
  watcher.close();
  t.is(told.length, 1);
});

test("the keys of two readings that differ are told by name, secrets by their key alone", (t) => {
  const read = (token: string, port: number, names: readonly string[]) => ({
    http: { token: new Secret(token), port },
    names,
    only: undefined,
  });
  t.deepEqual(changedKeys(read("a", 1, ["x"]), read("a", 1, ["x"])), []);
  t.deepEqual(changedKeys(read("a", 1, ["x"]), read("b", 2, ["x", "y"])), ["http.token", "http.port", "names"]);
  t.deepEqual(changedKeys(read("a", 1, []), { ...read("a", 1, []), only: { more: 1 } }), ["only"]);
  t.deepEqual(changedKeys([{ key: new Secret("a") }], [{ key: new Secret("b") }]), [""]);
});
