/** Oversight: a stop for all analysis, the ledger of notices, the log of decisions, one person's data. */
import { ruleName } from "../../shell/names.js";
import { icon } from "../../shell/icons.js";
import { Component, h, render } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { emptyState, errorState, loadingState, toast } from "../../shell/states.js";

const SHOWN = 50;
/** Columns whose texts people write. */
const LONG = new Set(["rule", "note", "who", "notice_version"]);

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  render(h(Oversight, { app }), root);
  return () => render(null, root);
}

class Oversight extends Component {
  state = { view: null, decisions: [], ledger: [], person: null, value: "", reason: "", isErasing: false, error: null };

  componentDidMount() {
    void this.load();
  }

  async load() {
    const { api, info } = this.props.app;
    try {
      const view = await api.request("GET", "/oversight");
      const query = { limit: SHOWN };
      const { decisions } = info.store ? await api.request("GET", "/decisions", { query }) : { decisions: [] };
      const { entries } = info.store ? await api.request("GET", "/ledger", { query }) : { entries: [] };
      this.setState({ view, decisions, ledger: entries, error: null });
    } catch (error) {
      this.setState({ error });
    }
  }

  async halt(halted) {
    const reason = this.state.reason.trim();
    if (!reason) return toast(this.props.app.t("oversight.reason_needed"));
    try {
      await this.props.app.api.request("POST", "/oversight", { body: { halted, reason } });
      this.setState({ reason: "" });
      await this.load();
    } catch (error) {
      this.setState({ error });
    }
  }

  async find() {
    const value = this.state.value.trim();
    if (!value) return;
    const person = await this.props.app.api.request("POST", "/person/find", { body: { value } });
    this.setState({ person, isErasing: false });
  }

  async erase() {
    const { app } = this.props;
    const erased = await app.api.request("POST", "/person/erase", { body: { value: this.state.value.trim() } });
    toast(app.t("oversight.erased", { streams: erased.streams, files: erased.files }));
    this.setState({ person: null, value: "", isErasing: false });
    await this.load();
  }

  async save() {
    const response = await fetch(this.props.app.api.urlOf("/person/export"), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ value: this.state.value.trim() }),
    });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = "person.zip";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  render({ app }, { view, error }) {
    const { t } = app;
    const head = h("div", { class: "page-head" }, h("h1", {}, t("oversight.title")));
    if (error) return [head, errorState(app, error, () => void this.load())];
    if (view === null) return [head, loadingState([120, 240], t("state.loading"))];
    return [
      head,
      h("p", { class: "muted" }, t("oversight.text")),
      this.stop(view),
      app.info.store && app.info.me.scopes.includes("admin") && this.person(),
      app.info.store && this.decisions(),
      app.info.store && this.ledger(),
    ];
  }

  stop(view) {
    const { app } = this.props;
    const { t, format } = app;
    const { halt } = view;
    const since = halt.at > 0 && h("p", { class: "muted" }, t("oversight.by", { who: halt.by, time: format.dateTime(halt.at), reason: halt.reason }));
    return h(
      "section",
      { class: `card oversight-card oversight-stop${halt.halted ? " halted" : ""}`, "data-testid": "halt" },
      h("h2", {}, icon(halt.halted ? "pause" : "play"), t(halt.halted ? "oversight.halted" : "oversight.running")),
      since,
      view.overseers.length > 0 && h("p", {}, t("oversight.overseers", { names: view.overseers.join(", ") })),
      h("p", { class: "muted" }, t(`oversight.notice.${view.require_notice}`), " ", t(view.require_consent ? "oversight.consent.required" : "oversight.consent.not_required")),
      view.may_halt &&
        h(
          "div",
          { class: "oversight-form" },
          h("input", { class: "field", type: "text", maxlength: 2000, value: this.state.reason, placeholder: t("oversight.reason"), "aria-label": t("oversight.reason"), "data-testid": "reason", oninput: (event) => this.setState({ reason: event.target.value }) }),
          h("button", { class: `button ${halt.halted ? "primary" : "danger"}`, type: "button", "data-testid": "halt-button", onclick: () => void this.halt(!halt.halted) }, t(halt.halted ? "oversight.resume" : "oversight.stop")),
        ),
    );
  }

  person() {
    const { app } = this.props;
    const { t } = app;
    const { value, person, isErasing } = this.state;
    const found = person && person.streams.length + person.files.length > 0;
    return h(
      "section",
      { class: "card oversight-card" },
      h("h2", {}, t("oversight.person")),
      h("p", { class: "muted" }, t("oversight.person.text")),
      h(
        "form",
        {
          class: "oversight-form",
          onsubmit: (event) => {
            event.preventDefault();
            void this.find();
          },
        },
        h("input", { class: "field", type: "search", autocomplete: "off", value, placeholder: t("oversight.person.value"), "aria-label": t("oversight.person.value"), "data-testid": "person", oninput: (event) => this.setState({ value: event.target.value, person: null }) }),
        h("button", { class: "button", type: "submit", "data-testid": "find" }, t("oversight.find")),
      ),
      person && !found && h("p", {}, t("oversight.person.none")),
      found && [
        h("p", { "data-testid": "found" }, t("oversight.person.found", { streams: person.streams.length, files: person.files.length })),
        h("ul", {}, person.streams.map((one) => h("li", { key: one.stream_id }, h("a", { href: addressOf(`/streams/${encodeURIComponent(one.stream_id)}`) }, one.name || one.stream_id), " ", h("span", { class: "muted number" }, app.format.dateTime(one.opened_at))))),
        h(
          "div",
          { class: "oversight-form" },
          h("button", { class: "button", type: "button", onclick: () => void this.save() }, icon("download"), t("oversight.export")),
          isErasing
            ? h("button", { class: "button danger", type: "button", "data-testid": "erase-now", onclick: () => void this.erase() }, t("oversight.erase_now"))
            : h("button", { class: "button", type: "button", "data-testid": "erase", onclick: () => this.setState({ isErasing: true }) }, t("oversight.erase")),
        ),
      ],
    );
  }

  decisions() {
    const { app } = this.props;
    const { t, format } = app;
    const columns = ["at", "kind", "rule", "labels", "posterior", "model", "who", "note"];
    const row = (one, index) =>
      h(
        "tr",
        { key: index },
        [
          h("span", { class: "number", title: format.fullTime(one.at) }, format.dateTime(one.at)),
          t(`oversight.kind.${one.kind}`),
          one.stream_id ? h("a", { href: addressOf(`/streams/${encodeURIComponent(one.stream_id)}`) }, ruleName(app, one.rule)) : ruleName(app, one.rule),
          one.labels.map((label) => app.label(label)).join(", "),
          h("span", { class: "number" }, one.posterior === null ? "–" : format.percent(one.posterior)),
          one.model,
          one.who || "–",
          one.note,
        ].map((cell, at) => h("td", { "data-title": t(`oversight.${columns[at]}`), class: LONG.has(columns[at]) && "is-long" }, cell)),
      );
    const link = h("a", { class: "button", href: app.api.urlOf("/decisions.csv"), download: "" }, icon("download"), t("oversight.csv"));
    return this.table("decisions", columns, this.state.decisions.map(row), link);
  }

  ledger() {
    const { app } = this.props;
    const { t, format } = app;
    const columns = ["at", "stream", "consent", "source", "notice_version", "notice_how", "withheld"];
    const row = (one, index) =>
      h(
        "tr",
        { key: index },
        [
          h("span", { class: "number", title: format.fullTime(one.at) }, format.dateTime(one.at)),
          h("a", { class: "number", href: addressOf(`/streams/${encodeURIComponent(one.stream_id)}`) }, one.stream_id),
          t(`consent.${one.consent}`),
          said(app, `oversight.source.${one.source}`, one.source) || "–",
          one.notice_version || "–",
          [said(app, `oversight.how.${one.notice_how}`, one.notice_how), languageName(app, one.notice_language)].filter(Boolean).join(", ") || "–",
          one.withheld ? t(`gap.${one.withheld}`) : "–",
        ].map((cell, at) => h("td", { "data-title": t(`oversight.${columns[at]}`), class: LONG.has(columns[at]) && "is-long" }, cell)),
      );
    return this.table("ledger", columns, this.state.ledger.map(row));
  }

  table(name, columns, rows, tool = false) {
    const { t } = this.props.app;
    const head = h("div", { class: "oversight-head" }, h("h2", {}, t(`oversight.${name}`)), rows.length > 0 && tool);
    if (rows.length === 0) return h("section", {}, head, emptyState("search", t(`oversight.${name}.none`), t(`oversight.${name}.none_text`)));
    return h(
      "section",
      {},
      head,
      h("div", { class: "card table-box", tabindex: 0, role: "group", "aria-label": t(`oversight.${name}`) }, h("table", { class: "oversight", "data-testid": name }, h("thead", {}, h("tr", {}, columns.map((column) => h("th", { scope: "col" }, t(`oversight.${column}`))))), h("tbody", {}, rows))),
    );
  }
}

/** What our own ways in state has words; what a client states is shown as it is. @param {import("../../shell/types.js").App} app @param {string} key @param {string} value */
function said(app, key, value) {
  const text = app.t(key);
  return text === key ? value : text;
}

/** @param {import("../../shell/types.js").App} app @param {string} code of BCP 47, or what a client states instead */
function languageName(app, code) {
  try {
    return code && new Intl.DisplayNames([app.lang], { type: "language" }).of(code);
  } catch {
    return code; // no code of a language
  }
}
