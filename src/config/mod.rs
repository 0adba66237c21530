//! What can be configured: the settings of one conversion, and the daemon's file around them.

pub mod settings;
