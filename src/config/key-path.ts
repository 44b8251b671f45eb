/** A path as people write it: `subscribers[1].psk.key`; a key that is no plain word is quoted: `limits["a.b"]`. */
export function formatKeyPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, segment) => {
    if (typeof segment === "number") return `${text}[${segment}]`;
    const key = String(segment);
    if (!/^[\w$-]{1,64}$/.test(key)) return `${text}[${JSON.stringify(shorten(key))}]`;
    return text === "" ? key : `${text}.${key}`;
  }, "");
}

/** Text cut to what fits in one line of an error. */
export function shorten(text: string): string {
  return text.length <= MAX_SHOWN ? text : `${text.slice(0, MAX_SHOWN - 1)}…`;
}

const MAX_SHOWN = 60;
