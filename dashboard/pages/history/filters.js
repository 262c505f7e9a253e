/** Which past streams are listed, kept in the address. */
import { icon } from "../../shell/icons.js";
import { Component, h } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";

const DAY_S = 86_400;
const SPANS = { any: 0, day: DAY_S, week: 7 * DAY_S, month: 30 * DAY_S, range: 0 };
const STATES = ["both", "live", "ended"];
const TYPING_MS = 250;

/**
 * @typedef {object} Filter
 * @property {string} name part of it
 * @property {string} when one of SPANS
 * @property {string} state one of STATES
 * @property {string} since first day of a `range`, `2026-05-31`, or ""
 * @property {string} until last day
 */

/** @type {Filter} */
export const NO_FILTER = { name: "", when: "any", state: "both", since: "", until: "" };

/** @param {URLSearchParams} address @returns {Filter} */
export function filterOf(address) {
  const text = (key) => address.get(key) ?? "";
  const among = (key, names) => (names.includes(text(key)) ? text(key) : names[0]);
  return { name: text("q"), when: among("when", Object.keys(SPANS)), state: among("state", STATES), since: text("since"), until: text("until") };
}

/** @param {Filter} filter */
export function remember({ name, when, state, since, until }) {
  const days = when === "range" ? { since, until } : {};
  const values = { q: name, when: when === "any" ? "" : when, state: state === "both" ? "" : state, ...days };
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value)).toString();
  history.replaceState(null, "", addressOf(query ? `/history?${query}` : "/history"));
}

/** @param {Filter} filter @returns {boolean} whether anything is left out */
export function isActive({ name, when, state }) {
  return Boolean(name) || when !== "any" || state !== "both";
}

/** @param {Filter} filter @returns {Record<string, any>} for the API; days begin at midnight where the viewer is */
export function queryOf({ name, when, state, since, until }) {
  const query = { name, live: { live: true, ended: false }[state] };
  if (when === "range") return { ...query, since: midnight(since, 0), until: midnight(until, 1) };
  return { ...query, since: SPANS[when] > 0 ? Math.floor(Date.now() / 1000 - SPANS[when]) : undefined };
}

/** @param {string} day `2026-05-31` or "" @param {number} later days @returns {number | undefined} s since 1970 */
function midnight(day, later) {
  const [year, month, date] = day.split("-").map(Number);
  return day ? new Date(year, month - 1, date + later).getTime() / 1000 : undefined;
}

/** @extends {Component<{app: import("../../shell/types.js").App, filter: Filter, onChange: (change: Partial<Filter>) => void}>} */
export class Filters extends Component {
  timer = 0;

  componentWillUnmount() {
    clearTimeout(this.timer);
  }

  // Each letter would be a request.
  type(name) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.props.onChange({ name }), TYPING_MS);
  }

  render({ app, filter, onChange }) {
    const { t } = app;
    const choice = (key, names) =>
      h("select", { class: "field", "aria-label": t(`history.${key}`), value: filter[key], onchange: (event) => onChange({ [key]: event.target.value }) }, names.map((name) => h("option", { value: name }, t(`history.${name}`))));
    const day = (key) => h("input", { class: "field", type: "date", "aria-label": t(`history.${key}`), title: t(`history.${key}`), value: filter[key], onchange: (event) => onChange({ [key]: event.target.value }) });
    return h(
      "div",
      { class: "filters" },
      h("div", { class: "search" }, icon("search"), h("input", { class: "field", type: "search", value: filter.name, placeholder: t("history.search"), "aria-label": t("history.search"), oninput: (event) => this.type(event.target.value) })),
      choice("when", Object.keys(SPANS)),
      filter.when === "range" && h("span", { class: "days" }, day("since"), h("span", { "aria-hidden": "true" }, "–"), day("until")),
      choice("state", STATES),
    );
  }
}
