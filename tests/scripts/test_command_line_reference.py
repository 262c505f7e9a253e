from __future__ import annotations

from scripts.command_line_reference import PAGE, page


def test_the_page_is_what_the_commands_say():
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(), "python -m scripts.command_line_reference writes it anew"
    assert "| `--granularity" in text.replace("`-g, --gran", "`--gran")
