/** An error of the agent's own work. `code` is API; the sentence is not. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  readonly code: AgentErrorCode;

  constructor(code: AgentErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

export type AgentErrorCode =
  /** A source gave something that is no property. */
  | "AGENT_BAD_READING"
  /** A source could not be read: the program failed, the file is not there, the web server said no. */
  | "AGENT_SOURCE_FAILED"
  /** The server does not answer, or its name has no address. */
  | "AGENT_SERVER_UNREACHABLE"
  /** The folder of unsent readings cannot be used. */
  | "AGENT_STORE_FAILED";
