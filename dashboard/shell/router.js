/** Pages by path. Links stay ordinary links: this only takes the clicks that lead to a page. */

import { PAGES } from "../pages.js";

/** @type {[RegExp, string][]} of `/streams/{id}`: a path, and the folder of its page */
const ROUTES = PAGES.map(({ path, name }) => [new RegExp(`^${path.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}$`), name]);

/**
 * @param {string} path with its query
 * @returns {{page: string, params: import("./types.js").Params}} "" for none
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
  return { page: "", params: { path: url.pathname, query: url.searchParams } };
}

/** Call with the path of every link to a page. @param {(path: string) => void} go */
export function takeLinks(go) {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = /** @type {Element} */ (event.target).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement)) return;
    if (link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (!routeOf(link.href).page || link.getAttribute("href")?.startsWith("#")) return;
    event.preventDefault();
    go(link.pathname + link.search);
  });
}
