export {
  AUTH_ERROR,
  type AuthErrorName,
  authErrorName,
  BINDING_OPTION,
  BINDING_OPTION_FORMATS,
  type BindingOptionFormat,
  CONNECTION_LEVEL,
  type ConnectionLevel,
  CONTENT_FORMAT,
  DIGEST_ALGORITHM_NUMBER,
  DIGEST_KEY,
  DIGEST_QOP_NUMBER,
  DIGEST_SCOPE_NUMBER,
  DPE2_OVER_ASSOCIATION,
  IDENTITY_FORM_NUMBER,
  type IdentityForm,
  INTERFACES,
  type InterfaceName,
  PATH,
  QUERY,
  SECURITY_REQUIRED_KEY,
} from "./binding.js";
export { type Dpe2Uri, formatDpe2Uri, parseDpe2Uri } from "./dpe2-uri.js";
export { DpeError, type DpeErrorCode } from "./errors.js";
export {
  DEFAULT_LIFETIME_SECONDS,
  DEFAULT_REGISTRATION_LIMITS,
  type Dpe2Binding,
  type Registration,
  type RegistrationChange,
  type RegistrationLimits,
  type RegistrationRequest,
  Registrations,
  type RegistrationUpdate,
} from "./registrations.js";
export { Devices } from "./devices.js";
