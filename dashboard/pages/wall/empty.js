/** An empty wall says how to start. */
import { h, icon } from "../../shell/dom.js";
import { command, describeError, toast } from "../../shell/states.js";

const DEFAULT_INGEST = /^wss?:\/\/(localhost|127\.0\.0\.1):8765\/?$/;

/** @param {import("../../shell/types.js").App} app */
export function emptyWall(app) {
  const url = app.info.ingest_url;
  const text = `emotion-monitor stream --mic${DEFAULT_INGEST.test(url) ? "" : ` --url ${url}`}`;
  return h(
    "section",
    { class: "state card wall-empty" },
    icon("wall"),
    h("h2", {}, app.t("wall.empty")),
    h("p", {}, app.t("wall.empty_text")),
    h(
      "div",
      { class: "actions" },
      h("a", { class: "button primary", href: "/microphone" }, icon("microphone"), app.t("wall.use_microphone")),
      sampleButton(app),
    ),
    h("p", { class: "muted" }, app.t("wall.or_command")),
    command(app, text),
  );
}

/** @param {import("../../shell/types.js").App} app @param {string} [kind] of button */
export function sampleButton(app, kind = "") {
  const button = h("button", { class: `button ${kind}`, type: "button" }, icon("phone"), app.t("wall.play_sample"));
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const { stream_id } = await app.api.sampleCall();
      if (stream_id) app.navigate(`/streams/${encodeURIComponent(stream_id)}`);
      else toast(app.t("wall.sample_started"));
    } catch (error) {
      toast(describeError(app, error), "error");
    } finally {
      button.disabled = false;
    }
  });
  return button;
}
