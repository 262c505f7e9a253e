/** Acknowledging an alert with a note. */
import { ask, describeError, toast } from "./states.js";

/**
 * @param {import("./types.js").App} app @param {import("./types.js").AlertRecord} alert
 * @returns {Promise<boolean>} whether it was tried
 */
export async function acknowledge(app, alert) {
  const note = await ask(app, {
    title: app.t("acknowledge.title", { rule: alert.rule }),
    text: app.t("acknowledge.text"),
    action: app.t("acknowledge.action"),
    field: { label: app.t("acknowledge.note"), placeholder: app.t("acknowledge.note_placeholder") },
  });
  if (note === null) return false;
  try {
    await app.api.acknowledge(alert.alert_id, note);
    toast(app.t("acknowledge.done"));
    app.emit("alerts");
  } catch (error) {
    toast(describeError(app, error), "error");
  }
  return true;
}
