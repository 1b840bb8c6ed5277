"""More rows than memory: read in blocks, then summed, merged or kept in files; each becomes a `Design`."""

from bayou.streaming.building import LIMIT, build
from bayou.streaming.sources import Source, open_source
from bayou.streaming.stream import Stream

__all__ = ["LIMIT", "Source", "Stream", "build", "open_source"]
