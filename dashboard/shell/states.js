/** What a page shows while there is nothing else to show; dialogs and passing messages. */
import { fill, h as make } from "./dom.js";
import { icon } from "./icons.js";
import { Component, h } from "./preact.js";

/** @param {string} iconName @param {string} title @param {string} text @param {...any} actions below it */
export function emptyState(iconName, title, text, ...actions) {
  return state("h2", iconName, title, text, actions);
}

/** A page that has nothing else. @param {string} iconName @param {string} title @param {string} text @param {...any} actions below it */
export function missingState(iconName, title, text, ...actions) {
  return state("h1", iconName, title, text, actions);
}

/**
 * @param {import("./types.js").App} app @param {any} error @param {() => void} [retry]
 * @param {"h1" | "h2"} [heading] `h1`: the page has nothing else
 */
export function errorState(app, error, retry, heading = "h2") {
  const button = retry && h("button", { class: "button", type: "button", onclick: retry }, app.t("action.retry"));
  return h("div", { role: "alert" }, state(heading, "warning", app.t("error.title"), describeError(app, error), [button]));
}

/** @param {string} heading @param {string} iconName @param {string} title @param {string} text @param {any[]} actions */
function state(heading, iconName, title, text, actions) {
  return h(
    "div",
    { class: "state card" },
    icon(/** @type {any} */ (iconName)),
    h(heading, {}, title),
    h("p", {}, text),
    actions.length > 0 && h("div", { class: "actions" }, actions),
  );
}

/** Codes that tell too little without the server's own words, which are English. */
const WITH_MESSAGE = new Set(["bad_request", "bad_audio", "failed", "not_installed"]);

/**
 * What went wrong and what can be done, in the viewer's language.
 * @param {import("./types.js").App} app @param {any} error @returns {string}
 */
export function describeError(app, error) {
  const key = `error.${error?.code}`;
  const text = app.t(key, { max: app.info?.max_file_mb ?? "" });
  const message = error?.message || String(error);
  // Of a code that is new to this page, and of mistakes of its own, there are only the words.
  if (text === key) return error?.remedy ? `${message}. ${error.remedy}` : message;
  return WITH_MESSAGE.has(error.code) && error.message ? `${text} ${app.t("error.said", { message: error.message })}` : text;
}

/** What a warning means for the viewer. @param {import("./types.js").App} app @param {{code: string, message: string}} warning */
export function describeWarning(app, { code, message }) {
  const key = `warning.about.${code}`;
  const text = app.t(key);
  return text === key ? message : text;
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
  const element = make("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : null }, text);
  document.getElementById("toasts")?.append(element);
  setTimeout(() => element.remove(), kind === "error" ? 8000 : 4000);
}

/**
 * Ask. Escape and a click beside it mean no.
 * @param {import("./types.js").App} app
 * @param {{title: string, text?: string, action: string, danger?: boolean, field?: {label: string, placeholder?: string, value?: string, most?: number}}} question
 * @returns {Promise<string | null>} the field's text ("" where there is none), null: no
 */
export function ask(app, { title, text, action, danger = false, field }) {
  return new Promise((resolve) => {
    const input = field && make("textarea", { class: "field", rows: 3, maxlength: field.most ?? 1000, placeholder: field.placeholder, value: field.value, "aria-label": field.label });
    const no = make("button", { class: "button", type: "button", onclick: () => dialog.close() }, app.t("action.cancel"));
    const yes = make("button", { class: `button ${danger ? "danger" : "primary"}`, type: "submit", value: "yes", title: field ? "Ctrl+Enter" : null }, action);
    const dialog = make("dialog", { "aria-labelledby": "dialog-title" });
    const form = make(
      "form",
      { method: "dialog" },
      make("h2", { id: "dialog-title" }, title),
      text && make("p", {}, text),
      input,
      make(
        "div",
        { class: "actions" },
        no,
        yes,
      ),
    );
    fill(dialog, form);
    // A note may have several lines: Enter alone does not send it.
    dialog.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && form.requestSubmit(yes));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? (input?.value ?? "") : null);
    });
    document.body.append(dialog);
    dialog.showModal();
    // Enter on an open dialog must not delete anything.
    (input ?? (danger ? no : yes)).focus();
  });
}

/** A command with a button that copies it. */
export class Command extends Component {
  async copy() {
    await navigator.clipboard.writeText(this.props.text);
    this.setState({ copied: true });
    setTimeout(() => this.setState({ copied: false }), 1500);
  }

  render({ app, text }, { copied }) {
    const button = { class: "button quiet icon-only", type: "button", "aria-label": app.t("action.copy"), onclick: () => void this.copy() };
    return h("div", { class: "command" }, h("code", {}, text), h("button", button, icon(copied ? "check" : "copy")));
  }
}
