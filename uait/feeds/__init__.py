"""Append-only logs that are read from a position: replay, then live."""

from uait.feeds.events import FeedBusy as FeedBusy
from uait.feeds.events import FeedClosed as FeedClosed
from uait.feeds.events import FeedEvent as FeedEvent
from uait.feeds.events import FeedFenced as FeedFenced
from uait.feeds.events import Position as Position
from uait.feeds.events import SlowReader as SlowReader
from uait.feeds.feed import Feed as Feed
from uait.feeds.journal import DurableFeed as DurableFeed
from uait.feeds.journal import Journal as Journal
from uait.feeds.journal import open_journal as open_journal
from uait.feeds.reader import FeedReader as FeedReader
from uait.feeds.reader import SlowPolicy as SlowPolicy
from uait.feeds.store import Batch as Batch
from uait.feeds.store import FeedStore as FeedStore
from uait.feeds.store import StoredEvent as StoredEvent
from uait.feeds.store import StoredFeed as StoredFeed
