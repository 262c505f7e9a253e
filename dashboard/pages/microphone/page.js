/** The microphone of this browser: one click, then its live timeline. */
import { fill, h, onFrame, setText } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { roleName } from "../../shell/names.js";
import { noticeOf } from "../../shell/model.js";
import { addressOf } from "../../shell/router.js";
import { hideIndicator, showIndicator } from "./indicator.js";
import { makeLevelMeter } from "./level_meter.js";
import { LiveStrip } from "./live_strip.js";
import { makeNow } from "./now.js";
import { problemOf } from "./problems.js";
import { microphone } from "./session.js";
import { makeSettings } from "./settings.js";
import { toast } from "../../shell/states.js";

const SPANS_S = [30, 60, 300];

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  const { t } = app;
  hideIndicator();
  const settings = makeSettings(app);
  const meter = makeLevelMeter(app);
  const now = makeNow(app);
  const problem = h("div", { "aria-live": "assertive" });
  const actions = h("div", { class: "mic-actions" });
  const badge = h("span", { class: "badge", role: "status", "data-testid": "mic-state" });
  const elapsed = h("span", { class: "number mic-elapsed" });
  const facts = h("dl", { class: "mic-facts" });
  const canvas = h("canvas", { class: "mic-strip", role: "img", "aria-label": t("microphone.timeline"), "data-testid": "mic-timeline" });
  const strip = new LiveStrip(canvas, {
    word: (label) => app.label(label),
    reason: (reason) => t(`gap.${reason}`),
  });
  const frame = onFrame(draw);

  root.append(
    h("div", { class: "page-head" }, h("h1", {}, t("microphone.title")), badge, elapsed),
    h(
      "section",
      { class: "card mic-panel" },
      h("div", { class: "mic-start" }, actions, meter.element),
      settings.element,
      h("p", { class: "muted mic-privacy" }, icon("info"), t(app.info.recording ? "microphone.privacy.recorded" : "microphone.privacy.not_kept")),
    ),
    problem,
    now.element,
    h(
      "section",
      { class: "card mic-timeline" },
      h("div", { class: "mic-timeline-head" }, h("h2", {}, t("microphone.timeline")), h("span", { class: "grow" }), spanSwitch()),
      canvas,
      h("p", { class: "visually-hidden" }, t("microphone.timeline.help")),
    ),
    facts,
  );

  function spanSwitch() {
    const buttons = SPANS_S.map((span) =>
      h("button", { type: "button", "aria-pressed": String(span === strip.spanS), onclick: () => choose(span) }, t(`microphone.span.${span}`)),
    );
    const choose = (span) => {
      strip.spanS = span;
      buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(SPANS_S[at] === span)));
      frame.request();
    };
    return h("div", { class: "switch", role: "group", "aria-label": t("microphone.span.label") }, buttons);
  }

  /** Show the notice first, where there is one: nothing is captured before it was agreed to. */
  function askToStart() {
    const notice = noticeText(app);
    if (!notice) return void start();
    const agree = h("button", { class: "button primary large", type: "button", "data-testid": "notice-agree", onclick: () => void start(notice) }, icon("microphone"), t("microphone.notice.agree"));
    const cancel = h("button", { class: "button large", type: "button", onclick: showActions }, t("action.cancel"));
    fill(actions, h("div", { class: "mic-notice", role: "dialog", "aria-label": t("microphone.notice.title"), "data-testid": "notice" }, h("h2", {}, t("microphone.notice.title")), h("p", { lang: notice.language }, notice.text), h("div", { class: "mic-actions" }, agree, cancel)));
    agree.focus();
  }

  async function start(notice = null) {
    const { deviceId, role, name } = settings.values();
    const told = notice && { consent: "given", consent_source: "browser", notice_version: notice.version, notice_language: notice.language, notice_how: "shown" };
    await microphone.start({ url: app.info.ingest_url, name: name || t("microphone.stream_name"), role, deviceId, told });
    await settings.listDevices();
  }

  function mark() {
    microphone.mark(t("microphone.mark.name"));
    toast(t("microphone.marked"));
  }

  function button(key, iconName, press, kind = "") {
    return h("button", { class: `button ${kind}`, type: "button", onclick: press, dataset: { testid: `mic-${key}` } }, icon(iconName), t(`microphone.${key}`));
  }

  function showActions() {
    if (!microphone.isActive) {
      const key = microphone.state === "idle" ? "start" : "again";
      return fill(actions, button(key, "microphone", askToStart, "primary large"));
    }
    if (microphone.state === "asking") {
      return fill(actions, h("p", { class: "mic-asking" }, t("microphone.asking")), button("stop", "close", () => microphone.stop()));
    }
    const isStopping = microphone.state === "stopping";
    const pause = microphone.isPaused
      ? button("resume", "play", () => microphone.resume(), "primary large")
      : button("pause", "pause", () => microphone.pause(), "large");
    const stop = button("stop", "close", () => microphone.stop(), "danger large");
    const all = [pause, button("mark", "check", mark, "large"), stop];
    for (const each of all) each.disabled = isStopping;
    fill(actions, all);
  }

  function showState() {
    const { state } = microphone;
    const key = state === "live" && microphone.isPaused ? "paused" : state;
    badge.className = `badge ${{ live: "live", waiting: "warning", connecting: "warning", failed: "alert" }[key] ?? ""}`;
    badge.dataset.state = key;
    fill(badge, key === "live" && h("i", { class: "dot" }), t(`microphone.state.${key}`));
    app.connection(state === "live" ? "live" : state === "waiting" ? "waiting" : "idle");
    const found = problemOf(app, microphone);
    problem.hidden = !found;
    fill(problem, found && h("div", { class: `notice ${found.kind}`, role: "alert" }, icon("warning"), h("div", {}, h("strong", {}, found.title), h("p", {}, found.remedy))));
    settings.lock(microphone.isActive);
    showFacts();
  }

  function showFacts() {
    const { heartbeat, model, streamId } = microphone;
    const { format } = app;
    const fact = (key, ...values) => h("div", {}, h("dt", {}, t(`microphone.fact.${key}`)), h("dd", {}, ...values));
    fill(
      facts,
      model && fact("model", model.name),
      heartbeat && fact("lag", h("span", { class: "number" }, format.milliseconds(heartbeat.lag_ms))),
      microphone.microphone.label && fact("device", microphone.microphone.label),
      microphone.channel && fact("role", roleName(app, microphone.channel.role)),
      streamId && fact("stream", h("a", { href: addressOf(`/streams/${encodeURIComponent(streamId)}`), "data-testid": "mic-stream" }, t("microphone.open_stream"))),
      model?.notice && h("div", { class: "wide" }, h("dt", {}, t("microphone.fact.notice")), h("dd", {}, noticeOf(app, model))),
    );
  }

  function draw() {
    const { results } = microphone;
    setText(elapsed, microphone.elapsedS ? app.format.clock(microphone.elapsedS) : "");
    meter.draw(microphone.level, microphone.isActive && !microphone.isPaused);
    strip.draw({
      points: results.points,
      spans: [...results.spans.values()],
      marks: results.marks,
      alerts: results.alerts,
      labels: microphone.labels.length ? microphone.labels.map((label) => label.name) : app.labels.map((label) => label.name),
      nowS: microphone.elapsedS,
    });
  }

  function onChange() {
    showActions();
    showState();
    now.show(microphone);
    frame.request();
  }

  function onResults({ detail }) {
    if (detail.type === "heartbeat" || detail.type === "ready") showFacts();
    now.show(microphone);
    canvas.dataset.points = String(microphone.results.points.length);
    canvas.dataset.spans = String(microphone.results.spans.size);
    if (microphone.point) canvas.setAttribute("aria-label", t("microphone.timeline.now", { label: app.label(microphone.point.label) }));
    frame.request();
  }

  const onLevel = () => frame.request();
  microphone.addEventListener("change", onChange);
  microphone.addEventListener("results", onResults);
  microphone.addEventListener("level", onLevel);
  canvas.addEventListener("pointermove", frame.request);
  canvas.addEventListener("pointerleave", frame.request);
  const size = new ResizeObserver(frame.request);
  size.observe(canvas);
  const undoTheme = app.on("theme", frame.request);
  await settings.listDevices();
  onChange();

  return () => {
    microphone.removeEventListener("change", onChange);
    microphone.removeEventListener("results", onResults);
    microphone.removeEventListener("level", onLevel);
    size.disconnect();
    undoTheme();
    settings.close();
    frame.cancel();
    if (microphone.isActive) showIndicator();
  };
}

/** The notice in the language of the page, else the first one; null where there is none. @param {import("../../shell/types.js").App} app */
function noticeText(app) {
  const { version, texts } = app.info.notice;
  const language = Object.keys(texts).find((each) => each === app.lang || each.startsWith(`${app.lang}-`)) ?? Object.keys(texts)[0];
  return language ? { version, language, text: texts[language] } : null;
}
