/** Acknowledging an alert with a note. */
import { ruleName } from "./names.js";
import { ask, describeError, toast } from "./states.js";

const MOST_OF_A_CALL = 1000;
const LONGEST_NOTE = 2000;

/** @param {import("./types.js").App} app @returns {boolean} whether one may deal with alerts, not only look at them */
export function mayDeal(app) {
  return app.info.me.scopes.includes("operate");
}

/**
 * Ask for a note and acknowledge with it: one alert, or several of one call.
 * @param {import("./types.js").App} app @param {...{alert_id: string, rule: string, stream_id: string}} alerts
 * @returns {Promise<boolean>} whether all are acknowledged
 */
export async function acknowledge(app, ...alerts) {
  const note = await ask(app, {
    title: alerts.length === 1 ? app.t("acknowledge.title", { rule: ruleName(app, alerts[0].rule) }) : app.plural("acknowledge.title_many", alerts.length),
    text: app.t("acknowledge.text"),
    action: app.t("acknowledge.action"),
    field: { label: app.t("acknowledge.note"), placeholder: app.t("acknowledge.note_placeholder") },
  });
  if (note === null) return false;
  try {
    // What somebody else wrote while this person was writing stays: theirs, then this.
    const { alerts: done } = await app.api.alerts({ state: "acknowledged", stream: alerts[0].stream_id, limit: MOST_OF_A_CALL });
    const notes = new Map(done.map((each) => [each.alert_id, each.acknowledged_note ?? ""]));
    for (const { alert_id } of alerts) {
      const before = notes.get(alert_id);
      if (before !== undefined && !note) continue;
      await app.api.acknowledge(alert_id, [before, note].filter(Boolean).join("\n").slice(0, LONGEST_NOTE));
    }
    toast(app.plural("acknowledge.done", alerts.length));
    return true;
  } catch (error) {
    toast(describeError(app, error), "error");
    return false;
  } finally {
    app.emit("alerts");
  }
}
