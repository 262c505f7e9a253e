/** Acknowledging an alert with a note. */
import { ask, describeError, toast } from "../states.js";

/**
 * @param {import("../types.js").App} app @param {import("../types.js").AlertRecord} alert
 * @returns {Promise<boolean>} whether it was tried
 */
export async function acknowledge(app, alert) {
  const note = await ask(app, {
    title: app.t("alerts.acknowledge_title", { rule: alert.rule }),
    text: app.t("alerts.acknowledge_text"),
    action: app.t("alerts.acknowledge"),
    field: { label: app.t("alerts.note"), placeholder: app.t("alerts.note_placeholder") },
  });
  if (note === null) return false;
  try {
    await app.api.acknowledge(alert.alert_id, note);
    toast(app.t("alerts.done"));
    app.emit("alerts");
  } catch (error) {
    toast(describeError(app, error), "error");
  }
  return true;
}
