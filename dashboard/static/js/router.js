/** Pages by path. Links stay ordinary links: this only takes the clicks that lead to a page. */

/** @type {[RegExp, string][]} path and module of `pages/` */
const ROUTES = [
  [/^\/$/, "wall"],
  [/^\/streams\/(?<id>[^/]+)$/, "stream"],
  [/^\/microphone$/, "microphone"],
  [/^\/analyse$/, "analyse"],
  [/^\/alerts$/, "alerts"],
  [/^\/history$/, "history"],
];

/**
 * @param {string} path with its query
 * @returns {{page: string, params: import("./types.js").Params}}
 */
export function routeOf(path) {
  const url = new URL(path, location.origin);
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(url.pathname);
    if (match) {
      const id = match.groups?.id;
      const params = { path: url.pathname, query: url.searchParams };
      return { page, params: id === undefined ? params : { ...params, id: decodeURIComponent(id) } };
    }
  }
  return { page: "missing", params: { path: url.pathname, query: url.searchParams } };
}

/** Call with the path of every link to a page. @param {(path: string) => void} go */
export function takeLinks(go) {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = /** @type {Element} */ (event.target).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement)) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (routeOf(link.href).page === "missing" || link.getAttribute("href")?.startsWith("#")) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
