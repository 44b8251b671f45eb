import { ago, table } from "./table.js";

/** A property as the API gives it. */
export interface PropertyView {
  readonly name: string;
  readonly unit?: string;
  readonly value?: number | string | boolean;
  readonly data?: string;
  readonly sum?: number;
  readonly time?: string;
}

export function propertyTable(properties: readonly PropertyView[]): string {
  return table(
    ["PROPERTY", "VALUE", "UNIT", "MEASURED"],
    properties.map((property) => [property.name, valueText(property), property.unit ?? "", ago(property.time)]),
  );
}

export function valueText({ value, data, sum }: PropertyView): string {
  if (value !== undefined) return String(value);
  return data === undefined ? (sum === undefined ? "" : `sum ${sum}`) : `base64 ${data}`;
}
