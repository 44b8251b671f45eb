import { AGENT_SCHEMA } from "#agent/index.js";
import { ConfigError, parseConfig } from "#config/index.js";
import { PROXY_SCHEMA } from "#proxy/index.js";
import { SERVER_SCHEMA } from "#server/index.js";
import test from "ava";
import type { z } from "zod";

/** A server's file that is right but for what is given. */
const serving = (wrong: string): string =>
  `${wrong}
interfaces: { dpe1: { listen: { coap: 5683 }, connection: none, clientAuthentication: [none] } }
`;

/** An agent's file that is right but for what is given. */
const reporting = (wrong: string): string =>
  `endpoint: pi
server: coap://h
${wrong}
interfaces: { dpe1: { connection: none, serverAuthentication: none } }
`;

/** A wrong file, and everything that is said about it. */
const SERVER_FILES: readonly (readonly [string, string])[] = [
  ["", "f.yaml: the file is empty"],
  ["- a", "f.yaml:1:1: expected a mapping; found a list"],
  ["a: [1", "f.yaml:1:6: a bracket is not closed; expected ]"],
  [serving("store: 5"), "f.yaml:1:8 store: expected a folder, or redis://HOST:PORT; found 5"],
  [serving("store: http://x"), 'f.yaml:1:8 store: expected a folder, or redis://HOST:PORT; found "http://x"'],
  [serving("store: redis://"), 'f.yaml:1:8 store: expected a folder, or redis://HOST:PORT; found "redis://"'],
  [serving("pairing: { credentials: psk }"), "f.yaml:1:10 pairing: pairing needs interfaces.dpe1.listen.coaps"],
  [
    serving("pairing: { }"),
    "f.yaml:1:10 pairing: certificates need ca and its key\n" +
      "f.yaml:1:10 pairing: devices need anchors (or ca) for the server's certificate\n" +
      "f.yaml:1:10 pairing: pairing needs interfaces.dpe1.listen.coaps",
  ],
  [serving("pairing: { ca: nowhere.pem }"), "f.yaml:1:16 pairing.ca: the file /nowhere/nowhere.pem does not exist"],
  [
    serving("pairing: { credentials: psk, codeLifetime: 25h }"),
    'f.yaml:1:44 pairing.codeLifetime: expected a duration of at least 10s and at most 1d; found "25h"',
  ],
  [
    serving("pairing: { credentials: psk, every: 25h }"),
    'f.yaml:1:37 pairing.every: expected a duration of at least 1s and at most 1d; found "25h"',
  ],
  [
    serving("pairing: { credentials: psk, maxCodes: 0 }"),
    "f.yaml:1:40 pairing.maxCodes: expected a whole number from 1 to 1000; found 0",
  ],
  [
    serving("pairing: { credentials: rawPublicKey }"),
    'f.yaml:1:25 pairing.credentials: expected one of certificate, digest, psk; found "rawPublicKey"',
  ],
  [
    serving('subscribers: [{ name: a, psk: { identity: "dpe-pair:AAAAAA", key: x } }]'),
    "f.yaml:1:43 subscribers[0].psk.identity: dpe-pair:… are the identities of pairing codes",
  ],
  [serving("stor: ./d"), 'f.yaml:1:1 stor: unknown key; did you mean "store"?'],
  [
    serving("limits: { devices: 0 }"),
    "f.yaml:1:20 limits.devices: expected a whole number from 1 to 10000000; found 0",
  ],
  [serving("limits: { device: 5 }"), 'f.yaml:1:11 limits.device: unknown key; did you mean "devices"?'],
  [
    serving("limits: { minLifetime: 2h, maxLifetime: 1h }"),
    "f.yaml:1:24 limits.minLifetime: minLifetime is longer than maxLifetime",
  ],
  [serving("credentials: { renew: true }"), "f.yaml:1:23 credentials.renew: renew needs certificate and key"],
  [serving("history: { values: 0 }"), "f.yaml:1:20 history.values: expected a number of at least 1; found 0"],
  [serving("history: { age: 1s }"), 'f.yaml:1:17 history.age: expected a duration of at least 1m; found "1s"'],
  [
    serving("http: { host: 0.0.0.0 }"),
    "f.yaml:1:7 http: 0.0.0.0 can be reached from elsewhere, so a token is needed; make one with: openssl rand -hex 32 > token; chmod 600 token; and set token: file:token",
  ],
  [
    serving("http: { host: 192.0.2.1, token: short }"),
    "f.yaml:1:33 http.token: the secret has 5 bytes, fewer than the least of 16",
  ],
  [serving("http: { port: 99999 }"), "f.yaml:1:15 http.port: expected a port (0–65535); found 99999"],
  [
    serving("http: { token: file:nowhere }"),
    "f.yaml:1:16 http.token: the secrets file /nowhere/nowhere does not exist",
  ],
  [
    serving("http: { token: env:DPE_NOT_SET }"),
    "f.yaml:1:16 http.token: the environment variable DPE_NOT_SET is not set",
  ],
  [
    serving("mqtt: { url: tcp://x }"),
    'f.yaml:1:14 mqtt.url: expected mqtt://HOST:PORT or mqtts://HOST:PORT; found "tcp://x"',
  ],
  [
    serving("mqtt: { }"),
    "f.yaml:1:1 mqtt.url: required key is missing; expected mqtt://HOST:PORT or mqtts://HOST:PORT",
  ],
  [serving("mqtt: { url: mqtt://127.0.0.1, password: x }"), "f.yaml:1:7 mqtt: a password needs a username"],
  [
    serving("mqtt: { url: mqtt://broker.example, username: a, password: x }"),
    "f.yaml:1:7 mqtt: a password is not sent over plain mqtt:// to another machine; use mqtts://",
  ],
  [
    serving("mqtt: { url: mqtt://h, topic: a/# }"),
    'f.yaml:1:31 mqtt.topic: expected a topic without + and #, not beginning or ending with /; found "a/#"',
  ],
  [
    serving("mqtt: { url: mqtt://h, discovery: hass }"),
    'f.yaml:1:35 mqtt.discovery: expected one of homeassistant, none; found "hass"',
  ],
  [
    serving("subscribers: [{ name: a, password: x }, { name: b }, { name: a, password: y }]"),
    "f.yaml:1:62 subscribers[2].name: item 0 of this list has that name already",
  ],
  [
    serving('subscribers: [{ name: a, properties: ["kitchen/"] }]'),
    "f.yaml:1:39 subscribers[0].properties[0]: expected the beginning of property names in whole segments, such as kitchen or kitchen/oven, without * or a / at the end",
  ],
  [serving("log: verbose"), 'f.yaml:1:6 log: expected one of debug, info, warn, error; found "verbose"'],
  [
    serving("dangerVolatileStore: yes"),
    'f.yaml:1:22 dangerVolatileStore: expected true or false; found "yes"; YAML 1.2 has only true and false',
  ],
  ["realm: x", "f.yaml:1:1 interfaces: required key is missing; expected a mapping"],
  [
    "\ninterfaces: { dpe1: { listen: {}, connection: none, clientAuthentication: [none] } }\n",
    "f.yaml:2:31 interfaces.dpe1.listen: needs a port: coap, coaps, coapTcp or coapsTcp",
  ],
  [
    "\ninterfaces: { dpe1: { listen: { coap: 1 }, connection: tls, clientAuthentication: [none] } }\n",
    'f.yaml:2:56 interfaces.dpe1.connection: expected one of none, dtls; found "tls"; did you mean "dtls"?',
  ],
  [
    "\ninterfaces: { dpe1: { listen: { coap: 1 }, connection: none, clientAuthentication: [] } }\n",
    "f.yaml:2:84 interfaces.dpe1.clientAuthentication: expected a list of at least 1 item; found a list",
  ],
  [
    "\ninterfaces: { dpe1: { listen: { coap: 1 }, connection: none, clientAuthentication: [none, none] } }\n",
    "f.yaml:2:91 interfaces.dpe1.clientAuthentication[1]: already item 0 of this list",
  ],
  [
    "\ninterfaces: { dpe1: { listen: { coap: 1 }, connection: none, clientAuthentication: none } }\n",
    'f.yaml:2:84 interfaces.dpe1.clientAuthentication: expected a list; found "none"; put it in brackets: [ … ]',
  ],
  [
    "\ninterfaces: { dpe1: { listen: { coaps: 1 }, connection: dtls, clientAuthentication: [digest] } }\n",
    "f.yaml:2:1: coaps needs credentials: a certificate with its key, a rawPublicKey, or a psk",
  ],
  [
    "\ninterfaces: { dpe1: { listen: { coap: 1 }, connection: none, clientAuthentication: [certificate, none] } }\n",
    "f.yaml:2:1: clientAuthentication certificate needs credentials.ca",
  ],
  [
    serving("credentials: { certificate: /nowhere.pem, key: /nowhere.key }"),
    "f.yaml:1:29 credentials.certificate: the file /nowhere.pem does not exist\nf.yaml:1:48 credentials.key: the secrets file /nowhere.key does not exist",
  ],
  [serving("subscribers: [{ name: 5 }]"), "f.yaml:1:23 subscribers[0].name: expected text; found 5; put it in quotes"],
  [
    serving("subscribers: [{ name: a, password: 'hex:0' }]"),
    "f.yaml:1:36 subscribers[0].password: hex: must be followed by pairs of hexadecimal digits",
  ],
  [
    serving("subscribers: [{ name: 'a:b', password: x }]"),
    "f.yaml:1:23 subscribers[0].name: a name holds no colon: it is the username of Digest",
  ],
  [serving("realm: a\nrealm: b"), "f.yaml:2:1 realm: duplicate key; first given on line 1"],
];

const AGENT_FILES: readonly (readonly [string, string])[] = [
  [reporting("lifetime: 1s"), 'f.yaml:3:11 lifetime: expected a duration of at least 10s; found "1s"'],
  [
    "server: coap://h",
    "f.yaml:1:1 endpoint: required key is missing; expected text\nf.yaml:1:1 interfaces: required key is missing; expected a mapping",
  ],
  [
    "endpoint: pi\nserver: coap://h\n\ninterfaces: { dpe1: { connection: none, serverAuthentication: certificate } }\n",
    "f.yaml:4:21 interfaces.dpe1: serverAuthentication certificate and ca go together",
  ],
  [
    "endpoint: pi\nserver: coaps://h\ninterfaces: { dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: a, key: b }, renew: true } } }",
    "f.yaml:3:21 interfaces.dpe1: credentials.renew renews credentials.certificate and ca: there is neither",
  ],
  [
    "endpoint: pi\nserver: [{ uri: coap://h, credentials: { username: a, password: b, renew: true } }]\ninterfaces: { dpe1: { connection: none, serverAuthentication: none } }",
    "f.yaml:2:40 server[0].credentials: renew is of interfaces.dpe1.credentials: what a server has of its own here is not renewed",
  ],
  [
    reporting("sources: [{ use: hst }]"),
    'f.yaml:3:18 sources[0].use: expected one of firmware, host, exec, file, http; found "hst"; did you mean "host"?',
  ],
  [
    reporting("sources: [{ use: host, every: fast }]"),
    'f.yaml:3:31 sources[0].every: expected a duration such as 10s, 5m or 1h, or a number of seconds; found "fast"',
  ],
  [
    "endpoint: pi\nserver: http://h\ninterfaces: { dpe1: { connection: none, serverAuthentication: none } }",
    'f.yaml:2:9 server: expected a list or a coap:// or coaps:// or coap+tcp:// or coaps+tcp:// URI; found "http://h"',
  ],
  [
    "endpoint: pi\nserver: coap://h\n\ninterfaces: { dpe1: { connection: none, serverAuthentication: none, credentials: { username: a } } }\n",
    "f.yaml:4:82 interfaces.dpe1.credentials: username and password go together",
  ],
  [
    "endpoint: pi\nserver: coap://h\n\ninterfaces: { dpe1: { connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: a } } } }\n",
    "f.yaml:4:83 interfaces.dpe1.credentials.psk.key: required key is missing; expected a secret: file:PATH, env:NAME, hex:… or text",
  ],
];

/** Keys that are good each by itself. */
const PAIRING_SERVER = (more: string): string => `
interfaces: { dpe1: { listen: { coaps: 5684 }, connection: dtls, clientAuthentication: [psk] } }
${more}
`;
const CONTRADICTIONS: readonly (readonly ["server" | "agent" | "proxy", string, string])[] = [
  [
    "server",
    PAIRING_SERVER("pairing: { credentials: psk, lifetime: 2h }\nlimits: { maxLifetime: 90m }"),
    "f.yaml:3:40 pairing.lifetime: the lifetime is longer than limits.maxLifetime, 5400s: their registrations would be refused; write lifetime: 5400s, or change limits",
  ],
  [
    "server",
    PAIRING_SERVER("pairing: { credentials: psk, lifetime: 1m }\nlimits: { minLifetime: 5m }"),
    "f.yaml:3:40 pairing.lifetime: the lifetime is shorter than limits.minLifetime, 300s: their registrations would be refused; write lifetime: 300s, or change limits",
  ],
  [
    "server",
    PAIRING_SERVER("pairing: { credentials: psk }\nlimits: { maxLifetime: 10m }"),
    "f.yaml:3:10 pairing: the lifetime of 1h that paired devices ask for is longer than limits.maxLifetime, 600s: their registrations would be refused; write lifetime: 600s, or change limits",
  ],
  [
    "server",
    "interfaces: { dpe1: { listen: { coap: 5683, coaps: 5683 }, connection: none, clientAuthentication: [none] } }\ncredentials: { psk: [{ identity: a, key: b }] }",
    "f.yaml:1:52 interfaces.dpe1.listen.coaps: coap has that port",
  ],
  [
    "server",
    "interfaces: { dpe1: { listen: { coapTcp: 8080 }, connection: none, clientAuthentication: [none] } }\nhttp: { port: 8080 }",
    "f.yaml:2:15 http.port: interfaces.dpe1.listen.coapTcp has that port",
  ],
  [
    "server",
    "interfaces: { dpe1: { listen: { coap: 5683 }, connection: dtls, clientAuthentication: [digest] } }",
    "f.yaml:1:31 interfaces.dpe1.listen: connection: dtls lets nobody in by the ports that are listened on; write coaps: 5684",
  ],
  [
    "server",
    "interfaces: { dpe1: { listen: { coap: 5683 }, connection: none, clientAuthentication: [psk] } }",
    "f.yaml:1:31 interfaces.dpe1.listen: clientAuthentication: psk, which is shown over DTLS, lets nobody in by the ports that are listened on; write coaps: 5684",
  ],
  [
    "server",
    serving("dtls: { connectionId: off, returnRoutabilityCheck: enhanced }"),
    "f.yaml:1:52 dtls.returnRoutabilityCheck: an address that changed is asked only where records carry a connection identifier; write connectionId: on, or leave returnRoutabilityCheck out",
  ],
  [
    "agent",
    "endpoint: pi\nserver: coap+tcp://h\ninterfaces: { dpe1: { connection: dtls, serverAuthentication: none } }",
    "f.yaml:2:9 server: coap+tcp is less than what interfaces.dpe1 asks of the connection; write coaps+tcp or coaps",
  ],
  [
    "agent",
    `endpoint: pi\nserver: [coaps+tcp://h]\ninterfaces: { dpe1: { connection: dtls, serverAuthentication: rawPublicKey, serverKeys: ["${"ab".repeat(32)}"] } }`,
    "f.yaml:2:10 server[0]: a server shows a raw public key over DTLS only; write coaps",
  ],
  [
    "agent",
    reporting('sources: [{ use: host, rules: [{ match: "*", minInterval: 10m }] }]'),
    "f.yaml:3:59 sources[0].rules[0].minInterval: minInterval is longer than maxInterval, 300s, after which a value is reported in any case; write a longer maxInterval",
  ],
  [
    "proxy",
    'listen: { coap: 5683 }\ntargets: [{ name: a, uri: "coap://h", serverAuthentication: none }]\nforward: [a]\nidentities: { required: false }\nidleTimeout: 30s',
    "f.yaml:5:14 idleTimeout: idleTimeout is shorter than timeout, 60s: it would end what still waits for its answer; write a longer idleTimeout, or timeout: 30s",
  ],
  [
    "proxy",
    'listen: { coap: 5683 }\ntargets: [{ name: a, uri: "coap://h", serverAuthentication: none }]\nforward: [a]\nidentities: { sources: [static, dtls], static: [{ psk: dev, identity: "opaque:x" }] }',
    "f.yaml:4:24 identities.sources: the source dtls needs listen.coaps\nf.yaml:4:56 identities.static[0].psk: credentials.psk has no such identity",
  ],
];

test("keys that contradict each other are refused, with where, why and what to do", (t) => {
  const schemas = { server: SERVER_SCHEMA, agent: AGENT_SCHEMA, proxy: PROXY_SCHEMA };
  for (const [whose, yaml, message] of CONTRADICTIONS) {
    const error = t.throws(() => void parseConfig<z.ZodType>(yaml, "/nowhere/f.yaml", schemas[whose]), {
      instanceOf: ConfigError,
    });
    t.is(error?.message.replaceAll("/nowhere/f.yaml", "f.yaml"), message, yaml);
  }
});

for (const [whose, schema, files] of [
  ["server", SERVER_SCHEMA, SERVER_FILES],
  ["agent", AGENT_SCHEMA, AGENT_FILES],
] as const) {
  test(`each wrong configuration of the ${whose} is refused with where and why`, (t) => {
    for (const [yaml, message] of files) {
      const error = t.throws(() => void parseConfig(yaml, "/nowhere/f.yaml", schema, { environment: {} }), {
        instanceOf: ConfigError,
      });
      t.is(error.message.replaceAll("/nowhere/f.yaml", "f.yaml"), message, yaml);
    }
  });
}

test("what the tables leave as it is, is right", (t) => {
  t.notThrows(() => void parseConfig(serving(""), "f.yaml", SERVER_SCHEMA));
  t.notThrows(() => void parseConfig(reporting(""), "f.yaml", AGENT_SCHEMA));
  t.true(SERVER_FILES.length + AGENT_FILES.length >= 30);
});
