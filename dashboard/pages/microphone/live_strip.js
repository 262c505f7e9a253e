/**
 * The last minute of one channel on a canvas: stacked posteriors, below them the label ribbon with
 * gaps, time from right (now) to left. A canvas, because it is drawn many times a second beside a
 * microphone; the stream's own page has the chart one can zoom.
 */

import { colour } from "../../shell/dom.js";
import { colourOf, inkOf, paintOf, STACK_ORDER } from "../../shell/palette.js";

const RIBBON_PX = 22;
const AXIS_PX = 20;
const SPACE_PX = 6;
const JOINED_S = 0.2; // points further apart are not joined: something is missing between them
const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120];

export class LiveStrip {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} options
   * @param {(label: string) => string} options.word an emotion in the page's language
   * @param {(reason: string) => string} options.reason a gap's reason in the page's language
   */
  constructor(canvas, { word, reason }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.word = word;
    this.reason = reason;
    this.spanS = 60;
    this.hoverX = null;
    canvas.addEventListener("pointermove", (event) => {
      this.hoverX = event.offsetX;
    });
    canvas.addEventListener("pointerleave", () => {
      this.hoverX = null;
    });
  }

  /**
   * Draw; at most once a frame of the browser.
   *
   * @param {object} data
   * @param {object[]} data.points in order of time, times in s of the whole recording
   * @param {object[]} data.spans segments and gaps
   * @param {object[]} data.marks
   * @param {object[]} data.alerts
   * @param {string[]} data.labels in the order of posteriors
   * @param {number} data.nowS right edge
   */
  draw(data) {
    const { canvas, context } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.#readColours();
    this.fromS = Math.max(0, data.nowS - this.spanS);
    this.x = (timeS) => ((timeS - this.fromS) / this.spanS) * width;
    this.areaPx = height - RIBBON_PX - AXIS_PX - SPACE_PX;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#area(data, width);
    this.#ribbon([...data.spans, ...tail(data)], width);
    this.#axis(width, height);
    this.#events(data);
    this.#hover(data, width);
  }

  /** Colours change with the theme only, and asking for them makes the browser lay the page out. */
  #readColours() {
    const isDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
    const key = `${document.documentElement.dataset.theme} ${isDark}`;
    if (key === this.coloursKey) return;
    this.coloursKey = key;
    this.colours = readColours(this.canvas);
  }

  #area({ points, labels }, width) {
    const { context, colours } = this;
    context.fillStyle = colours.empty;
    context.fillRect(0, 0, width, this.areaPx);
    for (const run of runs(points, this.fromS)) {
      const lower = new Float64Array(run.length);
      for (const name of STACK_ORDER) {
        const label = labels.indexOf(name);
        if (label < 0) continue;
        context.beginPath();
        const upper = lower.slice();
        // A point tells of the time from its start to its end: its value holds at both.
        this.#line(run, (at) => lower[at], false);
        run.forEach((point, at) => {
          upper[at] += point.posteriors[label];
        });
        this.#line(run, (at) => upper[at], true);
        context.closePath();
        context.fillStyle = colourOf(name);
        context.fill();
        lower.set(upper);
      }
    }
  }

  #line(run, value, isBackwards) {
    const { context } = this;
    const at = (time, level) => context.lineTo(this.x(time), this.areaPx * (1 - level));
    if (!isBackwards) {
      at(run[0].start_s, value(0));
      run.forEach((point, index) => at(point.end_s, value(index)));
    } else {
      for (let index = run.length - 1; index >= 0; index -= 1) at(run[index].end_s, value(index));
      at(run[0].start_s, value(0));
    }
  }

  #ribbon(spans, width) {
    const { context, colours } = this;
    const top = this.areaPx + SPACE_PX;
    context.fillStyle = colours.empty;
    context.fillRect(0, top, width, RIBBON_PX);
    context.font = `11px ${colours.font}`;
    context.textBaseline = "middle";
    for (const span of spans) {
      if (span.end_s < this.fromS) continue;
      const left = Math.max(0, this.x(span.start_s));
      const right = Math.min(width, this.x(span.end_s));
      const isGap = span.type === "gap";
      context.fillStyle = isGap ? colours.gap : paintOf(context, span.label);
      if (!isGap || span.reason !== "silence") {
        context.fillRect(left, top, Math.max(1, right - left - 1), RIBBON_PX);
      }
      const text = isGap ? this.reason(span.reason) : this.word(span.label);
      if (context.measureText(text).width < right - left - 10) {
        if (!isGap && span.label === null) this.#clear(left + 3, top + 3, text);
        context.fillStyle = isGap ? colours.faint : span.label === null ? colours.ink : inkOf(span.label);
        context.fillText(text, left + 5, top + RIBBON_PX / 2 + 0.5);
      }
    }
  }

  /** A word on a hatch is not read: it gets a plain ground. */
  #clear(left, top, text) {
    this.context.fillStyle = this.colours.empty;
    this.context.fillRect(left, top, this.context.measureText(text).width + 4, RIBBON_PX - 6);
  }

  #axis(width, height) {
    const { context, colours } = this;
    const perTick = (this.spanS * 90) / width;
    const tick = TICKS_S.find((step) => step >= perTick) ?? TICKS_S.at(-1);
    context.fillStyle = colours.faint;
    context.font = `11px ${colours.font}`;
    context.textBaseline = "alphabetic";
    for (let time = Math.ceil(this.fromS / tick) * tick; this.x(time) < width; time += tick) {
      const x = this.x(time);
      context.fillRect(Math.round(x), this.areaPx + SPACE_PX + RIBBON_PX, 1, 4);
      if (x < width - 30) context.fillText(clock(time), x + 4, height - 5);
    }
  }

  #events({ marks, alerts }) {
    const { context, colours } = this;
    const line = (timeS, fill, ink, text) => {
      if (timeS < this.fromS) return;
      const x = Math.round(this.x(timeS));
      context.fillStyle = fill;
      context.fillRect(x, 0, 2, this.areaPx + SPACE_PX + RIBBON_PX);
      if (!text) return;
      context.font = `11px ${colours.font}`;
      const shown = fitting(context, text, this.canvas.clientWidth - x - 10);
      context.fillRect(x, 0, context.measureText(shown).width + 10, 18);
      context.fillStyle = ink;
      context.textBaseline = "middle";
      context.fillText(shown, x + 5, 9.5);
    };
    for (const mark of marks) line(mark.at_s, colours.accent, colours.accentInk, mark.name);
    for (const alert of alerts) {
      if (alert.state === "raised") line(alert.at_s, colours.alert, "#ffffff", alert.rule);
    }
  }

  #hover({ points, labels }, width) {
    if (this.hoverX === null) return;
    const { context, colours } = this;
    const time = this.fromS + (this.hoverX / width) * this.spanS;
    const point = points.find((each) => each.start_s <= time && time < each.end_s);
    context.fillStyle = colours.ink;
    context.fillRect(Math.round(this.hoverX), 0, 1, this.areaPx + SPACE_PX + RIBBON_PX);
    const lines = [clock(time)];
    if (point) {
      const order = labels.map((name, at) => [name, point.posteriors[at]]);
      order.sort((one, other) => other[1] - one[1]);
      for (const [name, value] of order.slice(0, 3)) {
        lines.push(`${this.word(name)} ${Math.round(value * 100)} %`);
      }
    }
    context.font = `12px ${colours.font}`;
    const boxWidth = Math.max(...lines.map((text) => context.measureText(text).width)) + 16;
    const left = this.hoverX + boxWidth + 8 > width ? this.hoverX - boxWidth - 8 : this.hoverX + 8;
    context.fillStyle = colours.surface;
    context.strokeStyle = colours.line;
    context.beginPath();
    context.roundRect(left, 8, boxWidth, lines.length * 17 + 9, 6);
    context.fill();
    context.stroke();
    context.fillStyle = colours.ink;
    context.textBaseline = "top";
    lines.forEach((text, at) => context.fillText(text, left + 8, 14 + at * 17));
  }
}

/** As much of a text as there is room for. @param {CanvasRenderingContext2D} context @param {string} text @param {number} px */
function fitting(context, text, px) {
  if (context.measureText(text).width <= px) return text;
  const letters = [...text];
  while (letters.length > 1 && context.measureText(`${letters.join("")}…`).width > px) letters.pop();
  return `${letters.join("")}…`;
}

/** Points in unbroken runs, those before `fromS` left out. */
function runs(points, fromS) {
  const found = [];
  let last = null;
  for (const point of points) {
    if (point.end_s < fromS) continue;
    const isJoined = last !== null && point.start_s - last.end_s < JOINED_S;
    if (isJoined) found.at(-1).push(point);
    else found.push([point]);
    last = point;
  }
  return found;
}

/** What points say after the last span: segments come a little later than points. */
function tail({ points, spans }) {
  let endS = 0;
  for (const span of spans) endS = Math.max(endS, span.end_s);
  const found = [];
  for (const point of points.slice(-20)) {
    if (point.end_s <= endS) continue;
    const last = found.at(-1);
    if (last && last.label === point.label && point.start_s - last.end_s < JOINED_S) last.end_s = point.end_s;
    else found.push({ type: "segment", label: point.label, start_s: Math.max(endS, point.start_s), end_s: point.end_s });
  }
  return found;
}

function readColours(canvas) {
  return {
    empty: colour("--surface-2"),
    gap: colour("--surface-3"),
    faint: colour("--ink-3"),
    ink: colour("--ink"),
    line: colour("--line-strong"),
    surface: colour("--surface"),
    accent: colour("--accent"),
    accentInk: colour("--accent-ink"),
    alert: colour("--alert-fill"),
    font: getComputedStyle(canvas).fontFamily,
  };
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
