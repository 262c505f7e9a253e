/** Recordings: given by drag and drop or by choice, analysed by the server, shown and saved. */
import { fill, h, icon } from "../dom.js";
import { isBusy, makeJobsView } from "../analyse/jobs_view.js";
import { jobs } from "../analyse/jobs.js";
import { readResult } from "../analyse/result.js";
import { makeResultView } from "../analyse/result_view.js";

const GRANULARITIES = ["stream", "frame", "utterance"];
const ACCEPT = "audio/*,.wav,.flac,.ogg,.opus,.mp3,.m4a,.webm";

/**
 * @param {HTMLElement} root @param {import("../types.js").Params} params @param {import("../types.js").App} app
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
  const place = h("div", { class: "analyse-place", "aria-live": "polite" });
  root.append(
    h("div", { class: "page-head" }, h("h1", {}, t("analyse.title")), h("span", { class: "grow" }), again, granularitySwitch()),
    drop,
    list.element,
    place,
  );

  /** @type {ReturnType<typeof makeResultView> | null} */
  let shown = null;
  let shownKey = "";

  function selected() {
    return jobs.all.find((job) => job.key === jobs.selected) ?? null;
  }

  function granularitySwitch() {
    const buttons = GRANULARITIES.map((name) =>
      h("button", { type: "button", title: t(`analyse.granularity.${name}.help`), dataset: { testid: `granularity-${name}` }, onclick: () => choose(name) }, t(`analyse.granularity.${name}`)),
    );
    const choose = (name) => {
      jobs.granularity = name;
      buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(GRANULARITIES[at] === name)));
      showAgain();
    };
    const group = h("div", { class: "switch", role: "group", "aria-label": t("analyse.granularity") }, buttons);
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(GRANULARITIES[at] === jobs.granularity)));
    return group;
  }

  /** Another granularity does not change what is shown until it is asked for. */
  function showAgain() {
    const job = selected();
    again.hidden = !job || isBusy(job) || (job.state === "done" && job.granularity === jobs.granularity);
    fill(again, t("analyse.again", { granularity: t(`analyse.granularity.${jobs.granularity}`) }));
  }

  function showResult() {
    const job = selected();
    const key = job?.state === "done" ? `${job.key}` : "";
    if (key === shownKey) return;
    shown?.close();
    shown = null;
    shownKey = key;
    if (job?.state !== "done") return fill(place);
    const view = makeResultView(app, job, readResult(job.result));
    shown = view;
    fill(place, view.element);
    void view.draw();
  }

  function show() {
    list.show();
    drop.classList.toggle("small", jobs.all.length > 0);
    showAgain();
    showResult();
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
  show();

  return () => {
    window.removeEventListener("dragover", over);
    window.removeEventListener("dragleave", leave);
    window.removeEventListener("drop", take);
    jobs.removeEventListener("change", show);
    undoTheme();
    shown?.close();
  };
}
