/** Search, filters, order and groups of the wall, kept in the address. */
import { icon } from "../../shell/icons.js";
import { roleName } from "../../shell/names.js";
import { Component, createRef, h } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { GROUPS, SORTS } from "./tiles.js";
import { Views } from "./views.js";

/** @param {URLSearchParams} query @returns {import("./tiles.js").Filter} */
export function filterOf(query) {
  const one = (/** @type {string} */ name, /** @type {string[]} */ allowed) => allowed.find((value) => value === query.get(name)) ?? allowed[0];
  return { text: query.get("q") ?? "", emotion: query.get("emotion") ?? "", role: query.get("role") ?? "", alerts: query.get("alerts") === "1", sort: one("sort", SORTS), group: one("group", GROUPS) };
}

/** @param {import("./tiles.js").Filter} filter @returns {string} */
export function queryOf({ text, emotion, role, alerts, sort, group }) {
  const unless = (/** @type {string} */ value, /** @type {string[]} */ [usual]) => (value === usual ? "" : value);
  const values = { q: text, emotion, role, alerts: alerts ? "1" : "", sort: unless(sort, SORTS), group: unless(group, GROUPS) };
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
}

/** @param {import("./tiles.js").Filter} filter */
export function remember(filter) {
  const query = queryOf(filter);
  history.replaceState(null, "", addressOf(query ? `/?${query}` : "/"));
}

export class Filters extends Component {
  search = createRef();

  componentDidMount() {
    this.onKey = (event) => {
      const typing = event.target instanceof Element && event.target.closest("input, textarea, select");
      if (event.key !== "/" || typing) return;
      event.preventDefault();
      this.search.current.focus();
    };
    document.addEventListener("keydown", this.onKey);
  }

  componentWillUnmount() {
    document.removeEventListener("keydown", this.onKey);
  }

  render({ app, filter, tiles, onChange }) {
    const { t } = app;
    const roles = [...new Set([...tiles.flatMap((tile) => tile.roles), ...(filter.role ? [filter.role] : [])])].sort();
    return h(
      "div",
      { class: "filters" },
      h(
        "div",
        { class: "search" },
        icon("search"),
        h("input", { ref: this.search, class: "field", type: "search", value: filter.text, placeholder: t("wall.search"), "aria-label": t("wall.search"), oninput: (event) => onChange({ text: event.target.value }) }),
        h("kbd", { "aria-hidden": "true" }, "/"),
      ),
      roles.length > 1 &&
        h(
          "select",
          { class: "field", "aria-label": t("wall.role"), value: filter.role, onchange: (event) => onChange({ role: event.target.value }) },
          h("option", { value: "" }, t("wall.all_roles")),
          roles.map((role) => h("option", { key: role, value: role }, roleName(app, role))),
        ),
      choice(t("wall.sort"), filter.sort, SORTS.map((name) => [name, t(`wall.sort.${name}`)]), (sort) => onChange({ sort })),
      choice(t("wall.group"), filter.group, GROUPS.map((name) => [name, t(`wall.group.${name}`)]), (group) => onChange({ group })),
      h(Views, { app, query: queryOf(filter), onOpen: (query) => onChange(filterOf(new URLSearchParams(query))), onChange: () => onChange({}) }),
      h("button", { class: "button", type: "button", "aria-pressed": filter.alerts, onclick: () => onChange({ alerts: !filter.alerts }) }, icon("bell"), t("wall.only_alerts")),
    );
  }
}

function choice(label, value, options, change) {
  return h(
    "select",
    { class: "field", "aria-label": label, title: label, value, onchange: (event) => change(event.target.value) },
    options.map(([name, text]) => h("option", { key: name, value: name }, text)),
  );
}
