import { lstatSync, type Stats, statSync } from "node:fs";

/**
 * Whether somebody else may put a file of theirs in place of ours in a folder: it, or the link that leads to it, is neither
 * this user's nor root's, or all may write there (but in a folder like /tmp, each their own). False where it is not there.
 */
export function isForeignFolder(folder: string): boolean {
  const link = lstatSync(folder, { throwIfNoEntry: false });
  const target = statSync(folder, { throwIfNoEntry: false });
  if (link === undefined || target === undefined) return false;
  const isOpen = (target.mode & OTHERS_WRITE) !== 0 && (target.mode & STICKY) === 0;
  return isOpen || isForeign(link) || isForeign(target);
}

/** To root nobody is foreign: it serves services of other users. */
function isForeign({ uid }: Stats): boolean {
  const own = process.getuid?.();
  return own !== undefined && own !== 0 && uid !== own && uid !== 0;
}

const OTHERS_WRITE = 0o002;
const STICKY = 0o1000;
