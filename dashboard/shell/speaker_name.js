/** The name of a speaker, and how a person changes it: a button, in its place a field until it is kept. */
import { icon } from "./icons.js";
import { speakerName } from "./names.js";
import { Component, createRef, h } from "./preact.js";
import { describeError, toast } from "./states.js";

const MOST_LETTERS = 80;

/** @param {import("./types.js").App} app @returns {boolean} whether one may name speakers, and the name would be kept */
export function mayName({ info }) {
  return info.store && info.me.scopes.some((scope) => scope === "operate" || scope === "admin");
}

/**
 * @typedef {object} Props
 * @property {import("./types.js").App} app
 * @property {string} speaker  its name in results
 * @property {{names: Record<string, string>, same_as: Record<string, string>}} channel
 * @property {(name: string) => Promise<unknown>} keep  "": as in results
 * @property {() => void} onNamed
 */

/** @extends {Component<Props, {editing: boolean}>} */
export class SpeakerName extends Component {
  state = { editing: false };
  field = createRef();
  opener = createRef();

  componentDidUpdate(_, before) {
    if (this.state.editing && !before.editing) this.field.current.select();
    if (!this.state.editing && before.editing) this.opener.current?.focus();
  }

  get own() {
    const { channel, speaker } = this.props;
    return Object.hasOwn(channel.names, speaker) ? channel.names[speaker] : "";
  }

  /** @param {SubmitEvent} event */
  async keep(event) {
    event.preventDefault();
    const { app, channel, speaker, keep, onNamed } = this.props;
    const name = this.field.current.value.trim();
    try {
      await keep(name);
    } catch (error) {
      return toast(describeError(app, error), "error");
    }
    if (name) channel.names[speaker] = name;
    else delete channel.names[speaker];
    this.setState({ editing: false });
    onNamed();
  }

  render({ app, speaker, channel }) {
    const { t } = app;
    // One's own number stays beside the name: exports for programs have it.
    const numbered = speakerName(app, speaker);
    if (this.state.editing) {
      return h(
        "form",
        { class: "speaker-name", onSubmit: (event) => void this.keep(event), onKeyDown: (event) => event.key === "Escape" && this.setState({ editing: false }) },
        h("input", { class: "field", ref: this.field, defaultValue: this.own, maxLength: MOST_LETTERS, placeholder: numbered, "aria-label": t("speaker.name_of", { name: numbered }), autocomplete: "off" }),
        h("button", { class: "button primary", type: "submit" }, t("speaker.keep")),
        h("button", { class: "button quiet", type: "button", onClick: () => this.setState({ editing: false }) }, t("action.cancel")),
      );
    }
    return h(
      "span",
      { class: "speaker-name" },
      h("span", {}, this.own || numbered),
      this.own && h("span", { class: "muted" }, numbered),
      mayName(app) && h("button", { class: "button quiet icon-only", type: "button", ref: this.opener, title: t("speaker.name"), "aria-label": t("speaker.name_of", { name: numbered }), onClick: () => this.setState({ editing: true }) }, icon("pencil")),
    );
  }
}
