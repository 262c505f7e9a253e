/** The result of one recording: scores, time series, segments, warnings, downloads. */
import { h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { channelTitle } from "./result.js";
import { emotion } from "../../shell/palette.js";
import { loadPlotly } from "../../shell/plotly.js";
import { toast } from "../../shell/states.js";
import { figureOf } from "./chart.js";
import { warningTitle } from "./jobs_view.js";
import { optionsText } from "./options.js";

const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false };
const PNG = { format: "png", width: 1200, height: 520, scale: 2 };
const SHOWN_ROWS = 200;

/**
 * @param {import("../../shell/types.js").App} app
 * @param {import("./jobs.js").Job} job done
 * @param {import("./result.js").ResultView} result
 * @returns {{element: HTMLElement, draw: () => Promise<void>, close: () => void}}
 */
export function makeResultView(app, job, result) {
  const { t } = app;
  const charts = result.channels.map(() => h("div", { class: "analyse-chart", "data-testid": "chart" }));
  // Only the tab that gave the file still has it.
  const audioUrl = job.file ? URL.createObjectURL(job.file) : "";
  const audio = audioUrl && h("audio", { controls: true, preload: "metadata", src: audioUrl, "aria-label": t("analyse.listen") });
  const element = h(
    "article",
    { class: "analyse-result", "data-testid": "result", "aria-label": job.name },
    h(
      "div",
      { class: "page-head" },
      h("h2", {}, job.name),
      h("span", { class: "badge" }, optionsText(app, { ...job.options, granularity: result.granularity, frame_hop_ms: result.frameHopMs, speakers: false, preset: "" })),
      job.options.preset && h("span", { class: "badge" }, optionsText(app, job.options)),
      h("span", { class: "muted number" }, facts()),
      h("span", { class: "grow" }),
      downloads(),
    ),
    result.model.notice && h("div", { class: "notice" }, icon("info"), h("p", {}, result.model.notice)),
    audio,
    result.channels.map((channel, at) => channelCard(channel, charts[at])),
  );

  function facts() {
    return [app.format.seconds(result.durationS), app.format.rate(result.rateHz), result.model.name].join(" · ");
  }

  function downloads() {
    const link = (file, text, query = {}) =>
      h("a", { class: "button", href: app.api.jobFileUrl(/** @type {string} */ (job.id), file, query), download: fileName(job.name, file) }, icon("download"), text);
    const more = h(
      "details",
      { class: "analyse-more" },
      h("summary", { class: "button" }, t("analyse.downloads.more")),
      h(
        "div",
        { class: "menu-list card" },
        link("result.zip", t("analyse.downloads.zip")),
        result.granularity !== "stream" && link("result.json", t("analyse.downloads.demo"), { form: "demo" }),
        link("result.parquet", "Parquet"),
        link("log.txt", t("analyse.downloads.log")),
      ),
    );
    more.addEventListener("focusout", (event) => {
      if (!more.contains(event.relatedTarget)) more.open = false;
    });
    return h(
      "div",
      { class: "analyse-downloads", role: "group", "aria-label": t("analyse.downloads") },
      link("result.json", "JSON"),
      link("result.csv", "CSV"),
      result.hasEmbedding && link("embedding.npy", "NPY"),
      h("button", { class: "button", type: "button", onclick: () => void savePng() }, icon("download"), "PNG"),
      more,
    );
  }

  function channelCard(channel, chart) {
    return h(
      "section",
      { class: "card analyse-channel", "data-testid": "channel" },
      result.channels.length > 1 && h("h3", {}, channelTitle(app, channel.index)),
      channel.overall && h("div", { class: "analyse-overall" }, word(channel), bars(channel)),
      channel.warnings.map(warning),
      channel.series && chart,
      speakerList(channel),
      spanTable(channel.spans, t("analyse.segments", { n: channel.spans.length }), "segments", true),
      spanTable(channel.pieces, t("analyse.pieces", { n: channel.pieces.length }), "pieces", channel.spans.length === 0),
    );
  }

  function word({ overall }) {
    return h(
      "div",
      { class: "overall" },
      h("i", { class: "overall-swatch", style: { "--emotion": app.palette.colourOf(overall.label) }, "aria-hidden": "true" }),
      h("div", {}, h("strong", { class: "overall-word", "data-testid": "overall" }, app.label(overall.label)), h("span", { class: "muted number" }, app.format.percent(overall.confidence))),
    );
  }

  function bars(channel) {
    const row = (label) => {
      const score = channel.overall.scores[label];
      const bar = h("i", { style: { "--emotion": app.palette.colourOf(label), transform: `scaleX(${score})` } });
      return h("li", {}, h("span", {}, app.label(label)), h("span", { class: "score-bar" }, bar), h("span", { class: "number" }, app.format.percent(score)));
    };
    return h("ul", { class: "scores", "aria-label": t("common.scores"), "data-testid": "scores" }, channel.labels.map(row));
  }

  function warning(each) {
    return h("div", { class: "notice", "data-testid": "quality" }, icon("warning"), h("div", {}, h("strong", {}, warningTitle(app, each.code)), h("p", {}, each.message)));
  }

  function speakerList(channel) {
    if (channel.speakers.length === 0) return false;
    const row = (each) =>
      h("li", {}, h("strong", {}, each.speaker), emotion(app, each.emotion, app.format.percent(each.confidence)), h("span", { class: "muted number" }, app.plural("analyse.turns", each.turns.length, { time: app.format.clock(each.speech_s) })));
    return h("div", { class: "analyse-speakers" }, h("h3", {}, t("analyse.speakers")), h("ul", { "data-testid": "speakers" }, channel.speakers.map(row)));
  }

  function spanTable(spans, title, testid, open) {
    if (spans.length === 0) return false;
    const cells = (span) => [
      h("td", { class: "number" }, `${app.format.moment(span.start_s)} – ${app.format.moment(span.end_s)}`),
      h("td", {}, span.label ? emotion(app, span.label) : h("span", { class: "muted" }, t(`gap.${span.reason}`)), span.speaker && h("span", { class: "muted" }, ` ${span.speaker}`)),
      h("td", { class: "number" }, span.label ? app.format.percent(span.confidence) : ""),
    ];
    const row = (span) =>
      audio
        ? h("tr", { class: "jump", tabindex: 0, onclick: () => jump(span), onkeydown: (event) => event.key === "Enter" && jump(span) }, cells(span))
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

  function jump(span) {
    audio.currentTime = span.start_s;
    void audio.play();
  }

  async function savePng() {
    try {
      const plotly = await loadPlotly();
      for (const channel of result.channels) {
        const title = result.channels.length > 1 ? `${job.name} · ${channelTitle(app, channel.index)}` : job.name;
        const figure = figureOf(app, channel, title);
        const url = await plotly.toImage({ data: figure.data, layout: { ...figure.layout, width: PNG.width, height: PNG.height } }, PNG);
        const suffix = result.channels.length > 1 ? `.${channel.index + 1}.png` : ".png";
        h("a", { href: url, download: fileName(job.name, suffix) }).click();
      }
    } catch (error) {
      toast(t("analyse.png_failed", { reason: error.message }), "error");
    }
  }

  return {
    element,
    async draw() {
      if (!result.channels.some((channel) => channel.series)) return;
      const plotly = await loadPlotly();
      for (const [at, channel] of result.channels.entries()) {
        if (!channel.series || !charts[at].isConnected) continue;
        const { data, layout } = figureOf(app, channel);
        await plotly.react(charts[at], data, layout, CONFIG);
        charts[at].dataset.drawn = "true";
      }
    },
    close() {
      audio && audio.pause();
      URL.revokeObjectURL(audioUrl);
      const plotly = /** @type {any} */ (window).Plotly;
      for (const chart of charts) if (chart.dataset.drawn) plotly.purge(chart);
    },
  };
}

/** `call.wav` and `result.json` make `call.json`; a log stays one by its name. */
function fileName(name, file) {
  const stem = name.replace(/\.[^.]+$/, "") || name;
  return stem + (file === "log.txt" ? ".log.txt" : file.slice(file.indexOf(".")));
}
