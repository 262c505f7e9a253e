/** One stream, live or ended: its timeline, how it sounds now, what happened. */
import { fill, h, onFrame } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { removeStream } from "../../shell/remove_stream.js";
import { connectLive } from "../../shell/live.js";
import { MeasuresView } from "../../shell/measures.js";
import { h as describe, render } from "../../shell/preact.js";
import { channelName, inOrder, streamName } from "../../shell/names.js";
import { addressOf } from "../../shell/router.js";
import { describeError, errorState, loadingState, missingState, toast } from "../../shell/states.js";
import { Labels } from "../../shell/chart/labels.js";
import { SegmentTable } from "../../shell/chart/segment_table.js";
import { Timeline } from "../../shell/chart/timeline.js";
import { TimelineView } from "../../shell/chart/view.js";
import { Current } from "./current.js";
import { Events } from "./events.js";
import { exportMenu } from "./exports.js";
import { Heading } from "./heading.js";
import { OpenAlerts } from "./open_alerts.js";
import { SpeakersView } from "./speakers.js";

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  const id = params.id ?? "";
  fill(root, loadingState([56, 420, 160], app.t("state.loading")));
  let stream;
  try {
    stream = await app.api.stream(id);
  } catch (error) {
    const missing = /** @type {any} */ (error).status === 404;
    const back = describe("a", { class: "button primary", href: addressOf("/history") }, app.t("stream.to_history"));
    const retry = () => app.navigate(location.pathname + location.search, { replace: true });
    fill(root, missing ? missingState("search", app.t("stream.missing"), app.t("stream.missing_text"), back) : errorState(app, error, retry, "h1"));
    return () => {};
  }
  app.title(streamName(app, stream.name, id));
  return show(root, params, app, stream);
}

/** @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app @param {any} stream */
function show(root, params, app, stream) {
  const timeline = new Timeline(stream.channels, stream.labels);
  /** @type {any} */
  let shownMeasures = null;
  const wasLive = stream.closed_at === null;
  timeline.closed = !wasLive;
  const called = (/** @type {Record<string, Record<string, string>>} */ speakers) => {
    for (const [index, channel] of timeline.channels) channel.names = { ...speakers[index] };
    shownMeasures = null;
  };
  called(stream.speakers);
  // A moment can be shown before its results have come.
  timeline.end_s = stream.duration_s ?? 0;
  const at_s = Number.parseFloat(params.query.get("t") ?? "");
  let placed = !Number.isFinite(at_s);
  const frame = onFrame(draw);

  const heading = new Heading(app, stream, timeline);
  const current = new Current(app, timeline);
  const kept = app.info.store ? { read: () => app.api.labels(stream.stream_id), write: (/** @type {number} */ channel, /** @type {any[]} */ spans) => app.api.putLabels(stream.stream_id, channel, spans) } : null;
  const labels = new Labels(app, kept, timeline, (at_s) => jump(at_s));
  const audio = inOrder(stream.channels)
    .filter((/** @type {any} */ channel) => (stream.recorded ?? []).includes(channel.index))
    .map((channel) => ({ name: channelName(app, channel), url: app.api.recordingUrl(stream.stream_id, channel.index), channels: [channel.index] }));
  const view = new TimelineView(app, timeline, {
    audio,
    duration_s: stream.duration_s ?? 0,
    actions: exportMenu(app, stream, timeline, () => view.chart),
    tools: [labels.tools],
    onHover: (at_s) => current.at(at_s),
    onSelect: (selection) => (labels.selection = selection),
  });
  const { chart } = view;
  const jump = (/** @type {number} */ at_s) => {
    view.jump(at_s);
    current.at(at_s);
  };
  const events = new Events(app, timeline, jump);
  const table = new SegmentTable(app, timeline, jump);
  const measured = h("div", { class: "stream-rest" });
  let wasClosed = timeline.closed;
  const openAlerts = new OpenAlerts(app, stream.stream_id, timeline, jump);

  const remove = h("button", { class: "button quiet icon-only", type: "button", "aria-label": app.t("stream.delete"), title: app.t("stream.delete"), onclick: () => void removeStream(app, stream) }, icon("trash"));
  heading.actions.append(remove);
  const back = h("a", { class: "back", href: addressOf(wasLive ? "/" : "/history") }, icon("back"), app.t(wasLive ? "wall.nav" : "history.nav"));
  root.replaceChildren(
    ...[back, heading.element, heading.notice, heading.unrecordedBox, openAlerts.element].filter((element) => element !== null),
    h("div", { class: "stream-grid" }, view.element, current.element),
    labels.element,
    measured,
    h("div", { class: "stream-foot stream-rest" }, events.element, table.element),
  );

  function drawMeasures() {
    const { measures } = timeline;
    if (measures === null || (measures === shownMeasures && wasClosed === timeline.closed)) return;
    shownMeasures = measures;
    wasClosed = timeline.closed;
    const nameOf = (/** @type {number} */ index) => channelName(app, stream.channels.find((/** @type {any} */ channel) => channel.index === index));
    const shared = new Set(measures.channels.filter((/** @type {any} */ channel) => channel.speakers?.length > 1).map((/** @type {any} */ channel) => channel.channel));
    const onNamed = () => {
      shownMeasures = null;
      frame.request();
    };
    render([describe(SpeakersView, { app, measures, timeline, streamId: stream.stream_id, isLive: !timeline.closed, nameOf, onNamed }), describe(MeasuresView, { app, measures, nameOf, shared })], measured);
  }

  function draw() {
    if (!placed && timeline.end_s > 0) {
      placed = true;
      jump(at_s);
    }
    remove.hidden = !timeline.closed || !app.info.store;
    heading.draw();
    current.draw();
    events.draw();
    table.draw();
    drawMeasures();
    openAlerts.draw();
    chart.request();
  }

  const live = connectLive({
    url: () => app.api.urlOf("/live", { stream: stream.stream_id, after_seq: timeline.last_seq >= 0 ? timeline.last_seq : undefined }),
    onState: (state, heard_at) => !timeline.closed && app.connection(state, heard_at),
    onMessage(message) {
      if (message.type === "error") return toast(describeError(app, message), "error");
      timeline.take(message.results ?? []);
      if (message.speakers) called(message.speakers);
      if (message.status) heading.status = message.status;
      if (message.dropped) toast(app.plural("stream.dropped", message.dropped));
      if (wasLive) heading.measure();
      if (timeline.closed) app.connection("idle");
      frame.request();
    },
  });
  frame.request();

  return () => {
    live.close();
    frame.cancel();
    view.destroy();
    openAlerts.destroy();
  };
}
