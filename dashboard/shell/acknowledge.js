/** Acknowledging an alert with a note. */
import { ruleName } from "./names.js";
import { ask, describeError, toast } from "./states.js";

/** @param {import("./types.js").App} app @returns {boolean} whether one may deal with alerts, not only look at them */
export function mayDeal(app) {
  return app.info.me.scopes.includes("operate");
}

/**
 * Ask for a note and acknowledge with it: one alert, or several of one call.
 * @param {import("./types.js").App} app @param {...{alert_id: string, rule: string}} alerts
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
    for (const alert of alerts) await app.api.acknowledge(alert.alert_id, note);
    toast(app.plural("acknowledge.done", alerts.length));
    return true;
  } catch (error) {
    toast(describeError(app, error), "error");
    return false;
  } finally {
    app.emit("alerts");
  }
}
