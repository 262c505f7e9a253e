/** The list of recordings: what each is doing, and its emotion when it is done. */
import { fill, h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { emotion } from "../../shell/palette.js";
import { ask, describeError, toast } from "../../shell/states.js";
import { optionsText } from "./options.js";

/**
 * @param {import("../../shell/types.js").App} app @param {import("./jobs.js").Jobs} jobs
 */
export function makeJobsView(app, jobs) {
  const { t } = app;
  const list = h("ul", { class: "jobs", "aria-label": t("analyse.files") });
  const more = h("button", { class: "button quiet", type: "button", hidden: true, "data-testid": "more-jobs", onclick: () => jobs.showMore() }, t("analyse.more_jobs"));
  const problem = h("p", { class: "job-error", role: "status", hidden: true });
  const element = h("section", { class: "analyse-jobs", hidden: true }, h("h2", {}, t("analyse.files")), problem, list, more);
  /** @type {Map<string, {text: string, row: HTMLElement}>} */
  const rows = new Map();

  function row(job) {
    const isSelected = job.key === jobs.selected;
    const select = h(
      "button",
      { class: "job-select", type: "button", "aria-pressed": String(isSelected), onclick: () => jobs.select(job.key) },
      h("span", { class: "job-name", title: job.name }, job.name),
      h("span", { class: "job-detail" }, detail(job)),
      isBusy(job) && progress(job),
    );
    const end = isBusy(job)
      ? h("button", { class: "button quiet icon-only", type: "button", "aria-label": t("analyse.cancel", { name: job.name }), title: t("analyse.cancel.short"), onclick: () => void trying(() => jobs.cancel(job)) }, icon("close"))
      : h("button", { class: "button quiet icon-only", type: "button", "aria-label": t("analyse.remove", { name: job.name }), title: t("analyse.remove.short"), onclick: () => void remove(job) }, icon("trash"));
    return h("li", { class: `job card${isSelected ? " selected" : ""}`, dataset: { state: job.state, testid: "job", name: job.name, id: job.id ?? "" } }, select, end);
  }

  function detail(job) {
    if (job.state === "failed") return h("span", { class: "job-error" }, describeError(app, job.error));
    if (job.state !== "done") return [h("span", {}, stateText(app, job)), h("span", { class: "muted" }, optionsText(app, job.options))];
    const channels = job.summary?.channels ?? [];
    const known = channels.filter((channel) => channel !== null);
    return [
      h("span", { class: "muted number" }, durationText(app, job.durationS ?? 0)),
      ...known.slice(0, 3).map((channel) => emotion(app, channel.emotion, app.format.percent(channel.confidence))),
      known.length > 3 && h("span", { class: "muted" }, t("analyse.more_channels", { n: known.length - 3 })),
      job.summary?.warnings?.length > 0 && h("span", { class: "job-warning", title: job.summary.warnings.map((code) => warningTitle(app, code)).join(", ") }, icon("warning")),
      h("span", { class: "muted" }, `${optionsText(app, job.options)} · ${app.format.dateTime(job.createdAt)}`),
    ];
  }

  function progress(job) {
    const share = job.state === "running" || job.state === "uploading" ? job.progress : 0;
    return h("progress", { max: 1, value: share, "aria-label": t(`analyse.state.${job.state}`) });
  }

  async function remove(job) {
    if (job.state === "done") {
      const answer = await ask(app, { title: t("analyse.remove", { name: job.name }), text: t("analyse.remove.text"), action: t("analyse.remove.short"), danger: true });
      if (answer === null) return;
    }
    await trying(() => jobs.remove(job));
  }

  async function trying(change) {
    try {
      await change();
    } catch (error) {
      toast(describeError(app, error), "error");
    }
  }

  return {
    element,
    show() {
      const all = jobs.all;
      const kept = new Set(all.map((job) => job.key));
      for (const key of rows.keys()) if (!kept.has(key)) rows.delete(key);
      // What has not changed stays: the focus in it, and a click that is under way.
      const wanted = all.map((job) => {
        const text = JSON.stringify([job, job.key === jobs.selected]);
        const known = rows.get(job.key);
        if (known?.text === text) return known.row;
        const made = { text, row: row(job) };
        const hadFocus = known?.row.contains(document.activeElement);
        known?.row.replaceWith(made.row);
        if (hadFocus) /** @type {HTMLElement} */ (made.row.querySelector(".job-select"))?.focus();
        rows.set(job.key, made);
        return made.row;
      });
      if (wanted.length !== list.children.length || wanted.some((each, at) => list.children[at] !== each)) fill(list, wanted);
      element.hidden = all.length === 0 && !jobs.problem;
      more.hidden = !jobs.hasMore;
      problem.hidden = !jobs.problem;
      fill(problem, jobs.problem ? describeError(app, jobs.problem) : "");
    },
  };
}

/** What it is doing, with how much of it is done. @param {import("../../shell/types.js").App} app @param {import("./jobs.js").Job} job */
export function stateText(app, job) {
  if (job.state === "waiting" && job.before > 0) return app.plural("analyse.before", job.before);
  const text = app.t(`analyse.state.${job.state}`);
  return job.state === "running" || job.state === "uploading" ? `${text} ${app.format.percent(job.progress)}` : text;
}

/** Short ones with tenths. @param {import("../../shell/types.js").App} app @param {number} seconds */
function durationText(app, seconds) {
  return seconds < 10 ? app.format.seconds(seconds) : app.format.clock(seconds);
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
