/** Recordings: given by drag and drop or by choice, analysed by the server, shown and saved. */
import { fill, h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { isBusy, makeJobsView, stateText } from "./jobs_view.js";
import { jobs } from "./jobs.js";
import { makeOptionsView, optionsText } from "./options.js";
import { readResult } from "./result.js";
import { makeResultView } from "./result_view.js";
import { describeError, emptyState, errorState, loadingState } from "../../shell/states.js";

const ACCEPT = "audio/*,.wav,.flac,.ogg,.opus,.mp3,.m4a,.webm,.amr";

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  const { t } = app;
  const list = makeJobsView(app, jobs);
  const picker = h("input", { type: "file", multiple: true, accept: ACCEPT, class: "visually-hidden", id: "files", "data-testid": "files" });
  const drop = h(
    "section",
    { class: "card analyse-drop" },
    icon("file"),
    h("p", {}, h("strong", {}, t("analyse.drop")), " ", h("span", { class: "muted" }, t("analyse.formats"))),
    h(
      "div",
      { class: "analyse-actions" },
      picker,
      h("button", { class: "button primary", type: "button", onclick: () => picker.click() }, icon("file"), t("analyse.choose")),
      h("button", { class: "button", type: "button", "data-testid": "sample", onclick: () => jobs.addSample(t("analyse.sample.name")) }, icon("play"), t("analyse.sample")),
    ),
  );
  const again = h("button", { class: "button", type: "button", hidden: true, onclick: () => jobs.again(selected()) });
  const place = h("div", { class: "analyse-place" });
  root.append(
    h("div", { class: "page-head" }, h("h1", {}, t("analyse.title")), h("span", { class: "grow" }), again, makeOptionsView(app, jobs.options, app.info.presets ?? {}, showAgain)),
    drop,
    h("div", { class: "analyse-columns" }, list.element, place),
  );

  /** @type {ReturnType<typeof makeResultView> | null} */
  let shown = null;
  let shownKey = "";
  const asked = params.query.get("job");
  if (asked) jobs.selected = asked;
  jobs.maxBytes = app.info.max_file_mb * 2 ** 20;

  function selected() {
    return jobs.all.find((job) => job.key === jobs.selected) ?? null;
  }

  /** Other options do not change what is shown until it is asked for. */
  function showAgain() {
    const job = selected();
    const isSame = job !== null && optionsText(app, job.options) === optionsText(app, jobs.options) && job.options.embeddings === jobs.options.embeddings;
    again.hidden = !job || job.file === undefined || isBusy(job) || (job.state === "done" && isSame);
    fill(again, t("analyse.again", { granularity: optionsText(app, jobs.options) }));
  }

  async function showResult() {
    const job = selected();
    const key = job === null ? "" : job.state === "done" ? job.key : `${job.key} ${job.state} ${stateText(app, job)}`;
    if (key === shownKey) return;
    shown?.close();
    shown = null;
    shownKey = key;
    if (job === null) return fill(place);
    if (job.state !== "done") return fill(place, jobState(job));
    fill(place, loadingState([48, 240, 160], t("analyse.loading")));
    try {
      const result = readResult(await jobs.result(job));
      if (shownKey !== key) return;
      shown = makeResultView(app, job, result);
      fill(place, shown.element);
      void shown.draw();
    } catch (error) {
      if (shownKey === key) fill(place, errorState(app, error, () => ((shownKey = ""), void showResult())));
    }
  }

  /** One that has no result, or none yet. */
  function jobState(job) {
    if (job.state === "failed") return emptyState("warning", job.name, describeError(app, job.error));
    const state = emptyState("file", job.name, stateText(app, job));
    if (isBusy(job)) state.append(h("progress", { max: 1, value: job.state === "waiting" ? 0 : job.progress, "aria-label": stateText(app, job) }));
    return state;
  }

  function show() {
    // The first of what there is, so that a page that is opened again has something to show.
    if (!selected() && jobs.isLoaded && jobs.all.length > 0) jobs.selected = jobs.all[0].key;
    list.show();
    drop.classList.toggle("small", jobs.all.length > 0);
    showAgain();
    void showResult();
    remember();
  }

  /** A reload, or a link that is passed on, shows the same recording. */
  function remember() {
    const id = selected()?.id;
    const path = id ? `/analyse?job=${id}` : "/analyse";
    if (location.pathname + location.search !== path) history.replaceState(history.state, "", path);
  }

  const take = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer?.files.length) jobs.add(event.dataTransfer.files);
  };
  const over = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  const leave = (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  };
  picker.addEventListener("change", () => {
    jobs.add(picker.files ?? []);
    picker.value = "";
  });
  // Anywhere on the page: whoever misses the field by a little must not leave the page with the file.
  window.addEventListener("dragover", over);
  window.addEventListener("dragleave", leave);
  window.addEventListener("drop", take);
  jobs.addEventListener("change", show);
  const undoTheme = app.on("theme", () => void shown?.draw());
  jobs.start();
  show();

  return () => {
    jobs.stop();
    window.removeEventListener("dragover", over);
    window.removeEventListener("dragleave", leave);
    window.removeEventListener("drop", take);
    jobs.removeEventListener("change", show);
    undoTheme();
    shown?.close();
  };
}
