"""SQLite files that survive: APSW's trio mode, group commit, migrations, backup."""

from uait.storage.database import Database as Database
from uait.storage.database import DatabaseStatistics as DatabaseStatistics
from uait.storage.database import open_database as open_database
from uait.storage.errors import DatabaseBroken as DatabaseBroken
from uait.storage.errors import DatabaseBusy as DatabaseBusy
from uait.storage.errors import DatabaseClosed as DatabaseClosed
from uait.storage.errors import DatabaseFull as DatabaseFull
from uait.storage.errors import DatabaseTooNew as DatabaseTooNew
from uait.storage.errors import DatabaseUnusable as DatabaseUnusable
from uait.storage.errors import MigrationFailed as MigrationFailed
from uait.storage.ids import format_time as format_time
from uait.storage.ids import new_id as new_id
from uait.storage.ids import utc_now as utc_now
from uait.storage.migrations import Migration as Migration
