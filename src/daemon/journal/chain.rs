//! The chain over the history: each event has a hash of its content and of the hash before it, so that a row that was
//! changed, removed or put in between shows. What the last hash is and how many there are stands in `events_head`, so that
//! missing last rows show as well. Who may write to the file can make a new chain: the last hash, noted elsewhere, tells.

use rusqlite::{Connection, Row, params};
use sha2::{Digest as _, Sha256};

use super::{Journal, Outcome};

use crate::hex::hex;

/// What the first event has before it.
const NOTHING_BEFORE: [u8; 32] = [0; 32];

/// What the hash of an event covers.
pub(super) struct Content<'a> {
    pub(super) job: i64,
    pub(super) attempt: i64,
    pub(super) at_ms: i64,
    /// `what`, `detail`, `host`, `version`.
    pub(super) texts: [&'a str; 4],
}

impl Content<'_> {
    fn hash(&self, before: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(before);
        for number in [self.job, self.attempt, self.at_ms] {
            hash.update(number.to_be_bytes());
        }
        for text in self.texts {
            // With their lengths, so that no part can move from one to the next.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.finalize().into()
    }
}

/// Appends an event; the caller is within a transaction.
pub(super) fn append(it: &Connection, content: &Content<'_>) -> rusqlite::Result<()> {
    let (events, before) = head(it)?;
    let hash = content.hash(&before);
    let [what, detail, host, version] = content.texts;
    it.prepare_cached(
        "INSERT INTO events (job, attempt, at_ms, what, detail, host, version, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        content.job,
        content.attempt,
        content.at_ms,
        what,
        detail,
        host,
        version,
        hash
    ])?;
    set_head(it, events.saturating_add(1), &hash)
}

/// Gives the events of an earlier layout their hashes.
pub(super) fn begin(it: &Connection) -> rusqlite::Result<()> {
    let (mut events, mut before) = (0, NOTHING_BEFORE.to_vec());
    let mut update = it.prepare("UPDATE events SET hash = ?2 WHERE id = ?1")?;
    walk(it, |row| {
        events += 1;
        before = row.hash_behind(&before).to_vec();
        update.execute(params![row.id, before]).map(|_| true)
    })?;
    it.execute("INSERT INTO events_head (id, events, hash) VALUES (1, 0, ?1)", [NOTHING_BEFORE])?;
    set_head(it, events, &before)
}

fn head(it: &Connection) -> rusqlite::Result<(i64, Vec<u8>)> {
    it.prepare_cached("SELECT events, hash FROM events_head WHERE id = 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn set_head(it: &Connection, events: i64, hash: &[u8]) -> rusqlite::Result<()> {
    it.prepare_cached("UPDATE events_head SET events = ?1, hash = ?2 WHERE id = 1")?
        .execute(params![events, hash])
        .map(|_| ())
}

struct Stored {
    id: i64,
    job: i64,
    attempt: i64,
    at_ms: i64,
    texts: [String; 4],
    hash: Vec<u8>,
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            job: row.get(1)?,
            attempt: row.get(2)?,
            at_ms: row.get(3)?,
            texts: [row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?],
            hash: row.get(8)?,
        })
    }

    fn hash_behind(&self, before: &[u8]) -> [u8; 32] {
        let Self { job, attempt, at_ms, ref texts, .. } = *self;
        Content { job, attempt, at_ms, texts: texts.each_ref().map(String::as_str) }.hash(before)
    }
}

/// Calls `visit` for every event in order, until it says `false`.
fn walk(
    it: &Connection,
    mut visit: impl FnMut(&Stored) -> rusqlite::Result<bool>,
) -> rusqlite::Result<()> {
    let mut query = it.prepare(
        "SELECT id, job, attempt, at_ms, what, detail, host, version, hash FROM events ORDER BY id",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        if !visit(&Stored::read(row)?)? {
            break;
        }
    }
    Ok(())
}

/// How the chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Every event follows from the one before.
    Whole {
        /// How many there are.
        events: i64,
        /// The hash of the last in hex.
        last: String,
    },
    /// This is the first event that does not: it was changed, or one before it was changed with its hash, removed or put in.
    Broken {
        /// Its row.
        event: i64,
        /// Its job.
        job: i64,
        /// When it happened, in milliseconds since 1970.
        at_ms: i64,
        /// What happened.
        what: String,
    },
    /// All that are there fit, and they are not all, or more.
    Cut {
        /// How many are there.
        events: i64,
        /// How many were written.
        written: i64,
    },
}

impl Journal {
    /// Looks at the whole history.
    ///
    /// # Errors
    /// [`super::JournalError`].
    pub fn chain(&self) -> Outcome<Chain> {
        self.sql(|it| {
            // All of it as it was at one moment: a daemon may append meanwhile.
            let it = it.unchecked_transaction()?;
            let (written, last) = head(&it)?;
            let (mut events, mut before, mut broken) = (0, NOTHING_BEFORE.to_vec(), None);
            walk(&it, |row| {
                let fits = row.hash_behind(&before)[..] == row.hash[..];
                if fits {
                    events += 1;
                    before.clone_from(&row.hash);
                } else {
                    let what = row.texts[0].clone();
                    let (event, job, at_ms) = (row.id, row.job, row.at_ms);
                    broken = Some(Chain::Broken { event, job, at_ms, what });
                }
                Ok(fits)
            })?;
            Ok(match broken {
                Some(broken) => broken,
                None if (events, &before) != (written, &last) => Chain::Cut { events, written },
                None => Chain::Whole { events, last: hex(&last) },
            })
        })
    }
}
