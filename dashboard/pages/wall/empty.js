/** An empty wall says how to start. */
import { icon } from "../../shell/icons.js";
import { Component, h } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { Command, describeError, toast } from "../../shell/states.js";

const DEFAULT_INGEST = /^wss?:\/\/(localhost|127\.0\.0\.1):8765\/?$/;

export function EmptyWall({ app }) {
  const { t } = app;
  const url = app.info.ingest_url;
  return h(
    "section",
    { class: "state card wall-empty" },
    icon("wall"),
    h("h2", {}, t("wall.empty")),
    h("p", {}, t("wall.empty_text")),
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button primary", href: addressOf("/microphone") }, icon("microphone"), t("wall.use_microphone")),
      h(SampleButton, { app }),
    ),
    h("p", { class: "muted" }, t("wall.or_command")),
    h(Command, { app, text: `emotion-monitor stream --mic${DEFAULT_INGEST.test(url) ? "" : ` --url ${url}`}` }),
  );
}

/** Plays the sample call and goes to its stream. */
export class SampleButton extends Component {
  async play() {
    const { app } = this.props;
    this.setState({ starting: true });
    try {
      const { stream_id } = await app.api.sampleCall();
      app.navigate(addressOf(`/streams/${encodeURIComponent(stream_id)}`));
    } catch (error) {
      toast(describeError(app, error), "error");
    }
    this.setState({ starting: false });
  }

  render({ app, kind = "" }, { starting }) {
    return h("button", { class: `button ${kind}`, type: "button", disabled: starting, onclick: () => void this.play() }, icon("phone"), app.t("wall.play_sample"));
  }
}
