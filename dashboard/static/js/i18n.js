/** Text in English and Chinese. A test holds both dictionaries to the same keys. */
import en from "./i18n/en/index.js";
import zh from "./i18n/zh/index.js";

const DICTIONARIES = { en, zh };

/** @typedef {"en" | "zh"} Lang */

/** @returns {Lang} what first_paint.js chose */
export function currentLang() {
  return document.documentElement.lang.startsWith("zh") ? "zh" : "en";
}

/** @param {Lang} lang */
export function makeTexts(lang) {
  const texts = DICTIONARIES[lang];
  const rules = new Intl.PluralRules(lang);

  /** @param {string} key @param {Record<string, string | number>} [values] */
  function t(key, values = {}) {
    const text = texts[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  }

  /** @param {string} key @param {number} count @param {Record<string, string | number>} [values] */
  function plural(key, count, values = {}) {
    const form = rules.select(count) === "one" ? "one" : "other";
    return t(`${key}.${form}`, { n: count, ...values });
  }

  /** @param {string} key @returns {boolean} */
  const has = (key) => key in texts;

  return { t, plural, has };
}
