"""What the page on serving shows runs."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "serving.md"


def test_the_blocks_of_the_page_run_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) > 4
    known = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), known)
