import { formatIpAddress } from "#ip/index.js";
import { DER_TAG, decodeDer, decodeDerSequence } from "./der.js";

/**
 * One GeneralName (RFC 5280 §4.2.1.6). Text forms are IA5 without control characters; an address is 4 or 16 bytes in a
 * certificate, 8 or 32 in a constraint; a directory name is the RDNSequence's DER; any other form keeps only its tag.
 */
export type GeneralName =
  | { readonly form: "dns" | "uri" | "email"; readonly value: string }
  | { readonly form: "ip"; readonly bytes: Uint8Array }
  | { readonly form: "directory"; readonly name: Uint8Array }
  | { readonly form: "other"; readonly tag: number };

/** A name out of a verified subjectAltName, as text. */
export interface SubjectAltName {
  readonly type: "dns" | "ip" | "uri" | "email";
  readonly value: string;
}

/** Reads GeneralNames, the value of subjectAltName; throws RangeError where malformed. */
export function decodeGeneralNames(der: Uint8Array): GeneralName[] {
  const names = decodeDerSequence(decodeDer(der, DER_TAG.SEQUENCE).contents).map(({ tag, contents }) =>
    decodeGeneralName(tag, contents),
  );
  if (names.length === 0) throw new RangeError("GeneralNames is empty");
  for (const name of names) {
    if (name.form === "ip" && name.bytes.length !== 4 && name.bytes.length !== 16)
      throw new RangeError("an iPAddress has 4 or 16 bytes");
  }
  return names;
}

/** Reads one GeneralName by its context tag; throws RangeError where its text is not printable IA5. */
export function decodeGeneralName(tag: number, contents: Uint8Array): GeneralName {
  switch (tag) {
    case 0x81:
      return { form: "email", value: ia5Text(contents) };
    case 0x82:
      return { form: "dns", value: ia5Text(contents) };
    case 0x86:
      return { form: "uri", value: ia5Text(contents) };
    case 0x87:
      return { form: "ip", bytes: contents };
    case 0xa4:
      return { form: "directory", name: decodeDer(contents, DER_TAG.SEQUENCE).bytes };
    default:
      return { form: "other", tag };
  }
}

/** The names that have a text form, in the certificate's order; an IPv6 address in the form of RFC 5952. */
export function subjectAltNamesOf(names: readonly GeneralName[]): SubjectAltName[] {
  return names.flatMap((name): SubjectAltName[] => {
    switch (name.form) {
      case "dns":
      case "uri":
      case "email":
        return [{ type: name.form, value: name.value }];
      case "ip":
        return [{ type: "ip", value: formatIpAddress(name.bytes) }];
      case "directory":
      case "other":
        return [];
    }
  });
}

/** Text of printable ASCII: a NUL or a control character would let two readers see two names. */
function ia5Text(bytes: Uint8Array): string {
  if (bytes.some((byte) => byte < 0x20 || byte > 0x7e)) throw new RangeError("a name holds a character outside IA5");
  return String.fromCharCode(...bytes);
}
