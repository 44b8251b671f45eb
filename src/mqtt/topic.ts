/**
 * The topic of a property. `TOPIC/ENDPOINT/status` tells whether the device is there, so a property of that name goes to
 * `_status`, which is no property's. Brokers take 128 or 200 levels and end the connection of whoever publishes below, so that
 * one name would hold up all: what is deeper than {@link MAX_LEVELS} is one level, with `%2F`, which is in no name.
 */
export function topicOf(topic: string, endpoint: string, name: string): string {
  if (name === "status") return `${topic}/${endpoint}/_status`;
  const levels = name.split("/");
  const deep = levels.splice(MAX_LEVELS - 1);
  return [topic, endpoint, ...levels, ...(deep.length === 0 ? [] : [deep.join("%2F")])].join("/");
}

/** Of a property's name. */
export const MAX_LEVELS = 64;
