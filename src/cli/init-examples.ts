/** The configuration that `dpe init server` writes. */
export function serverExample(): string {
  return `# A DPE Server. dpe check --config server.yaml tells what this comes to; README.md and docs/ tell the rest.

store: ./dpe-data                       # registrations, readings, subscribers; on disk before a report is answered
# history: { values: 1000, age: 30d }   # kept of each property
# limits: { devices: 100000 }           # kept at most, ended ones included; more limits in docs/operation.md
http: { port: 8080 }                    # page, API and metrics, for this machine alone; elsewhere they need token: file:token
# mqtt: { url: "mqtt://127.0.0.1:1883" }  # forwards what is reported, with Home Assistant discovery
realm: dpe                              # of passwords (Digest); changing it makes their hashes useless

credentials:                            # made by dpe init; ca.key signs certificates of devices: keep it, and keep it secret
  certificate: server.pem
  key: server.key
  renew: true                           # with a third of its time left, by ca.key; the CA's own certificate too (docs/operation.md)
  ca: ca.pem                            # whose certificates are taken from devices

dtls:
  associations: ./dpe-data/associations # devices need no new handshake when this server is restarted

interfaces:
  dpe1:                                 # devices register and report here
    listen: { host: 0.0.0.0, coaps: 5684 }   # host: "::" is IPv6 too; coap: 5683 plain CoAP, where connection is none
    connection: dtls                    # the least that is accepted
    clientAuthentication: [certificate, digest]   # in this order; also psk, external, none
  dpe2:                                 # devices are asked here, over the association that they opened
    connection: dtls
    clientAuthentication: [none]        # the device was authenticated on dpe1

pairing:                                # dpe pair: devices get their credentials by a one-time code (docs/pairing.md)
  credentials: certificate              # or digest, psk
  ca: ca.pem
  key: ca.key
  validity: 365d                        # devices renew their certificates by themselves
  codeLifetime: 10m
  # every: 10s                          # how often paired devices report

subscribers: []                         # paired devices are kept in the store; others may stand here:
# - { name: alice, password: file:alice.secret, endpoints: ["pi-*"] }
# - { name: sensor, psk: { identity: sensor, key: file:sensor.psk }, endpoints: [sensor] }   # with psk in clientAuthentication
`;
}

/** The configuration that `dpe init agent` writes; `key` is in hexadecimal. */
export function agentExample(endpoint: string, key: string): string {
  return `# A DPE Client. dpe check --config agent.yaml tells what this comes to. A server's dpe pair gives a device all of it.

endpoint: ${JSON.stringify(endpoint)}
server: coaps://dpe.example:5684
# lifetime: 1h                          # of the registration; refreshed at half of it
store: ./agent-data                     # readings that the server has not acknowledged yet survive a loss of power here
# queue: { maxReadings: 20000, dropFirst: oldest }   # or leastImportant

interfaces:
  dpe1:
    connection: dtls                    # nothing is sent over less
    serverAuthentication: psk           # or certificate (with ca: ca.pem), address (with addresses), none
    credentials:
      # one of these three
      psk: { identity: ${JSON.stringify(endpoint)}, key: "hex:${key}" }   # made at random; or file:agent.psk
      # username: alice
      # password: file:alice.secret
      # certificate: device.pem
      # key: device.pem
  dpe2: { bind: association }           # the server asks over the association that this device opened; or none, or addresses

sources:
  - use: host                           # this machine: load, memory, disks, network, temperatures
    every: 10s
    # units: [ssh.service]              # and states of systemd units
    # rules: [{ match: "cpu/*", deadBand: 0.1, minInterval: 30s, maxInterval: 10m }]
  # - { use: exec, name: solar, command: [/usr/local/bin/solar, --json], every: 1m }
  # - { use: file, name: room, path: /sys/bus/w1/devices/28-0/temperature, unit: Cel, scale: 0.001 }
  # - { use: http, name: meter, url: "http://127.0.0.1:8000/state.json" }
  # - { use: firmware, port: "by-id:*Nucleo*", prefix: boiler }
`;
}
