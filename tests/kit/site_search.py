"""The search of the documentation site, as the theme does it in the browser: pages by how well they match.

Material for MkDocs 9.8 (workers/search in its assets) searches for words that begin with those of the query,
without stemming, prefers whole pages and hits for more of the words, and shows the hits by page.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lunr.builder import Builder
from lunr.stop_word_filter import stop_word_filter


class SiteSearch:
    """The index of a site that was built.

    Args:
        site: the folder of the site.
    """

    def __init__(self, site: Path) -> None:
        content: dict[str, Any] = json.loads((site / "search" / "search_index.json").read_text())
        self.separator = re.compile(content["config"]["separator"])
        builder = Builder()
        for pipeline in (builder.pipeline, builder.search_pipeline):
            pipeline.add(stop_word_filter)
        builder.ref("location")
        builder.b(0)
        for field, options in content["config"]["fields"].items():
            builder.field(field, boost=options["boost"])
        for one in content["docs"]:
            text = {field: " ".join(self.words(one.get(field, ""))) for field in ("title", "text", "tags")}
            builder.add({"location": one["location"], **text}, {"boost": one.get("boost", 1)})
        self.index = builder.build()

    def words(self, text: str) -> list[str]:
        """The words of a text or of HTML, in lower case."""
        return [word.lower() for word in self.separator.split(re.sub("<[^>]+>", " ", text)) if word]

    def pages(self, query: str) -> list[str]:
        """The pages that match a query, the best first."""
        terms = self.words(query)  # a word that is not indexed, such as "an", may begin another one
        scores: dict[str, float] = {}
        for hit in self.index.search(" ".join(f"{term}*" for term in terms)):
            page, _, section = hit["ref"].partition("#")
            matched = hit["match_data"].metadata
            found = {term for term in terms if any(word.startswith(term) for word in matched)}
            share = len(found) / len(found | {term for term in terms if stop_word_filter(term)})
            score = hit["score"] * (1 + ((not section) + share) ** 2)
            scores[page] = max(score, scores.get(page, 0.0))
        return sorted(scores, key=lambda page: -scores[page])
