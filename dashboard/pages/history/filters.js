/** What of the history is looked for, kept in the address. */
import { h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";

const DAY_S = 86_400;
const SPANS = { any: 0, day: DAY_S, week: 7 * DAY_S, month: 30 * DAY_S, range: 0 };
const TYPING_MS = 250;

/**
 * @param {import("../../shell/types.js").App} app @param {URLSearchParams} address
 * @param {() => void} onChange
 */
export function makeFilters(app, address, onChange) {
  const { t } = app;
  const name = h("input", { class: "field", type: "search", value: address.get("q") ?? "", placeholder: t("history.search"), "aria-label": t("history.search") });
  const choice = (label, names, value) => {
    const select = h("select", { class: "field", "aria-label": label }, names.map((key) => h("option", { value: key }, t(`history.${key}`))));
    select.value = names.includes(value) ? value : names[0];
    return select;
  };
  const when = choice(t("history.when"), Object.keys(SPANS), address.get("when"));
  const state = choice(t("history.state"), ["both", "live", "ended"], address.get("state"));
  const date = (label, value) => h("input", { class: "field", type: "date", "aria-label": label, title: label, value: value ?? "" });
  const since = date(t("history.since"), address.get("since"));
  const until = date(t("history.until"), address.get("until"));
  const days = h("span", { class: "days" }, since, h("span", { "aria-hidden": "true" }, "–"), until);
  let timer = 0;

  function changed() {
    days.hidden = when.value !== "range";
    const text = new URLSearchParams(
      Object.entries({
        q: name.value,
        when: when.value === "any" ? "" : when.value,
        state: state.value === "both" ? "" : state.value,
        since: days.hidden ? "" : since.value,
        until: days.hidden ? "" : until.value,
      }).filter(([, value]) => value),
    ).toString();
    history.replaceState(null, "", text ? `/history?${text}` : "/history");
    onChange();
  }
  name.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(changed, TYPING_MS);
  });
  for (const field of [when, state, since, until]) field.addEventListener("change", changed);
  days.hidden = when.value !== "range";

  return {
    element: h("div", { class: "filters" }, h("div", { class: "search" }, icon("search"), name), when, days, state),
    /** @returns {boolean} whether anything is left out */
    active: () => Boolean(name.value) || when.value !== "any" || state.value !== "both",
    /** @returns {Record<string, any>} for the API; days begin at midnight where the viewer is */
    query() {
      const query = { name: name.value, live: { live: true, ended: false }[/** @type {"live" | "ended"} */ (state.value)] };
      if (when.value === "range") return { ...query, since: midnight(since.value, 0), until: midnight(until.value, 1) };
      const span_s = SPANS[/** @type {keyof typeof SPANS} */ (when.value)];
      return { ...query, since: span_s > 0 ? Math.floor(Date.now() / 1000 - span_s) : undefined };
    },
    clear() {
      name.value = "";
      when.value = "any";
      state.value = "both";
      changed();
    },
    destroy: () => clearTimeout(timer),
  };
}

/** @param {string} day `2026-05-31` or "" @param {number} later days @returns {number | undefined} s since 1970 */
function midnight(day, later) {
  const [year, month, date] = day.split("-").map(Number);
  return day ? new Date(year, month - 1, date + later).getTime() / 1000 : undefined;
}
