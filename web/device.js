import { follow, get, post } from "./api.js";
import { chart } from "./chart.js";
import { age, duration, el, quantity, show } from "./dom.js";
import { protection } from "./fleet.js";

const MAX_POINTS = 200;
/** Of a number of 64 bits. */
const MAX_DIGITS = 17;
/** From so many properties on they can be searched. */
const MANY = 12;
const BY_NAME = new Intl.Collator("en", { numeric: true });

/** One device: its properties, live, numbers with a chart of their history. */
export async function device(signal, setLive, endpoint) {
  const path = `/api/devices/${encodeURIComponent(endpoint)}`;
  const found = await get(path, signal);
  const cards = new Map();
  const grid = el("div", { class: "cards" });
  const facts = el("div", {});
  const fault = el("p", { class: "fault", role: "alert", hidden: true });
  // A history is asked for when its card comes into sight: a device may have a thousand properties.
  const inSight = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      inSight.unobserve(target);
      void draw([...cards.values()].find(({ node }) => node === target));
    }
  });
  signal.addEventListener("abort", () => inSight.disconnect());
  const draw = async (card) => {
    const query = new URLSearchParams({ name: card.name, limit: String(MAX_POINTS) });
    const found = await get(`${path}/history?${query}`, signal).catch(() => undefined);
    if (found !== undefined) card.history(found.values);
  };
  const search = el("input", {
    type: "search",
    autocomplete: "off",
    oninput: () => {
      for (const { name, node } of cards.values()) node.hidden = !fits(name);
    },
  });
  const fits = (name) => name.toLowerCase().includes(search.value.trim().toLowerCase());
  const add = (property) => {
    const card = new PropertyCard(property.name);
    cards.set(property.name, card);
    card.node.hidden = !fits(property.name);
    if (typeof property.value === "number") inSight.observe(card.node);
    const before = [...cards.keys()].filter((name) => BY_NAME.compare(name, property.name) < 0).length;
    grid.insertBefore(card.node, grid.children[before] ?? null);
    return card;
  };
  const empty = el("p", { class: "empty" }, "It has reported nothing yet.");
  const take = (property) => {
    empty.remove();
    (cards.get(property.name) ?? add(property)).take(property);
  };
  const ask = el("button", { type: "button", onclick: () => void query() }, "Ask the device now");
  const query = async () => {
    ask.disabled = true;
    fault.hidden = true;
    try {
      const answer = await post(`${path}/query`, {});
      if (answer.properties !== undefined) for (const property of answer.properties) take(property);
      else fail(`It sleeps: it is asked when it is heard next, until ${new Date(answer.request.expiresAt).toLocaleString()}.`);
    } catch (error) {
      fail(error.message);
    }
    ask.disabled = false;
  };
  const fail = (message) => {
    fault.textContent = message;
    fault.hidden = false;
  };
  const describe = (one) => facts.replaceChildren(factsOf(one));
  describe(found);
  for (const property of found.properties) add(property).take(property);
  const state = el("span", { class: `badge ${found.state}` }, found.state);
  show(
    el("a", { class: "back", href: "#/" }, "← Fleet"),
    el("div", { class: "heading" }, el("h1", {}, endpoint), state, ask),
    fault,
    facts,
    found.properties.length < MANY
      ? undefined
      : el("div", { class: "tools" }, el("label", {}, `Find one of ${found.properties.length} properties`, search)),
    found.properties.length === 0 ? empty : undefined,
    grid,
  );
  void follow(
    `/api/events?endpoint=${encodeURIComponent(endpoint)}`,
    signal,
    (event, data) => {
      for (const property of data.properties ?? []) take(property);
      void get(path, signal).then((one) => {
        describe(one);
        state.className = `badge ${one.state}`;
        state.textContent = one.state;
      }, () => undefined);
    },
    setLive,
  );
}

class PropertyCard {
  #values = [];
  #value = el("div", { class: "value" });
  #chart = el("div", {});
  #when = el("div", { class: "small" });
  #latest = "";
  #unit;

  constructor(name) {
    this.name = name;
    this.node = el("article", { class: "card" }, el("h2", {}, name), el("div", { class: "reading" }, this.#value, this.#when), this.#chart);
  }

  take({ value, data, sum, unit, time }) {
    const given = value ?? sum ?? (data === undefined ? "" : `${data.length} characters of base64`);
    if (typeof given === "number" && time !== undefined && time > this.#latest) this.#values.push([Date.parse(time), given]);
    if (time < this.#latest) return;
    if (this.#latest !== "" && time > this.#latest) this.#flash();
    this.#latest = time ?? "";
    this.#unit = unit;
    const isWords = typeof given !== "number";
    this.node.classList.toggle("still", isWords);
    this.#value.className = isWords ? "value words" : "value";
    const [text, unitText] = isWords ? [String(given), ""] : quantity(given, unit);
    this.#value.replaceChildren(text, unitText === "" ? "" : el("span", { class: "unit" }, unitText));
    if (!isWords) this.#value.title = `${given} ${unit ?? ""}`.trimEnd();
    this.#when.replaceChildren(age(time));
    this.#draw();
  }

  history(values) {
    const live = this.#values;
    const known = values.flatMap(({ time, value }) => (typeof value === "number" ? [[Date.parse(time), value]] : []));
    const last = known.at(-1)?.[0] ?? 0;
    this.#values = [...known, ...live.filter(([time]) => time > last)];
    this.#draw();
  }

  #draw() {
    this.#values = this.#values.slice(-MAX_POINTS);
    if (this.#values.length < 2) return;
    const numbers = this.#values.map(([, number]) => number);
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    const seconds = Math.round((this.#values.at(-1)[0] - this.#values[0][0]) / 1000);
    const [from, to] = apart(low, high, this.#unit);
    const label = `${this.name}: ${this.#values.length} values, ${from} to ${to}`;
    this.#chart.replaceChildren(
      chart(this.#values, label),
      el("div", { class: "range" }, el("span", {}, from === to ? from : `${from} – ${to}`), el("span", {}, `last ${span(seconds)}`)),
    );
  }

  #flash() {
    this.node.classList.add("fresh");
    setTimeout(() => this.node.classList.remove("fresh"), 900);
  }
}

/** Two numbers with as many digits as tell them apart. */
function apart(low, high, unit) {
  for (let digits = 4; ; digits++) {
    const [from, to] = [low, high].map((number) => quantity(number, unit, digits).join(" ").trimEnd());
    if (from !== to || low === high || digits === MAX_DIGITS) return [from, to];
  }
}

function span(seconds) {
  if (seconds >= 172_800) return `${Math.round(seconds / 86_400)} d`;
  if (seconds >= 7200) return `${Math.round(seconds / 3600)} h`;
  return seconds >= 120 ? `${Math.round(seconds / 60)} min` : `${seconds} s`;
}

/** TLS_ECDHE_PSK_WITH_AES_128_CCM_8_SHA256 is too long a word for a phone: keys, cipher and hash are words of their own. */
function suiteWords(suite) {
  const words = suite.replace(/^TLS_/, "").replace("_WITH_", " ").replace(/_(?=SHA\d+$)/, " ").replaceAll("_", "-").split(" ");
  return words.flatMap((word) => [whole(word), " "]);
}

function whole(text) {
  return el("span", { class: "whole" }, text);
}

function factsOf(one) {
  const { subscriber, lastHeardAt, intervalSeconds, overdue, missed = 0, expiresAt, security } = one;
  const tile = (name, ...value) => el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, ...value));
  return el(
    "dl",
    { class: "tiles" },
    tile("Subscriber", subscriber ?? "none"),
    tile("Last heard", age(lastHeardAt), security === undefined ? "" : el("div", { class: "small quiet" }, `from ${security.address}`)),
    tile("Reports", intervalSeconds === undefined ? "no interval declared" : ["at least every ", whole(duration(intervalSeconds))], el("div", { class: overdue > 0 ? "missed" : "quiet" }, overdue > 0 ? `${overdue} overdue, ${missed} missed before` : missed > 0 ? `${missed} missed` : "none missed")),
    tile("DPE-1", ...protection(security?.dpe1), el("div", { class: "small quiet" }, suiteWords(security?.dpe1.cipherSuite ?? ""))),
    tile("DPE-2", ...protection(security?.dpe2)),
    tile("Registered until", expiresAt === undefined ? "ended" : new Date(expiresAt).toLocaleString()),
  );
}
