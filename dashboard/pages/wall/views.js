/**
 * What one viewer keeps of the wall, in this browser: streams that stay in front, and views by name. A
 * view is the query of the address, so it can be passed on as a link, too.
 */
import { h } from "../../shell/preact.js";
import { ask } from "../../shell/states.js";

const PINS = "emotion-monitor.wall.pins";
const VIEWS = "emotion-monitor.wall.views";
/** Streams end; what was pinned long ago is forgotten. */
const MOST_PINS = 100;

/** @returns {Set<string>} */
export function readPins() {
  return new Set(read(PINS));
}

/** Pin a stream, or no more. @param {Set<string>} pinned is changed @param {string} stream_id */
export function togglePin(pinned, stream_id) {
  if (!pinned.delete(stream_id)) pinned.add(stream_id);
  write(PINS, [...pinned].slice(-MOST_PINS));
}

/** @typedef {{name: string, query: string}} View */

/** @returns {View[]} by name */
export function readViews() {
  return read(VIEWS).filter((view) => typeof view?.name === "string" && typeof view.query === "string");
}

/** One with the same name is replaced. @param {View} view */
export function keepView(view) {
  const others = readViews().filter(({ name }) => name !== view.name);
  write(VIEWS, [...others, view].sort((one, other) => one.name.localeCompare(other.name)));
}

/** @param {string} name */
export function forgetView(name) {
  write(VIEWS, readViews().filter((view) => view.name !== name));
}

/** @param {string} key @returns {any[]} what is damaged or refused counts as nothing */
function read(key) {
  try {
    const value = JSON.parse(localStorage.getItem(key) ?? "[]");
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing keeps no views.
  }
}

const SAVE = "save";
const FORGET = "forget";

/**
 * @param {{app: import("../../shell/types.js").App, query: string, onOpen: (query: string) => void, onChange: () => void}} props
 *   `query`: of what is shown; `onChange`: the list has another entry, or one less
 */
export function Views({ app, query, onOpen, onChange }) {
  const { t } = app;
  const views = readViews();
  const shown = views.find((view) => view.query === query);
  const choose = async (/** @type {HTMLSelectElement} */ select) => {
    const { value } = select;
    if (value === SAVE) {
      const name = (await ask(app, { title: t("wall.view_save"), action: t("wall.view_keep"), field: { label: t("wall.view_name") } }))?.trim();
      if (name) keepView({ name, query });
    } else if (value === FORGET) forgetView(shown?.name ?? "");
    else return onOpen(value.slice("view ".length));
    // It says what is shown, not what was done.
    select.value = "";
    onChange();
  };
  return h(
    "select",
    { class: "field", "aria-label": t("wall.views"), value: shown ? `view ${shown.query}` : "", onchange: (event) => void choose(event.target) },
    h("option", { value: "", disabled: true, hidden: true }, t("wall.views")),
    h("option", { value: "view " }, t("wall.view_all")),
    views.map((view) => h("option", { key: view.name, value: `view ${view.query}` }, view.name)),
    h("option", { value: SAVE }, t("wall.view_save")),
    shown && h("option", { value: FORGET }, t("wall.view_forget", { name: shown.name })),
  );
}
