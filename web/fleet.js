import { follow, get } from "./api.js";
import { age, duration, el, show } from "./dom.js";

const PAGE = 50;

/** The fleet: a page of devices by name, brought up to date as they are heard. */
export async function fleet(signal, setLive, parameters) {
  const state = parameters.get("state") ?? "";
  const prefix = parameters.get("prefix") ?? "";
  const after = parameters.get("after") ?? "";
  const query = new URLSearchParams({ limit: String(PAGE) });
  for (const [name, value] of Object.entries({ state, prefix, after })) if (value !== "") query.set(name, value);
  const [overview, page] = await Promise.all([get("/api/overview", signal), get(`/api/devices?${query}`, signal)]);
  const rows = new Map();
  const body = el("tbody");
  for (const device of page.devices) {
    const row = rowOf(device);
    rows.set(device.endpoint, row);
    body.append(row);
  }
  const go = (changes) => {
    const next = new URLSearchParams();
    for (const [name, value] of Object.entries({ state, prefix, ...changes })) if (value) next.set(name, value);
    location.hash = `#/${[...next].length === 0 ? "" : `?${next}`}`;
  };
  const form = el(
    "form",
    { class: "tools", role: "search", onsubmit: (event) => (event.preventDefault(), go({ prefix: form.elements.prefix.value.trim(), state: form.elements.state.value })) },
    el("label", {}, "Name begins with", el("input", { name: "prefix", type: "search", value: prefix, autocomplete: "off", pattern: " *[A-Za-z0-9][A-Za-z0-9._:\\-]* *", title: "letters, digits and . _ : -" })),
    el(
      "label",
      {},
      "State",
      el(
        "select",
        { name: "state" },
        [["", "all"], ["registered", "registered"], ["overdue", "overdue"], ["ended", "ended"]].map(([value, text]) =>
          el("option", { value, selected: value === state }, text),
        ),
      ),
    ),
    el("button", {}, "Show"),
  );
  const empty =
    state === "" && prefix === "" && after === ""
      ? el("p", { class: "empty" }, "No device has registered yet. ", el("code", {}, "dpe pair"), " on this machine shows what to run on a device.")
      : el("p", { class: "empty" }, "No device matches.");
  const table = el("table", {}, el("thead", {}, el("tr", {}, HEADINGS.map((text) => el("th", { scope: "col" }, text)))), body);
  const panel = el("div", { class: "panel" }, page.devices.length === 0 ? empty : table);
  const count = el("span", {}, String(overview.devices));
  show(
    el("h1", {}, "Fleet"),
    ...(overview.certificates ?? []).filter(({ state }) => state !== "valid").map(ending),
    el(
      "details",
      // On a phone the devices come first.
      { class: "about", open: matchMedia("(min-width: 761px)").matches },
      el("summary", {}, "Devices: ", count, `; server ${overview.version}, up since ${new Date(overview.startedAt).toLocaleString()}`),
      tiles(overview),
    ),
    form,
    panel,
    el(
      "div",
      { class: "pager" },
      after === "" ? undefined : el("button", { type: "button", onclick: () => go({}) }, "First page"),
      page.next === undefined || page.devices.length < PAGE ? undefined : el("button", { type: "button", onclick: () => go({ after: page.next }) }, "Next page"),
    ),
  );
  const stale = new Set();
  let timer;
  const renew = async () => {
    timer = undefined;
    const isNew = [...stale].some((endpoint) => !rows.has(endpoint));
    for (const endpoint of stale) {
      stale.delete(endpoint);
      const isShown = rows.has(endpoint);
      if (!isShown && (rows.size >= PAGE || after !== "" || state !== "" || !endpoint.startsWith(prefix))) continue;
      const device = await get(`/api/devices/${encodeURIComponent(endpoint)}`, signal).catch(() => undefined);
      const row = device === undefined ? undefined : rowOf(device);
      if (row === undefined || signal.aborted) continue;
      if (isShown) rows.get(endpoint).replaceWith(row);
      else {
        body.insertBefore(row, body.children[[...rows.keys()].filter((name) => name < endpoint).length] ?? null);
        panel.replaceChildren(table);
      }
      rows.set(endpoint, row);
    }
    const fresh = isNew ? await get("/api/overview", signal).catch(() => undefined) : undefined;
    if (fresh !== undefined) count.textContent = String(fresh.devices);
  };
  void follow(
    "/api/events",
    signal,
    (event, { endpoint }) => {
      if (!rows.has(endpoint) && event !== "registered") return;
      stale.add(endpoint);
      timer ??= setTimeout(renew, 500);
    },
    setLive,
  );
  // Missed reports make no event: what is not heard is asked for.
  const slow = setInterval(() => {
    for (const endpoint of rows.keys()) stale.add(endpoint);
    timer ??= setTimeout(renew, 0);
  }, 30_000);
  signal.addEventListener("abort", () => clearInterval(slow));
}

/** A certificate of the server's own, or of a CA, that nears its end. */
function ending({ subject, state, validUntil }) {
  const day = new Date(validUntil).toLocaleDateString();
  return el("p", { class: "missed" }, `The certificate of ${subject} ${state === "expired" ? "expired on" : "ends on"} ${day}: renew it.`);
}

function tiles({ realm, storeKind, dpe1, dpe2 }) {
  const tile = (name, value) => el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, el("div", { class: "place" }, value)));
  // Where it listens, and what it demands.
  const policy = (name, sentence) =>
    el(
      "div",
      { class: "tile wide" },
      el("dt", {}, name),
      el("dd", {}, sentence.split("; ").map((part, index, all) => el("div", { class: index < all.length - 1 ? "place" : undefined }, part))),
    );
  return el(
    "dl",
    { class: "tiles overview" },
    tile("Realm", realm),
    tile("Store", { memory: "in memory", lmdb: "LMDB", redis: "Redis" }[storeKind] ?? storeKind),
    policy("DPE-1", dpe1),
    policy("DPE-2", dpe2),
  );
}

function rowOf(device) {
  const { endpoint, subscriber, state, lastHeardAt, intervalSeconds, overdue, missed = 0, security } = device;
  const cell = (label, ...children) => el("td", { "data-label": label }, el("div", {}, ...children));
  return el(
    "tr",
    {},
    cell("Device", el("a", { href: `#/device/${encodeURIComponent(endpoint)}` }, endpoint)),
    cell("Subscriber", subscriber ?? el("span", { class: "quiet" }, "none")),
    cell("State", el("span", { class: `badge ${state}` }, state)),
    cell("Last heard", age(lastHeardAt)),
    cell(
      "Missed",
      overdue > 0 ? el("span", { class: "missed" }, `${overdue} overdue`) : missed === 0 ? "none" : String(missed),
      el("div", { class: "small" }, intervalSeconds === undefined ? "no interval declared" : `declared: every ${duration(intervalSeconds)}${overdue > 0 && missed > 0 ? `; ${missed} before` : ""}`),
    ),
    cell("DPE-1", ...protection(security?.dpe1)),
    cell("DPE-2", ...protection(security?.dpe2)),
  );
}

export function protection(given) {
  if (given === undefined) return [el("span", { class: "quiet" }, "unknown")];
  const isSecure = given.connection === "dtls";
  return [
    el("span", { class: `badge ${isSecure ? "secure" : "plain"}`, title: given.cipherSuite }, isSecure ? "DTLS" : "plain"),
    el("div", { class: "small" }, given.authentication === "none" ? "not authenticated" : given.authentication),
  ];
}

const HEADINGS = ["Device", "Subscriber", "State", "Last heard", "Missed reports", "DPE-1", "DPE-2"];
