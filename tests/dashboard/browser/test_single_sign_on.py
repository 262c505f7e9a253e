"""Single sign-on in a browser: it alone knows which cookies it sends after another site's page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import BROWSER_TEST
from tests.support.oidc_provider import provider
from tests.support.whole_server import whole_server

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [
    *BROWSER_TEST,
    # Of the provider, which runs in this process and uses what Authlib and Flask call outdated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


async def test_a_person_comes_back_from_the_provider_to_the_page_and_logs_out_of_both(
    tmp_path: Path, browser: Browser
):
    with provider() as idp:
        idp.add("anna", preferred_username="anna", groups=["leads"])
        async with whole_server(
            tmp_path,
            f"stream_server.access.oidc.issuer={idp.issuer}",
            "stream_server.access.oidc.client_id=monitor",
            "stream_server.access.oidc.client_secret=of a test",
            "stream_server.access.oidc.label=Log in with Example",
            "stream_server.access.group_roles={leads: supervisor}",
        ) as server:
            context = await browser.new_context()
            page = await context.new_page()
            await page.goto(f"{server.http_url}/history")
            await page.click("text=Log in with Example")
            await page.fill("input[name=sub]", "anna")
            await page.get_by_role("button", name="Authorize").click()
            await page.wait_for_url("**/history")
            await page.click("form[action$=logout] button")
            await page.wait_for_url(f"{idp.issuer}/oauth2/end_session**")
            await page.goto(f"{server.http_url}/history")
            assert await page.locator("#secret").count() == 1
            await context.close()
