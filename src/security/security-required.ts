import { decodeCbor, encodeCbor } from "#cbor/index.js";
import { CODE, type ResponseMessage } from "#coap/index.js";
import { BINDING_OPTION, CONNECTION_LEVEL, INTERFACES, type InterfaceName, SECURITY_REQUIRED_KEY } from "#dpe/index.js";

/** What a refusal says is needed: DTLS, on which port where the answerer knows one. */
export interface SecurityRequired {
  readonly port: number | undefined;
  readonly interfaceName: InterfaceName;
}

/** Value of a Security-Required option. */
export function encodeSecurityRequired({ port, interfaceName }: SecurityRequired): Uint8Array {
  return encodeCbor(
    new Map<number, unknown>([
      [SECURITY_REQUIRED_KEY.level, CONNECTION_LEVEL.dtls],
      ...(port === undefined ? [] : [[SECURITY_REQUIRED_KEY.port, port] as const]),
      [SECURITY_REQUIRED_KEY.interface, interfaceName],
    ]),
  );
}

/**
 * What a refusal (4.01) asks for. Nobody vouches for it: it is a hint to try DTLS, which then proves by itself who answers there.
 * Undefined where there is none that can be understood: the option is elective.
 */
export function securityRequiredOf(response: ResponseMessage): SecurityRequired | undefined {
  const value = response.options.get(BINDING_OPTION.SecurityRequired);
  if (value === undefined || response.code !== CODE.Unauthorized) return undefined;
  let map: unknown;
  try {
    map = decodeCbor(value);
  } catch {
    return undefined;
  }
  if (!(map instanceof Map)) return undefined;
  const fields: ReadonlyMap<unknown, unknown> = map;
  const port = fields.get(SECURITY_REQUIRED_KEY.port);
  const name = INTERFACES.find((one) => one === fields.get(SECURITY_REQUIRED_KEY.interface));
  const isPort = typeof port === "number" && Number.isInteger(port) && port >= 1 && port <= 65_535;
  if (fields.get(SECURITY_REQUIRED_KEY.level) !== CONNECTION_LEVEL.dtls || name === undefined) return undefined;
  return { port: isPort ? port : undefined, interfaceName: name };
}
