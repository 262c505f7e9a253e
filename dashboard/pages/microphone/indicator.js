/**
 * Says on every other page that the microphone is on, with a way back and a way to stop: nobody
 * shall be listened to without seeing it.
 */
import { fill, h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { currentLang, makeTexts } from "../../shell/i18n.js";
import { addressOf } from "../../shell/router.js";
import { microphone } from "./session.js";

const element = h("div", { class: "mic-indicator", role: "status" });
const language = new MutationObserver(show);

export function showIndicator() {
  document.body.append(element);
  microphone.addEventListener("change", show);
  language.observe(document.documentElement, { attributeFilter: ["lang"] });
  show();
}

export function hideIndicator() {
  element.remove();
  language.disconnect();
  microphone.removeEventListener("change", show);
}

function show() {
  if (!microphone.isActive) return hideIndicator();
  const { t } = makeTexts(currentLang());
  const state = microphone.state === "live" && microphone.isPaused ? "paused" : microphone.state;
  fill(
    element,
    icon("microphone"),
    h("a", { href: addressOf("/microphone") }, t("microphone.indicator"), " · ", t(`microphone.state.${state}`)),
    h("button", { class: "button danger", type: "button", onclick: () => microphone.stop() }, t("microphone.stop")),
  );
}
