/** Past streams as a table; on a narrow screen each row is a card. */
import { icon } from "../../shell/icons.js";
import { inOrder, roleName, streamName } from "../../shell/names.js";
import { h } from "../../shell/preact.js";
import { colourOf, emotion, hatchOf, STACK_ORDER } from "../../shell/palette.js";
import { addressOf } from "../../shell/router.js";

const COLUMNS = ["name", "began", "length", "roles", "share", "alerts", "model", "actions"];
const NAMED = 2;

/** @param {{app: import("../../shell/types.js").App, streams: any[], remove: (stream: any) => void}} props */
export function StreamTable({ app, streams, remove }) {
  const heads = COLUMNS.map((name) => h("th", { scope: "col", class: `col-${name}` }, name === "actions" ? h("span", { class: "visually-hidden" }, app.t("history.actions")) : app.t(`history.${name}`)));
  return h("div", { class: "card table-box", tabindex: 0, role: "group", "aria-label": app.t("history.nav") }, h("table", { class: "streams" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, streams.map((stream) => h(Row, { key: stream.stream_id, app, stream, remove })))));
}

/** A link to the stream before or after. @param {string | null} id @param {string} text */
function link(id, text) {
  return id && h("a", { class: "badge", href: addressOf(`/streams/${encodeURIComponent(id)}`) }, text);
}

function Row({ app, stream, remove }) {
  const { format, t } = app;
  const name = streamName(app, stream.name, stream.stream_id);
  const live = stream.closed_at === null;
  const href = addressOf(`/streams/${encodeURIComponent(stream.stream_id)}`);
  const cell = (column, ...children) => h("td", { class: `col-${column}`, "data-title": t(`history.${column}`) }, children);
  return h(
    "tr",
    { onclick: (event) => event.target.closest("a, button") || app.navigate(href) },
    cell("name", h("a", { href }, name), live && h("span", { class: "badge live" }, h("span", { class: "dot" }), t("common.live")), link(stream.continues, t("history.continues")), link(stream.continued_by, t("history.continued_by"))),
    cell("began", h("span", { class: "number", title: format.fullTime(stream.opened_at) }, format.dateTime(stream.opened_at))),
    cell("length", h("span", { class: "number" }, stream.duration_s === null ? "–" : format.clock(stream.duration_s))),
    cell("roles", inOrder(stream.channels).map((channel) => roleName(app, channel.role)).join(", ")),
    cell("share", shareBar(app, stream.share ?? {})),
    cell(
      "alerts",
      stream.open_alerts > 0 ? h("span", { class: "badge alert" }, icon("warning"), t("history.open_alerts", { n: stream.open_alerts })) : h("span", { class: "number muted" }, stream.alerts > 0 ? String(stream.alerts) : "–"),
    ),
    cell("model", h("span", { class: "muted" }, stream.model.name)),
    cell(
      "actions",
      !live && app.info.store && h("button", { class: "button quiet icon-only", type: "button", "aria-label": t("history.delete_one", { name }), title: t("action.delete"), onclick: () => remove(stream) }, icon("trash")),
    ),
  );
}

/** A bar of the shares, and the largest in words. @param {import("../../shell/types.js").App} app @param {Record<string, number>} share */
function shareBar(app, share) {
  const { percent } = app.format;
  const names = STACK_ORDER.filter((name) => share[name] > 0).concat(Object.keys(share).filter((name) => !STACK_ORDER.includes(name)));
  if (names.length === 0) return h("span", { class: "muted" }, app.t("history.nothing_scored"));
  const largest = [...names].sort((a, b) => share[b] - share[a]);
  const text = largest.map((name) => `${app.label(name)} ${percent(share[name])}`).join(", ");
  return h(
    "div",
    { class: "share-cell", title: text },
    h("div", { class: "share", role: "img", "aria-label": text }, names.map((name) => h("i", { class: hatchOf(name), style: { "--emotion": colourOf(name), "flex-grow": String(share[name]) } }))),
    h("div", { class: "share-words", "aria-hidden": "true" }, largest.slice(0, NAMED).map((name) => emotion(app, name, percent(share[name])))),
  );
}
