/** The whole figure: traces of all channels, axes, alerts and marks. */
import { channelName, roleName, ruleName, speakerName } from "../names.js";
import { colourOf } from "../palette.js";
import { axisName, layRows, MARGIN, ticks } from "./layout.js";
import { placed, textWidth } from "./spans.js";
import { stackOrder, tracesOf } from "./traces.js";

/** Height of an alert's bar, of that of the title. */
const BAR_SHARE = 0.14;
const PX_A_TICK = 90;
/** Of a figure after a rule's name. */
const PERCENT_PX = 44;

/**
 * @param {import("../types.js").App} app @param {import("./timeline.js").Timeline} timeline
 * @param {{kind: "area" | "lines" | "heatmap", from_s: number, to_s: number, width_px: number, colours: Record<string, string>, sound: import("./sound.js").Sound | null, layers: ("wave" | "spectrum")[]}} view
 * @returns {{data: any[], layout: any, grain_s: number | null}} `grain_s`: length of the columns of scores
 */
export function makeFigure(app, timeline, view) {
  const { colours, from_s, to_s } = view;
  const narrow = view.width_px < 600;
  const left = view.kind === "heatmap" ? (narrow ? 64 : 84) : narrow ? 44 : 84;
  const { rows, off, height_px } = layRows([...timeline.channels.values()], view.layers, (channel) => tracksOf(app, channel));
  const px_a_s = (view.width_px - left - MARGIN.right) / (to_s - from_s);
  const look = {
    ...view,
    px_a_s,
    ...colours,
    label: app.label,
    reason: (reason) => app.t(`gap.${reason}`),
    track: (channel, speaker) => trackOf(app, channel, speaker),
  };
  const data = rows.flatMap((row) => tracesOf(row, timeline.labels, /** @type {any} */ (look)));
  const { step_s, at_s } = ticks(from_s, to_s, Math.max(2, (view.width_px - left) / PX_A_TICK));
  const write = step_s < 0.1 ? app.format.hundredths : step_s < 1 ? app.format.moment : app.format.clock;
  const px_of = (at) => (at - from_s) * px_a_s;
  const layout = {
    width: view.width_px,
    height: height_px,
    margin: { l: left, r: MARGIN.right, t: MARGIN.top, b: MARGIN.bottom, pad: 0 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: colours.font, size: 12, color: colours.muted },
    showlegend: false,
    hovermode: false,
    dragmode: "pan",
    barmode: "overlay",
    bargap: 0,
    xaxis: {
      range: [from_s, to_s],
      anchor: "free",
      position: 0,
      tickvals: at_s,
      ticktext: at_s.map(write),
      showgrid: true,
      gridcolor: colours.grid,
      zeroline: false,
      fixedrange: false,
      showline: true,
      linecolor: colours.line,
    },
    shapes: [...rows.flatMap((row) => [...alertShapes(timeline, row, view), ...thresholds(app, timeline, row, view).map(thresholdShape)]), ...markShapes(timeline, view)],
    annotations: [
      ...rows.map((row) => title(app, row, colours)),
      ...rows.flatMap((row) => [...alertNotes(app, timeline, row, view, narrow, px_of), ...thresholds(app, timeline, row, view, px_of(to_s)).map(thresholdNote)]),
      ...off.map(({ channel, middle }) => note(middle, `<b>${escape(channelName(app, channel.spec))}</b>  ${narrow ? app.t("common.not_analysed") : app.t("chart.role_not_analysed", { role: roleName(app, channel.spec.role) })}`, colours)),
      ...markNotes(timeline, rows[0], view, px_of),
    ],
  };
  for (const row of rows) Object.assign(layout, axes(app, row, timeline.labels, view));
  const grains = rows.map((row) => row.grain_s).filter((grain_s) => grain_s !== undefined);
  return { data, layout, grain_s: grains.length > 0 ? Math.max(...grains) : null };
}

/** @param {import("./timeline.js").ChannelTimeline} channel @param {string | null} speaker null: who is left out */
function trackOf(app, channel, speaker) {
  return speaker === null ? app.t("chart.left_out") : speakerName(app, speaker, channel);
}

/** The lines of who speaks: one for all voices that are called the same. @param {import("./timeline.js").ChannelTimeline} channel @returns {string[]} */
function tracksOf(app, channel) {
  const heard = channel.leaves_out ? [...channel.speakers, null] : channel.speakers;
  return [...new Set(heard.map((speaker) => trackOf(app, channel, speaker)))];
}

const HEAD_PX = 64;

/**
 * The figure as it stands alone in a file: with a title and the words of the colours.
 * @param {{data: any[], layout: any}} figure @param {string} title @param {Record<string, string>} colours
 */
export function forPaper({ data, layout }, title, colours) {
  // Of the first channel only: the words of the others are the same.
  const first = data.find((trace) => trace.name)?.yaxis;
  return {
    data: data.map((trace) => ({ ...trace, showlegend: Boolean(trace.name) && trace.yaxis === first })),
    layout: {
      ...layout,
      height: layout.height + HEAD_PX,
      margin: { ...layout.margin, t: layout.margin.t + HEAD_PX },
      paper_bgcolor: colours.surface,
      showlegend: true,
      legend: { orientation: "h", x: 0, y: 1, yref: "paper", yanchor: "bottom", traceorder: "normal", font: { size: 12, color: colours.ink } },
      title: { text: escape(title), x: 0, xref: "paper", xanchor: "left", y: 1, yref: "container", yanchor: "top", pad: { t: 12 }, font: { size: 15, color: colours.ink } },
    },
  };
}

function axes(app, row, labels, view) {
  const { colours, kind } = view;
  const common = { fixedrange: true, zeroline: false, showgrid: false, anchor: "x" };
  const order = stackOrder(labels).reverse();
  const narrow = view.width_px < 600;
  const scores =
    kind !== "heatmap"
      ? { range: [0, 1], tickvals: [0, 0.5, 1], ticktext: ["0", "50", "100 %"], showgrid: true, gridcolor: colours.grid }
      : { range: [0, labels.length], tickvals: order.map((_, place) => place + 0.5), ticktext: order.map((index) => app.label(labels[index])), tickfont: { size: narrow ? 9 : 11 } };
  const wave = row.wave && { [axisName(row.wave)]: { ...common, domain: row.domains.wave, range: [-1, 1], tickvals: [0], ticktext: [narrow ? "" : app.t("chart.wave")], tickfont: { size: 10 } } };
  const spectrum = row.spectrum && { [axisName(row.spectrum)]: { ...common, domain: row.domains.spectrum, range: [0, 8], tickvals: [0, 2, 4, 6, 8], ticktext: ["0", "2", "4", "6", "8\u202fkHz"], tickfont: { size: 10 } } };
  const count = row.tracks.length;
  // From the top, as the lines are listed.
  const who = row.who && { [axisName(row.who)]: { ...common, domain: row.domains.who, range: [count - 0.5, -0.5], tickvals: row.tracks.map((_, place) => place), ticktext: row.tracks.map((name) => escape(shortened(narrow ? numberOf(app, name) : name, (narrow ? 44 : 84) - 8))), tickfont: { size: 11, color: colours.ink } } };
  return {
    ...who,
    ...wave,
    ...spectrum,
    [axisName(row.ribbon)]: { ...common, domain: row.domains.ribbon, range: [0, 1], showticklabels: false },
    [axisName(row.scores)]: { ...common, domain: row.domains.scores, ...scores },
    [axisName(row.strip)]: { ...common, domain: row.domains.strip, range: [0, 1.05], tickvals: [0.5], ticktext: [narrow ? "" : app.t("chart.strip")], tickfont: { size: 10 } },
  };
}

/** Of a speaker without a name the number alone. @param {string} name */
function numberOf(app, name) {
  const word = app.t("common.speaker_n", { n: "" }).trim();
  return (name.startsWith(word) && name.slice(word.length).trim()) || name;
}

/** As much of a name as there is room for; the table has all of it. @param {string} name @param {number} px */
function shortened(name, px) {
  const letters = [...name];
  let kept = letters.length;
  while (kept > 1 && textWidth(`${letters.slice(0, kept).join("")}…`) > px) kept -= 1;
  return kept === letters.length || textWidth(name) <= px ? name : `${letters.slice(0, kept).join("")}…`;
}

/** Text of people must not become markup of the chart. @param {string} text */
function escape(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function note(y, text, colours) {
  return { xref: "paper", yref: "paper", x: 0, y, xanchor: "left", yanchor: "middle", text, showarrow: false, font: { size: 12, color: colours.muted } };
}

function title(app, row, colours) {
  const [bottom, top] = row.domains.title;
  return { ...note((bottom + top) / 2, `<b>${escape(channelName(app, row.channel.spec))}</b>`, colours), font: { size: 13, color: colours.ink } };
}

/** @returns {import("./timeline.js").Alert[]} */
function alertsOf(timeline, row, { from_s, to_s }) {
  return [...timeline.alerts.values()].filter(
    (alert) => alert.channel === row.channel.spec.index && alert.since_s < to_s && (alert.cleared_s ?? timeline.end_s) > from_s,
  );
}

/** A bar above the ribbon for as long as it held, a line where it was raised: nothing is tinted. */
function alertShapes(timeline, row, view) {
  return alertsOf(timeline, row, view).flatMap((alert) => {
    const [bottom, top] = row.domains.title;
    const color = alertColour(alert, view);
    const end_s = alert.cleared_s ?? timeline.end_s;
    return [
      { type: "rect", x0: alert.since_s, x1: end_s, yref: "paper", y0: bottom, y1: bottom + (top - bottom) * BAR_SHARE, line: { width: 0 }, fillcolor: color },
      { type: "line", x0: alert.at_s, x1: alert.at_s, yref: "paper", y0: row.domains.foot[0], y1: top, line: { width: 2, color } },
    ];
  });
}

function alertColour(alert, { colours }) {
  return alert.severity === "critical" ? colours.alert : colours.warning;
}

/** @returns {any[]} in the row of the channel's name, none over another one */
function alertNotes(app, timeline, row, view, narrow, px_of) {
  const [bottom, top] = row.domains.title;
  // The name of the channel stands at the left edge.
  const name_px = textWidth(channelName(app, row.channel.spec)) * 1.1 + 12;
  const width_px = px_of(view.to_s);
  const captions = alertsOf(timeline, row, view).map((alert) => {
    const text = `⚠ ${narrow ? "" : shortened(ruleName(app, alert.rule), width_px / 2)}`;
    const left_px = Math.max(px_of(alert.at_s) + 6, name_px);
    const right = left_px + textWidth(text) > width_px;
    return { alert, text, right, x: right ? width_px : left_px };
  });
  return placed(captions).map(({ alert, text, right, x, more }) => ({
    x: view.from_s + (x / width_px) * (view.to_s - view.from_s),
    xref: "x",
    xanchor: right ? "right" : "left",
    y: bottom + (top - bottom) * 0.6,
    yref: "paper",
    yanchor: "middle",
    text: escape(more > 0 ? `${text} +${more}` : text),
    showarrow: false,
    font: { size: 12, color: alertColour(alert, view) },
  }));
}

/**
 * Where each rule of the channel's role begins to hold. In a stack only what lies at its bottom can be
 * read against a line; a map of colours has no heights.
 */
function thresholds(app, timeline, row, { kind, colours }, width_px = Infinity) {
  if (kind === "heatmap") return [];
  const bottom = stackOrder(timeline.labels).map((index) => timeline.labels[index]);
  const { role } = row.channel.spec;
  return (app.info.rules ?? [])
    .filter(({ roles, labels }) => (roles.length === 0 || roles.includes(role)) && (kind === "lines" ? labels.length === 1 : labels.every((label) => bottom.slice(0, labels.length).includes(label))))
    .map((rule) => ({ row, y: rule.threshold, text: `${shortened(ruleName(app, rule.name), width_px - PERCENT_PX)} ${app.format.percent(rule.threshold)}`, color: rule.labels.length === 1 ? colourOf(rule.labels[0]) : colours.ink, colours }));
}

function thresholdShape({ row, y, color }) {
  return { type: "line", xref: "paper", x0: 0, x1: 1, yref: row.scores, y0: y, y1: y, line: { width: 2, dash: "dash", color } };
}

function thresholdNote({ row, y, text, colours }) {
  return { xref: "paper", x: 1, xanchor: "right", yref: row.scores, y, yanchor: "bottom", text: escape(text), showarrow: false, font: { size: 11, color: colours.ink }, bgcolor: colours.surface, opacity: 0.9, borderpad: 1 };
}

function marksOf(timeline, { from_s, to_s }) {
  return timeline.marks.filter((mark) => mark.at_s >= from_s && mark.at_s <= to_s);
}

function markShapes(timeline, view) {
  return marksOf(timeline, view).map((mark) => ({
    type: "line", x0: mark.at_s, x1: mark.at_s, yref: "paper", y0: 0, y1: 1, line: { width: 1, dash: "dot", color: view.colours.ink },
  }));
}

function markNotes(timeline, row, view, px_of) {
  const y = row ? row.domains.scores[1] : 1;
  const width_px = px_of(view.to_s);
  const captions = marksOf(timeline, view).map((mark) => {
    const text = shortened(mark.name, width_px / 3);
    const x = px_of(mark.at_s);
    return { mark, x, text, right: x + textWidth(text) > width_px };
  });
  return placed(captions).map(({ mark, text, right, more }) => ({
    x: mark.at_s, xref: "x", y, yref: "paper", yanchor: "top", xanchor: right ? "right" : "left", text: escape(more > 0 ? `${text} +${more}` : text), showarrow: false,
    font: { size: 11, color: view.colours.ink }, bgcolor: view.colours.surface, borderpad: 2, opacity: 0.92,
  }));
}
