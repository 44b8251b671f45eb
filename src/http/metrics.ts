import { AggregatorRegistry, collectDefaultMetrics, Counter, Gauge, Registry } from "prom-client";
import { CERTIFICATE_ROLES, type DpeServer, type ServerEvent } from "#server/index.js";

/** Counters of a server in Prometheus' form. Labels are of our own tables, so that no peer can make more of them. */
export class Metrics {
  readonly registry: Registry = new Registry();
  readonly #counters: Readonly<Record<CounterName, Counter>>;
  readonly #isStoreWell: Gauge;

  constructor() {
    const registers = [this.registry];
    const counter = (name: string, help: string, ...labelNames: string[]): Counter =>
      new Counter({ name: `dpe_${name}`, help, labelNames, registers });
    collectDefaultMetrics({ register: this.registry });
    this.#isStoreWell = new Gauge({
      name: "dpe_store_up",
      help: "1 while the store does what it is asked to, 0 while it fails",
      aggregator: "min",
      registers,
    });
    this.#isStoreWell.set(1);
    this.#counters = {
      registrations: counter("registrations_total", "Registrations and refreshes"),
      ended: counter("registrations_ended_total", "Registrations that ended", "cause"),
      reports: counter("reports_total", "Reports that were taken"),
      readings: counter("readings_total", "Readings that were new"),
      authenticationErrors: counter("authentication_errors_total", "Requests refused by the server", "error"),
      handshakeFailures: counter("handshake_failures_total", "DTLS handshakes that failed", "cause"),
      authentications: counter(
        "authentications_total",
        "Authentications that succeeded or failed",
        "interface",
        "outcome",
      ),
      addressChanges: counter(
        "address_changes_total",
        "Associations whose peer sent from another address: moved there, or refused to",
        "outcome",
      ),
      radius: counter("radius_total", "RADIUS accounting, by what became of it", "event"),
      reloads: counter("reloads_total", "Configurations that were read anew"),
      associationsEnded: counter("associations_ended_total", "Associations that a changed configuration ended"),
      associationsRestored: counter("associations_restored_total", "Associations from before a restart", "outcome"),
      contestedNames: counter("contested_names_total", "Pairs of associations that register one name by turns"),
      clientErrors: counter("client_errors_total", "Clients that did not accept this server"),
      certificateRenewals: counter(
        "certificate_renewals_total",
        "Renewals of the server's own certificates",
        "outcome",
      ),
      faults: counter("faults_total", "Requests that failed by our own fault"),
      pairings: counter("pairings_total", "What became of pairing codes and renewals", "outcome"),
      forwarded: counter("forwarded_total", "Reports that were forwarded"),
      dropped: counter("forward_dropped_total", "Reports that were dropped before they were forwarded"),
      refused: counter("forward_refused_total", "Messages left out, since the broker ends the connection at such"),
    };
  }

  storeIs(isWell: boolean): void {
    this.#isStoreWell.set(isWell ? 1 : 0);
  }

  /** Gauges that are read when they are asked for. */
  follow(server: DpeServer): void {
    const { store } = server;
    const gauge = (
      name: string,
      help: string,
      read: () => Promise<number> | number,
      aggregator: "sum" | "first" = "sum",
    ): Gauge =>
      new Gauge({
        aggregator,
        name: `dpe_${name}`,
        help,
        registers: [this.registry],
        async collect() {
          try {
            this.set(await read());
          } catch {
            // What the store does not tell is absent, and keeps nobody from the rest.
            this.remove();
          }
        },
      });
    gauge("devices", "Devices in the store, ended registrations included", () => store.registrations.count(), "first");
    gauge("outbox_reports", "Reports that wait to be forwarded", () => store.outbox.count(), "first");
    gauge("connections", "Peers that are spoken with: DTLS associations and plain addresses", () => server.connections);
    const associations = new Gauge({
      name: "dpe_associations",
      help: "DTLS associations since the start: by a full or an abbreviated handshake, or restored",
      labelNames: ["handshake"],
      registers: [this.registry],
      collect() {
        for (const [kind, count] of Object.entries(server.associationCounts))
          associations.set({ handshake: kind }, count);
      },
    });
    const coap = new Gauge({
      name: "dpe_coap",
      help: "Counters of the CoAP endpoint since the start",
      labelNames: ["counter"],
      registers: [this.registry],
      collect() {
        for (const [name, value] of Object.entries(server.coapCounters))
          if (typeof value === "number") coap.set({ counter: name }, value);
      },
    });
    const ends = new Gauge({
      name: "dpe_certificate_end_seconds",
      help: "When the first certificate of each kind ends, Unix time",
      labelNames: ["role"],
      aggregator: "first",
      registers: [this.registry],
      collect() {
        ends.reset();
        const all = server.certificates(Date.now());
        for (const role of CERTIFICATE_ROLES) {
          const some = all.flatMap((one) => (one.role === role ? [one.notAfterMs / 1000] : []));
          if (some.length > 0) ends.set({ role }, Math.min(...some));
        }
      },
    });
    const dropped = new Gauge({
      name: "dpe_dtls_dropped",
      help: "Records and datagrams that DTLS dropped in silence since the start",
      labelNames: ["reason"],
      registers: [this.registry],
      collect() {
        for (const [reason, count] of Object.entries(server.dtlsDropped)) dropped.set({ reason }, count);
      },
    });
    const refused = new Gauge({
      name: "dpe_tcp_refused",
      help: "TCP connections that were closed at once since the start, as there were too many",
      labelNames: ["reason"],
      registers: [this.registry],
      collect() {
        for (const [reason, count] of Object.entries(server.tcpRefused)) refused.set({ reason }, count);
      },
    });
  }

  /** What processes on one port hand to each other, where there are several. */
  followSteering(counters: object): void {
    const gauge = new Gauge({
      name: "dpe_steering",
      help: "Datagrams between the processes on one port, since the start",
      labelNames: ["counter"],
      registers: [this.registry],
      collect() {
        for (const [name, value] of Object.entries(counters)) gauge.set({ counter: name }, Number(value));
      },
    });
  }

  /** These and those of other processes of the server, as text. `others`: what their registries give as JSON. */
  async textWith(others: readonly unknown[]): Promise<string> {
    if (others.length === 0) return this.registry.metrics();
    const all = [await this.registry.getMetricsAsJSON(), ...others];
    return AggregatorRegistry.aggregate(all as object[]).metrics();
  }

  count(event: ServerEvent): void {
    const counters = this.#counters;
    switch (event.type) {
      case "registered":
        counters.registrations.inc();
        return;
      case "report":
        counters.reports.inc();
        counters.readings.inc(event.records.length);
        return;
      case "gone":
        counters.ended.inc({ cause: event.cause });
        return;
      case "authentication-error":
        counters.authenticationErrors.inc({ error: event.error });
        return;
      case "handshake-failed":
        counters.handshakeFailures.inc({ cause: event.cause });
        return;
      case "client-error":
        counters.clientErrors.inc();
        return;
      case "name-contested":
        counters.contestedNames.inc();
        return;
      case "audit":
        counters.authentications.inc({ interface: event.event.interface, outcome: event.event.outcome });
        return;
      case "address-changed":
        counters.addressChanges.inc({ outcome: "moved" });
        return;
      case "address-refused":
        counters.addressChanges.inc({ outcome: "refused" });
        return;
      case "pairing":
        counters.pairings.inc({ outcome: event.event.outcome });
        return;
      case "reloaded":
        counters.reloads.inc();
        return;
      case "association-ended":
        counters.associationsEnded.inc();
        return;
      case "associations-restored":
        counters.associationsRestored.inc({ outcome: "restored" }, event.restored);
        counters.associationsRestored.inc({ outcome: "refused" }, event.refused);
        return;
      case "radius":
        counters.radius.inc({ event: event.event.type });
        return;
      case "certificate-renewed":
        counters.certificateRenewals.inc({ outcome: "renewed" });
        return;
      case "certificate-renewal-failed":
        counters.certificateRenewals.inc({ outcome: "failed" });
        return;
      case "certificate-ending":
        // A gauge has when.
        return;
      case "fault":
        counters.faults.inc();
        return;
    }
  }

  forwarded(reports: number): void {
    this.#counters.forwarded.inc(reports);
  }

  dropped(reports: number): void {
    this.#counters.dropped.inc(reports);
  }

  /** By the broker that they are forwarded to. */
  refused(messages: number): void {
    this.#counters.refused.inc(messages);
  }
}

type CounterName =
  | "registrations"
  | "ended"
  | "reports"
  | "readings"
  | "authenticationErrors"
  | "handshakeFailures"
  | "authentications"
  | "addressChanges"
  | "contestedNames"
  | "clientErrors"
  | "certificateRenewals"
  | "faults"
  | "pairings"
  | "radius"
  | "reloads"
  | "associationsEnded"
  | "associationsRestored"
  | "forwarded"
  | "dropped"
  | "refused";
