import { DER_TAG, decodeDer, decodeDerSequence, type DerElement } from "./der.js";

/**
 * Whether the directory name lies below `base`: the relative names of `base` come first in it (RFC 5280 §7.1). Case and
 * runs of spaces make no difference. Undefined where a value has a string type, or a relative name more than one attribute,
 * which are not compared here.
 */
export function isWithinDirectory(name: Uint8Array, base: Uint8Array): boolean | undefined {
  const [names, bases] = [relativeNames(name), relativeNames(base)];
  if (names === undefined || bases === undefined) return undefined;
  return bases.every((relative, index) => relative === names[index]);
}

/** The emailAddress attributes of a subject (PKCS #9), which rfc822Name constraints cover (RFC 5280 §4.2.1.10). */
export function emailAddressesOf(name: Uint8Array): string[] {
  return decodeDerSequence(decodeDer(name, DER_TAG.SEQUENCE).contents).flatMap((relative) =>
    attributesOf(relative).flatMap(([type, value]) =>
      hex(type.contents) === EMAIL_ADDRESS ? [new TextDecoder().decode(value.contents)] : [],
    ),
  );
}

/** One comparable text for each RelativeDistinguishedName, in order. */
function relativeNames(name: Uint8Array): string[] | undefined {
  const texts = decodeDerSequence(decodeDer(name, DER_TAG.SEQUENCE).contents).map((relative) => {
    // A SET of more than one attribute is in DER's order, which case may change: such a one is not compared.
    const [attribute, ...others] = attributesOf(relative);
    if (attribute === undefined || others.length > 0) return undefined;
    const [type, value] = attribute;
    const text = comparableText(value);
    return text === undefined ? undefined : `${hex(type.contents)}=${text}`;
  });
  return texts.every((text) => text !== undefined) ? texts : undefined;
}

function attributesOf(relative: DerElement): (readonly [DerElement, DerElement])[] {
  if (relative.tag !== DER_TAG.SET) throw new RangeError("a RelativeDistinguishedName is a SET");
  return decodeDerSequence(relative.contents).map((attribute) => {
    const [type, value] = decodeDerSequence(attribute.contents);
    if (type?.tag !== DER_TAG.OBJECT_IDENTIFIER || value === undefined) throw new RangeError("malformed attribute");
    return [type, value] as const;
  });
}

function comparableText({ tag, contents }: DerElement): string | undefined {
  if (tag !== DER_TAG.UTF8_STRING && tag !== DER_TAG.PRINTABLE_STRING && tag !== DER_TAG.IA5_STRING) return undefined;
  return new TextDecoder().decode(contents).normalize("NFKC").toLowerCase().trim().replaceAll(/\s+/g, " ");
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** 1.2.840.113549.1.9.1 */
const EMAIL_ADDRESS = "2a864886f70d010901";
