"""Write ``docs/reference/results.schema.json`` from the structs of ``ser_engine/schema.py``."""

from __future__ import annotations

import json
from pathlib import Path

from ser_engine.schema import schema_document

if __name__ == "__main__":
    path = Path(__file__).parents[1] / "docs" / "reference" / "results.schema.json"
    path.write_text(json.dumps(schema_document(), indent=2) + "\n", encoding="utf-8")
