/** The result of one recording: scores, time series, segments, warnings, downloads. */
import { icon } from "../../shell/icons.js";
import { channelTitle } from "./result.js";
import { colourOf, emotion, hatchOf } from "../../shell/palette.js";
import { loadPlotly } from "../../shell/plotly.js";
import { Component, createRef, h } from "../../shell/preact.js";
import { toast } from "../../shell/states.js";
import { figureOf } from "./chart.js";
import { MeasuresView } from "../../shell/measures.js";
import { WholeView } from "../../shell/whole.js";
import { warningTitle } from "./jobs_view.js";
import { optionsText } from "./options.js";

const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false };
const PNG = { format: "png", width: 1200, height: 520, scale: 2 };
const SHOWN_ROWS = 200;

/** @extends {Component<{app: import("../../shell/types.js").App, job: import("./jobs.js").Job, result: import("./result.js").ResultView}>} */
export class ResultView extends Component {
  charts = this.props.result.channels.map(() => createRef());
  audio = createRef();
  // Only the tab that sent the file still has it.
  audioUrl = this.props.job.file ? URL.createObjectURL(this.props.job.file) : "";

  componentDidMount() {
    void this.draw();
    this.offTheme = this.props.app.on("theme", () => void this.draw());
  }

  // The list of jobs is polled; the result of one does not change.
  shouldComponentUpdate({ result }) {
    return result !== this.props.result;
  }

  componentWillUnmount() {
    this.offTheme?.();
    this.audio.current?.pause();
    URL.revokeObjectURL(this.audioUrl);
    const plotly = /** @type {any} */ (window).Plotly;
    for (const { current: chart } of this.charts) if (chart?.dataset.drawn) plotly.purge(chart);
  }

  async draw() {
    const { app, result } = this.props;
    if (!result.channels.some((channel) => channel.series)) return;
    const plotly = await loadPlotly();
    for (const [at, channel] of result.channels.entries()) {
      const chart = this.charts[at].current;
      if (!channel.series || !chart?.isConnected) continue;
      const { data, layout } = figureOf(app, channel);
      await plotly.react(chart, data, layout, CONFIG);
      chart.dataset.drawn = "true";
    }
  }

  jump(span) {
    this.audio.current.currentTime = span.start_s;
    void this.audio.current.play();
  }

  async savePng() {
    const { app, job, result } = this.props;
    try {
      const plotly = await loadPlotly();
      for (const channel of result.channels) {
        const title = result.channels.length > 1 ? `${job.name} · ${channelTitle(app, channel.index)}` : job.name;
        const figure = figureOf(app, channel, title);
        const url = await plotly.toImage({ data: figure.data, layout: { ...figure.layout, width: PNG.width, height: PNG.height } }, PNG);
        const suffix = result.channels.length > 1 ? `.${channel.index}.png` : ".png";
        Object.assign(document.createElement("a"), { href: url, download: fileName(job.name, suffix) }).click();
      }
    } catch (error) {
      toast(app.t("analyse.png_failed", { reason: error.message }), "error");
    }
  }

  render({ app, job, result }) {
    const { t, format } = app;
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
        h("span", { class: "muted number" }, [format.seconds(result.durationS), format.rate(result.rateHz), result.model.name].join(" · ")),
        h("span", { class: "grow" }),
        h(Downloads, { app, job, result, onPng: () => void this.savePng() }),
      ),
      result.model.notice && h("div", { class: "notice" }, icon("info"), h("p", {}, result.model.notice)),
      this.audioUrl && h("audio", { ref: this.audio, controls: true, preload: "metadata", src: this.audioUrl, "aria-label": t("analyse.listen") }),
      result.measures && h(MeasuresView, { app, measures: result.measures, nameOf: (/** @type {number} */ index) => channelTitle(app, index) }),
      result.channels.map((channel, at) => this.channel(channel, this.charts[at])),
    );
  }

  channel(channel, chart) {
    const { app, result } = this.props;
    const { t } = app;
    return h(
      "section",
      { class: "card analyse-channel", "data-testid": "channel" },
      result.channels.length > 1 && h("h3", {}, channelTitle(app, channel.index)),
      channel.overall && h("div", { class: "analyse-overall" }, channel.whole ? h(WholeView, { app, whole: channel.whole }) : word(app, channel), bars(app, channel)),
      channel.warnings.map((each) => warning(app, each)),
      channel.series && h("div", { ref: chart, class: "analyse-chart", "data-testid": "chart" }),
      speakerList(app, channel),
      this.table(channel.spans, t("analyse.segments", { n: channel.spans.length }), "segments", true),
      this.table(channel.pieces, t("analyse.pieces", { n: channel.pieces.length }), "pieces", channel.spans.length === 0),
    );
  }

  table(spans, title, testid, open) {
    const { app } = this.props;
    const { t } = app;
    if (spans.length === 0) return false;
    const cells = (span) => [
      h("td", { class: "number" }, `${app.format.moment(span.start_s)} – ${app.format.moment(span.end_s)}`),
      h("td", {}, isScored(span) ? emotion(app, span.label) : h("span", { class: "muted" }, t(`gap.${span.reason}`)), span.speaker && h("span", { class: "muted" }, ` ${span.speaker}`)),
      h("td", { class: "number" }, span.label ? app.format.percent(span.confidence) : ""),
    ];
    const row = (span) =>
      this.audioUrl
        ? h("tr", { class: "jump", tabindex: 0, onclick: () => this.jump(span), onkeydown: (event) => event.key === "Enter" && this.jump(span) }, cells(span))
        : h("tr", {}, cells(span));
    return h(
      "details",
      { open },
      h("summary", {}, title),
      h(
        "div",
        { class: "analyse-table" },
        h(
          "table",
          { "data-testid": testid },
          h("thead", {}, h("tr", {}, ["time", "emotion", "confidence"].map((key) => h("th", { scope: "col" }, t(`analyse.column.${key}`))))),
          h("tbody", {}, spans.slice(0, SHOWN_ROWS).map(row)),
        ),
      ),
      spans.length > SHOWN_ROWS && h("p", { class: "muted" }, t("analyse.more_rows", { n: spans.length - SHOWN_ROWS })),
    );
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

/** A segment, or a piece that was scored: with a label, or unclear. */
function isScored(span) {
  return span.confidence !== undefined && span.confidence !== null;
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
  return h("div", { class: "notice", "data-testid": "quality" }, icon("warning"), h("div", {}, h("strong", {}, warningTitle(app, each.code)), h("p", {}, each.message)));
}

function speakerList(app, channel) {
  if (channel.speakers.length === 0) return false;
  const row = (each) =>
    h("li", {}, h("strong", {}, each.name), emotion(app, each.label, each.label && app.format.percent(each.confidence)), h("span", { class: "muted number" }, app.plural("analyse.turns", each.turns.length, { time: app.format.clock(each.speech_s) })));
  return h("div", { class: "analyse-speakers" }, h("h3", {}, app.t("analyse.speakers")), h("ul", { "data-testid": "speakers" }, channel.speakers.map(row)));
}

/** `call.wav` and `result.json` make `call.json`; a log stays one by its name. */
function fileName(name, file) {
  const stem = name.replace(/\.[^.]+$/, "") || name;
  return stem + (file === "log.txt" ? ".log.txt" : file.slice(file.indexOf(".")));
}
