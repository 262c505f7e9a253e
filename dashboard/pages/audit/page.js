/** The audit: who looked at, heard, exported, changed or deleted what. For admins. */
import { icon } from "../../shell/icons.js";
import { Component, h, render } from "../../shell/preact.js";
import { emptyState, errorState, loadingState } from "../../shell/states.js";

const PAGE = 100;
const COLUMNS = ["at", "who", "action", "target", "address", "detail"];

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  render(h(Audit, { app, target: params.query.get("target") ?? "" }), root);
  return () => render(null, root);
}

class Audit extends Component {
  asked = 0;
  state = { filter: { name: "", target: this.props.target }, entries: null, hasMore: false, error: null };

  componentDidMount() {
    void this.load();
  }

  componentWillUnmount() {
    this.asked += 1; // an answer on its way comes too late
  }

  change(change) {
    this.setState({ filter: { ...this.state.filter, ...change } }, () => void this.load());
  }

  /** @param {any[]} [before] go on after these */
  async load(before = []) {
    const ticket = ++this.asked;
    try {
      const query = { ...this.state.filter, limit: PAGE, offset: before.length };
      const { entries, more } = await this.props.app.api.request("GET", "/audit", { query });
      if (ticket === this.asked) this.setState({ entries: [...before, ...entries], hasMore: more, error: null });
    } catch (error) {
      if (ticket === this.asked) this.setState({ error });
    }
  }

  render({ app }, { filter }) {
    const { t } = app;
    const field = (name) =>
      h("input", { class: "field", type: "search", value: filter[name], placeholder: t(`audit.${name}`), "aria-label": t(`audit.${name}`), onchange: (event) => this.change({ [name]: event.target.value.trim() }) });
    const table = h("a", { class: "button", href: app.api.urlOf("/audit.csv", filter), download: "" }, icon("download"), t("audit.export"));
    return [
      h("div", { class: "page-head" }, h("h1", {}, t("audit.title")), h("div", { class: "grow" }), field("name"), field("target"), table),
      h("p", { class: "muted" }, t("audit.text")),
      h("div", { class: "audit-list" }, this.list()),
    ];
  }

  list() {
    const { app } = this.props;
    const { entries, hasMore, error } = this.state;
    if (error) return errorState(app, error, () => void this.load());
    if (entries === null) return loadingState([360], app.t("state.loading"));
    if (entries.length === 0) return emptyState("search", app.t("audit.none"), app.t("audit.none_text"));
    const heads = COLUMNS.map((name) => h("th", { scope: "col" }, app.t(`audit.${name}`)));
    const more = h("button", { class: "button", type: "button", onclick: () => void this.load(entries) }, app.t("action.more"));
    return [
      h("div", { class: "card table-box", tabindex: 0, role: "group", "aria-label": app.t("audit.title") }, h("table", { class: "audit" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, entries.map((entry, index) => h(Row, { key: entries.length - index, app, entry }))))),
      hasMore && more,
    ];
  }
}

/** What was done, in words; exports have its name. @param {import("../../shell/types.js").App} app @param {string} action */
function actionName(app, action) {
  const key = `audit.done.${action}`;
  const text = app.t(key);
  return text === key ? action.replaceAll("_", " ") : text;
}

/** @param {{app: import("../../shell/types.js").App, entry: any}} props */
function Row({ app, entry }) {
  const { format, t } = app;
  const cell = (column, ...children) => h("td", { "data-title": t(`audit.${column}`) }, children);
  return h(
    "tr",
    {},
    cell("at", h("span", { class: "number", title: format.fullTime(entry.at) }, format.dateTime(entry.at))),
    cell("who", entry.name || t(`audit.kind.${entry.kind}`), entry.name && h("span", { class: "muted" }, ` ${t(`audit.kind.${entry.kind}`)}`)),
    cell("action", h("span", { title: entry.action }, actionName(app, entry.action))),
    cell("target", h("span", { class: "number" }, entry.target || "–")),
    cell("address", h("span", { class: "number" }, entry.address)),
    cell("detail", h("span", { class: "muted" }, entry.detail)),
  );
}
