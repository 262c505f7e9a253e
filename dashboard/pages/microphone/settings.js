/** Which microphone, who speaks, and what the stream is called. */
import { fill, h } from "../../shell/dom.js";
import { roleName } from "../../shell/names.js";
import { recall, remember } from "../../shell/theme.js";
import { listMicrophones } from "./capture.js";
import { microphone } from "./session.js";

const MAX_NAME = 256;

/** @param {import("../../shell/types.js").App} app */
export function makeSettings(app) {
  const { t } = app;
  const device = h("select", { class: "field", onchange: () => void changed() });
  const roles = app.info.analyse_roles;
  const role = h("select", { class: "field" }, roles.map((each) => h("option", { value: each }, roleName(app, each))));
  const name = h("input", { class: "field", maxlength: MAX_NAME, placeholder: t("microphone.stream_name"), autocomplete: "off" });
  const stored = recall("mic.role");
  role.value = roles.includes(stored) ? stored : roles.includes("speaker") ? "speaker" : roles[0];
  role.addEventListener("change", () => remember("mic.role", role.value));
  const field = (key, control) => h("label", {}, h("span", { class: "muted" }, t(`microphone.setting.${key}`)), control);
  const element = h("div", { class: "mic-settings" }, field("device", device), field("role", role), field("name", name));

  async function listDevices() {
    const devices = await listMicrophones();
    const chosen = microphone.microphone.deviceId || device.value;
    fill(
      device,
      devices.length === 0 && h("option", { value: "" }, t("microphone.device.default")),
      devices.map(({ deviceId, label }, at) =>
        h("option", { value: deviceId }, label || t("microphone.device.number", { n: at + 1 })),
      ),
    );
    if (devices.some(({ deviceId }) => deviceId === chosen)) device.value = chosen;
  }

  /** The microphone may be changed while it streams; the stream goes on. */
  async function changed() {
    if (microphone.isActive) await microphone.change(device.value);
  }

  const onDevices = () => void listDevices();
  navigator.mediaDevices?.addEventListener("devicechange", onDevices);

  return {
    element,
    listDevices,
    values: () => ({ deviceId: device.value, role: role.value, name: name.value.trim() }),
    /** @param {boolean} isActive what began as one role and name goes on so */
    lock(isActive) {
      role.disabled = name.disabled = isActive;
    },
    close: () => navigator.mediaDevices?.removeEventListener("devicechange", onDevices),
  };
}
