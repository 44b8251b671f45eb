/** What `work` comes to, or what `late` gives or throws when that takes longer; the work goes on then. */
export async function within<T, Late = T>(ms: number, work: Promise<T>, late: () => Late): Promise<T | Late> {
  let timer: NodeJS.Timeout | undefined;
  const isDue = new Promise<void>((resolve) => (timer = setTimeout(resolve, ms)));
  try {
    return await Promise.race([work, isDue.then(late)]);
  } finally {
    clearTimeout(timer);
  }
}
