"""The pages. A page is one folder here and one line in :data:`PAGES`.

==================  ================================================================
``page.js``         exports ``mount(root, params, app)``, see ``shell/types.js``; other
                    scripts of the page stand beside it
``style.css``       its styles
``words.en.js``     its texts, keyed ``NAME.…``; ``NAME.nav`` is its title
``words.zh.js``     the same in Chinese
``routes.py``       if it has paths of its own in the JSON interface: ``ROUTES``
==================  ================================================================
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dashboard.api.routes import Route

PAGES_DIR = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Page:
    """A page.

    Attributes:
        name: of its folder.
        path: of its address, with ``{parts}``.
        icon: in the navigation, see ``shell/dom.js``; "": the navigation does not show the page.
        needs: the scope of those who may open it, and who find it in the navigation.
        nav: the entry of the navigation that is marked while the page is shown; "": its own.
    """

    name: str
    path: str
    icon: str = ""
    nav: str = ""
    needs: str = "read"

    def routes(self) -> Sequence[Route]:
        """Return the routes of its own."""
        if not (PAGES_DIR / self.name / "routes.py").is_file():
            return ()
        module = importlib.import_module(f"{__name__}.{self.name}.routes")
        routes: Sequence[Route] = module.ROUTES
        return routes


# In the order of the navigation.
PAGES = (
    Page("wall", "/", icon="wall"),
    Page("stream", "/streams/{id}", nav="wall"),
    Page("microphone", "/microphone", icon="microphone"),
    Page("analyse", "/analyse", icon="file"),
    Page("alerts", "/alerts", icon="bell"),
    Page("history", "/history", icon="history"),
    Page("oversight", "/oversight", icon="shield"),
    Page("audit", "/audit", icon="shield", needs="admin"),
)
