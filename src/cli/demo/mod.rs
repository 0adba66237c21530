//! `slomod demo`: draws a clip whose true in-between frames are known, has the daemon work it, and shows the result.

pub mod clip;
pub mod contact_sheet;
pub mod daemon_process;
pub mod folder;
pub mod outcome;
pub mod run;
pub mod scene;
pub mod texture;
pub mod timing;
pub mod truth;
