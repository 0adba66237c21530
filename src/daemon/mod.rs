//! Watches folders, keeps the journal, runs the jobs, publishes the results.
