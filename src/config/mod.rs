//! What can be configured: the settings of one conversion, and the daemon's file around them.

mod check;
pub mod file;
pub mod raw;
mod service;
pub mod settings;
