import { type FSWatcher, statSync, watch } from "node:fs";
import { dirname, resolve } from "node:path";
import type { z } from "zod";
import { loadConfig, type LoadOptions } from "./load.js";

/**
 * A configuration that is read again when its file changes, or one that it names: secrets, certificates, lists. The system
 * tells of changes; where it does not (network file systems), the files are looked at now and then. A change is taken
 * when no other has come for `debounceMs`, so that files which are exchanged one after the other count as one change.
 */
export class ConfigWatcher<Schema extends z.ZodType> {
  /** As it was read last without a fault. */
  value: z.output<Schema>;

  readonly #file: string;
  readonly #schema: Schema;
  readonly #options: WatchOptions<z.output<Schema>>;
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #poller: NodeJS.Timeout;
  #files: ReadonlySet<string> = new Set();
  #seen = "";
  #timer: NodeJS.Timeout | undefined;

  /** Reads it for the first time. @throws ConfigError. */
  constructor(file: string, schema: Schema, options: WatchOptions<z.output<Schema>>) {
    this.#file = file;
    this.#schema = schema;
    this.#options = options;
    this.value = this.#load();
    this.#poller = setInterval(() => this.#look(), options.pollMs ?? DEFAULT_WATCH_TIMES.pollMs);
    this.#poller.unref();
  }

  /** Reads it again now, changed or not. */
  reload(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    try {
      this.value = this.#load();
      this.#options.onChange(this.value);
    } catch (error) {
      this.#options.onFault(error);
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    clearInterval(this.#poller);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  #load(): z.output<Schema> {
    const files = new Set([resolve(this.#file)]);
    try {
      return loadConfig(this.#file, this.#schema, {
        ...this.#options.load,
        onFile: (file) => {
          files.add(file);
          this.#options.load?.onFile?.(file);
        },
      });
    } finally {
      // What a broken file does not name any more is watched still: it may be what is mended.
      this.#files = new Set([...this.#files, ...files]);
      this.#seen = this.#state();
      this.#watchFolders();
    }
  }

  /** Folders, not files: a file that is exchanged by renaming is another one. */
  #watchFolders(): void {
    const folders = new Set([...this.#files].map((file) => dirname(file)));
    for (const [folder, watcher] of this.#watchers) {
      if (folders.has(folder)) continue;
      watcher.close();
      this.#watchers.delete(folder);
    }
    for (const folder of folders) {
      if (this.#watchers.has(folder)) continue;
      try {
        const watcher = watch(folder, { persistent: false }, () => this.#look());
        watcher.on("error", () => watcher.close());
        this.#watchers.set(folder, watcher);
      } catch {
        // The system cannot tell of changes there; the poller sees them.
      }
    }
  }

  #look(): void {
    if (this.#state() === this.#seen) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.reload(), this.#options.debounceMs ?? DEFAULT_WATCH_TIMES.debounceMs);
    this.#timer.unref();
  }

  #state(): string {
    return [...this.#files].map((file) => stateOf(file)).join("\n");
  }
}

export interface WatchOptions<Value> {
  /** Takes the new value; what it throws goes to `onFault`. */
  readonly onChange: (value: Value) => void;
  /** The new files do not serve: what was read before stays. */
  readonly onFault: (error: unknown) => void;
  /** Default 300 ms without a further change. Low: half of an exchange of two files may be taken. */
  readonly debounceMs?: number;
  /** Default 10 s between looks at the files, where the system does not tell. */
  readonly pollMs?: number;
  readonly load?: LoadOptions;
}

export const DEFAULT_WATCH_TIMES: { readonly debounceMs: number; readonly pollMs: number } = {
  debounceMs: 300,
  pollMs: 10_000,
};

function stateOf(file: string): string {
  try {
    const { ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
    return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch {
    return "missing";
  }
}
