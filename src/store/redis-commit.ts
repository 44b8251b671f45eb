import type { Change, Place } from "./backend.js";

/**
 * A group of changes as one script of Redis, so that it is one round trip, one wait for the disk, and no other server's
 * writes come between: each change is checked, then applied or not, in order. The script gives 1 or 0 for each, or the text of what
 * one failed with, which does not keep the others from being written.
 */
export function commitWords(changes: readonly Change[], prefix: string): (string | Uint8Array)[] {
  const words: (string | Uint8Array)[] = [prefix, String(changes.length)];
  for (const { checks = [], sets = [], deletes = [], clears = [] } of changes) {
    words.push(String(clears.length), String(checks.length), String(deletes.length), String(sets.length));
    for (const place of checks) {
      const { key, value } = place;
      if (value === undefined) words.push(partitionOf(place), key, "0", "");
      else words.push(partitionOf(place), key, "1", value);
    }
    for (const place of clears) words.push(partitionOf(place));
    for (const place of deletes) words.push(partitionOf(place), place.key);
    for (const place of sets) words.push(partitionOf(place), place.key, place.value);
  }
  return words;
}

function partitionOf({ space, partition }: Omit<Place, "key">): string {
  return `${space}:${partition}`;
}

/** Checks, then clears, deletes and sets. The arguments of a change are passed over as a whole where a check does not hold. */
export const COMMIT_SCRIPT = `
local hash, index, at = ARGV[1] .. 'h:', ARGV[1] .. 'z:', 3
local function apply()
  local clears, checks, deletes, sets = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local place = at + 4
  at = place + checks * 4 + clears + deletes * 2 + sets * 3
  for n = 1, checks do
    local value = redis.call('HGET', hash .. ARGV[place], ARGV[place + 1])
    if ARGV[place + 2] == '0' then
      if value then return 0 end
    elseif value ~= ARGV[place + 3] then return 0 end
    place = place + 4
  end
  for n = 1, clears do
    redis.call('DEL', hash .. ARGV[place], index .. ARGV[place])
    place = place + 1
  end
  for n = 1, deletes do
    redis.call('HDEL', hash .. ARGV[place], ARGV[place + 1])
    redis.call('ZREM', index .. ARGV[place], ARGV[place + 1])
    place = place + 2
  end
  for n = 1, sets do
    if redis.call('HSET', hash .. ARGV[place], ARGV[place + 1], ARGV[place + 2]) == 1 then
      redis.call('ZADD', index .. ARGV[place], 0, ARGV[place + 1])
    end
    place = place + 3
  end
  return 1
end
local outcomes = {}
for n = 1, tonumber(ARGV[2]) do
  local isDone, outcome = pcall(apply)
  if isDone then outcomes[n] = outcome
  elseif type(outcome) == 'table' then outcomes[n] = outcome.err
  else outcomes[n] = tostring(outcome) end
end
return outcomes
`;
