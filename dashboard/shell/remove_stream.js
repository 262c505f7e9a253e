/** Deleting a stream, after asking. */
import { streamName } from "./names.js";
import { addressOf } from "./router.js";
import { ask, describeError, toast } from "./states.js";

/** @returns {Promise<boolean>} whether it was deleted. @param {import("./types.js").App} app @param {any} stream */
export async function removeStream(app, stream) {
  const name = streamName(app, stream.name, stream.stream_id);
  const answer = await ask(app, { title: app.t("delete.title", { name }), text: app.t("delete.text"), action: app.t("action.delete"), danger: true });
  if (answer === null) return false;
  try {
    await app.api.deleteStream(stream.stream_id);
  } catch (error) {
    toast(describeError(app, error), "error");
    return false;
  }
  toast(app.t("delete.done", { name }));
  if (location.pathname.startsWith(addressOf("/streams/"))) app.navigate(addressOf("/history"));
  return true;
}
