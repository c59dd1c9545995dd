"""The tables that conversations, messages and usage are kept in, step by step."""

MIGRATIONS = (
    """
    CREATE TABLE conversation (
        id TEXT PRIMARY KEY,
        user_id TEXT NOT NULL,
        title TEXT NOT NULL,
        model TEXT,
        chosen_model TEXT,
        system TEXT,
        metadata TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX conversation_by_update ON conversation (user_id, updated_at, id);
    CREATE INDEX conversation_by_creation ON conversation (user_id, id);
    CREATE TABLE message (
        id TEXT PRIMARY KEY,
        conversation_id TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        model TEXT,
        timestamp TEXT NOT NULL,
        metadata TEXT NOT NULL
    ) STRICT;
    CREATE INDEX message_by_conversation ON message (conversation_id, id);
    CREATE TABLE usage (
        user_id TEXT NOT NULL,
        day TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        estimated INTEGER NOT NULL,
        PRIMARY KEY (user_id, day, model)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE usage ADD COLUMN cost INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN unpriced INTEGER NOT NULL DEFAULT 0;
    UPDATE usage SET unpriced = requests;
    CREATE INDEX usage_by_day ON usage (day);
    """,
)
