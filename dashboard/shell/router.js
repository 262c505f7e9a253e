/** Pages by path. Links stay ordinary links: this only takes the clicks that lead to a page. */

import { PAGES } from "../pages.js";

/**
 * Where this server's paths begin, "/" or e.g. "/emotion/": behind a proxy it may be below a path
 * that it does not know of. This script is `static/shell/router.js` there.
 */
const ROOT = new URL("../..", import.meta.url).pathname;

/** The address of a path of this server, for links, requests and the history. @param {string} path e.g. `/alerts` */
export function addressOf(path) {
  return ROOT + path.slice(1);
}

/** @type {[RegExp, string][]} of `/streams/{id}`: a path, and the folder of its page */
const ROUTES = PAGES.map(({ path, name }) => [new RegExp(`^${path.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)")}$`), name]);

/**
 * @param {string} path as in the browser's address, with its query
 * @returns {{page: string, params: import("./types.js").Params}} "" for none
 */
export function routeOf(path) {
  const url = new URL(path, location.origin);
  const inside = url.pathname.startsWith(ROOT) ? `/${url.pathname.slice(ROOT.length)}` : url.pathname;
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(inside);
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
