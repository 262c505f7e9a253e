/** The list of recordings: what each is doing, and its emotion when it is done. */
import { icon } from "../../shell/icons.js";
import { emotion } from "../../shell/palette.js";
import { h } from "../../shell/preact.js";
import { ask, describeError, toast } from "../../shell/states.js";
import { optionsText } from "./options.js";

const SHOWN_CHANNELS = 3;

/** @param {{app: import("../../shell/types.js").App, jobs: import("./jobs.js").Jobs}} props */
export function JobList({ app, jobs }) {
  const { t } = app;
  return h(
    "section",
    { class: "analyse-jobs", hidden: jobs.all.length === 0 && !jobs.problem },
    h("h2", {}, t("analyse.files")),
    jobs.problem && h("p", { class: "job-error", role: "status" }, describeError(app, jobs.problem)),
    h("ul", { class: "jobs", "aria-label": t("analyse.files") }, jobs.all.map((job) => h(JobRow, { key: job.key, app, jobs, job }))),
    jobs.hasMore && h("button", { class: "button quiet", type: "button", "data-testid": "more-jobs", onclick: () => jobs.showMore() }, t("analyse.more_jobs")),
  );
}

function JobRow({ app, jobs, job }) {
  const { t } = app;
  const isSelected = job.key === jobs.selected;
  const { name } = job;
  const [label, title, iconName, end] = isBusy(job)
    ? [t("analyse.cancel", { name }), t("analyse.cancel.short"), "close", () => jobs.cancel(job)]
    : [t("analyse.remove", { name }), t("analyse.remove.short"), "trash", () => remove(app, jobs, job)];
  return h(
    "li",
    { class: `job card ${isSelected ? "selected" : ""}`, "data-state": job.state, "data-testid": "job", "data-name": job.name, "data-id": job.id ?? "" },
    h(
      "button",
      { class: "job-select", type: "button", "aria-pressed": isSelected, onclick: () => jobs.select(job.key) },
      h("span", { class: "job-name", title: job.name }, job.name),
      h("span", { class: "job-detail" }, detail(app, job)),
      isBusy(job) && h("progress", { max: 1, value: job.state === "running" || job.state === "uploading" ? job.progress : 0, "aria-label": t(`analyse.state.${job.state}`) }),
    ),
    h("button", { class: "button quiet icon-only", type: "button", "aria-label": label, title, onclick: () => void trying(app, end) }, icon(iconName)),
  );
}

function detail(app, job) {
  const { t, format } = app;
  if (job.state === "failed") return h("span", { class: "job-error" }, describeError(app, job.error));
  if (job.state !== "done") return [h("span", {}, stateText(app, job)), h("span", { class: "muted" }, optionsText(app, job.options))];
  const known = (job.summary?.channels ?? []).filter((channel) => channel !== null);
  const warnings = job.summary?.warnings ?? [];
  const length_s = job.durationS ?? 0;
  return [
    h("span", { class: "muted number" }, format.moment(length_s)),
    ...known.slice(0, SHOWN_CHANNELS).map((channel) => found(app, channel)),
    known.length > SHOWN_CHANNELS && h("span", { class: "muted" }, t("analyse.more_channels", { n: known.length - SHOWN_CHANNELS })),
    warnings.length > 0 && h("span", { class: "job-warning", title: warnings.map((code) => warningTitle(app, code)).join(", ") }, icon("warning")),
    h("span", { class: "muted" }, `${optionsText(app, job.options)} · ${format.dateTime(job.createdAt)}`),
  ];
}

/** What was found in a channel: the largest share of its speech, or the one result of all of it. */
function found(app, { label, confidence, share }) {
  const { percent } = app.format;
  const [largest] = Object.entries(share ?? {}).sort((a, b) => b[1] - a[1]);
  if (largest) return emotion(app, largest[0], percent(largest[1]));
  return emotion(app, label, label && percent(confidence));
}

async function remove(app, jobs, job) {
  const { t } = app;
  const question = { title: t("analyse.remove", { name: job.name }), text: t("analyse.remove.text"), action: t("analyse.remove.short"), danger: true };
  // Only a result is worth a question.
  if (job.state === "done" && (await ask(app, question)) === null) return;
  await jobs.remove(job);
}

async function trying(app, change) {
  try {
    await change();
  } catch (error) {
    toast(describeError(app, error), "error");
  }
}

/** What it is doing, with how much of it is done. @param {import("../../shell/types.js").App} app @param {import("./jobs.js").Job} job */
export function stateText(app, job) {
  if (job.state === "waiting" && job.before > 0) return app.plural("analyse.before", job.before);
  const text = app.t(`analyse.state.${job.state}`);
  return job.state === "running" || job.state === "uploading" ? `${text} ${app.format.percent(job.progress)}` : text;
}

/** @param {import("./jobs.js").Job} job */
export function isBusy(job) {
  return ["queued", "uploading", "waiting", "running"].includes(job.state);
}

/** @param {import("../../shell/types.js").App} app @param {string} code */
export function warningTitle(app, code) {
  const key = `warning.${code}`;
  const title = app.t(key);
  return title === key ? code : title;
}
