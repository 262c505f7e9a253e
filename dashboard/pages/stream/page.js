/** One stream, live or ended: its timeline, how it sounds now, what happened. */
import { fill, h, onFrame } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { removeStream } from "../../shell/remove_stream.js";
import { connectLive } from "../../shell/live.js";
import { MeasuresView } from "../../shell/measures.js";
import { h as describe, render } from "../../shell/preact.js";
import { channelName, inOrder, streamName } from "../../shell/names.js";
import { addressOf } from "../../shell/router.js";
import { describeError, emptyState, errorState, loadingState, toast } from "../../shell/states.js";
import { Chart } from "./chart.js";
import { Current } from "./current.js";
import { Events } from "./events.js";
import { Heading } from "./heading.js";
import { OpenAlerts } from "./open_alerts.js";
import { Overview } from "./overview.js";
import { Player } from "./player.js";
import { Timeline } from "./timeline.js";
import { Toolbar } from "./toolbar.js";

/** Longer streams that have ended are first seen from their end. */
const SEEN_WHOLE_S = 900;

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
    fill(root, missing ? emptyState("search", app.t("stream.missing"), app.t("stream.missing_text"), back) : errorState(app, error, retry));
    return () => {};
  }
  app.title(streamName(app, stream.name, id));
  return show(root, params, app, stream);
}

/** @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app @param {any} stream */
function show(root, params, app, stream) {
  const timeline = new Timeline(stream.channels, stream.labels);
  const wasLive = stream.closed_at === null;
  timeline.closed = !wasLive;
  let placed = false;
  const frame = onFrame(draw);

  const heading = new Heading(app, stream, timeline);
  const current = new Current(app, timeline);
  /** @type {Player | null} */
  let player = null;
  const chart = new Chart(app, timeline, {
    onView(view) {
      toolbar.draw(view);
      overview.draw();
    },
    onHover: (at_s) => current.at(at_s),
    onPick: (at_s) => player?.seek(at_s),
  });
  const toolbar = new Toolbar(app, stream, timeline, chart);
  const overview = new Overview(app, timeline, chart);
  const jump = (/** @type {number} */ at_s) => {
    chart.jump(at_s);
    current.at(at_s);
    player?.seek(at_s);
  };
  const events = new Events(app, timeline, jump);
  const measured = h("div", {});
  /** @type {any} */
  let shownMeasures = null;
  const openAlerts = new OpenAlerts(app, stream.stream_id, timeline, jump);
  const recorded = inOrder(stream.channels).filter((/** @type {any} */ channel) => (stream.recorded ?? []).includes(channel.index));
  if (recorded.length > 0) player = new Player(app, stream.stream_id, recorded, (at_s) => chart.crosshair.play(at_s));

  const remove = h("button", { class: "button quiet icon-only", type: "button", "aria-label": app.t("stream.delete"), title: app.t("stream.delete"), onclick: () => void removeStream(app, stream) }, icon("trash"));
  heading.actions.append(remove);
  const back = h("a", { class: "back", href: addressOf(wasLive ? "/" : "/history") }, icon("back"), app.t(wasLive ? "wall.nav" : "history.nav"));
  root.replaceChildren(
    ...[back, heading.element, heading.notice, heading.unrecordedBox, openAlerts.element].filter((element) => element !== null),
    h("div", { class: "stream-grid" }, h("section", { class: "card chart-card", "aria-label": app.t("stream.timeline") }, toolbar.element, player?.element ?? "", chart.element, overview.element), current.element),
    measured,
    events.element,
  );

  function drawMeasures() {
    const { measures } = timeline;
    if (measures === null || measures === shownMeasures) return;
    shownMeasures = measures;
    const nameOf = (/** @type {number} */ index) => channelName(app, stream.channels.find((/** @type {any} */ channel) => channel.index === index));
    render(describe(MeasuresView, { app, measures, nameOf }), measured);
  }

  function draw() {
    if (!placed && timeline.end_s > 0) {
      placed = true;
      const at_s = Number.parseFloat(params.query.get("t") ?? "");
      if (Number.isFinite(at_s)) jump(at_s);
      else if (!wasLive && timeline.end_s <= SEEN_WHOLE_S) chart.showAll();
    }
    remove.hidden = !timeline.closed || !app.info.store;
    heading.draw();
    if (current.at_s === null) current.draw();
    events.draw();
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
      if (message.status) heading.status = message.status;
      if (message.dropped) toast(app.plural("stream.dropped", message.dropped));
      if (wasLive) heading.measure();
      else placed &&= chart.view.follow === false && timeline.end_s <= chart.view.to_s;
      if (timeline.closed) app.connection("idle");
      frame.request();
    },
  });
  frame.request();

  return () => {
    live.close();
    frame.cancel();
    chart.destroy();
    overview.destroy();
    openAlerts.destroy();
    player?.destroy();
  };
}
