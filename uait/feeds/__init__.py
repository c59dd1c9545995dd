"""Append-only logs that are read from a position: replay, then live."""

from uait.feeds.feed import Feed as Feed
from uait.feeds.feed import FeedClosed as FeedClosed
from uait.feeds.feed import FeedEvent as FeedEvent
from uait.feeds.feed import FeedReader as FeedReader
from uait.feeds.feed import SlowPolicy as SlowPolicy
from uait.feeds.feed import SlowReader as SlowReader
