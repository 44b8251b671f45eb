/**
 * A generator that is left at once also while it waits, as the stream that `Readable.from` makes of it is destroyed: by itself
 * it would hear of that when what it waits for has come. `leave` ends the waiting.
 */
export function leftAtOnce<T>(
  generator: AsyncGenerator<T, void, undefined>,
  leave: () => void,
): AsyncGenerator<T, void, undefined> {
  const end = generator.return.bind(generator);
  return Object.assign(generator, {
    return: (): Promise<IteratorResult<T, void>> => {
      leave();
      return end();
    },
  });
}
