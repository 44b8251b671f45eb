import { OPTION, type ResponseMessage } from "#coap/index.js";
import type { SenmlValue } from "#senml/index.js";
import { BridgeError } from "./errors.js";
import {
  checkChanged,
  fetchOf,
  type FirmwareProperty,
  type FirmwareResources,
  putOf,
  readingsOf,
  resourcesOf,
  statusOf,
} from "./firmware-properties.js";
import type { FirmwareSession } from "./firmware-session.js";
import type { FirmwareReading } from "./reading.js";

/** What a gateway does with the properties of one firmware, as long as a session lasts. */
export class SlipmuxClient {
  readonly resources: FirmwareResources;
  readonly #session: FirmwareSession;
  readonly #onReadings: (readings: readonly FirmwareReading[]) => void;
  readonly #observed = new Set<string>();
  #lastUptimeMs: number | undefined;

  private constructor(
    session: FirmwareSession,
    resources: FirmwareResources,
    onReadings: (readings: readonly FirmwareReading[]) => void,
  ) {
    this.#session = session;
    this.resources = resources;
    this.#onReadings = onReadings;
  }

  /** Discovers the firmware's properties. @throws BridgeError BRIDGE_BAD_ANSWER, BRIDGE_REFUSED; CoapError. */
  static async discover(
    session: FirmwareSession,
    onReadings: (readings: readonly FirmwareReading[]) => void,
  ): Promise<SlipmuxClient> {
    const resources = resourcesOf(await session.get([".well-known", "core"]));
    return new SlipmuxClient(session, resources, onReadings);
  }

  /** Observes what can be and is not yet; what refuses, or has no value yet, was read by that at least. @throws CoapError. */
  async observeAll(): Promise<void> {
    for (const property of this.resources.properties) {
      if (!property.isObservable || this.#observed.has(property.name)) continue;
      const response = await this.#session.observe(
        property.path,
        (notification) => this.#take(property, notification),
        () => this.#observed.delete(property.name),
      );
      if (response.options.has(OPTION.Observe)) this.#observed.add(property.name);
      this.#take(property, response);
    }
  }

  /** Reads what cannot be observed. @throws BridgeError, CoapError. */
  async poll(): Promise<void> {
    const wanted = this.resources.properties.filter(({ isObservable }) => !isObservable);
    const { collection } = this.resources;
    if (wanted.length === 0) return;
    if (collection !== undefined) {
      for (const names of batches(wanted.map(({ name }) => name))) {
        const response = await this.#session.request(fetchOf(collection, names));
        const readings = readingsOf(response, "a FETCH", Date.now() / 1000);
        this.#onReadings(readings.filter(({ name }) => names.includes(name)));
      }
      return;
    }
    for (const property of wanted) this.#take(property, await this.#session.get(property.path));
  }

  /** One property's value as it is now. @throws BridgeError, CoapError. */
  async read(name: string): Promise<readonly FirmwareReading[]> {
    const property = this.#propertyOf(name);
    return named(readingsOf(await this.#session.get(property.path), name, Date.now() / 1000), property);
  }

  /** @throws BridgeError BRIDGE_REFUSED where the firmware does not take it; CoapError. */
  async write(name: string, value: SenmlValue): Promise<void> {
    const property = this.#propertyOf(name);
    checkChanged(await this.#session.request(putOf(property.path, value)), name);
  }

  /**
   * Whether the firmware still is the one that was discovered: it has not started anew, and holds our observations.
   * @throws CoapError COAP_TIMEOUT when nothing answers.
   */
  async check(): Promise<"same" | "restarted" | "forgot-observations"> {
    const { status: path } = this.resources;
    if (path === undefined) {
      // Somebody else's firmware: that it answers is all there is to know.
      await this.#session.get([".well-known", "core"]);
      return "same";
    }
    const status = statusOf(await this.#session.get(path));
    const last = this.#lastUptimeMs;
    this.#lastUptimeMs = status.uptimeMs;
    // The counter wraps around; one that seems to have run for weeks between two looks went backward.
    if (last !== undefined && (status.uptimeMs - last) >>> 0 > HALF_ROUND) return "restarted";
    return status.observations < this.#observed.size ? "forgot-observations" : "same";
  }

  #propertyOf(name: string): FirmwareProperty {
    const property = this.resources.properties.find((candidate) => candidate.name === name);
    if (property === undefined) throw new BridgeError("BRIDGE_NOT_SUPPORTED", `the firmware has no property ${name}`);
    return property;
  }

  #take(property: FirmwareProperty, response: ResponseMessage): void {
    if (response.options.block2?.hasMore === true) {
      // The rest of it comes by a request of its own; where that fails the session is over anyway.
      this.#session.get(property.path).then(
        (whole) => this.#take(property, whole),
        () => undefined,
      );
      return;
    }
    try {
      this.#onReadings(named(readingsOf(response, property.name, Date.now() / 1000), property));
    } catch (error) {
      // No value at present: 5.03. It will be polled for, or notified.
      if (!(error instanceof BridgeError)) throw error;
    }
  }
}

/** Somebody else's firmware may name its record otherwise than its path. */
function named(readings: readonly FirmwareReading[], { name }: FirmwareProperty): readonly FirmwareReading[] {
  const [only, ...others] = readings;
  if (only === undefined) return [];
  return others.length === 0
    ? [{ ...only, name }]
    : readings.map((reading) => ({ ...reading, name: `${name}/${reading.name}` }));
}

/** Names whose pack fits in the smallest message buffer of firmware-bridge, which is 96 bytes. */
function batches(names: readonly string[]): string[][] {
  const all: string[][] = [];
  let room = 0;
  for (const name of names) {
    const size = name.length + RECORD_BYTES;
    if (size > room) {
      all.push([]);
      room = MAX_FETCH_BYTES;
    }
    all.at(-1)?.push(name);
    room -= size;
  }
  return all;
}

const MAX_FETCH_BYTES = 64;
/** Map, key and the head of a text. */
const RECORD_BYTES = 4;
const HALF_ROUND = 2 ** 31;
