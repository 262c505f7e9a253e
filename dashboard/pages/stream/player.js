/** Playback of what was recorded, with a cursor on the timeline. */
import { fill, h, setText } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { channelName } from "../../shell/names.js";

const SPEEDS = [1, 1.5, 2];

export class Player {
  /**
   * @param {import("../../shell/types.js").App} app @param {string} stream_id
   * @param {import("../../shell/types.js").StreamChannel[]} channels that are recorded
   * @param {(at_s: number | null) => void} onTime
   */
  constructor(app, stream_id, channels, onTime) {
    this.app = app;
    this.onTime = onTime;
    this.audio = h("audio", { preload: "none", src: app.api.recordingUrl(stream_id, channels[0].index) });
    this.button = h("button", { class: "button", type: "button", onclick: () => this.toggle() });
    this.time = h("span", { class: "number muted" }, app.format.clock(0));
    this.problem = h("span", { class: "muted", role: "status" });
    const choice = h("select", { class: "field", "aria-label": app.t("stream.player.channel") }, channels.map((channel) => h("option", { value: channel.index }, channelName(app, channel))));
    choice.addEventListener("change", () => this.#choose(app.api.recordingUrl(stream_id, Number(choice.value))));
    const speed = h("select", { class: "field", "aria-label": app.t("stream.player.speed") }, SPEEDS.map((value) => h("option", { value }, `${value}×`)));
    speed.addEventListener("change", () => (this.audio.playbackRate = Number(speed.value)));
    this.element = h("div", { class: "player", role: "group", "aria-label": app.t("stream.player.label") }, this.button, choice, speed, this.time, this.problem, this.audio);
    for (const event of ["play", "pause", "ended"]) this.audio.addEventListener(event, () => this.#draw());
    this.audio.addEventListener("error", () => setText(this.problem, app.t("stream.player.failed")));
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
    if (this.audio.paused) void this.audio.play().catch(() => setText(this.problem, this.app.t("stream.player.failed")));
    else this.audio.pause();
  }

  /** @param {number} at_s */
  seek(at_s) {
    this.audio.currentTime = at_s;
    this.#tell();
  }

  #draw() {
    const playing = !this.audio.paused;
    fill(this.button, icon(playing ? "pause" : "play"), this.app.t(playing ? "stream.player.pause" : "stream.player.play"));
    cancelAnimationFrame(this.handle);
    if (playing) this.#tick();
  }

  #tick() {
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
