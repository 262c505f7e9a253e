/** The result of one recording: timeline, scores, segments, warnings, downloads. */
import { Labels } from "../../shell/chart/labels.js";
import { SegmentTable } from "../../shell/chart/segment_table.js";
import { TimelineView } from "../../shell/chart/view.js";
import { icon } from "../../shell/icons.js";
import { MeasuresView } from "../../shell/measures.js";
import { channelName } from "../../shell/names.js";
import { noticeOf } from "../../shell/model.js";
import { colourOf, emotion, hatchOf } from "../../shell/palette.js";
import { loadPlotly } from "../../shell/plotly.js";
import { Component, createRef, h } from "../../shell/preact.js";
import { SpeakerName } from "../../shell/speaker_name.js";
import { describeWarning, toast } from "../../shell/states.js";
import { WholeView } from "../../shell/whole.js";
import { warningTitle } from "./jobs_view.js";
import { optionsText } from "./options.js";
import { barFigure } from "./picture.js";
import { channelTitle } from "./result.js";

const PNG = { format: "png", width: 1200, height: 520, scale: 2 };

/** A channel as the chart calls it. @param {import("../../shell/types.js").App} app @param {import("./result.js").ResultView} result @param {number} index */
function nameOf(app, result, index) {
  const known = result.timeline?.channels.get(index);
  return known ? channelName(app, known.spec) : channelTitle(app, index);
}

/** @extends {Component<{app: import("../../shell/types.js").App, job: import("./jobs.js").Job, result: import("./result.js").ResultView}>} */
export class ResultView extends Component {
  place = createRef();
  foot = createRef();
  // The tab that sent the file still has it; others hear what the server kept, if it keeps audio.
  blobUrl = this.props.job.file ? URL.createObjectURL(this.props.job.file) : "";
  audioUrl = this.blobUrl || (this.props.result.hasAudio ? this.props.app.api.jobFileUrl(/** @type {string} */ (this.props.job.id), "audio.flac") : "");
  /** @type {TimelineView | null} */
  view = null;
  /** @type {SegmentTable | null} */
  table = null;
  /** @type {((at_s: number) => void) | null} */
  jump = null;

  componentDidMount() {
    const { app, job, result } = this.props;
    const { timeline } = result;
    if (timeline === null) return;
    const audio = this.audioUrl ? [{ name: job.name, url: this.audioUrl, file: job.file, channels: [...timeline.channels.keys()] }] : [];
    const jump = (this.jump = (/** @type {number} */ at_s) => {
      view.jump(at_s);
      view.player?.play(at_s);
    });
    const { api } = app;
    const id = /** @type {string} */ (job.id);
    const labels = new Labels(app, { read: () => api.jobLabels(id), write: (channel, spans) => api.putJobLabels(id, channel, spans) }, timeline, jump);
    const view = (this.view = new TimelineView(app, timeline, { audio, duration_s: result.durationS, tools: [labels.tools], onSelect: (selection) => (labels.selection = selection) }));
    this.place.current.replaceChildren(view.element);
    const table = (this.table = new SegmentTable(app, timeline, jump));
    this.foot.current.replaceChildren(labels.element, table.element);
  }

  // The list of jobs is polled; the result of one does not change.
  shouldComponentUpdate({ result }) {
    return result !== this.props.result;
  }

  componentWillUnmount() {
    this.view?.destroy();
    URL.revokeObjectURL(this.blobUrl);
  }

  async savePng() {
    const { app, job, result } = this.props;
    const save = (url, suffix) => Object.assign(document.createElement("a"), { href: url, download: fileName(job.name, suffix) }).click();
    try {
      if (this.view) return save(await this.view.chart.image(job.name), ".png");
      const plotly = await loadPlotly();
      for (const channel of result.channels.filter(({ overall }) => overall)) {
        const isOne = result.channels.length === 1;
        const figure = barFigure(app, channel, isOne ? job.name : `${job.name} · ${channelTitle(app, channel.index)}`);
        save(await plotly.toImage({ data: figure.data, layout: { ...figure.layout, width: PNG.width, height: PNG.height } }, PNG), isOne ? ".png" : `.${channel.index}.png`);
      }
    } catch (error) {
      toast(app.t("analyse.png_failed", { reason: error.message }), "error");
    }
  }

  render({ app, job, result }) {
    const { t, format } = app;
    const notice = noticeOf(app, result.model);
    const asked = { ...job.options, granularity: result.granularity, frame_hop_ms: result.frameHopMs, speakers: false, preset: "" };
    return h(
      "article",
      { class: "analyse-result", "data-testid": "result", "aria-label": job.name },
      h(
        "div",
        { class: "page-head" },
        h("h2", {}, job.name),
        h("span", { class: "badge" }, optionsText(app, asked)),
        job.options.preset && h("span", { class: "badge" }, optionsText(app, job.options)),
        h("span", { class: "muted number" }, [format.moment(result.durationS), format.rate(result.rateHz), result.model.name].join(" · ")),
        h("span", { class: "grow" }),
        h(Downloads, { app, job, result, onPng: () => void this.savePng() }),
      ),
      notice && h("div", { class: "notice" }, icon("info"), h("p", {}, notice)),
      // With a timeline its player is the one.
      this.audioUrl && !result.timeline && h("audio", { controls: true, preload: "metadata", src: this.audioUrl, "aria-label": t("analyse.listen") }),
      result.timeline && h("div", { ref: this.place, class: "analyse-timeline" }),
      result.channels.map((channel) => this.channel(channel)),
      result.measures && h(MeasuresView, { app, measures: result.measures, nameOf: (/** @type {number} */ index) => nameOf(app, result, index), shared: new Set(result.channels.filter(({ speakers }) => speakers.length > 1).map(({ index }) => index)) }),
      result.timeline && h("div", { ref: this.foot }),
    );
  }

  channel(channel) {
    const { app, result } = this.props;
    const { t } = app;
    return h(
      "section",
      { class: "card analyse-channel", "data-testid": "channel" },
      result.channels.length > 1 && h("h3", {}, channelTitle(app, channel.index)),
      channel.overall && h("div", { class: "analyse-overall" }, channel.whole ? h(WholeView, { app, whole: channel.whole, withPauses: result.granularity === "utterance" }) : word(app, channel), bars(app, channel)),
      channel.warnings.map((each) => warning(app, each)),
      channel.speakers.length > 0 && this.speakers(channel),
    );
  }

  speakers(channel) {
    const { app, job } = this.props;
    const { format } = app;
    const onNamed = () => {
      this.view?.chart.request();
      this.table?.draw();
      this.forceUpdate();
    };
    const turn = ({ start_s, end_s }) => {
      const text = `${format.moment(start_s)} – ${format.moment(end_s)}`;
      return h("li", {}, this.props.result.timeline ? h("button", { class: "link number", type: "button", onClick: () => this.jump?.(start_s) }, text) : h("span", { class: "number" }, text));
    };
    const row = (each) =>
      h(
        "li",
        { key: each.name },
        h("div", { class: "analyse-speaker" }, h(SpeakerName, { app, speaker: each.name, channel, keep: (name) => app.api.nameJobSpeaker(/** @type {string} */ (job.id), channel.index, each.name, name), onNamed }), emotion(app, each.label, each.label && format.percent(each.confidence))),
        h("details", {}, h("summary", { class: "muted number" }, app.plural("analyse.turns", each.turns.length, { time: format.clock(each.speech_s) })), h("ol", { class: "label-spans" }, each.turns.map(turn))),
      );
    return h("div", { class: "analyse-speakers" }, h("h3", {}, app.t("analyse.speakers")), h("ul", { "data-testid": "speakers" }, channel.speakers.map(row)));
  }
}

/** Each file of the result as a link, and a picture. */
function Downloads({ app, job, result, onPng }) {
  const { t } = app;
  const link = (file, text, query = {}) =>
    h("a", { class: "button", href: app.api.jobFileUrl(/** @type {string} */ (job.id), file, query), download: fileName(job.name, file) }, icon("download"), text);
  const annotations = (text, format, suffix) =>
    h("a", { class: "button", href: app.api.jobFileUrl(/** @type {string} */ (job.id), "annotations", { format }), download: fileName(job.name, `result.${suffix}`) }, icon("download"), text);
  const more = h(
    "details",
    { class: "analyse-more", onFocusOut: ({ currentTarget, relatedTarget }) => currentTarget.contains(relatedTarget) || (currentTarget.open = false) },
    h("summary", { class: "button" }, t("analyse.downloads.more")),
    h(
      "div",
      { class: "menu-list card" },
      link("result.zip", t("analyse.downloads.zip")),
      result.granularity !== "stream" && link("result.json", t("analyse.downloads.demo"), { form: "demo" }),
      link("report.html", t("common.report"), { lang: app.lang }),
      link("result.parquet", "Parquet"),
      annotations("Praat TextGrid", "textgrid", "TextGrid"),
      annotations("ELAN EAF", "eaf", "eaf"),
      annotations("Audacity", "audacity", "labels.txt"),
      link("log.txt", t("analyse.downloads.log")),
    ),
  );
  return h(
    "div",
    { class: "analyse-downloads", role: "group", "aria-label": t("analyse.downloads") },
    link("result.json", "JSON"),
    link("result.csv", "CSV"),
    result.hasEmbedding && link("embedding.npy", "NPY"),
    h("button", { class: "button", type: "button", onclick: onPng }, icon("download"), "PNG"),
    more,
  );
}

function word(app, { overall }) {
  return h(
    "div",
    { class: "overall" },
    h("i", { class: `overall-swatch ${hatchOf(overall.label)}`, style: { "--emotion": colourOf(overall.label) }, "aria-hidden": "true" }),
    h("div", {}, h("strong", { class: "overall-word", "data-testid": "overall" }, app.label(overall.label)), h("span", { class: "muted number" }, overall.label === null ? "" : app.format.percent(overall.confidence))),
  );
}

function bars(app, channel) {
  const row = (label) => {
    const score = channel.overall.scores[label];
    const bar = h("i", { style: { "--emotion": colourOf(label), transform: `scaleX(${score})` } });
    return h("li", {}, h("span", {}, app.label(label)), h("span", { class: "score-bar" }, bar), h("span", { class: "number" }, app.format.percent(score)));
  };
  return h("ul", { class: "scores", "aria-label": app.t("common.scores"), "data-testid": "scores" }, channel.labels.map(row));
}

function warning(app, each) {
  return h("div", { class: "notice", "data-testid": "quality" }, icon("warning"), h("div", {}, h("strong", {}, warningTitle(app, each.code)), h("p", {}, describeWarning(app, each))));
}

/** `call.wav` and `result.json` make `call.json`; a log stays one by its name. */
function fileName(name, file) {
  const stem = name.replace(/\.[^.]+$/, "") || name;
  return stem + (file === "log.txt" ? ".log.txt" : file.slice(file.indexOf(".")));
}
