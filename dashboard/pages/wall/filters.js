/** Search and filters of the wall, kept in the address. */
import { fill, h, icon } from "../../shell/dom.js";
import { roleName } from "../../shell/names.js";

/**
 * @param {import("../../shell/types.js").App} app @param {URLSearchParams} query
 * @param {() => void} onChange
 */
export function makeFilters(app, query, onChange) {
  /** @type {import("./tiles.js").Filter} */
  const filter = {
    text: query.get("q") ?? "",
    emotion: query.get("emotion") ?? "",
    role: query.get("role") ?? "",
    alerts: query.get("alerts") === "1",
  };
  const search = h("input", { class: "field", type: "search", value: filter.text, placeholder: app.t("wall.search"), "aria-label": app.t("wall.search") });
  const roles = h("select", { class: "field", "aria-label": app.t("wall.role") });
  const alerts = h("button", { class: "button", type: "button", "aria-pressed": String(filter.alerts) }, icon("bell"), app.t("wall.only_alerts"));
  let known = "";

  function changed() {
    const address = new URLSearchParams();
    if (filter.text) address.set("q", filter.text);
    if (filter.emotion) address.set("emotion", filter.emotion);
    if (filter.role) address.set("role", filter.role);
    if (filter.alerts) address.set("alerts", "1");
    const text = address.toString();
    history.replaceState(null, "", text ? `/?${text}` : "/");
    alerts.setAttribute("aria-pressed", String(filter.alerts));
    onChange();
  }

  search.addEventListener("input", () => {
    filter.text = search.value;
    changed();
  });
  roles.addEventListener("change", () => {
    filter.role = roles.value;
    changed();
  });
  alerts.addEventListener("click", () => {
    filter.alerts = !filter.alerts;
    changed();
  });
  const slash = (/** @type {KeyboardEvent} */ event) => {
    const typing = event.target instanceof Element && event.target.closest("input, textarea, select");
    if (event.key !== "/" || typing) return;
    event.preventDefault();
    search.focus();
  };
  document.addEventListener("keydown", slash);

  return {
    filter,
    element: h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), search, h("kbd", { "aria-hidden": "true" }, "/")), roles, alerts),
    /** @param {string} emotion again: all */
    toggleEmotion(emotion) {
      filter.emotion = filter.emotion === emotion ? "" : emotion;
      changed();
    },
    clear() {
      Object.assign(filter, { text: "", emotion: "", role: "", alerts: false });
      search.value = "";
      roles.value = "";
      changed();
    },
    /** Offer the roles there are. @param {Iterable<import("./tiles.js").Tile>} tiles */
    offer(tiles) {
      const names = new Set([...tiles].flatMap((tile) => tile.roles));
      if (filter.role) names.add(filter.role);
      const key = [...names].sort().join();
      if (key === known) return;
      known = key;
      const options = [...names].sort().map((name) => h("option", { value: name }, roleName(app, name)));
      fill(roles, h("option", { value: "" }, app.t("wall.all_roles")), options);
      roles.value = filter.role;
      roles.hidden = names.size < 2;
    },
    destroy: () => document.removeEventListener("keydown", slash),
  };
}
