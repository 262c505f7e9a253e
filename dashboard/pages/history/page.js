/** Past streams, newest first; each opens as a timeline. */
import { icon } from "../../shell/icons.js";
import { Component, h, render } from "../../shell/preact.js";
import { removeStream } from "../../shell/remove_stream.js";
import { emptyState, errorState, loadingState } from "../../shell/states.js";
import { Filters, filterOf, isActive, NO_FILTER, queryOf, remember } from "./filters.js";
import { StreamTable } from "./table.js";

const PAGE = 50;

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  render(h(History, { app, filter: filterOf(params.query) }), root);
  return () => render(null, root);
}

class History extends Component {
  asked = 0;
  state = { filter: this.props.filter, streams: null, hasMore: false, error: null };

  componentDidMount() {
    void this.load();
  }

  componentWillUnmount() {
    this.asked += 1; // an answer on its way comes too late
  }

  change(change) {
    const filter = { ...this.state.filter, ...change };
    remember(filter);
    this.setState({ filter }, () => void this.load());
  }

  /** @param {any[]} [before] go on after these */
  async load(before = []) {
    const ticket = ++this.asked;
    try {
      const { streams, more } = await this.props.app.api.streams({ ...queryOf(this.state.filter), limit: PAGE, offset: before.length });
      if (ticket === this.asked) this.setState({ streams: [...before, ...streams], hasMore: more, error: null });
    } catch (error) {
      if (ticket === this.asked) this.setState({ error });
    }
  }

  async remove(stream) {
    const { app } = this.props;
    if (!(await removeStream(app, stream))) return;
    this.setState(({ streams }) => ({ streams: streams.filter((other) => other !== stream) }));
    app.emit("alerts");
    void this.load();
  }

  render({ app }, { filter }) {
    const { t } = app;
    return [
      h("div", { class: "page-head" }, h("h1", {}, t("history.title")), h("div", { class: "grow" }), h(Filters, { app, filter, onChange: (change) => this.change(change) })),
      !app.info.store && h("p", { class: "notice" }, icon("info"), h("span", {}, t("history.no_store"))),
      h("div", { class: "history-list" }, this.list()),
    ];
  }

  list() {
    const { app } = this.props;
    const { t } = app;
    const { filter, streams, hasMore, error } = this.state;
    if (error) return errorState(app, error, () => void this.load());
    if (streams === null) return loadingState([360], t("state.loading"));
    if (streams.length > 0) {
      const more = h("button", { class: "button", type: "button", onclick: () => void this.load(streams) }, t("action.more"));
      return [h(StreamTable, { app, streams, remove: (stream) => void this.remove(stream) }), hasMore && more];
    }
    if (!isActive(filter)) return emptyState("history", t("history.none"), t("history.none_text"));
    const clear = h("button", { class: "button", type: "button", onclick: () => this.change(NO_FILTER) }, t("history.clear"));
    return emptyState("search", t("history.no_match"), t("history.no_match_text"), clear);
  }
}
