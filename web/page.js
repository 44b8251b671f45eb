import { keepToken, NeedsToken } from "./api.js";
import { device } from "./device.js";
import { el, show } from "./dom.js";
import { errors } from "./errors.js";
import { fleet } from "./fleet.js";

let current = new AbortController();

/** What the address after # names. */
async function open() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [page, name = ""] = path.split("/");
  for (const link of document.querySelectorAll("nav a"))
    if (link.dataset.page === (page === "errors" ? "errors" : "fleet")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  try {
    if (page === "device") await device(signal, setLive, decodeURIComponent(name));
    else if (page === "errors") await errors(signal, setLive);
    else await fleet(signal, setLive, new URLSearchParams(query));
    title();
  } catch (error) {
    if (signal.aborted) return;
    setLive(undefined);
    if (error instanceof NeedsToken) askForToken(error.message);
    else
      show(
        el("h1", {}, page === "device" ? decodeURIComponent(name) : "That cannot be shown"),
        el("p", { class: "fault", role: "alert" }, error.message),
        el("div", { class: "pager" }, el("button", { type: "button", onclick: () => void open() }, "Try again"), el("a", { class: "back", href: "#/" }, "← Fleet")),
      );
    title();
  }
}

function title() {
  document.title = `${document.querySelector("h1")?.textContent ?? ""} – DPE Server`;
}

function setLive(isLive) {
  const node = document.querySelector("#live");
  node.className = isLive === undefined ? "" : isLive ? "on" : "lost";
  node.textContent = isLive === undefined ? "" : isLive ? "live" : "not connected; trying again";
}

function askForToken(refusal) {
  const field = el("input", { type: "password", name: "token", autocomplete: "current-password", required: true, autofocus: true });
  show(
    el(
      "form",
      {
        class: "token",
        onsubmit: (event) => {
          event.preventDefault();
          keepToken(field.value.trim());
          void open();
        },
      },
      el("h1", {}, "A token is needed"),
      el("p", { class: "quiet" }, "It is the one that http.token of the server's configuration names. It is kept until this tab closes."),
      refusal === "" ? undefined : el("p", { class: "fault", role: "alert" }, refusal),
      el("label", {}, "Token ", field),
      el("button", {}, "Continue"),
    ),
  );
  field.focus();
}

addEventListener("hashchange", () => {
  void open();
  document.querySelector("#main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
void open();
