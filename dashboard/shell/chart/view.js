/** A timeline as pages show it: how it is seen, its audio, the chart, the whole of it, what is chosen. */
import { h } from "../dom.js";
import { Chart } from "./chart.js";
import { Overview } from "./overview.js";
import { Player } from "./player.js";
import { Selection } from "./selection.js";
import { Sound } from "./sound.js";
import { Toolbar } from "./toolbar.js";

export class TimelineView {
  /**
   * @param {import("../types.js").App} app @param {import("./timeline.js").Timeline} timeline
   * @param {object} options
   * @param {(import("./sound.js").Source & {name: string})[]} [options.audio] `url` is what is heard
   * @param {number} [options.duration_s] of the audio
   * @param {any[]} [options.actions] at the end of the toolbar
   * @param {any[]} [options.tools] what a page does with a selection
   * @param {(at_s: number | null) => void} [options.onHover]
   * @param {(selection: {from_s: number, to_s: number} | null) => void} [options.onSelect]
   */
  constructor(app, timeline, { audio = [], duration_s = 0, actions = [], tools = [], onHover, onSelect } = {}) {
    this.player = audio.length > 0 ? new Player(app, audio, (at_s) => this.chart.crosshair.play(at_s)) : null;
    this.chart = new Chart(app, timeline, {
      sound: audio.length > 0 ? new Sound(audio, duration_s) : null,
      onView: (view) => {
        this.toolbar.draw(view);
        this.overview.draw();
      },
      onHover,
      onPick: (at_s) => this.player?.play(at_s),
      onSelect: (selection) => {
        this.selection.draw(selection);
        onSelect?.(selection);
        this.toolbar.draw(this.chart.view);
      },
    });
    this.toolbar = new Toolbar(app, timeline, this.chart, ...actions);
    this.overview = new Overview(app, timeline, this.chart);
    this.selection = new Selection(app, timeline, this.chart, () => this.player, ...tools);
    this.element = h(
      "section",
      { class: "card chart-card", "aria-label": app.t("chart.title") },
      this.toolbar.element,
      this.player?.element,
      this.selection.element,
      this.chart.element,
      this.overview.element,
    );
  }

  /** Show a moment, and hear from there when it is played. @param {number} at_s */
  jump(at_s) {
    this.chart.jump(at_s);
    this.player?.seek(at_s);
  }

  destroy() {
    this.chart.destroy();
    this.overview.destroy();
    this.player?.destroy();
  }
}
