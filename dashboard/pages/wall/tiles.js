import { inOrder } from "../../shell/names.js";
import { UNCLEAR } from "../../shell/palette.js";

/**
 * What is known of the live streams: snapshot, then changes. Pure: no elements.
 *
 * @typedef {object} TileChannel
 * @property {number} channel
 * @property {string} role
 * @property {string} name
 * @property {boolean} analysed
 * @property {string | null} label  null: unclear, or no speech yet
 * @property {number | null} confidence  0 to 1; null: no speech yet
 * @property {number | null} since_s
 * @property {boolean} speaking
 * @property {{label: string | null, since_s: number | null, before: string | null, before_until_s: number | null}} state  of the last half minute of speech
 * @property {[number, string | null, number][]} trend  [start_s, label, confidence], 5 s each
 *
 * @typedef {object} TileAlert
 * @property {string} alert_id
 * @property {string} rule
 * @property {"info" | "warning" | "critical"} severity
 * @property {number} channel
 * @property {string} role
 * @property {number} since_s
 * @property {number} at_s
 * @property {boolean} acknowledged
 * @property {number | null} cleared_s  null: still active
 * @property {number} times  unacknowledged ones of this rule and channel
 *
 * @typedef {object} Tile
 * @property {string} stream_id
 * @property {string} name
 * @property {string} team  "": nobody's in particular
 * @property {string[]} roles
 * @property {number} opened_at
 * @property {number} duration_s
 * @property {TileChannel[]} channels
 * @property {TileAlert[]} alerts
 * @property {number} worst
 * @property {string | null} withheld  why nothing is analysed now
 */

/** Alerts add 0.5 to 2, an emotion up to 1. */
const RANK_MARGIN = 0.1;

export class Tiles {
  /** @type {Map<string, Tile>} a tile that changed is a new object, one that did not the same */
  all = new Map();
  /** Whether there was a snapshot, and whether the server is away since. */
  loaded = false;
  lost = false;
  /** @type {string[]} ids in the order that was shown last */
  rank = [];
  /** @type {Set<string>} ids of those that stay in front */
  pinned = new Set();

  /** @param {any} message of the wall's feed @returns {TileAlert[]} alerts that are new */
  take(message) {
    const known = new Set([...this.all.values()].flatMap((tile) => tile.alerts.map((alert) => alert.alert_id)));
    if (message.type === "snapshot") this.all = new Map(message.tiles.map((/** @type {Tile} */ tile) => [tile.stream_id, tile]));
    if (message.type === "changes") {
      for (const tile of message.opened) this.all.set(tile.stream_id, tile);
      for (const id of message.removed) this.all.delete(id);
      for (const change of message.changed) this.#change(change);
    }
    return [...this.all.values()].flatMap((tile) => tile.alerts).filter((alert) => !known.has(alert.alert_id));
  }

  #change(change) {
    const tile = this.all.get(change.stream_id);
    if (!tile) return;
    const channels = tile.channels.map((channel) => ({
      ...channel,
      ...change.channels.find((other) => other.channel === channel.channel),
    }));
    this.all.set(tile.stream_id, { ...tile, ...change, channels });
  }

  /**
   * Those that match: the pinned ones, then the others in the order that is asked for.
   * @param {Filter} filter @returns {Tile[]}
   */
  sorted(filter) {
    const ranked = this.#ranked().filter((tile) => matches(tile, filter));
    const before = ORDERS[filter.sort];
    if (before) ranked.sort(before);
    const isPinned = (/** @type {Tile} */ tile) => this.pinned.has(tile.stream_id);
    return [...ranked.filter(isPinned), ...ranked.filter((tile) => !isPinned(tile))];
  }

  /**
   * All of them, the worst first. A tile passes another only where it is clearly worse, so that
   * two of about the same do not change places with every word.
   * @returns {Tile[]}
   */
  #ranked() {
    const known = this.rank.filter((id) => this.all.has(id));
    const seen = new Set(known);
    const fresh = [...this.all.keys()].filter((id) => !seen.has(id));
    /** @type {Tile[]} */
    const ranked = [];
    for (const id of [...known, ...fresh]) {
      const tile = /** @type {Tile} */ (this.all.get(id));
      const margin = seen.has(id) ? RANK_MARGIN : 0;
      let place = ranked.length;
      while (place > 0 && tile.worst > ranked[place - 1].worst + margin) place -= 1;
      ranked.splice(place, 0, tile);
    }
    this.rank = ranked.map((tile) => tile.stream_id);
    return ranked;
  }
}

/** Other orders than that of need; where two are equal, that of need. @type {Record<string, (one: Tile, other: Tile) => number>} */
const ORDERS = {
  name: (one, other) => (one.name || one.stream_id).localeCompare(other.name || other.stream_id),
  longest: (one, other) => one.opened_at - other.opened_at,
  newest: (one, other) => other.opened_at - one.opened_at,
};
export const SORTS = ["worst", ...Object.keys(ORDERS)];
export const GROUPS = ["none", "team", "role"];

/**
 * Tiles by team, or by the role one listens for, in the order of their first tile.
 * @param {Tile[]} tiles in their order @param {string} group
 * @returns {{key: string, tiles: Tile[]}[]} `key`: "" for those without, and for all where nothing is grouped
 */
export function grouped(tiles, group) {
  const keyOf = (/** @type {Tile} */ tile) => (group === "team" ? tile.team : group === "role" ? (inOrder(tile.channels)[0]?.role ?? "") : "");
  /** @type {Map<string, Tile[]>} */
  const groups = new Map();
  for (const tile of tiles) groups.set(keyOf(tile), [...(groups.get(keyOf(tile)) ?? []), tile]);
  return [...groups].map(([key, some]) => ({ key, tiles: some }));
}

const SEVERITIES = ["critical", "warning", "info"];

/**
 * @typedef {object} Filter
 * @property {string} text  part of the name or id
 * @property {string} emotion  "" for all
 * @property {string} role  "" for all
 * @property {boolean} alerts  only those with an open alert
 * @property {string} sort  one of {@link SORTS}
 * @property {string} group  one of {@link GROUPS}
 */

/** @param {Tile} tile @param {Filter} filter */
export function matches(tile, { text, emotion, role, alerts }) {
  if (alerts && openAlerts(tile).length === 0) return false;
  if (role && !tile.roles.includes(role)) return false;
  if (emotion && !tile.channels.some((channel) => stateOf(channel) === emotion)) return false;
  const words = `${tile.name} ${tile.stream_id} ${tile.channels.map((channel) => channel.name).join(" ")}`;
  return words.toLowerCase().includes(text.toLowerCase());
}

/** @param {Tile} tile @returns {TileAlert[]} unacknowledged alerts, active or cleared, the most urgent first */
export function openAlerts(tile) {
  const rank = (/** @type {TileAlert} */ alert) => (alert.cleared_s === null ? 0 : 3) + SEVERITIES.indexOf(alert.severity);
  return tile.alerts.filter((alert) => !alert.acknowledged).sort((a, b) => rank(a) - rank(b) || b.at_s - a.at_s);
}

/** @param {TileChannel} channel @returns {string} emotion, `unclear`, `silent`, or "" where nothing is analysed */
export function stateOf(channel) {
  if (!channel.analysed) return "";
  return channel.speaking ? (channel.label ?? UNCLEAR) : "silent";
}
