/** Which model is in use, what must be said of it, and a better one on its way. */
import { placeBelow, whileVisible } from "./dom.js";
import { icon } from "./icons.js";
import { Component, createRef, h } from "./preact.js";

const INTERVAL_MS = 15_000;

/**
 * What must be said wherever a model is in use, "" for nothing.
 * @param {import("./types.js").App} app @param {import("./types.js").ModelNotice} model
 */
export function noticeOf(app, model) {
  if (!model.notice) return "";
  const key = `notice.${model.name}`;
  const text = app.t(key);
  return text === key ? model.notice : text;
}

/** The name as a badge; pressed it tells more. Follows a model that is being fetched. */
export class ModelBadge extends Component {
  button = createRef();
  more = createRef();

  componentDidMount() {
    this.end = whileVisible(async () => {
      const { app } = this.props;
      try {
        app.info = await app.api.info();
        this.forceUpdate();
      } catch {
        // What is shown stays; the page itself says that the server is away.
      }
    }, INTERVAL_MS);
  }

  componentWillUnmount() {
    this.end?.();
  }

  render({ app }) {
    const { model, upgrade } = app.info;
    const notice = noticeOf(app, model);
    const coming = describe(app, upgrade);
    const rows = [["model.name", model.name], ["model.runtime", model.runtime], ["model.licence", model.licence], ["model.upgrade", coming]];
    return h(
      "span",
      {},
      h(
        "button",
        { ref: this.button, class: `badge model-badge ${notice ? "warning" : ""}`, type: "button", popovertarget: "model-more", "aria-haspopup": "dialog" },
        icon(notice ? "warning" : "info"),
        model.name || app.t("model.loading"),
        notice && h("span", { class: "visually-hidden" }, notice),
        coming && h("span", { class: "number" }, `· ${coming}`),
      ),
      h(
        "div",
        { ref: this.more, class: "menu model-more", popover: "auto", id: "model-more", role: "dialog", "aria-label": app.t("model.title"), ontoggle: () => placeBelow(this.more.current, this.button.current) },
        notice && h("p", {}, notice),
        h("dl", {}, rows.filter(([, text]) => text).map(([key, text]) => [h("dt", { class: "muted" }, app.t(key)), h("dd", {}, text)])),
      ),
    );
  }
}

/** @param {import("./types.js").App} app @param {any} upgrade @returns {string} */
function describe(app, upgrade) {
  if (!upgrade || !["fetching", "warming", "failed"].includes(upgrade.state)) return "";
  const share = upgrade.total_bytes ? app.format.percent(upgrade.done_bytes / upgrade.total_bytes) : "";
  return app.t(`model.${upgrade.state}`, { model: upgrade.model, share });
}
