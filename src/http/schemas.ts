/** The JSON schemas of the API: they check what comes in, and make the OpenAPI document. */

const name = { type: "string", minLength: 1, maxLength: 255 } as const;
const endpoint = { type: "string", pattern: "^[A-Za-z0-9][A-Za-z0-9._:-]*$", maxLength: 63 } as const;
const params = { type: "object", properties: { endpoint }, required: ["endpoint"] } as const;
const limit = { type: "integer", minimum: 1, maximum: 1000, default: 100 } as const;
const time = { type: "string", format: "date-time" } as const;
const positive = { type: "number", exclusiveMinimum: 0 } as const;
const anything = { type: "object", additionalProperties: true } as const;

const property = {
  type: "object",
  additionalProperties: true,
  properties: {
    name: { type: "string" },
    unit: { type: "string", description: "RFC 8428 §12.1" },
    value: {},
    data: { type: "string", description: "bytes, base64" },
    sum: { type: "number" },
    time,
    intervalSeconds: { type: "number", description: "the longest time until the next value" },
  },
} as const;

const deviceProperties = {
  endpoint: { type: "string" },
  subscriber: { type: "string" },
  state: { type: "string", enum: ["registered", "overdue", "expired", "deregistered"] },
  firstRegisteredAt: time,
  registeredAt: time,
  expiresAt: time,
  endedAt: time,
  lastHeardAt: time,
  intervalSeconds: { type: "number", description: "the interval that it declared" },
  overdue: { type: "integer", description: "reports that should have come since it was heard last" },
  missed: { type: "integer", description: "reports that did not come in time since it is known" },
  queueMode: { type: "boolean" },
  server: { type: "string", description: "the server that heard it last" },
  security: anything,
} as const;
const deviceSchema = { type: "object", additionalProperties: true, properties: deviceProperties } as const;
const listOf = (key: string, items: object): object => ({
  type: "object",
  properties: { [key]: { type: "array", items }, next: { type: "string" } },
});
const failure = {
  description: "What went wrong",
  type: "object",
  properties: { error: { type: "string" }, message: { type: "string" } },
} as const;
const failing = (...codes: readonly number[]): object => Object.fromEntries(codes.map((code) => [code, failure]));

export const overview: object = {
  tags: ["server"],
  summary: "What this server is, how it listens, and how it is",
  response: { 200: anything },
};
export const devices: object = {
  tags: ["devices"],
  summary: "A page of devices, in the order of their names",
  querystring: {
    type: "object",
    properties: {
      after: { ...endpoint, description: "the last name of the page before: `next`" },
      prefix: { ...endpoint, description: "only names that begin so" },
      state: { type: "string", enum: ["registered", "overdue", "ended"] },
      limit,
    },
  },
  response: { 200: listOf("devices", deviceSchema) },
};
export const device: object = {
  tags: ["devices"],
  summary: "One device with its latest properties",
  params,
  response: {
    200: {
      ...deviceSchema,
      properties: { ...deviceProperties, properties: { type: "array", items: property } },
    },
    ...failing(404),
  },
};
export const forget: object = {
  tags: ["devices"],
  summary: "Forget a device and its readings; one that still reports registers anew",
  params,
  response: { 204: { type: "null", description: "forgotten" }, ...failing(404) },
};
export const properties: object = {
  tags: ["properties"],
  summary: "The latest value of each property",
  params,
  response: { 200: listOf("properties", property), ...failing(404) },
};
export const history: object = {
  tags: ["properties"],
  summary: "The newest values of one property, in the order of time",
  params,
  querystring: {
    type: "object",
    required: ["name"],
    properties: { name, from: time, until: time, limit: { type: "integer", minimum: 1, maximum: 100_000 } },
  },
  response: {
    200: {
      type: "object",
      properties: {
        endpoint: { type: "string" },
        name: { type: "string" },
        values: { type: "array", items: property },
      },
    },
  },
};
export const query: object = {
  tags: ["DPE-2"],
  summary: "Ask the device itself; one that sleeps is asked when it is heard again",
  params,
  body: {
    type: "object",
    additionalProperties: false,
    properties: { names: { type: "array", items: name, maxItems: 64 } },
  },
  response: { 200: listOf("properties", property), 202: anything, ...failing(403, 404, 502, 503) },
};
export const requests: object = {
  tags: ["DPE-2"],
  summary: "Requests that wait for a device that sleeps, and the answers to those that did",
  params,
  response: { 200: listOf("requests", anything) },
};
export const observe: object = {
  tags: ["DPE-2"],
  summary: "Observe a property of the device, or all: server-sent events `properties`, and `waiting` while it is away",
  params,
  querystring: {
    type: "object",
    properties: {
      name,
      pmin: { ...positive, description: "at most one event in so many seconds" },
      pmax: { ...positive, description: "at least one event in so many seconds" },
      gt: { type: "number", description: "only when the value crosses this" },
      lt: { type: "number", description: "only when the value crosses this" },
      st: { ...positive, description: "only when the value differs by this from the last one told" },
    },
  },
};
export const audit: object = {
  tags: ["audit"],
  summary: "Authentication errors with their causes and what operators changed, the newest first",
  querystring: {
    type: "object",
    properties: {
      limit,
      before: { type: "string", pattern: "^[0-9a-f.-]+$", description: "the `next` of the page before" },
      type: { type: "string" },
      endpoint,
      subscriber: name,
    },
  },
  response: { 200: listOf("events", anything) },
};
export const events: object = {
  tags: ["devices"],
  summary: "What happens to the fleet, as server-sent events: registered, report, gone",
  querystring: { type: "object", properties: { endpoint } },
};
export const subscribers: object = {
  tags: ["subscribers"],
  summary: "Who may use the service, of the configuration and added since; never a credential",
  response: { 200: listOf("subscribers", anything) },
};
export const addSubscriber: object = {
  tags: ["subscribers"],
  summary: "Add a subscriber; of a password only hashes for this realm are kept",
  body: {
    type: "object",
    required: ["name"],
    additionalProperties: false,
    properties: {
      name,
      password: { type: "string", minLength: 1, maxLength: 1024 },
      psk: {
        type: "object",
        required: ["identity", "key"],
        additionalProperties: false,
        properties: { identity: name, key: { type: "string", pattern: "^(?:[0-9a-fA-F]{2}){8,64}$" } },
      },
      certificates: { type: "array", minItems: 1, maxItems: 32, items: name },
      keys: { type: "array", minItems: 1, maxItems: 32, items: { type: "string", pattern: "^[0-9a-f]{64}$" } },
      endpoints: { type: "array", minItems: 1, maxItems: 64, items: name },
      interfaces: { type: "array", minItems: 1, items: { type: "string", enum: ["dpe1", "dpe2"] } },
    },
  },
  response: { 201: anything, ...failing(400, 409) },
};
const code = {
  id: { type: "string", description: "its identifier, which is no secret" },
  expiresAt: time,
} as const;
const codeView = {
  type: "object",
  properties: {
    ...code,
    state: { type: "string", enum: ["open", "paired", "revoked", "expired", "tried-out"] },
    tries: { type: "integer", description: "handshakes that named it and were not completed" },
    endpoint: { type: "string" },
    subscriber: { type: "string" },
  },
} as const;
export const addCode: object = {
  tags: ["pairing"],
  summary: "Issue a one-time code for a device; it is shown this once",
  body: {
    type: "object",
    additionalProperties: false,
    properties: {
      endpoint: { ...name, description: "a pattern of the endpoint name" },
      subscriber: { ...name, pattern: "^[^:]*$" },
      expiresSeconds: { type: "integer", minimum: 10, maximum: 86_400 },
      replace: { type: "boolean", description: "it may take the place of a subscriber that was paired before" },
      host: { ...name, description: "the host for its URI" },
    },
  },
  response: {
    201: {
      type: "object",
      properties: {
        ...code,
        code: { type: "string" },
        hosts: { type: "array", items: { type: "string" } },
        port: { type: "integer" },
        uris: { type: "array", items: { type: "string" } },
      },
    },
    ...failing(409, 503),
  },
};
export const codes: object = {
  tags: ["pairing"],
  summary: "Pairing codes that are open or have ended lately; never a secret",
  response: { 200: listOf("codes", codeView), ...failing(409) },
};
const ofCode = { type: "object", properties: { id: name }, required: ["id"] } as const;
export const oneCode: object = {
  tags: ["pairing"],
  summary: "What became of one pairing code",
  params: ofCode,
  response: { 200: codeView, ...failing(404, 409) },
};
export const revokeCode: object = {
  tags: ["pairing"],
  summary: "Withdraw an open pairing code",
  params: ofCode,
  response: { 204: { type: "null", description: "withdrawn" }, ...failing(404, 409) },
};
const named = { type: "object", properties: { name }, required: ["name"] } as const;
export const removeSubscriber: object = {
  tags: ["subscribers"],
  summary: "Remove a subscriber that was added; its associations end at once",
  params: named,
  response: { 204: { type: "null", description: "removed" }, ...failing(404, 409) },
};
export const banSubscriber: object = {
  tags: ["subscribers"],
  summary: "Ban a subscriber, or lift the ban; its associations end at once",
  params: named,
  body: {
    type: "object",
    required: ["banned"],
    additionalProperties: false,
    properties: { banned: { type: "boolean" } },
  },
  response: { 200: anything, ...failing(404) },
};
