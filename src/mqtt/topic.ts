/**
 * The topic of a property. `TOPIC/ENDPOINT/status` tells whether the device is there, so a property of that name goes to
 * `_status`, which is no property's.
 */
export function topicOf(topic: string, endpoint: string, name: string): string {
  return `${topic}/${endpoint}/${name === "status" ? "_status" : name}`;
}
