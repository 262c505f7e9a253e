/** Past streams, the newest first; each opens as a timeline. */
import { fill, h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { makeFilters } from "./filters.js";
import { streamTable } from "./table.js";
import { emptyState, errorState, loadingState } from "../../shell/states.js";
import { removeStream } from "../../shell/remove_stream.js";

const PAGE = 50;

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  /** @type {any[]} */
  let streams = [];
  let asked = 0;
  const filters = makeFilters(app, params.query, () => void load(false));
  const list = h("div", { class: "history-list" });
  root.append(
    h("div", { class: "page-head" }, h("h1", {}, app.t("history.title")), h("div", { class: "grow" }), filters.element),
    app.info.store ? "" : h("p", { class: "notice" }, icon("info"), h("span", {}, app.t("history.no_store"))),
    list,
  );

  /** @param {boolean} more go on where the list ends */
  async function load(more) {
    const ticket = ++asked;
    if (!more && streams.length === 0) fill(list, loadingState([360], app.t("state.loading")));
    try {
      const answer = await app.api.streams({ ...filters.query(), limit: PAGE, offset: more ? streams.length : 0 });
      if (ticket !== asked) return;
      streams = more ? [...streams, ...answer.streams] : answer.streams;
      draw(answer.more ?? answer.streams.length === PAGE);
    } catch (error) {
      if (ticket === asked) fill(list, errorState(app, error, () => void load(more)));
    }
  }

  /** @param {boolean} more whether there are more */
  function draw(more) {
    if (streams.length > 0) {
      const button = h("button", { class: "button", type: "button", onclick: () => void load(true) }, app.t("action.more"));
      return fill(list, streamTable(app, streams, remove), more && button);
    }
    const clear = h("button", { class: "button", type: "button", onclick: () => filters.clear() }, app.t("history.clear"));
    if (filters.active()) fill(list, emptyState("search", app.t("history.no_match"), app.t("history.no_match_text"), [clear]));
    else fill(list, emptyState("history", app.t("history.none"), app.t("history.none_text")));
  }

  /** @param {any} stream */
  async function remove(stream) {
    if (!(await removeStream(app, stream))) return;
    streams = streams.filter((other) => other !== stream);
    draw(false);
    app.emit("alerts");
    void load(false);
  }

  await load(false);
  return () => filters.destroy();
}
