import type { FleetReport } from "./fleet-figures.js";

/** A run as one HTML page with its charts, which needs nothing from elsewhere. `title` says what was run. */
export function htmlReport(title: string, report: FleetReport): string {
  const { counts, errors, latencyMs, histogram, samples, seconds } = report;
  const ms = (value: number | null): string => (value === null ? "–" : `${value} ms`);
  const bySecond = (of: (sample: FleetReport["samples"][number]) => number): readonly Point[] =>
    samples.map((sample) => ({ x: sample.seconds, y: of(sample) }));
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title>
<style>
:root { color-scheme: light dark; --line: #2563eb; --bad: #dc2626; --rule: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid var(--rule) }
td + td { text-align: right; font-variant-numeric: tabular-nums } svg { width: 100%; height: auto } text { font-size: 11px; fill: currentColor }
</style>
<h1>${escaped(title)}</h1>
<p>${Math.round(seconds)} s, ${counts.registrations} registrations, ${counts.reports} reports of ${counts.readings} readings acknowledged.</p>
<h2>From sending a report to its acknowledgement</h2>
<p>half within ${ms(latencyMs.p50)}, 90 % within ${ms(latencyMs.p90)}, 99 % within ${ms(latencyMs.p99)}, all within ${ms(latencyMs.max)}</p>
${bars(
  histogram.map(({ upToMs, count }) => ({ label: `≤ ${upToMs} ms`, value: count })),
  (["p50", "p90", "p99"] as const).map((name) => ({
    label: name,
    at: histogram.findIndex(({ upToMs }) => upToMs >= (latencyMs[name] ?? Infinity)),
  })),
)}
<p>Each bar is 5 % wider than the one before: the scale is logarithmic.</p>
<h2>Reports acknowledged each second</h2>
${line(
  bySecond(({ reports }) => reports),
  "var(--line)",
)}
<h2>Devices registered</h2>
${line(
  bySecond(({ devicesUp }) => devicesUp),
  "var(--line)",
)}
<h2>Errors each second</h2>
${line(
  bySecond((sample) => sample.errors),
  "var(--bad)",
)}
${table(Object.entries(errors))}
<h2>Counts</h2>
${table(Object.entries(counts))}
</html>
`;
}

interface Point {
  readonly x: number;
  readonly y: number;
}

function line(points: readonly Point[], colour: string): string {
  const [first, last] = [points[0], points.at(-1)];
  if (first === undefined || last === undefined) return "<p>nothing was measured</p>";
  const highest = Math.max(1, ...points.map(({ y }) => y));
  const x = (value: number): number => MARGIN + ((WIDTH - MARGIN) * (value - first.x)) / Math.max(1, last.x - first.x);
  const y = (value: number): number => HEIGHT - 18 - ((HEIGHT - 32) * value) / highest;
  const path = points.map((point) => `${x(point.x).toFixed(1)},${y(point.y).toFixed(1)}`).join(" ");
  return frame(
    `<text x="0" y="${y(highest) + 4}">${highest}</text><text x="0" y="${y(0) + 4}">0</text>` +
      `<text x="${MARGIN}" y="${HEIGHT - 2}">${first.x} s</text><text x="${WIDTH}" y="${HEIGHT - 2}" text-anchor="end">${last.x} s</text>` +
      `<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="1.5"/>`,
  );
}

function bars(
  all: readonly { readonly label: string; readonly value: number }[],
  marks: readonly { readonly label: string; readonly at: number }[],
): string {
  const [first, last] = [all[0], all.at(-1)];
  if (first === undefined || last === undefined) return "<p>nothing was measured</p>";
  const highest = Math.max(...all.map(({ value }) => value));
  const width = (WIDTH - MARGIN) / all.length;
  const shapes = all.map(({ label, value }, index) => {
    const height = ((HEIGHT - 32) * value) / highest;
    const at = MARGIN + index * width;
    return `<rect x="${at.toFixed(1)}" y="${(HEIGHT - 18 - height).toFixed(1)}" width="${(width * 0.9).toFixed(1)}" height="${height.toFixed(1)}" fill="var(--line)"><title>${label}: ${value}</title></rect>`;
  });
  const lines = marks.map(({ label, at }, index) => {
    const x = (MARGIN + (at + 0.5) * width).toFixed(1);
    return at < 0
      ? ""
      : `<path d="M${x} 4V${HEIGHT - 18}" stroke="currentColor" stroke-dasharray="3 3" opacity=".6"/><text x="${x}" y="${12 + 12 * index}" dx="-4" text-anchor="end">${label}</text>`;
  });
  return frame(
    `<text x="0" y="18">${highest}</text>${shapes.join("")}${lines.join("")}<text x="${MARGIN}" y="${HEIGHT - 2}">${first.label}</text>` +
      `<text x="${WIDTH}" y="${HEIGHT - 2}" text-anchor="end">${last.label}</text>`,
  );
}

function frame(content: string): string {
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">${content}</svg>`;
}

function table(rows: readonly (readonly [string, number])[]): string {
  if (rows.length === 0) return "<p>none</p>";
  return `<table>${rows.map(([name, value]) => `<tr><td>${escaped(name)}</td><td>${value}</td></tr>`).join("")}</table>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

const WIDTH = 800;
const HEIGHT = 180;
const MARGIN = 48;
