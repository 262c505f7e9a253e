/** What a page shows while there is nothing else to show; dialogs and passing messages. */
import { fill, h, icon } from "./dom.js";

/**
 * @param {string} iconName @param {string} title @param {string} text @param {Node[]} [actions]
 */
export function emptyState(iconName, title, text, actions = []) {
  return h(
    "div",
    { class: "state card" },
    icon(/** @type {any} */ (iconName)),
    h("h2", {}, title),
    h("p", {}, text),
    actions.length > 0 && h("div", { class: "actions" }, actions),
  );
}

/**
 * @param {import("./types.js").App} app @param {any} error @param {() => void} [retry]
 */
export function errorState(app, error, retry) {
  const actions = retry ? [h("button", { class: "button", type: "button", onclick: retry }, app.t("action.retry"))] : [];
  const state = emptyState("warning", app.t("error.title"), describeError(app, error), actions);
  state.setAttribute("role", "alert");
  return state;
}

/** @param {import("./types.js").App} app @param {any} error @returns {string} */
export function describeError(app, error) {
  if (error?.code === "offline") return app.t("error.offline");
  const text = error?.message || String(error);
  return error?.remedy ? `${text}. ${error.remedy}` : text;
}

/** Grey shapes of what is coming. @param {number[]} heights_px @param {string} label */
export function loadingState(heights_px, label) {
  return h(
    "div",
    { class: "page", role: "status", "aria-label": label },
    heights_px.map((height) => h("div", { class: "skeleton", style: { height: `${height}px` } })),
  );
}

/** Say something in passing. @param {string} text @param {"info" | "error"} [kind] */
export function toast(text, kind = "info") {
  const element = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : null }, text);
  document.getElementById("toasts")?.append(element);
  setTimeout(() => element.remove(), kind === "error" ? 8000 : 4000);
}

/**
 * Ask. Escape and a click beside it mean no.
 * @param {import("./types.js").App} app
 * @param {{title: string, text?: string, action: string, danger?: boolean, field?: {label: string, placeholder?: string}}} question
 * @returns {Promise<string | null>} the field's text ("" where there is none), null: no
 */
export function ask(app, { title, text, action, danger = false, field }) {
  return new Promise((resolve) => {
    const input = field && h("textarea", { class: "field", rows: 3, maxlength: 1000, placeholder: field.placeholder, "aria-label": field.label });
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      text && h("p", {}, text),
      input,
      h(
        "div",
        { class: "actions" },
        h("button", { class: "button", type: "button", onclick: () => dialog.close() }, app.t("action.cancel")),
        h("button", { class: `button ${danger ? "danger" : "primary"}`, type: "submit", value: "yes" }, action),
      ),
    );
    fill(dialog, form);
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? (input?.value ?? "") : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    (input ?? form.querySelector("button[type=submit]"))?.focus();
  });
}

/** A command with a button that copies it. @param {import("./types.js").App} app @param {string} text */
export function command(app, text) {
  const button = h("button", { class: "button quiet icon-only", type: "button", "aria-label": app.t("action.copy") }, icon("copy"));
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    fill(button, icon("check"));
    setTimeout(() => fill(button, icon("copy")), 1500);
  });
  return h("div", { class: "command" }, h("code", {}, text), button);
}
