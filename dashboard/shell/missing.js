/** There is no such page. */
import { fill } from "./dom.js";
import { h } from "./preact.js";
import { addressOf } from "./router.js";
import { missingState } from "./states.js";

/** @param {HTMLElement} root @param {import("./types.js").Params} params @param {import("./types.js").App} app */
export async function mount(root, params, app) {
  const back = h("a", { class: "button primary", href: addressOf("/") }, app.t("missing.back"));
  const text = app.t("missing.text", { path: params.path });
  fill(root, missingState("search", app.t("missing.title"), text, back));
  return () => {};
}
