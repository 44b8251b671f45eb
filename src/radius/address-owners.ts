import { type IpPrefix, ipPrefix } from "#ip/index.js";

/**
 * Who has which address: prefixes of IPv4 and IPv6, each with one owner, found by an address within, the longest first.
 * A later claim takes a prefix from an earlier one.
 */
export class AddressOwners<Owner> {
  readonly #claims = new Map<string, Claim<Owner>>();
  /** How many prefixes there are of each family and length, so that a look-up tries no others. */
  readonly #lengths = new Map<string, Length>();

  get size(): number {
    return this.#claims.size;
  }

  of(prefix: IpPrefix): Claim<Owner> | undefined {
    return this.#claims.get(keyOf(prefix));
  }

  set(prefix: IpPrefix, claim: Claim<Owner>): void {
    const key = keyOf(prefix);
    if (!this.#claims.has(key)) {
      const length = this.#lengthOf(prefix);
      this.#lengths.set(length.key, { ...length, count: length.count + 1 });
    }
    this.#claims.set(key, claim);
  }

  delete(prefix: IpPrefix): void {
    if (!this.#claims.delete(keyOf(prefix))) return;
    const length = this.#lengthOf(prefix);
    if (length.count > 1) this.#lengths.set(length.key, { ...length, count: length.count - 1 });
    else this.#lengths.delete(length.key);
  }

  /** The claim on the longest prefix that the address is in. */
  find(address: Uint8Array): Claim<Owner> | undefined {
    let found: Claim<Owner> | undefined;
    let foundLength = -1;
    for (const { family, length } of this.#lengths.values()) {
      if (family !== address.length || length <= foundLength) continue;
      const prefix = ipPrefix(address, length);
      const claim = prefix === undefined ? undefined : this.of(prefix);
      if (claim === undefined) continue;
      found = claim;
      foundLength = length;
    }
    return found;
  }

  #lengthOf({ bytes, length }: IpPrefix): Length {
    const key = `${bytes.length}/${length}`;
    return this.#lengths.get(key) ?? { key, family: bytes.length, length, count: 0 };
  }
}

export interface Claim<Owner> {
  readonly owner: Owner;
  /** When it was made, ms. */
  readonly at: number;
  /** Who says that it has the prefix too: while there is one, nobody is known to have it. */
  readonly contender?: Owner;
}

interface Length {
  readonly key: string;
  /** Bytes of its addresses. */
  readonly family: number;
  readonly length: number;
  readonly count: number;
}

function keyOf({ bytes, length }: IpPrefix): string {
  let key = `${length}:`;
  for (const byte of bytes) key += String.fromCharCode(byte);
  return key;
}
