/** Playback of what was recorded, with a cursor on the timeline. */
import { fill, h, setText } from "../dom.js";
import { icon } from "../icons.js";

const SPEEDS = [1, 1.5, 2];

export class Player {
  /**
   * @param {import("../types.js").App} app
   * @param {{name: string, url: string}[]} sources of which one is heard at a time
   * @param {(at_s: number | null) => void} onTime
   */
  constructor(app, sources, onTime) {
    this.app = app;
    this.onTime = onTime;
    /** @type {number | null} where a selection ends */
    this.until_s = null;
    this.audio = h("audio", { preload: "none", src: sources[0].url });
    this.button = h("button", { class: "button", type: "button", onclick: () => this.toggle() });
    this.time = h("span", { class: "number muted" }, app.format.clock(0));
    this.problem = h("span", { class: "muted", role: "status" });
    const choice = h("select", { class: "field", "aria-label": app.t("chart.player.channel") }, sources.map(({ name, url }) => h("option", { value: url }, name)));
    choice.addEventListener("change", () => this.#choose(choice.value));
    const speed = h("select", { class: "field", "aria-label": app.t("chart.player.speed") }, SPEEDS.map((value) => h("option", { value }, `${value}×`)));
    speed.addEventListener("change", () => (this.audio.playbackRate = Number(speed.value)));
    this.element = h("div", { class: "player", role: "group", "aria-label": app.t("chart.player.label") }, this.button, sources.length > 1 && choice, speed, this.time, this.problem, this.audio);
    for (const event of ["play", "pause", "ended"]) this.audio.addEventListener(event, () => this.#draw());
    this.audio.addEventListener("error", () => setText(this.problem, app.t("chart.player.failed")));
    this.handle = 0;
    this.#draw();
  }

  /** @param {string} url */
  #choose(url) {
    const at_s = this.audio.currentTime;
    const playing = !this.audio.paused;
    this.audio.src = url;
    this.audio.currentTime = at_s;
    if (playing) void this.audio.play().catch(() => {});
  }

  toggle() {
    setText(this.problem, "");
    this.until_s = null;
    if (this.audio.paused) this.#start();
    else this.audio.pause();
  }

  /** Hear a part, or from a moment on. @param {number} from_s @param {number | null} [until_s] */
  play(from_s, until_s = null) {
    this.seek(from_s);
    this.until_s = until_s;
    if (this.audio.paused) this.#start();
  }

  #start() {
    void this.audio.play().catch(() => setText(this.problem, this.app.t("chart.player.failed")));
  }

  /** @param {number} at_s */
  seek(at_s) {
    this.audio.currentTime = at_s;
    this.#tell();
  }

  #draw() {
    const playing = !this.audio.paused;
    fill(this.button, icon(playing ? "pause" : "play"), this.app.t(playing ? "chart.player.pause" : "chart.player.play"));
    cancelAnimationFrame(this.handle);
    if (playing) this.#tick();
  }

  #tick() {
    if (this.until_s !== null && this.audio.currentTime >= this.until_s) {
      this.until_s = null;
      this.audio.pause();
    }
    this.#tell();
    this.handle = requestAnimationFrame(() => this.#tick());
  }

  #tell() {
    setText(this.time, this.app.format.clock(this.audio.currentTime));
    this.onTime(this.audio.currentTime);
  }

  destroy() {
    cancelAnimationFrame(this.handle);
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load();
  }
}
