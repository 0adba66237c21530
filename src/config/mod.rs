//! What can be configured: the settings of one conversion, and the daemon's file around them.

pub mod apart;
pub mod beside;
mod check;
pub mod content;
pub mod encoding;
pub mod file;
pub mod raw;
pub mod service;
pub mod settings;
