import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_SCHEMA, type AgentEvent, DpeAgent, type Source } from "#agent/index.js";
import { CODE, OPTION, Options, type RequestMessage, type ResponseMessage } from "#coap/index.js";
import { parseConfig } from "#config/index.js";
import { BINDING_OPTION_FORMATS } from "#dpe/index.js";
import { CoapEndpoint, type SocketAddress, UdpSocket } from "#net/index.js";
import { authErrorOf } from "#security/index.js";
import { DpeServer, SERVER_SCHEMA, type ServerEvent, type ServerParts } from "#server/index.js";
import { Events } from "#testing/events.js";
import { issueThrowawayCredentials } from "#x509/index.js";
import type { ExecutionContext } from "ava";

/** The interfaces and subscribers of a server on 127.0.0.1; `folder` is where paths in it are. */
export interface ServerSetup {
  readonly dpe1: string;
  readonly dpe2?: string;
  readonly credentials?: string;
  readonly subscribers?: string;
  readonly listen?: string;
  readonly folder?: string;
  readonly parts?: ServerParts;
}

export const KEY = "000102030405060708090a0b0c0d0e0f";
export const ALICE_KEY = "ff0102030405060708090a0b0c0d0e0f";
export const SUBSCRIBERS: string = `
  - { name: alice, password: secret, psk: { identity: alice, key: "hex:${ALICE_KEY}" }, endpoints: ["pi-*"] }
  - { name: bob, password: secret2, endpoints: ["pi-*"], interfaces: [dpe1] }`;

export interface Run<Event extends { readonly type: string }> {
  readonly events: Events<Event>;
}

export async function startServer(
  t: ExecutionContext,
  setup: ServerSetup,
): Promise<Run<ServerEvent> & { readonly server: DpeServer }> {
  const { dpe1, dpe2 = "{}", subscribers = SUBSCRIBERS, listen = "coap: 0, coaps: 0" } = setup;
  const { credentials = `{ psk: [{ identity: fleet, key: "hex:${KEY}" }] }` } = setup;
  const events = new Events<ServerEvent>();
  const config = `
realm: test
credentials: ${credentials}
interfaces:
  dpe1: { listen: { host: 127.0.0.1, ${listen} }, ${dpe1} }
  dpe2: ${dpe2}
subscribers: ${subscribers}
`;
  const file = join(setup.folder ?? "", "server.yaml");
  const server = await DpeServer.start(parseConfig(config, file, SERVER_SCHEMA), events.push, setup.parts);
  t.teardown(() => server.close());
  return { server, events };
}

export interface AgentSetup {
  readonly endpoint?: string;
  /** A URI. */
  readonly server: string;
  readonly dpe1: string;
  readonly dpe2?: string;
  readonly folder?: string;
}

export function startAgent(t: ExecutionContext, setup: AgentSetup): Run<AgentEvent> & { readonly agent: DpeAgent } {
  const { endpoint = "pi-1", server, dpe1, dpe2 = "{}", folder } = setup;
  const events = new Events<AgentEvent>();
  const config = `
endpoint: ${endpoint}
server: ${server}
interfaces: { dpe1: { ${dpe1} }, dpe2: ${dpe2} }
`;
  const parsed = parseConfig(config, join(folder ?? "", "agent.yaml"), AGENT_SCHEMA);
  const agent = new DpeAgent(parsed, [thermometer()], events.push);
  t.teardown(() => agent.close());
  return { agent, events };
}

/** `coap://127.0.0.1:…` and `coaps://127.0.0.1:…` of a server. */
export function uriOf(server: DpeServer, scheme: "coap" | "coaps" = "coaps"): string {
  return `${scheme}://127.0.0.1:${server.addresses[scheme]?.port ?? 0}`;
}

/** An agent's demand on DPE-1: connection dtls with the fleet's key, and what a username and password add. */
export const BY_FLEET_KEY = (credentials = "username: alice, password: secret"): string =>
  `connection: dtls, serverAuthentication: psk, credentials: { psk: { identity: fleet, key: "hex:${KEY}" }, ${credentials} }`;

/** A reading that changes each second. */
function thermometer(): Source {
  let reading = 20;
  return {
    name: "thermometer",
    everyMs: 1000,
    read: () =>
      Promise.resolve([
        { name: "temperature", unit: "Cel", value: reading++ },
        { name: "model", value: "test" },
      ]),
  };
}

/** A plain CoAP client with the binding's options and no security of its own. */
export async function plainClient(
  t: ExecutionContext,
  host = "127.0.0.1",
): Promise<(to: SocketAddress, request: RequestMessage) => Promise<ResponseMessage>> {
  const coap = new CoapEndpoint({ optionFormats: BINDING_OPTION_FORMATS });
  const transport = coap.addSocket(await UdpSocket.bind({ host }));
  t.teardown(() => coap.close());
  return (to, request) => transport.connectTo(to).request(request);
}

export function registrationOf(endpoint: string, options: Options = Options.none): RequestMessage {
  return {
    code: CODE.POST,
    options: options.withAll(OPTION.UriPath, ["dpe1", "reg"]).withAll(OPTION.UriQuery, [`ep=${endpoint}`]),
    payload: new Uint8Array(0),
  };
}

/** The name of the authentication error, or the code. */
export function outcomeOf(response: ResponseMessage): string {
  return authErrorOf(response) ?? `${response.code >> 5}.${String(response.code & 31).padStart(2, "0")}`;
}

/** A folder with a CA, and certificates of a server at 127.0.0.1 and of the client alice, for both usages alike. */
export async function makePki(t: ExecutionContext): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "dpe-pki-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const atMs = Date.now();
  const server = await issueThrowawayCredentials({
    commonName: "server",
    purpose: "serverAuth",
    atMs,
    ip: ["127.0.0.1"],
  });
  const { authority } = server;
  const client = await issueThrowawayCredentials({ commonName: "alice", purpose: "clientAuth", atMs, authority });
  const device = await issueThrowawayCredentials({
    commonName: "alice",
    purpose: "serverAuth",
    atMs,
    authority,
    dns: ["alice"],
  });
  const write = (name: string, text: string): void => writeFileSync(join(folder, name), text, { mode: 0o600 });
  write("ca.pem", authority.certificatePem);
  write("ca.key", authority.privateKeyPem);
  for (const [name, issued] of Object.entries({ server, client, device })) {
    write(`${name}.pem`, issued.certificatePem);
    write(`${name}.key`, issued.privateKeyPem);
  }
  return folder;
}
