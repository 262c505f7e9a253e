/** Which model is in use, what must be said of it, and a better one on its way. */
import { fill, h, icon, whileVisible } from "./dom.js";

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

/**
 * The name as a badge; pressed it tells more. Follows a model that is being fetched.
 * @param {import("./types.js").App} app
 * @returns {{element: HTMLElement, destroy: () => void}}
 */
export function modelBadge(app) {
  const button = h("button", { class: "badge model-badge", type: "button", popovertarget: "model-more", "aria-haspopup": "dialog" });
  const more = h("div", { class: "menu model-more", popover: "auto", id: "model-more", role: "dialog", "aria-label": app.t("model.title") });
  more.addEventListener("toggle", () => {
    const box = button.getBoundingClientRect();
    more.style.top = `${box.bottom + 4}px`;
    more.style.left = `${Math.max(8, Math.min(box.left, innerWidth - more.offsetWidth - 12))}px`;
  });

  function draw() {
    const { model, upgrade } = app.info;
    const notice = noticeOf(app, model);
    const coming = describe(app, upgrade);
    button.classList.toggle("warning", Boolean(notice));
    fill(button, icon(notice ? "warning" : "info"), model.name || app.t("model.loading"), notice && h("span", { class: "visually-hidden" }, notice), coming && h("span", { class: "number" }, `· ${coming}`));
    const rows = [["model.name", model.name], ["model.runtime", model.runtime], ["model.licence", model.licence], ["model.upgrade", coming]];
    fill(more, notice && h("p", {}, notice), h("dl", {}, rows.filter(([, text]) => text).map(([key, text]) => [h("dt", { class: "muted" }, app.t(key ?? "")), h("dd", {}, text)]).flat()));
  }

  const end = whileVisible(async () => {
    try {
      app.info = await app.api.info();
      draw();
    } catch {
      // What is shown stays; the page itself says that the server is away.
    }
  }, INTERVAL_MS);
  draw();
  return { element: h("span", {}, button, more), destroy: end };
}

/** @param {import("./types.js").App} app @param {any} upgrade @returns {string} */
function describe(app, upgrade) {
  if (!upgrade || !["fetching", "warming", "failed"].includes(upgrade.state)) return "";
  const share = upgrade.total_bytes ? app.format.percent(upgrade.done_bytes / upgrade.total_bytes) : "";
  return app.t(`model.${upgrade.state}`, { model: upgrade.model, share });
}
