/** What is wrong with microphone or connection, in words, and what to do. */
import { describeWarning } from "../../shell/states.js";

const CAPTURE = ["insecure", "unsupported", "denied", "denied_by_system", "none", "busy", "lost", "other"];
const SERVER = [
  "server_full", "too_many_streams", "not_ready", "unauthorized", "forbidden", "forbidden_origin", "nothing_to_analyse",
  "shutting_down", "engine_failed", "replaced", "no_notice", "objected",
];

/**
 * @param {import("../../shell/types.js").App} app
 * @param {import("./session.js").MicrophoneSession} session
 * @returns {{kind: "error" | "", title: string, remedy: string} | null}
 */
export function problemOf(app, session) {
  const { t } = app;
  const { error } = session;
  const found = (key, kind, values) => ({ kind, title: t(`microphone.problem.${key}`, values), remedy: t(`microphone.remedy.${key}`, values) });
  if (error?.kind === "capture") {
    return found(CAPTURE.includes(error.code) ? error.code : "other", "error", { detail: error.message });
  }
  if (session.state === "waiting") {
    const isKnown = error && SERVER.includes(error.code);
    return isKnown ? found(error.code, "", {}) : found("connection", "", {});
  }
  if (error && session.state === "failed") {
    if (SERVER.includes(error.code)) return found(error.code, "error", {});
    return { kind: "error", title: error.message || t("microphone.problem.server"), remedy: error.remedy || t("microphone.remedy.server") };
  }
  if (!session.isActive) return null;
  if (session.isMuted) return found("muted", "", {});
  if (session.isQuiet) return found("quiet", "", {});
  const warning = session.results.warnings.at(-1);
  // Of what the server heard lately.
  if (warning && session.elapsedS - warning.at_s < 10) return { kind: "", title: t(`microphone.warning.${warning.code}`), remedy: describeWarning(app, warning) };
  return null;
}
