/** Recordings: given by drag and drop or by choice, analysed by the server, shown and saved. */
import { icon } from "../../shell/icons.js";
import { Component, createRef, h, render } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { describeError, emptyState, errorState, loadingState, toast } from "../../shell/states.js";
import { jobs } from "./jobs.js";
import { isBusy, JobList, stateText } from "./jobs_view.js";
import { Options, optionsText } from "./options.js";
import { readResult } from "./result.js";
import { ResultView } from "./result_view.js";
import { droppedFiles } from "./upload.js";

const ACCEPT = "audio/*,.wav,.flac,.ogg,.opus,.mp3,.m4a,.webm,.amr";

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  const { t } = app;
  const picker = createRef();
  let isOver = false;
  const wanted = params.query.get("job");
  if (wanted) jobs.selected = wanted;
  jobs.maxBytes = app.info.max_file_mb * 2 ** 20;

  function draw() {
    // The first there is, so that a page that is opened again has something to show.
    if (!selected() && jobs.isLoaded && jobs.all.length > 0) jobs.selected = jobs.all[0].key;
    const job = selected();
    // On a small screen what is shown comes before what one may ask for.
    root.classList.toggle("analyse-shows", job !== null);
    render([
      h(
        "div",
        { class: "page-head analyse-head" },
        h("h1", {}, t("analyse.title")),
        h("span", { class: "grow" }),
        h("button", { class: "button", type: "button", hidden: !canRepeat(app, job), onclick: () => jobs.again(job) }, t("analyse.again", { granularity: optionsText(app, jobs.options) })),
        h(Options, { app, options: jobs.options, presets: app.info.presets ?? {}, onChange: draw }),
      ),
      h(
        "section",
        { class: `card analyse-drop ${isOver ? "over" : ""} ${jobs.all.length > 0 ? "small" : ""}` },
        icon("file"),
        h("p", {}, h("strong", {}, t("analyse.drop")), " ", h("span", { class: "muted" }, t("analyse.formats"))),
        h(
          "div",
          { class: "analyse-actions" },
          h("input", { ref: picker, type: "file", multiple: true, accept: ACCEPT, class: "visually-hidden", id: "files", "data-testid": "files", "aria-label": t("analyse.choose"), onchange: choose }),
          h("button", { class: "button primary", type: "button", onclick: () => picker.current.click() }, icon("file"), t("analyse.choose")),
          h("button", { class: "button", type: "button", "data-testid": "sample", onclick: () => jobs.addSample(t("analyse.sample.name")) }, icon("play"), t("analyse.sample")),
        ),
      ),
      h("div", { class: "analyse-columns" }, h(JobList, { app, jobs }), h("div", { class: "analyse-place" }, job && content(app, job))),
    ], root);
    remember();
  }

  function selected() {
    return jobs.all.find((job) => job.key === jobs.selected) ?? null;
  }

  /** A reload, or a link that is passed on, shows the same recording. */
  function remember() {
    const id = selected()?.id;
    const path = addressOf(id ? `/analyse?job=${id}` : "/analyse");
    if (location.pathname + location.search !== path) history.replaceState(history.state, "", path);
  }

  function choose({ target }) {
    jobs.add(target.files ?? []);
    target.value = "";
  }

  function over(event, value) {
    event?.preventDefault();
    if (isOver === value) return;
    isOver = value;
    draw();
  }
  async function take(transfer) {
    try {
      const files = await droppedFiles(transfer);
      if (files.length === 0) toast(t("analyse.no_recordings"), "error");
      jobs.add(files);
    } catch (error) {
      toast(describeError(app, error), "error");
    }
  }
  const onDragOver = (event) => over(event, true);
  const onDragLeave = (event) => event.relatedTarget === null && over(null, false);
  const onDrop = (event) => {
    over(event, false);
    if (event.dataTransfer?.items.length) void take(event.dataTransfer);
  };
  // Anywhere on the page: a browser opens a file that is dropped beside the field.
  window.addEventListener("dragover", onDragOver);
  window.addEventListener("dragleave", onDragLeave);
  window.addEventListener("drop", onDrop);
  jobs.addEventListener("change", draw);
  jobs.start();
  draw();

  return () => {
    jobs.stop();
    window.removeEventListener("dragover", onDragOver);
    window.removeEventListener("dragleave", onDragLeave);
    window.removeEventListener("drop", onDrop);
    jobs.removeEventListener("change", draw);
    render(null, root);
  };
}

/** Other options do not change what is shown until they are applied with a button. */
function canRepeat(app, job) {
  if (job === null || job.file === undefined || isBusy(job)) return false;
  const isSame = optionsText(app, job.options) === optionsText(app, jobs.options) && job.options.embeddings === jobs.options.embeddings;
  return job.state !== "done" || !isSame;
}

function content(app, job) {
  if (job.state === "done") return h(DoneJob, { key: job.key, app, job });
  if (job.state === "failed") return emptyState("warning", job.name, describeError(app, job.error));
  const text = stateText(app, job);
  const progress = isBusy(job) && h("progress", { max: 1, value: job.state === "waiting" ? 0 : job.progress, "aria-label": text });
  return emptyState("file", job.name, text, progress);
}

/** Loads the result of a job. */
class DoneJob extends Component {
  componentDidMount() {
    void this.load();
  }

  async load() {
    this.setState({ error: null });
    try {
      const { app, job } = this.props;
      const { result, audio, speakers } = await jobs.result(job);
      const frames = (channel, from_s, to_s) => app.api.jobFrames(/** @type {string} */ (job.id), { channel, from_s, to_s });
      this.setState({ result: { ...readResult(app, result, frames, speakers), hasAudio: audio } });
    } catch (error) {
      this.setState({ error });
    }
  }

  render({ app, job }, { result, error }) {
    if (result) return h(ResultView, { app, job, result });
    if (error) return errorState(app, error, () => void this.load());
    return loadingState([48, 240, 160], app.t("analyse.loading"));
  }
}
