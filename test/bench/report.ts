import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import type { Finding, Value } from "./figures.js";

/** Everything that one run found. */
export interface Report {
  readonly date: string;
  readonly machine: string;
  readonly repetitions: number;
  readonly minutes: number;
  readonly loaderIdle: { readonly median: number; readonly lowestTwentieth: number };
  readonly retransmissions: number;
  readonly findings: readonly Finding[];
  /** What other programs of the bench printed, each as Markdown. */
  readonly parts: readonly Part[];
}

export interface Part {
  readonly title: string;
  readonly markdown: string;
}

export function machine(): string {
  return `${cpus().length} × ${cpus()[0]?.model ?? "processor"}, Node.js ${process.versions.node}`;
}

/** All of it. */
export function markdown(report: Report): string {
  const parts = report.parts.flatMap(({ title, markdown: text }) => ["", `**${title}**`, "", text]);
  return [table(report).trimEnd(), ...parts, ""].join("\n");
}

/** Ours against the peers'. */
export function table(report: Report): string {
  const { findings } = report;
  const rows = findings.map(({ figure, ours, peer, ratio }) => {
    const cells = [
      figure.title,
      figure.unit,
      written(ours),
      peer === undefined ? "" : `${written(peer)} ${figure.peer ?? ""}`,
      ratio === undefined ? "" : written(ratio),
      figure.aim ?? "",
    ];
    return `| ${cells.join(" | ")} |`;
  });
  return [
    `${report.machine}; ${report.date.slice(0, 10)}; ${report.minutes.toFixed(0)} minutes. Medians of ${report.repetitions}, quartiles in`,
    "brackets; ratios are those of samples taken in turn. CPU-s: processor time of the server, all its threads.",
    "",
    "| figure | unit | ours | peer's | ours / peer's | aim |",
    "|---|---|---|---|---|---|",
    ...rows,
    "",
    `The loader found nothing to do in ${percent(report.loaderIdle.median)} of its polls, and in 19 samples of 20 in at least ` +
      `${percent(report.loaderIdle.lowestTwentieth)}; ${report.retransmissions} retransmissions.`,
    "",
  ].join("\n");
}

export function json(report: Report): string {
  return `${JSON.stringify(report, null, 2)}\n`;
}

/** Writes the table in place of the one between the markers of a document. */
export function update(file: string, table: string): void {
  const document = readFileSync(file, "utf8");
  const [before, rest] = split(document, BEGIN, file);
  const [, after] = split(rest, END, file);
  writeFileSync(file, `${before}${BEGIN}\n\n${table.trim()}\n\n${END}${after}`);
}

function split(text: string, marker: string, file: string): readonly [string, string] {
  const at = text.indexOf(marker);
  if (at < 0) throw new Error(`${file} has no ${marker}`);
  return [text.slice(0, at), text.slice(at + marker.length)];
}

function written({ median, lowerQuartile, upperQuartile }: Value): string {
  const quartiles = `${short(lowerQuartile)}–${short(upperQuartile)}`;
  return lowerQuartile === upperQuartile ? short(median) : `${short(median)} (${quartiles})`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

function short(value: number): string {
  if (Math.abs(value) < 100) return value.toFixed(2);
  return Math.round(value).toLocaleString("en-US");
}

const BEGIN = "<!-- scripts/bench --update writes from here -->";
const END = "<!-- to here -->";
