/** The list of recordings: what each is doing, and its emotion when it is done. */
import { fill, h, icon } from "../dom.js";
import { emotion } from "../palette.js";
import { describeError } from "../states.js";
import { readResult } from "./result.js";

/**
 * @param {import("../types.js").App} app @param {import("./jobs.js").Jobs} jobs
 */
export function makeJobsView(app, jobs) {
  const list = h("ul", { class: "jobs", "aria-label": app.t("analyse.files") });

  function row(job) {
    const isSelected = job.key === jobs.selected;
    const select = h(
      "button",
      { class: "job-select", type: "button", "aria-pressed": String(isSelected), onclick: () => jobs.select(job) },
      h("span", { class: "job-name" }, job.name),
      h("span", { class: "job-detail" }, detail(job)),
      isBusy(job) && progress(job),
    );
    const remove = h(
      "button",
      { class: "button quiet icon-only", type: "button", "aria-label": app.t("analyse.remove", { name: job.name }), onclick: () => jobs.remove(job) },
      icon("close"),
    );
    return h("li", { class: `job card${isSelected ? " selected" : ""}`, dataset: { state: job.state, testid: "job" } }, select, remove);
  }

  function detail(job) {
    if (job.state === "failed") return h("span", { class: "job-error" }, describeError(app, job.error));
    if (job.state !== "done") return app.t(`analyse.state.${job.state}`);
    const { channels, durationS } = readResult(job.result);
    return [
      h("span", { class: "muted number" }, app.format.clock(durationS)),
      ...channels.map((channel) => channel.overall && emotion(app, channel.overall.label, app.format.percent(channel.overall.confidence))),
    ];
  }

  function progress(job) {
    const share = job.state === "running" || job.state === "uploading" ? job.progress : 0;
    return h("progress", { max: 1, value: share, "aria-label": app.t(`analyse.state.${job.state}`) });
  }

  return {
    element: list,
    show() {
      fill(list, jobs.all.map(row));
    },
  };
}

/** @param {import("./jobs.js").Job} job */
export function isBusy(job) {
  return job.state !== "done" && job.state !== "failed";
}
