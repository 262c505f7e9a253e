/** The header: where one is, open alerts, connection, language, theme. */
import { PAGES } from "../pages.js";
import { fill, h, setText, whileVisible } from "./dom.js";
import { icon } from "./icons.js";
import { addressOf } from "./router.js";
import { notifier } from "./notify.js";
import { chooseTheme, chosenTheme } from "./theme.js";

const THEMES = /** @type {const} */ (["system", "light", "dark"]);
const THEME_ICONS = /** @type {const} */ ({ system: "system", light: "sun", dark: "moon" });
const ALERTS_INTERVAL_MS = 10_000;
const MOST_COUNTED = 99;
const STORE_DELAY_MS = 1_500;

/**
 * @param {HTMLElement} root @param {import("./types.js").App} app
 * @param {{onLang: (lang: "en" | "zh") => void, onTheme: () => void}} handlers
 */
export function makeHeader(root, app, { onLang, onTheme }) {
  let page = "";
  let open = 0;
  const notify = notifier(app);
  const lost = /** @type {HTMLElement} */ (document.getElementById("lost"));
  const main = /** @type {HTMLElement} */ (document.getElementById("main"));
  const connection = h("span", { class: "connection", role: "status" });
  const count = h("span", { class: "count" });
  /** @type {"idle" | "live" | "waiting"} */
  let state = "idle";
  let heard_at = Date.now() / 1000;
  /** Whether the server was found to be away by asking, on a page without a connection of its own. */
  let byAsking = false;

  function render() {
    fill(
      root,
      h("a", { class: "brand", href: addressOf("/"), "aria-label": "Emotion Monitor" }, h("img", { src: addressOf("/static/shell/favicon.svg"), width: 24, height: 24, alt: "" }), h("span", {}, "Emotion Monitor")),
      h(
        "nav",
        { class: "nav", "aria-label": app.t("nav.label") },
        PAGES.filter((each) => each.icon && may(each.needs)).map(({ name, path, icon: iconName }) =>
          h(
            "a",
            { href: addressOf(path), dataset: { page: name }, "aria-current": name === page && "page" },
            icon(/** @type {any} */ (iconName)),
            h("span", {}, nameOf(name)),
            name === "alerts" && count,
          ),
        ),
      ),
      h("div", { class: "shell-tools" }, connection, langButton(), themeButton(), leaveButton()),
    );
    showCount();
    showConnection();
  }

  function langButton() {
    const other = app.lang === "en" ? "zh" : "en";
    return h(
      "button",
      { class: "button quiet", type: "button", lang: other, "aria-label": app.t("shell.language"), onclick: () => onLang(other) },
      other === "zh" ? "中文" : "EN",
    );
  }

  /** Empty until the words of the pages are there. @param {string} name */
  function nameOf(name) {
    const key = `${name}.nav`;
    const text = app.t(key);
    return text === key ? "" : text;
  }

  /** @param {string} scope */
  function may(scope) {
    // Until the server has said who asks, only what everybody finds here.
    return scope === "read" || Boolean(app.info?.me.scopes.includes(scope));
  }

  function leaveButton() {
    const me = app.info?.me;
    // A client on the server's own machine did not log in.
    if (!me || me.kind === "machine") return null;
    const text = app.t("shell.leave", { name: me.name });
    return h("form", { method: "post", action: addressOf("/logout") }, h("button", { class: "button quiet icon-only", "aria-label": text, title: text }, icon("leave")));
  }

  function themeButton() {
    const theme = chosenTheme();
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    const text = app.t("shell.theme", { theme: app.t(`theme.${theme}`) });
    const press = () => {
      chooseTheme(next);
      render();
      /** @type {HTMLElement} */ (root.querySelector(".theme")).focus();
      onTheme();
    };
    return h("button", { class: "button quiet icon-only theme", type: "button", "aria-label": text, title: text, onclick: press }, icon(THEME_ICONS[theme]));
  }

  function showCount() {
    const text = open > MOST_COUNTED ? `${MOST_COUNTED}+` : String(open);
    count.hidden = open === 0;
    setText(count, text);
    app.openAlerts = { n: open, text };
    app.title();
    count.setAttribute("aria-label", app.plural("nav.open_alerts", open));
  }

  function showConnection() {
    connection.hidden = state === "idle";
    connection.dataset.state = state;
    setText(connection, state === "idle" ? "" : app.t(`connection.${state}`));
    // What is shown is old from here on. Nobody may take it for how things are.
    const isLost = state === "waiting";
    if (lost.hidden === isLost) {
      lost.hidden = !isLost;
      main.dataset.stale = String(isLost);
    }
    if (isLost) setText(lost, app.t("connection.lost", { when: app.format.time(heard_at) }));
  }

  async function askAlerts() {
    try {
      const { alerts } = await app.api.alerts({ state: "unacknowledged", limit: MOST_COUNTED + 1 });
      heard(true);
      open = alerts.length;
      showCount();
      app.emit("open-alerts", open);
      notify.tell(alerts);
    } catch (error) {
      heard(/** @type {any} */ (error).code !== "offline");
    }
  }

  /** @param {boolean} answered */
  function heard(answered) {
    if (!answered && state === "idle") {
      byAsking = true;
      state = "waiting";
    } else if (answered) {
      if (state !== "waiting" || byAsking) heard_at = Date.now() / 1000;
      if (byAsking) state = "idle";
      byAsking = false;
    }
    showConnection();
  }

  return {
    render,
    /** @param {string} name of the page that is shown */
    current(name) {
      page = PAGES.find((each) => each.name === name)?.nav || name;
      for (const link of root.querySelectorAll(".nav a")) {
        if (/** @type {HTMLElement} */ (link).dataset.page === page) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    },
    /** @param {"idle" | "live" | "waiting"} next @param {number} [at] when the server was last heard, s since 1970 */
    connection(next, at = Date.now() / 1000) {
      if (next === "idle" && byAsking) return;
      if (next !== "waiting" || state !== "waiting") heard_at = at;
      state = next;
      byAsking = false;
      showConnection();
    },
    watchAlerts() {
      whileVisible(() => void askAlerts(), ALERTS_INTERVAL_MS);
      // Who wants to be notified is not looking at this tab.
      setInterval(() => document.hidden && notify.isOn() && void askAlerts(), ALERTS_INTERVAL_MS);
      app.on("alerts", () => {
        void askAlerts();
        // An alert on the feed reaches the store, which is asked, a moment later.
        setTimeout(() => void askAlerts(), STORE_DELAY_MS);
      });
    },
  };
}
