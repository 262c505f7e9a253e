/** Words for what results name by identifiers: roles, streams, channels. */

/** @param {import("./types.js").App} app @param {string} role */
export function roleName(app, role) {
  const key = `role.${role}`;
  const text = app.t(key);
  return text === key ? role.replace(/[_-]/g, " ").replace(/^./, (letter) => letter.toUpperCase()) : text;
}

/** @param {import("./types.js").App} app @param {string} name @param {string} id */
export function streamName(app, name, id) {
  return name || `${app.t("common.unnamed")} ${id.slice(0, 6)}`;
}

/** @param {import("./types.js").App} app @param {import("./types.js").StreamChannel} channel */
export function channelName(app, channel) {
  return channel.name ? `${roleName(app, channel.role)} · ${channel.name}` : roleName(app, channel.role);
}
