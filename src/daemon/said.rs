//! What was said already, so that what stays as it is does not fill the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a sentence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// What an attempt at a job left.
    Leftover,
    /// An output that waits for its final name.
    Publication,
}

/// The last sentence of each kind about each job.
#[derive(Debug, Default)]
pub struct Said(Mutex<BTreeMap<(About, i64), String>>);

impl Said {
    /// Whether `text` was not the last that was said about this; it is from here on.
    pub fn is_news(&self, about: About, job: i64, text: &str) -> bool {
        let mut said = self.open();
        if said.get(&(about, job)).is_some_and(|it| it == text) {
            return false;
        }
        said.insert((about, job), text.to_owned());
        true
    }

    /// That is over: the same sentence would be news.
    pub fn is_over(&self, about: About, job: i64) {
        self.open().remove(&(about, job));
    }

    // A thread that panicked while it held this left whole entries behind.
    fn open(&self) -> MutexGuard<'_, BTreeMap<(About, i64), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_news_once_until_another_or_the_end() {
        let said = Said::default();
        let is_news = |about, job, text| said.is_news(about, job, text);
        assert!(is_news(About::Leftover, 1, "busy") && !is_news(About::Leftover, 1, "busy"));
        assert!(is_news(About::Leftover, 2, "busy") && is_news(About::Publication, 1, "busy"));
        assert!(is_news(About::Leftover, 1, "read-only") && is_news(About::Leftover, 1, "busy"));
        said.is_over(About::Leftover, 1);
        assert!(is_news(About::Leftover, 1, "busy") && !is_news(About::Leftover, 2, "busy"));
    }
}
