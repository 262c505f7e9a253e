/** Texts in English and Chinese: those of the shell, and those of each page's folder. */
import { PAGES } from "../pages.js";
import en from "./words.en.js";
import zh from "./words.zh.js";

/** @typedef {"en" | "zh"} Lang */

/** @type {Record<Lang, Record<string, string>>} */
const DICTIONARIES = { en: { ...en }, zh: { ...zh } };
/** @type {Partial<Record<Lang, Promise<void>>>} */
const loading = {};

/** @returns {Lang} what first_paint.js chose */
export function currentLang() {
  return document.documentElement.lang.startsWith("zh") ? "zh" : "en";
}

/** Add the texts of the pages to the shell's. @param {Lang} lang @returns {Promise<void>} */
export function loadTexts(lang) {
  loading[lang] ??= Promise.all(PAGES.map(({ name }) => import(`../pages/${name}/words.${lang}.js`)))
    .then((pages) => void Object.assign(DICTIONARIES[lang], ...pages.map((page) => page.default)))
    .catch((error) => {
      delete loading[lang]; // the next call tries again
      throw error;
    });
  return loading[lang];
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
