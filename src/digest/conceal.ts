/**
 * Keeps what is secret in a plain object out of logs: in `console.log`, `util.inspect` and `JSON.stringify` these members
 * are `[secret]`. Reading, copying and comparing them is as before. Gives the object itself; a frozen one stays as it is.
 */
export function conceal<T extends object>(value: T, ...members: readonly (keyof T)[]): T {
  if (!Object.isExtensible(value)) return value;
  const shown = (): object => ({ ...value, ...Object.fromEntries(members.map((name) => [name, MASK])) });
  Object.defineProperty(value, "toJSON", { value: shown, configurable: true });
  Object.defineProperty(value, Symbol.for("nodejs.util.inspect.custom"), { value: shown, configurable: true });
  return value;
}

const MASK = "[secret]";
