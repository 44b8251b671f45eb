import { DER_TAG, decodeDer, decodeDerSequence } from "./der.js";
import { isWithinDirectory } from "./directory-name.js";
import { decodeGeneralName, type GeneralName } from "./general-name.js";

/** The value of a nameConstraints extension (RFC 5280 §4.2.1.10). */
export interface NameConstraints {
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

/** Reads NameConstraints; throws RangeError where malformed, or with a minimum or maximum, which must not be used. */
export function decodeNameConstraints(der: Uint8Array): NameConstraints {
  const fields = decodeDerSequence(decodeDer(der, DER_TAG.SEQUENCE).contents);
  if (fields.length === 0) throw new RangeError("nameConstraints is empty");
  const subtrees = (tag: number): GeneralName[] =>
    fields
      .filter((field) => field.tag === tag)
      .flatMap(({ contents }) => decodeDerSequence(contents).map(decodeSubtree));
  return { permitted: subtrees(DER_TAG.CONTEXT_0), excluded: subtrees(DER_TAG.CONTEXT_1) };
}

/**
 * Whether each name obeys one certificate's constraints (RFC 5280 §6.1.3 (b) and (c)): inside one of the permitted
 * subtrees of its form, where there are any, and outside every excluded one. A form that cannot be compared (otherName,
 * x400Address …) is refused as soon as it is constrained.
 */
export function obeysNameConstraints(names: readonly GeneralName[], constraints: NameConstraints): boolean {
  return names.every((name) => {
    const permitted = constraints.permitted.filter((base) => isSameForm(name, base));
    const excluded = constraints.excluded.filter((base) => isSameForm(name, base));
    return (
      (permitted.length === 0 || permitted.some((base) => isWithin(name, base, "permitted"))) &&
      excluded.every((base) => !isWithin(name, base, "excluded"))
    );
  });
}

function decodeSubtree({ tag, contents }: { readonly tag: number; readonly contents: Uint8Array }): GeneralName {
  const [base, ...bounds] = decodeDerSequence(contents);
  if (tag !== DER_TAG.SEQUENCE || base === undefined || bounds.length > 0) throw new RangeError("malformed subtree");
  const name = decodeGeneralName(base.tag, base.contents);
  if (name.form === "ip" && name.bytes.length !== 8 && name.bytes.length !== 32)
    throw new RangeError("an iPAddress constraint has 8 or 32 bytes");
  return name;
}

function isSameForm(name: GeneralName, base: GeneralName): boolean {
  if (name.form === "other") return base.form === "other" && base.tag === name.tag;
  return name.form === base.form;
}

/** Whether `name` lies within the subtree; what cannot be decided is outside a permitted and inside an excluded one. */
function isWithin(name: GeneralName, base: GeneralName, list: "permitted" | "excluded"): boolean {
  const undecided = list === "excluded";
  if (name.form === "ip" && base.form === "ip") return isWithinNetwork(name.bytes, base.bytes);
  if (name.form === "directory" && base.form === "directory")
    return isWithinDirectory(name.name, base.name) ?? undecided;
  if (name.form === "dns" && base.form === "dns") return isDnsWithin(name.value, base.value, list);
  if (name.form === "email" && base.form === "email") return isMailboxWithin(name.value, base.value);
  if (name.form === "uri" && base.form === "uri") {
    const host = hostOfUri(name.value);
    return host === undefined ? undecided : isHostWithin(host, base.value);
  }
  return undecided;
}

/** Zero or more labels added on the left of the base (RFC 5280 §4.2.1.10); a leading dot, seen in practice, adds one. */
function isDnsWithin(name: string, base: string, list: "permitted" | "excluded"): boolean {
  const [host, suffix] = [withoutFinalDot(name), withoutFinalDot(base)];
  if (suffix === "" || host === suffix) return true;
  const parent = suffix.startsWith(".") ? suffix : `.${suffix}`;
  if (host.endsWith(parent)) return true;
  // A wildcard stands for the excluded names below it as well: *.example.com for secret.example.com.
  return list === "excluded" && host.startsWith("*.") && parent.endsWith(host.slice(1));
}

/** One mailbox, the mailboxes of a host, or with a leading dot those of the hosts below a domain. */
function isMailboxWithin(mailbox: string, base: string): boolean {
  const at = mailbox.lastIndexOf("@");
  const [local, host] = [mailbox.slice(0, at), mailbox.slice(at + 1)];
  const baseAt = base.lastIndexOf("@");
  if (baseAt < 0) return isHostWithin(withoutFinalDot(host), base);
  return local === base.slice(0, baseAt) && withoutFinalDot(host) === withoutFinalDot(base.slice(baseAt + 1));
}

/** A host exactly, or with a leading dot any host below that domain. */
function isHostWithin(host: string, base: string): boolean {
  const suffix = withoutFinalDot(base);
  return suffix === "" || (suffix.startsWith(".") ? host.endsWith(suffix) : host === suffix);
}

/** The fully qualified host name of a URI's authority; undefined where there is none, or an address in its place. */
function hostOfUri(uri: string): string | undefined {
  const host = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#:@]+)(?::\d*)?(?:[/?#]|$)/i.exec(uri)?.[1];
  return host === undefined || /^[\d.]+$/.test(host) || !host.includes(".") ? undefined : withoutFinalDot(host);
}

function isWithinNetwork(address: Uint8Array, network: Uint8Array): boolean {
  const size = address.length;
  if (network.length !== 2 * size) return false;
  return address.every((byte, index) => {
    const mask = network[size + index] ?? 0xff;
    return (byte & mask) === ((network[index] ?? 0) & mask);
  });
}

function withoutFinalDot(name: string): string {
  return name.toLowerCase().replace(/\.$/, "");
}
