// Runs before the first paint, so that a chosen theme or language does not flash past.
// A classic script: modules run too late.
(() => {
  const stored = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage can be forbidden; the system's choice holds then
    }
  };
  const theme = stored("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const lang = stored("lang") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
})();
