/** Which datagrams, counted from 1, are not sent: "1,4-6", or "20%" of them by chance. undefined: the text is neither. */
export function lossOf(text: string, random: () => number = Math.random): ((count: number) => boolean) | undefined {
  const [, percent] = /^([0-9]{1,3})%$/.exec(text) ?? [];
  if (percent !== undefined) return Number(percent) <= 100 ? () => random() * 100 < Number(percent) : undefined;
  const ranges: (readonly [number, number])[] = [];
  for (const part of text.split(",")) {
    const [, first, last = first] = /^([0-9]{1,9})(?:-([0-9]{1,9}))?$/.exec(part) ?? [];
    if (first === undefined || Number(first) < 1 || Number(last) < Number(first)) return undefined;
    ranges.push([Number(first), Number(last)]);
  }
  return (count) => ranges.some(([first, last]) => first <= count && count <= last);
}
