/** Alerts that call: a notification of the browser and two tones, for those who asked for it. */

import { ruleName } from "./names.js";
import { recall, remember } from "./theme.js";

export const LEVELS = /** @type {const} */ (["off", "critical", "warning", "info"]);
const KEY = "notify";
const TONES_HZ = [880, 660];
const TONE_S = 0.18;

/** @returns {"off" | "critical" | "warning" | "info"} the least severe alert that calls */
export function notifyLevel() {
  const level = recall(KEY);
  return LEVELS.find((each) => each === level) ?? "off";
}

/**
 * Choose the least severe alert that calls; the browser asks for permission.
 * @param {string} level @returns {Promise<boolean>} whether notifications may be shown
 */
export async function chooseNotifyLevel(level) {
  remember(KEY, level);
  if (level === "off") return true;
  if (!("Notification" in window)) return false;
  return (await Notification.requestPermission()) === "granted";
}

/** @param {import("./types.js").App} app */
export function notifier(app) {
  /** @type {Set<string> | null} alerts that were there before, or were told of; null: not asked yet */
  let known = null;
  return {
    isOn: () => notifyLevel() !== "off",
    /** @param {import("./types.js").AlertRecord[]} alerts unacknowledged ones */
    tell(alerts) {
      const news = known === null ? [] : alerts.filter((alert) => !known?.has(alert.alert_id));
      known = new Set(alerts.map((alert) => alert.alert_id));
      const level = LEVELS.indexOf(notifyLevel());
      const calling = news.filter((alert) => LEVELS.indexOf(alert.severity) <= level);
      if (calling.length === 0) return;
      if ("Notification" in window && Notification.permission === "granted") {
        for (const alert of calling.slice(0, 3)) {
          new Notification(ruleName(app, alert.rule), { body: alert.stream_name || app.t("common.unnamed"), tag: alert.alert_id });
        }
      }
      playTones();
    },
  };
}

function playTones() {
  const audio = new AudioContext();
  TONES_HZ.forEach((hz, index) => {
    const tone = new OscillatorNode(audio, { frequency: hz });
    const volume = new GainNode(audio, { gain: 0.15 });
    tone.connect(volume).connect(audio.destination);
    tone.start(audio.currentTime + index * TONE_S);
    tone.stop(audio.currentTime + (index + 1) * TONE_S);
    if (index === TONES_HZ.length - 1) tone.onended = () => void audio.close();
  });
}
