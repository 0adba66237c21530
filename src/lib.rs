//! slomod watches folders; a video dropped into one comes out as slow motion, with a report of how well that was done.
//!
//! The modules form a stack; each uses only rows below its own (`tests/tidy.rs` holds it):
//!
//! ```text
//! main, cli            arguments, exit codes, human output
//! daemon               watch, settle, journal, publish, service
//! pipeline             convert one clip; timeline and scene are pure functions
//! media | engine | quality | report
//! models               weights → checked networks
//! backend              fast execution of the ops
//! ops                  one op a file: contract, parameters, f32 reference
//! config               settings, and the daemon's file
//! error | frame | hex | plain_file
//! ```

pub mod backend;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod frame;
pub mod hex;
pub mod media;
pub mod models;
pub mod ops;
pub mod pipeline;
pub mod plain_file;
pub mod quality;
pub mod report;
