/** The shell: asks the server who it is, then shows the page of the path. */
import { api } from "./api.js";
import { makeFormat } from "./format.js";
import { currentLang, loadTexts, makeTexts } from "./i18n.js";
import { mount as missing } from "./missing.js";
import { makeHeader } from "./nav.js";
import * as palette from "./palette.js";
import { addressOf, routeOf, takeLinks } from "./router.js";
import { describeError, errorState, loadingState, toast } from "./states.js";
import { onSystemTheme, remember } from "./theme.js";
import { fill, h } from "./dom.js";

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
/** @type {Map<string, Set<(detail: any) => void>>} */
const listeners = new Map();
let shown = 0;
let title = "";
/** @type {() => void} */
let unmount = () => {};

/** @type {import("./types.js").App} */
const app = {
  api,
  palette,
  labels: [],
  lang: "en",
  info: /** @type {any} */ (null),
  t: (key) => key,
  plural: (key) => key,
  label: (name) => name,
  format: makeFormat("en"),
  navigate,
  on(event, listener) {
    const those = listeners.get(event) ?? new Set();
    listeners.set(event, those.add(listener));
    return () => void those.delete(listener);
  },
  emit: (event, detail) => listeners.get(event)?.forEach((listener) => listener(detail)),
  connection: (state, heard_at) => header.connection(state, heard_at),
  openAlerts: { n: 0, text: "0" },
  title(text) {
    if (text !== undefined) title = text;
    document.title = `${app.openAlerts.n > 0 ? `(${app.openAlerts.text}) ` : ""}${title} · Emotion Monitor`;
  },
};

const header = makeHeader(/** @type {HTMLElement} */ (document.getElementById("header")), app, {
  async onLang(lang) {
    try {
      await loadTexts(lang);
    } catch (error) {
      return toast(describeError(app, error), "error");
    }
    remember("lang", lang);
    document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
    useLang(lang);
    void show();
  },
  onTheme: () => app.emit("theme"),
});

/** @param {import("./i18n.js").Lang} lang */
function useLang(lang) {
  const { t, plural, has } = makeTexts(lang);
  app.lang = lang;
  app.t = t;
  app.plural = plural;
  app.format = makeFormat(lang);
  app.label = (given) => {
    const name = given ?? palette.UNCLEAR;
    const label = app.labels.find((candidate) => candidate.name === name);
    if (lang === "zh" && label?.name_zh) return label.name_zh;
    return has(`emotion.${name}`) ? t(`emotion.${name}`) : name;
  };
  /** @type {HTMLElement} */ (document.getElementById("skip")).textContent = t("shell.skip");
  header.render();
}

/** @param {string} path @param {{replace?: boolean}} [options] */
function navigate(path, { replace = false } = {}) {
  if (replace) history.replaceState(null, "", path);
  else history.pushState(null, "", path);
  void show().then(() => {
    scrollTo(0, 0);
    /** @type {HTMLElement | null} */ (main.querySelector("h1"))?.focus({ preventScroll: true });
  });
}

/** Show the page of the current path. */
async function show() {
  const ticket = ++shown;
  unmount();
  unmount = () => {};
  app.connection("idle");
  const { page, params } = routeOf(location.href);
  header.current(page);
  app.title(app.t(page ? `${page}.nav` : "missing.nav"));
  const root = h("div", { class: `page page-${page || "missing"}` });
  main.replaceChildren(root);
  try {
    const { mount } = page ? await import(`../pages/${page}/page.js`) : { mount: missing };
    if (ticket !== shown) return;
    const undo = await mount(root, params, app);
    if (ticket !== shown) undo?.();
    else unmount = undo ?? (() => {});
    root.querySelector("h1")?.setAttribute("tabindex", "-1");
  } catch (error) {
    if (ticket === shown) fill(root, errorState(app, error, () => void show(), "h1"));
  }
}

/** Ask the server who it is; again and again until it answers. */
async function start() {
  useLang(currentLang());
  fill(main, loadingState([56, 160, 160], app.t("state.loading")));
  const texts = loadTexts(currentLang());
  try {
    [app.info] = await Promise.all([api.info(), texts]);
  } catch (error) {
    await texts.then(() => useLang(currentLang())).catch(() => {});
    fill(main, errorState(app, error, () => void start(), "h1"));
    return;
  }
  app.labels = app.info.labels;
  useLang(currentLang());
  // The document's own address of it is relative, and browsers resolve it anew on every page.
  /** @type {HTMLLinkElement} */ (document.querySelector('link[rel="icon"]')).href = addressOf("/static/shell/favicon.svg");
  takeLinks((path) => navigate(path));
  window.addEventListener("popstate", () => void show());
  onSystemTheme(() => app.emit("theme"));
  header.watchAlerts();
  await show();
}

void start();
