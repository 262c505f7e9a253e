/** Numbers with their units, times in the viewer's zone. */

/** @typedef {ReturnType<typeof makeFormat>} Format */

/** @param {"en" | "zh"} lang */
export function makeFormat(lang) {
  // A viewer who reads English keeps the English of the browser: 24 hours, order of the date.
  const locale = lang === "zh" ? "zh-CN" : navigator.language.startsWith("en") ? navigator.language : "en-GB";
  const time = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  const shortTime = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
  const dayOfYear = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", year: "numeric" });
  const full = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "long" });
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
  const number = new Intl.NumberFormat(locale);
  const decimal = new Intl.NumberFormat(locale, { maximumFractionDigits: 1, minimumFractionDigits: 1 });
  const date = (at_s) => new Date(at_s * 1000);

  return {
    /** @param {number} value */
    count: (value) => number.format(value),
    /** @param {number} share 0 to 1 */
    percent: (share) => `${Math.round(share * 100)}\u202f%`,
    /** @param {number} seconds */
    seconds: (seconds) => `${decimal.format(seconds)}\u202fs`,
    /** @param {number} seconds e.g. 3:07 or 1:02:09, a position or a length */
    clock: (seconds) => clock(seconds),
    /** With tenths, e.g. 3:07.4. @param {number} seconds */
    moment: (seconds) => `${clock(Math.floor(seconds * 10 + 1e-6) / 10)}.${Math.floor(seconds * 10 + 1e-6) % 10}`,
    /** With hundredths, e.g. 3:07.42. @param {number} seconds */
    hundredths: (seconds) => {
      const whole = Math.floor(seconds * 100 + 1e-6);
      return `${clock(Math.floor(whole / 100))}.${String(whole % 100).padStart(2, "0")}`;
    },
    /** @param {number} at_s since 1970 */
    time: (at_s) => time.format(date(at_s)),
    /** Today's only the time, others with their day. @param {number} at_s */
    dateTime: (at_s) => {
      const now = new Date();
      const then = date(at_s);
      if (then.toDateString() === now.toDateString()) return time.format(then);
      const dayText = (then.getFullYear() === now.getFullYear() ? day : dayOfYear).format(then);
      return `${dayText}, ${shortTime.format(then)}`;
    },
    /** With the zone, for titles. @param {number} at_s */
    fullTime: (at_s) => full.format(date(at_s)),
    /** @param {number} at_s */
    ago: (at_s) => {
      const seconds = at_s - Date.now() / 1000;
      const [divisor, unit] = Math.abs(seconds) < 90 ? [1, "second"] : Math.abs(seconds) < 5400 ? [60, "minute"] : Math.abs(seconds) < 129_600 ? [3600, "hour"] : [86_400, "day"];
      return relative.format(Math.round(seconds / Number(divisor)), /** @type {any} */ (unit));
    },
    /** @param {number} hz */
    rate: (hz) => `${number.format(hz / 1000)}\u202fkHz`,
    /** @param {number} ms */
    milliseconds: (ms) => `${number.format(Math.round(ms))}\u202fms`,
  };
}

function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
