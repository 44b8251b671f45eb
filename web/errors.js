import { get } from "./api.js";
import { age, el, show } from "./dom.js";

const RENEW_MS = 10_000;

/** The trail of authentication errors with their causes, the newest first. */
export async function errors(signal, setLive) {
  const body = el("tbody");
  const more = el("button", { type: "button", onclick: () => void load() }, "Older");
  const panel = el("div", { class: "panel" });
  const empty = el("p", { class: "empty" }, "No authentication has failed.");
  const seen = new Set();
  let next;
  const fresh = ({ events }) => events.filter(({ key }) => !seen.has(key) && seen.add(key)).map((event) => rowOf(event));
  const load = async () => {
    const query = new URLSearchParams({ limit: "50", ...(next === undefined ? {} : { before: next }) });
    const page = await get(`/api/audit?${query}`, signal);
    next = page.next;
    more.hidden = next === undefined;
    body.append(...fresh(page));
  };
  await load();
  const table = el("table", {}, el("thead", {}, el("tr", {}, HEADINGS.map((text) => el("th", { scope: "col" }, text)))), body);
  const draw = () => panel.replaceChildren(body.children.length === 0 ? empty : table);
  draw();
  setLive(true);
  const renew = setInterval(async () => {
    try {
      body.prepend(...fresh(await get("/api/audit?limit=50", signal)));
      draw();
      setLive(true);
    } catch {
      if (!signal.aborted) setLive(false);
    }
  }, RENEW_MS);
  signal.addEventListener("abort", () => clearInterval(renew));
  show(
    el("h1", {}, "Authentication errors"),
    el("p", { class: "lead" }, "Who was refused, why, and by which rule; and what operators changed."),
    panel,
    el("div", { class: "pager" }, more),
  );
}

function rowOf({ at, type, error, cause, peer, subscriber, endpoint, name, rule, detail, count, code }) {
  const cell = (label, ...children) => el("td", { "data-label": label }, el("div", {}, ...children));
  const said = error ?? cause ?? (peer === undefined ? undefined : endpoint) ?? (count === undefined ? "" : `${count} more`);
  const isFailure = type.includes("error") || type === "pairing-refused" || type.includes("fail") || type === "authentication";
  const [what, why] = MEANINGS[said] ?? [said, ""];
  return el(
    "tr",
    {},
    cell("When", age(at)),
    cell("What", el("span", { class: isFailure ? "badge error" : "badge" }, WORDS[type] ?? type)),
    cell("Cause", what, el("div", { class: "small" }, why !== "" ? why : detail === said ? "" : (detail ?? ""))),
    cell("Who", peer ?? endpoint ?? name ?? (code === undefined ? "" : `code ${code}-…`), subscriber ? el("div", { class: "small" }, subscriber) : undefined),
    cell("Rule", el("div", { class: "small" }, rule ?? ""), why !== "" && detail !== undefined ? el("div", { class: "small" }, detail) : undefined),
  );
}

const HEADINGS = ["When", "What", "Cause", "Who", "Rule"];
const WORDS = {
  __proto__: null,
  authentication: "refused",
  "authentication-error": "refused",
  "handshake-failed": "handshake failed",
  "client-error": "refused by the client",
  "pairing-issued": "code issued",
  "pairing-tried": "code tried",
  "pairing-paired": "device paired",
  "pairing-refused": "pairing refused",
  "pairing-revoked": "code withdrawn",
  "pairing-renewed": "certificate renewed",
  "subscriber-replaced": "subscriber replaced",
  "subscriber-added": "subscriber added",
  "subscriber-removed": "subscriber removed",
  "subscriber-banned": "subscriber banned",
  "subscriber-unbanned": "ban lifted",
  suppressed: "not written",
  forgotten: "device forgotten",
};
const MEANINGS = {
  __proto__: null,
  decrypt_error: ["decrypt_error", "a wrong or unknown pre-shared key, or pairing code"],
  unknown_ca: ["unknown_ca", "a certificate of an authority that is not trusted"],
  certificate_expired: ["certificate_expired", "a certificate whose time is over, or has not come"],
  certificate_revoked: ["certificate_revoked", "a certificate that its authority has revoked"],
  bad_certificate: ["bad_certificate", "a certificate that is not valid"],
  handshake_failure: ["handshake_failure", "no cipher suite or credential in common"],
  "invalid-credentials": ["invalid-credentials", "an unknown subscriber, or a wrong password or key"],
  "not-authorized": ["not-authorized", "recognized, but not allowed this name, service or interface"],
  "security-required": ["security-required", "the connection was less secure than the policy asks"],
  "stale-nonce": ["stale-nonce", "an old challenge was answered; the client tries again"],
  replayed: ["replayed", "a message that was seen already"],
  "unsupported-method": ["unsupported-method", "an algorithm or protection that the policy does not allow"],
  "untrusted-identity": ["untrusted-identity", "an identity inserted by a peer that may not"],
  "too-many-failures": ["too-many-failures", "held back after failures"],
  DTLS_HANDSHAKE_TIMEOUT: ["DTLS_HANDSHAKE_TIMEOUT", "the peer went silent in the handshake"],
  DTLS_BAD_RECORD_MAC: ["DTLS_BAD_RECORD_MAC", "a wrong or unknown pre-shared key, or damage on the way"],
};
