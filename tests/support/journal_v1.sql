CREATE TABLE jobs (
    id              INTEGER PRIMARY KEY,
    watch           TEXT    NOT NULL,
    relative_path   BLOB    NOT NULL,
    size_bytes      BIGINT  NOT NULL,
    mtime_ns        BIGINT  NOT NULL,
    inode           BIGINT  NOT NULL,
    sha256          TEXT    NOT NULL,
    settings        TEXT    NOT NULL,
    settings_sha256 TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'publishing', 'done', 'failed', 'refused',
                                                      'duplicate', 'cancelled')),
    attempt         BIGINT  NOT NULL DEFAULT 0,
    failures        BIGINT  NOT NULL DEFAULT 0,
    crashes         BIGINT  NOT NULL DEFAULT 0,
    delays          BIGINT  NOT NULL DEFAULT 0,
    lease_owner     TEXT,
    lease_until_ms  BIGINT,
    next_try_ms     BIGINT  NOT NULL,
    queued_ms       BIGINT  NOT NULL,
    started_ms      BIGINT,
    finished_ms     BIGINT,
    temporary_path  BLOB,
    output_path     BLOB,
    report_path     BLOB,
    report          TEXT,
    error_code      TEXT,
    error_message   TEXT,
    duplicate_of    BIGINT REFERENCES jobs (id),
    original        TEXT    NOT NULL DEFAULT 'kept' CHECK (original IN ('kept', 'pending', 'moved')),
    progress        TEXT,
    progress_ms     BIGINT
);
CREATE INDEX jobs_by_turn ON jobs (state, watch, queued_ms, id);
CREATE INDEX jobs_by_start ON jobs (watch, started_ms);
CREATE INDEX jobs_by_content ON jobs (sha256, settings_sha256);
CREATE TABLE files (
    watch           TEXT    NOT NULL,
    relative_path   BLOB    NOT NULL,
    size_bytes      BIGINT  NOT NULL,
    mtime_ns        BIGINT  NOT NULL,
    inode           BIGINT  NOT NULL,
    job             BIGINT  NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (watch, relative_path)
);
CREATE TABLE daemon (
    id              BIGINT  PRIMARY KEY CHECK (id = 1),
    pid             BIGINT  NOT NULL,
    started_ms      BIGINT  NOT NULL,
    seen_ms         BIGINT  NOT NULL,
    status          TEXT    NOT NULL
);
INSERT INTO jobs (id, watch, relative_path, size_bytes, mtime_ns, inode, sha256, settings, settings_sha256, state, attempt,
                  failures, crashes, delays, lease_owner, lease_until_ms, next_try_ms, queued_ms, started_ms, finished_ms,
                  temporary_path, output_path, report_path, report, error_code, error_message, duplicate_of, original,
                  progress, progress_ms)
VALUES
    (1, '/in', X'612E6D7034', 10, 50, -2, 'h1', '{}', 's', 'done', 1, 0, 0, 0, NULL, NULL, 1, 1, 2, 3,
     NULL, X'2F6F75742F415F736C6F7732782E6D7034', X'2F6F75742F415F736C6F7732782E6D70342E6A736F6E', NULL, NULL, NULL, NULL, 'pending', NULL, NULL),
    (2, '/in', X'62FF2E6D7034', 11, 40, 7, 'h2', '{}', 's', 'queued', 3, 1, 1, 1, NULL, NULL, 9, 2, 4, NULL,
     NULL, NULL, NULL, NULL, 'busy', 'later', NULL, 'kept', NULL, NULL),
    (3, '/in', X'632E6D7034', 12, 30, 8, 'h3', '{}', 's', 'publishing', 1, 0, 0, 0, 'dead', 99, 3, 3, 5, NULL,
     X'2F6F75742F2E74', X'2F6F75742F635F736C6F7732782E6D7034', X'2F6F75742F635F736C6F7732782E6D70342E6A736F6E', '{}', NULL, NULL, NULL, 'kept', NULL, NULL),
    (4, '/in', X'642E6D7034', 13, 20, 9, 'h4', '{}', 's', 'running', 2, 0, 0, 0, 'dead', 99, 4, 4, 6, NULL,
     X'2F6F75742F2E75', NULL, NULL, NULL, NULL, NULL, NULL, 'kept', '{}', 6),
    (5, '/in', X'652E6D7034', 14, 10, 10, 'h1', '{}', 's', 'duplicate', 1, 0, 0, 0, NULL, NULL, 5, 5, 7, 8,
     NULL, NULL, X'2F6F75742F652E6A736F6E', NULL, 'duplicate', 'done before', 1, 'kept', NULL, NULL),
    (6, '/in', X'662E6D7034', 15, 5, 11, 'h6', '{}', 's', 'refused', 2, 0, 0, 0, NULL, NULL, 6, 6, 8, 9,
     X'2F6F75742F2E76', NULL, X'2F6F75742F662E6A736F6E', NULL, 'not_video', 'no video', NULL, 'kept', NULL, NULL),
    (7, '/in', X'672E6D7034', 16, 6, 12, 'h7', '{}', 's', 'failed', 3, 3, 0, 0, NULL, NULL, 7, 7, 9, 10,
     NULL, NULL, X'2F6F75742F672E6A736F6E', NULL, 'verify', 'it failed', NULL, 'kept', NULL, NULL),
    (8, '/in', X'682E6D7034', 17, 7, 13, 'h8', '{}', 's', 'cancelled', 1, 0, 0, 0, NULL, NULL, 8, 8, 10, 11,
     NULL, NULL, NULL, NULL, 'source_vanished', 'gone', NULL, 'kept', NULL, NULL);
INSERT INTO files (watch, relative_path, size_bytes, mtime_ns, inode, job)
VALUES ('/in', X'612E6D7034', 10, 50, -2, 1), ('/in', X'62FF2E6D7034', 11, 40, 7, 2), ('/in', X'632E6D7034', 12, 30, 8, 3);
INSERT INTO daemon (id, pid, started_ms, seen_ms, status) VALUES (1, 4711, 1, 2, 'idle');
PRAGMA user_version = 1;
