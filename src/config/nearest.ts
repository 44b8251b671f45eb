/**
 * The candidate nearest to `word` in edits (insertion, deletion, substitution, exchange of neighbours), case and
 * separators apart, or undefined where none is near enough to be what was meant: at most a third of the letters.
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const plain = normalize(word);
  let best: { readonly candidate: string; readonly distance: number } | undefined;
  for (const candidate of candidates) {
    const other = normalize(candidate);
    const limit = Math.max(1, Math.floor(Math.max(plain.length, other.length) / 3));
    if (Math.abs(plain.length - other.length) > limit || Math.min(plain.length, other.length) < 2) continue;
    const distance = editDistance(plain, other);
    if (distance <= limit && distance < (best?.distance ?? Infinity)) best = { candidate, distance };
  }
  return best?.candidate;
}

function normalize(word: string): string {
  return word.slice(0, MAX_WORD).toLowerCase().replaceAll(/[-_ ]/g, "");
}

/** The optimal string alignment distance. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const isSame = a[i - 1] === b[j - 1];
      let cost = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (isSame ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, at(beforeLast, j - 2) + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return at(last, b.length);
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Infinity;
}

const MAX_WORD = 64;
