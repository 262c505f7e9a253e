/** Words for what results name by identifiers: roles, streams, channels. */

/** @param {import("./types.js").App} app @param {string} role */
export function roleName(app, role) {
  const key = `role.${role}`;
  const text = app.t(key);
  return text === key ? role.replace(/[_-]/g, " ").replace(/^./, (letter) => letter.toUpperCase()) : text;
}

/** The rules that come with the server have names in both languages; others are called as they are. @param {import("./types.js").App} app @param {string} rule */
export function ruleName(app, rule) {
  const key = `rule.${rule}`;
  const text = app.t(key);
  return text === key ? rule : text;
}

/** @param {import("./types.js").App} app @param {string} name @param {string} id */
export function streamName(app, name, id) {
  return name || `${app.t("common.unnamed")} ${id.slice(0, 6)}`;
}

/** @param {import("./types.js").App} app @param {import("./types.js").StreamChannel} channel */
export function channelName(app, channel) {
  return channel.name ? `${roleName(app, channel.role)} · ${channel.name}` : roleName(app, channel.role);
}

/** Whom one listens for comes first, whoever works there last. */
const LAST_ROLES = ["agent"];

/**
 * @template {{role: string, index?: number, channel?: number}} Channel
 * @param {Channel[]} channels @returns {Channel[]} from top to bottom, e.g. customer above agent
 */
export function inOrder(channels) {
  return [...channels].sort((a, b) => LAST_ROLES.indexOf(a.role) - LAST_ROLES.indexOf(b.role));
}

/**
 * A speaker of a channel as people call them: by the name that somebody gave; who turned out to be
 * another one is called as that one; else by a word, which is translated, and the number.
 * @param {import("./types.js").App} app @param {string} name of results
 * @param {{names: Record<string, string>, same_as: Record<string, string>}} [channel]
 */
export function speakerName(app, name, channel) {
  if (channel && Object.hasOwn(channel.names, name)) return channel.names[name];
  if (channel && Object.hasOwn(channel.same_as, name)) return speakerName(app, channel.same_as[name], channel);
  const number = /^speaker (\d+)$/.exec(name)?.[1];
  return number ? app.t("common.speaker_n", { n: number }) : name;
}
