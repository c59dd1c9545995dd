"""The tables of the memory service, and how older files come to have them."""

from __future__ import annotations

import apsw

from uait.services.memory.indexing import index_all
from uait.storage import Migration

_FIRST = """
    -- The content comes last, so that the rest of a row can be read without its pages.
    CREATE TABLE memory (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        type TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        access_count INTEGER NOT NULL DEFAULT 0,
        last_access TEXT NOT NULL,
        tags TEXT NOT NULL,
        metadata TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT;
    CREATE INDEX memory_by_creation ON memory (user_id, created_at, id);

    CREATE VIRTUAL TABLE memory_text USING fts5(
        owner, content, tags, content = '', tokenize = 'porter unicode61 remove_diacritics 2'
    );
    -- What is deleted leaves no word behind in the index.
    INSERT INTO memory_text(memory_text, rank) VALUES ('secure-delete', 1);

    CREATE TABLE context (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        user_id TEXT NOT NULL,
        conversation_id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        summary TEXT NOT NULL,
        UNIQUE (user_id, conversation_id)
    ) STRICT;
    CREATE TABLE context_memory (
        context INTEGER NOT NULL REFERENCES context (seq) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
        PRIMARY KEY (context, position)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX context_memory_by_memory ON context_memory (memory);
    """

_SCOPES_AND_TIMES = """
    DROP TABLE memory_text;

    -- Ids are one user's: another one's import of the same ids is nobody's business.
    CREATE TABLE memory_new (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        type TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        access_count INTEGER NOT NULL DEFAULT 0,
        last_access TEXT NOT NULL,
        agent_id TEXT,
        session_id TEXT,
        source TEXT,
        occurred_at TEXT,
        importance REAL,
        valid_from TEXT,
        valid_until TEXT,
        expires_at TEXT,
        digest BLOB NOT NULL DEFAULT x'',
        tags TEXT NOT NULL,
        metadata TEXT NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (user_id, id)
    ) STRICT;
    INSERT INTO memory_new (seq, id, user_id, type, created_at, updated_at, access_count, last_access, tags, metadata, content)
        SELECT seq, id, user_id, type, created_at, updated_at, access_count, last_access, tags, metadata, content FROM memory;
    DROP TABLE memory;
    ALTER TABLE memory_new RENAME TO memory;
    CREATE INDEX memory_by_creation ON memory (user_id, created_at, id);
    CREATE INDEX memory_by_digest ON memory (user_id, digest);
    CREATE INDEX memory_by_session ON memory (user_id, session_id) WHERE session_id IS NOT NULL;
    -- Mostly empty: whether a user has any memory that is not simply there is asked at every search.
    CREATE INDEX memory_bounded ON memory (user_id) WHERE valid_from IS NOT NULL OR valid_until IS NOT NULL OR expires_at IS NOT NULL;
    CREATE INDEX memory_by_expiry ON memory (expires_at) WHERE expires_at IS NOT NULL;

    -- `memories` and `words` are counted by the triggers below.
    CREATE TABLE owner (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        user_id TEXT NOT NULL UNIQUE,
        memories INTEGER NOT NULL DEFAULT 0,
        words INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    -- What the index was given of a memory, and what ranking needs to know of it: see `indexing.py`.
    CREATE TABLE memory_words (
        seq INTEGER PRIMARY KEY REFERENCES memory (seq) ON DELETE CASCADE,
        owner INTEGER NOT NULL,
        session INTEGER NOT NULL,
        moment INTEGER NOT NULL,
        place INTEGER NOT NULL,
        length INTEGER NOT NULL,
        flags INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        speaker TEXT NOT NULL,
        tags TEXT NOT NULL,
        words TEXT NOT NULL
    ) STRICT;
    CREATE INDEX memory_words_by_session ON memory_words (session, moment, place, seq) WHERE session != 0;
    CREATE INDEX memory_words_by_moment ON memory_words (owner, moment);
    CREATE INDEX memory_words_by_fingerprint ON memory_words (owner, fingerprint);
    CREATE TRIGGER memory_words_added AFTER INSERT ON memory_words BEGIN
        UPDATE owner SET memories = memories + 1, words = words + new.length WHERE number = new.owner;
    END;
    CREATE TRIGGER memory_words_deleted AFTER DELETE ON memory_words BEGIN
        UPDATE owner SET memories = memories - 1, words = words - old.length WHERE number = old.owner;
    END;

    -- Every word of the index begins with its owner's number: a search reads that user's part of the index and no other, and how rare a word is depends on nobody else.
    CREATE VIEW memory_indexed AS SELECT
        seq,
        iif(words = '', '', replace(' ' || words, ' ', ' ' || owner || '_')) AS words,
        iif(tags = '', '', replace(' ' || tags, ' ', ' ' || owner || '_')) AS tags
        FROM memory_words;
    CREATE VIRTUAL TABLE memory_text USING fts5(
        words, tags, content = 'memory_indexed', content_rowid = 'seq', columnsize = 0, tokenize = "ascii tokenchars '_'"
    );
    INSERT INTO memory_text(memory_text, rank) VALUES ('secure-delete', 1);

    -- What a memory was before each change.
    CREATE TABLE history (
        memory INTEGER NOT NULL REFERENCES memory (seq) ON DELETE CASCADE,
        version INTEGER NOT NULL,
        event TEXT NOT NULL,
        at TEXT NOT NULL,
        before TEXT NOT NULL,
        PRIMARY KEY (memory, version)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE memory_vector (
        seq INTEGER PRIMARY KEY REFERENCES memory (seq) ON DELETE CASCADE,
        owner INTEGER NOT NULL,
        model TEXT NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE INDEX memory_vector_by_owner ON memory_vector (owner, model);
    """


_FASTER = """
    -- Whether a user has said of any memory how important it is is asked at every search.
    CREATE INDEX memory_important ON memory (user_id) WHERE importance IS NOT NULL;
    -- What is added is counted once for all of a part, in `indexing.py`; rows also go by cascades, which only a trigger sees.
    DROP TRIGGER memory_words_added;
    """


def _scopes_and_times(connection: apsw.Connection) -> None:
    connection.execute(_SCOPES_AND_TIMES).fetchall()
    index_all(connection)


MIGRATIONS: tuple[Migration, ...] = (_FIRST, _scopes_and_times, _FASTER)
