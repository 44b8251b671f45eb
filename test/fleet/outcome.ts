/** What a run expected and found: prints a line for each, and makes the exit code of it. */
export class Outcome {
  #isMet = true;

  say(name: string, value: string | number): void {
    process.stdout.write(`${name.padEnd(44)} ${String(value)}\n`);
  }

  expect(name: string, found: string | number, isMet: boolean): void {
    this.#isMet &&= isMet;
    process.stdout.write(`${isMet ? "holds" : "FAILS"}  ${name.padEnd(37)} ${String(found)}\n`);
  }

  end(): never {
    process.exit(this.#isMet ? 0 : 1);
  }
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
