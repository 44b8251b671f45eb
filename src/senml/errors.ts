/** Root of the errors of this layer. `code` is API; `record` is the index of the guilty record where there is one. */
export class SenmlError extends Error {
  override readonly name = "SenmlError";
  readonly code: SenmlErrorCode;
  readonly record: number | undefined;

  constructor(code: SenmlErrorCode, message: string, options?: { readonly record?: number; readonly cause?: unknown }) {
    super(options?.record === undefined ? message : `record ${options.record}: ${message}`, { cause: options?.cause });
    this.code = code;
    this.record = options?.record;
  }
}

export type SenmlErrorCode =
  | "SENML_BAD_FIELD"
  | "SENML_BAD_NAME"
  | "SENML_MALFORMED"
  | "SENML_NO_VALUE"
  | "SENML_TOO_LARGE"
  | "SENML_UNSUPPORTED_FIELD"
  | "SENML_UNSUPPORTED_VERSION";
