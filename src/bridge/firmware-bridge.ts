import { messageOf } from "#errors/index.js";
import type { SenmlValue } from "#senml/index.js";
import { pause } from "#waiting/index.js";
import { DiagnosticLines } from "./diagnostics.js";
import { BridgeError } from "./errors.js";
import type { FirmwareProperty } from "./firmware-properties.js";
import { FirmwareSession } from "./firmware-session.js";
import { JsonLinesDecoder } from "./json-lines.js";
import type { FirmwareReading } from "./reading.js";
import type { SlipmuxCounters } from "./slipmux.js";
import { SlipmuxClient } from "./slipmux-client.js";
import { DEFAULT_BAUD, openWire, type Wire } from "./wire.js";

/**
 * One microcontroller, for as long as the bridge is open: found, discovered, observed, and found again.
 *
 * | state | on | to |
 * |---|---|---|
 * | absent | the port opens | discovering |
 * | discovering | answers | connected; a gap is told of where there was a connection before |
 * | discovering | no answer | discovering |
 * | connected | reset, observations forgotten, silence | discovering, on the same port |
 * | any | the port closes | absent |
 * | any | close | closed |
 *
 * With JSON lines there is nothing to ask: the first line connects.
 */
export class FirmwareBridge {
  readonly #options: FirmwareBridgeOptions & FirmwareBridgeDefaults;
  readonly #onEvent: (event: FirmwareEvent) => void;
  readonly #diagnostics = new DiagnosticLines();
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #client: SlipmuxClient | undefined;
  /** When the microcontroller was last heard of, ms since 1970; undefined before it ever was. */
  #heardMs: number | undefined;
  /** Why it is not connected; undefined while it is. */
  #lostBy: string | undefined = "it was not found yet";
  #restart: ((cause: string) => void) | undefined;

  constructor(options: FirmwareBridgeOptions, onEvent: (event: FirmwareEvent) => void) {
    this.#options = { ...DEFAULT_FIRMWARE_BRIDGE_OPTIONS, ...options };
    this.#onEvent = onEvent;
    this.#running = this.#run();
  }

  get isConnected(): boolean {
    return this.#lostBy === undefined;
  }

  /** What the firmware has; empty while it is not connected. */
  get properties(): readonly FirmwareProperty[] {
    return this.#client?.resources.properties ?? [];
  }

  /** Asks the microcontroller itself. @throws BridgeError, CoapError. */
  read(name: string): Promise<readonly FirmwareReading[]> {
    return this.#connectedClient().read(name);
  }

  /** Sets a property on the microcontroller. @throws BridgeError BRIDGE_REFUSED where it does not take it; CoapError. */
  write(name: string, value: SenmlValue): Promise<void> {
    return this.#connectedClient().write(name, value);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  #connectedClient(): SlipmuxClient {
    if (this.#options.protocol === "json-lines")
      throw new BridgeError("BRIDGE_NOT_SUPPORTED", "JSON lines go one way only");
    if (this.#client === undefined) {
      const why = this.#lostBy ?? "it is being discovered";
      throw new BridgeError("BRIDGE_DISCONNECTED", `the microcontroller is not connected: ${why}`);
    }
    return this.#client;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    let lastTold: string | undefined;
    while (!signal.aborted) {
      let wire: Wire | undefined;
      try {
        wire = await openWire(this.#options.port, this.#options);
        lastTold = undefined;
        await (this.#options.protocol === "slipmux" ? this.#speak(wire) : this.#listen(wire));
      } catch (error) {
        // The same reason again is no news.
        const why = messageOf(error);
        if (wire === undefined && why !== lastTold) this.#onEvent({ type: "no-port", cause: why });
        lastTold = why;
      } finally {
        await wire?.close();
      }
      await pause(REOPEN_INTERVAL_MS, signal);
    }
    this.#lose("closed");
  }

  /** Sessions on an open wire, one after the other, until it closes. */
  async #speak(wire: Wire): Promise<void> {
    let closedBy: string | undefined;
    void wire.closed.then((reason) => {
      closedBy = reason;
      this.#restart?.(reason);
    });
    while (closedBy === undefined && !this.#closing.signal.aborted) {
      let end: (cause: string) => void = () => undefined;
      const over = new Promise<string>((resolve) => (end = resolve));
      this.#restart = end;
      const session = new FirmwareSession(wire, {
        baud: this.#options.baud,
        onText: (text) => this.#takeText(text),
        ...(this.#options.onFrame === undefined ? {} : { onFrame: this.#options.onFrame }),
        ...(this.#options.onNoise === undefined ? {} : { onNoise: this.#options.onNoise }),
      });
      const stop = (): void => end("closed");
      this.#closing.signal.addEventListener("abort", stop, { once: true });
      const serving = this.#serve(session).catch((error: unknown) => {
        end(messageOf(error));
      });
      const cause = await over;
      this.#restart = undefined;
      session.close();
      await serving;
      this.#closing.signal.removeEventListener("abort", stop);
      this.#client = undefined;
      this.#lose(cause);
      // What is refused at once, by a wire that gives back what it is sent for one, would be asked for without end.
      await pause(REOPEN_INTERVAL_MS, this.#closing.signal);
    }
  }

  async #serve(session: FirmwareSession): Promise<void> {
    const client = await SlipmuxClient.discover(session, (readings) => this.#takeReadings(readings));
    this.#client = client;
    await client.observeAll();
    await client.poll();
    // From here on its clock is watched.
    await client.check();
    this.#find(client.resources.properties);
    let pollAt = performance.now() + this.#options.everyMs;
    for (;;) {
      await pause(CHECK_INTERVAL_MS, this.#closing.signal);
      if (this.#client !== client || this.#closing.signal.aborted) return;
      const state = await client.check();
      this.#heardMs = Date.now();
      if (state !== "same") throw new BridgeError("BRIDGE_DISCONNECTED", RESTARTED[state]);
      if (performance.now() < pollAt) continue;
      pollAt = performance.now() + this.#options.everyMs;
      await client.observeAll();
      await client.poll();
    }
  }

  async #listen(wire: Wire): Promise<void> {
    const decoder = new JsonLinesDecoder({ checksum: this.#options.checksum });
    wire.onBytes = (bytes) => {
      for (const line of decoder.push(bytes, Date.now() / 1000)) {
        if (line.type === "text") {
          this.#takeText(line.text);
          continue;
        }
        this.#find([]);
        this.#takeReadings(line.readings);
      }
    };
    const { signal } = this.#closing;
    let stop = (): void => undefined;
    const stopped = new Promise<string>((resolve) => (stop = () => resolve("closed")));
    signal.addEventListener("abort", stop, { once: true });
    // While the wire was opened.
    if (signal.aborted) stop();
    this.#lose(await Promise.race([wire.closed, stopped]));
    signal.removeEventListener("abort", stop);
  }

  #find(properties: readonly FirmwareProperty[]): void {
    if (this.#lostBy === undefined) return;
    const cause = this.#lostBy;
    this.#lostBy = undefined;
    const now = Date.now();
    this.#onEvent({ type: "connected", port: this.#options.port, properties });
    if (this.#heardMs !== undefined) this.#onEvent({ type: "gap", fromMs: this.#heardMs, toMs: now, cause });
    this.#heardMs = now;
  }

  #lose(cause: string): void {
    if (this.#lostBy !== undefined) return;
    this.#lostBy = cause;
    // Whoever closes it knows.
    if (!this.#closing.signal.aborted) this.#onEvent({ type: "lost", port: this.#options.port, cause });
  }

  #takeReadings(readings: readonly FirmwareReading[]): void {
    if (this.#lostBy === undefined) this.#heardMs = Date.now();
    if (readings.length > 0) this.#onEvent({ type: "readings", readings });
  }

  #takeText(text: string): void {
    const isStart = text.startsWith(STARTED);
    // A firmware that starts while it is being discovered is discovered anew as well: its answers may be of before.
    if (isStart && this.#client !== undefined) this.#restart?.("it was reset");
    for (const one of text.split(/\r?\n/)) {
      if (one === "") continue;
      const line = this.#diagnostics.take(one, performance.now());
      if (line !== undefined) this.#onEvent({ type: "diagnostic", ...line });
    }
  }
}

export interface FirmwareBridgeOptions {
  /** As `openWire` takes it. */
  readonly port: string;
  /** Default 115200. */
  readonly baud?: number;
  /** Default slipmux. */
  readonly protocol?: "slipmux" | "json-lines";
  /** Default 10,000: how often what cannot be observed is read, ms. */
  readonly everyMs?: number;
  /** Default optional; of JSON lines only. */
  readonly checksum?: "optional" | "required";
  /** Default /dev/serial/by-id. */
  readonly byIdFolder?: string;
  /** Each CoAP message, for a monitor. */
  readonly onFrame?: (direction: "sent" | "received", message: Uint8Array) => void;
  /** Frames that were dropped, for a monitor. */
  readonly onNoise?: (counters: SlipmuxCounters) => void;
}

export const DEFAULT_FIRMWARE_BRIDGE_OPTIONS: FirmwareBridgeDefaults = {
  baud: DEFAULT_BAUD,
  protocol: "slipmux",
  everyMs: 10_000,
  checksum: "optional",
};

type FirmwareBridgeDefaults = Required<Pick<FirmwareBridgeOptions, "baud" | "protocol" | "everyMs" | "checksum">>;

export type FirmwareEvent =
  | { readonly type: "connected"; readonly port: string; readonly properties: readonly FirmwareProperty[] }
  | { readonly type: "lost"; readonly port: string; readonly cause: string }
  | { readonly type: "no-port"; readonly cause: string }
  /** Readings between these times, ms since 1970, may be missing. */
  | { readonly type: "gap"; readonly fromMs: number; readonly toMs: number; readonly cause: string }
  | { readonly type: "readings"; readonly readings: readonly FirmwareReading[] }
  | { readonly type: "diagnostic"; readonly text: string; readonly suppressed: number };

/** What firmware-bridge says first. */
const STARTED = "dpe-bridge: started";
const RESTARTED = { restarted: "it was reset", "forgot-observations": "it forgot what is observed" } as const;
const REOPEN_INTERVAL_MS = 100;
const CHECK_INTERVAL_MS = 500;
